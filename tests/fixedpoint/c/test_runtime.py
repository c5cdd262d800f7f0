import errno
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from programs import PROGRAMS, hard_inputs

from fixedpoint.c import runtime as c_runtime
from fixedpoint.c.runtime import CModel
from fixedpoint.c.source import c_source
from fixedpoint.errors import QuantizationError

PROGRAM = PROGRAMS["conv_logits"]
X = hard_inputs(PROGRAM, 1)
FAST = ["-O0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The sources, and the programs `network` and `trace`, compiled as main.c describes."""
    path = tmp_path_factory.mktemp("c")
    for name, text in c_source(PROGRAM, {}).items():
        (path / name).write_text(text)
    for name, options in (("network", []), ("trace", ["-DNETWORK_TRACE"])):
        subprocess.run(["cc", "-std=c99", *options, "network.c", "main.c", "-o", name], cwd=path, check=True)
    X.tofile(path / "images.bin")
    return path


def call(folder: Path, *command: str, **arguments) -> tuple[int, bytes, str]:
    """The exit code, and what was written to stdout and stderr."""
    done = subprocess.run(command, cwd=folder, capture_output=True, **arguments)
    return done.returncode, done.stdout, done.stderr.decode()


def test_main_reads_a_file_or_stdin(folder):
    expected = CModel(folder, options=FAST)(X).astype("<i4").tobytes()
    assert len(expected) == len(X) * 5 * 4
    assert call(folder, "./network", "images.bin") == (0, expected, "")
    assert call(folder, "./network", input=X.tobytes()) == (0, expected, "")
    assert call(folder, "./network", "-", input=X.tobytes()) == (0, expected, "")
    assert call(folder, "./trace", "images.bin") == (0, expected, "")
    assert call(folder, "./network", input=b"") == (0, b"", "")


def test_main_writes_each_tensor(folder, tmp_path):
    stale = tmp_path / "x.bin"
    stale.write_bytes(b"stale")
    code, logits, message = call(folder, "./trace", "images.bin", str(tmp_path))
    assert (code, message) == (0, "")
    names = [op.name for op in PROGRAM.ops]
    assert (tmp_path / "tensors.txt").read_text() == "1 x\n1 global\n4 logits\n4 classes\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*(f"{name}.bin" for name in names), "tensors.txt"])
    assert (tmp_path / "classes.bin").read_bytes() == (tmp_path / "logits.bin").read_bytes() == logits
    assert stale.stat().st_size == len(X) * 6 * 8 * 8


def test_main_says_what_is_wrong(folder):
    assert call(folder, "./network", "nothing.bin") == (1, b"", "error: cannot read nothing.bin\n")
    code, logits, message = call(folder, "./network", input=X.tobytes() + b"\0")
    assert (code, len(logits), message) == (1, len(X) * 20, "error: the last picture is not whole in -\n")
    message = "error: cannot write nowhere/tensors.txt\n"
    assert call(folder, "./trace", "images.bin", "nowhere") == (1, b"", message)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(["./network", "images.bin"], cwd=folder, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"error: cannot write the logits\n")


def test_a_folder_and_its_texts_are_the_same_model(folder):
    texts = {name: (folder / name).read_text() for name in ("network.c", "network.h", "main.c")}
    assert np.array_equal(CModel(folder, options=FAST)(X), CModel(texts, options=FAST)(X))


def test_an_image_does_not_depend_on_its_batch(folder):
    model = CModel(folder, trace=True, options=FAST)
    assert np.array_equal(model(X), np.concatenate([model(image[None]) for image in X]))
    assert {name: len(value) for name, value in model.tensors(X).items()} == dict.fromkeys(
        ["x", "global", "logits", "classes"], len(X)
    )


@pytest.mark.parametrize(
    "x",
    [X.astype(np.float32), X.transpose(0, 2, 3, 1), X[:, :, :4], X[0], X[:0]],
    ids=["float", "channels last", "smaller", "one image", "none"],
)
def test_another_input_is_refused(folder, x):
    with pytest.raises(ValueError, match=r"the input must be int8 \[batch, 4, 8, 8\], not "):
        CModel(folder, options=FAST)(x)


def test_tensors_need_the_trace(folder):
    with pytest.raises(ValueError, match="trace=True"):
        CModel(folder, options=FAST).tensors(X)


def test_what_fails_is_named(folder, tmp_path, monkeypatch):
    sources = c_source(PROGRAM, {})
    with pytest.raises(ValueError, match=r"^cc -std=c99 -O0 network.c main.c -o network in .*: .*mistake.*$"):
        CModel(sources | {"main.c": "mistake"}, options=FAST)
    broken = CModel(sources | {"main.c": "int main(void) { return 7; }"}, options=FAST)
    with pytest.raises(OSError, match="the C program ended with code 7"):
        broken(X)
    short = CModel(sources | {"main.c": "int putchar(int c); int main(void) { return putchar(7) != 7; }"}, options=FAST)
    with pytest.raises(OSError, match=f"the C program gave 1 bytes for {len(X)} images, not the same for each"):
        short(X)
    endless = CModel(sources | {"main.c": "int main(void) { for (;;) ; }"}, options=FAST, seconds=0.2)
    with pytest.raises(OSError, match=f"the C program has not computed {len(X)} images within 0 s"):
        endless(X)
    with pytest.raises(QuantizationError, match=r"network\.h does not say the sizes of the input"):
        CModel(sources | {"network.h": "#define NETWORK_INPUT_WIDTH 3\n"})
    with pytest.raises(FileNotFoundError, match=r"network\.c"):
        CModel(tmp_path)
    monkeypatch.setattr(c_runtime, "COMPILER", "no-such-compiler")
    with pytest.raises(OSError, match="there is no C compiler 'no-such-compiler'; install one"):
        CModel(folder)


def test_a_full_disk_is_named_and_not_a_missing_compiler(tmp_path, monkeypatch):
    """A compiler that says what gcc says when the disk is full."""
    full = tmp_path / "cc"
    full.write_text("#!/bin/sh\necho 'fatal error: error writing to /tmp/x.s: No space left on device' >&2; exit 1\n")
    full.chmod(0o755)
    monkeypatch.setattr(c_runtime, "COMPILER", str(full))
    with pytest.raises(OSError, match=r"/cc -std=c99 -O3 network.c main.c -o network in .*: .*No space left") as caught:
        CModel(c_source(PROGRAM, {}))
    assert caught.value.errno == errno.ENOSPC


def test_a_model_lives_in_the_folder_that_is_given_and_leaves_nothing(folder, tmp_path):
    model = CModel(folder, trace=True, options=FAST, folder=tmp_path / "runs")
    (own,) = (tmp_path / "runs").glob("c_model_*/")
    other = CModel(folder, options=FAST, folder=tmp_path / "runs")  # takes nothing from a model that lives
    assert np.array_equal(model(X), other(X)) and len(model.tensors(X)) == 4
    assert {path.name for path in own.iterdir()} == {"lock", "main.c", "network", "network.c", "network.h"}
    del model, other
    assert [*(tmp_path / "runs").glob("c_model_*/")] == []


def test_what_a_killed_process_left_is_removed_at_the_next_start(folder, tmp_path):
    script = (
        "import os, signal; from fixedpoint.c.runtime import CModel\n"
        f"model = CModel({str(folder)!r}, options=['-O0'], folder={str(tmp_path)!r})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    repository = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", script], cwd=repository).returncode == -signal.SIGKILL
    (left,) = tmp_path.glob("c_model_*/")
    assert (left / "network").exists()
    model = CModel(folder, options=FAST, folder=tmp_path)
    (own,) = tmp_path.glob("c_model_*/")
    assert own != left and len(model(X)) == len(X)
