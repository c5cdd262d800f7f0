import errno
import json
import os
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch

from fixedpoint.errors import QuantizationError
from pipeline.cli import LOWER, run
from pipeline.params import load_params
from pipeline.paths import require
from storage.errors import InputError
from storage.files import whole_file, write_json

REPOSITORY = Path(__file__).parents[2]
GOLDEN = "error: out of memory in golden"


def raising(error: BaseException):
    def main():
        raise error

    return main


@pytest.mark.parametrize("kind", [InputError, QuantizationError, FileNotFoundError, OSError])
def test_mistakes_become_one_line(kind, monkeypatch):
    monkeypatch.delenv("TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as stop:
        run(raising(kind("lr is wrong")))
    assert stop.value.code == "error: lr is wrong"


def test_processes_that_share_a_stage_leave_the_first_mistake_to_what_started_them(tmp_path, monkeypatch):
    monkeypatch.setenv("STAGE_MISTAKES", str(tmp_path))
    codes = []
    for rank, error in enumerate((ConnectionResetError("a peer is gone"), InputError("nan"), OSError("no space"))):
        monkeypatch.setenv("RANK", str(rank))
        with pytest.raises(SystemExit) as stop:
            run(raising(error))
        codes.append(stop.value.code)
    assert codes == ["error: a peer is gone", 1, 1]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"1.txt": "nan"}


def test_traceback_on_request(monkeypatch):
    monkeypatch.setenv("TRACEBACK", "1")
    with pytest.raises(ValueError, match="lr is wrong"):
        run(raising(InputError("lr is wrong")))


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), ValueError("a library's"), OSError(errno.EIO, "a disk's"), KeyError("k")]
)
def test_faults_that_the_user_cannot_mend_keep_their_traceback(error):
    with pytest.raises(type(error)):
        run(raising(error))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "a.bin"),
            "error: [Errno 28] No space left on device: 'a.bin'",
        ),
        (MemoryError("Unable to allocate 9 TiB"), f"{GOLDEN}: Unable to allocate 9 TiB; lower golden.images"),
        (MemoryError(), f"{GOLDEN}: the system gives no more; lower golden.images"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), f"{GOLDEN}: CUDA out of memory.; lower golden.images"),
        (RuntimeError("std::bad_alloc"), f"{GOLDEN}: std::bad_alloc; lower golden.images"),
        (
            RuntimeError("could not execute a primitive"),
            f"{GOLDEN}: could not execute a primitive; lower golden.images",
        ),
        (RuntimeError("can't start new thread"), f"{GOLDEN}: can't start new thread; lower golden.images"),
        (InputError("out of memory.png is a folder"), "error: out of memory.png is a folder"),
    ],
)
def test_what_the_machine_lacks_is_one_line(error, line, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/stages/golden.py"])
    with pytest.raises(SystemExit) as stop:
        run(raising(error))
    assert stop.value.code == line


@pytest.mark.parametrize(
    "allocate", [lambda: torch.zeros(10**14), lambda: np.zeros(10**14), lambda: lmdb.open("x", map_size=2**60)]
)
def test_libraries_that_get_no_memory_are_one_line(allocate, monkeypatch, tmp_path):
    """What they really raise: a RuntimeError, a MemoryError, an lmdb.MemoryError that is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["predict.py"])
    with pytest.raises(SystemExit, match=r"^error: out of memory in predict: .*[aA]llocate"):
        run(allocate)


def test_every_stage_that_has_parameters_of_its_size_says_what_to_lower():
    names = {word.rstrip(",)") for text in LOWER.values() for word in text.split() if "." in word}
    values = load_params(REPOSITORY / "params.yaml")
    assert all(attrgetter(name)(values) is not Ellipsis for name in names)
    scripts = [path for folder in ("stages", "tools") for path in (REPOSITORY / folder).glob("*.py")]
    assert {path.stem for path in scripts} > LOWER.keys()


def test_names_with_line_breaks_and_escapes_leave_it_one_line():
    with pytest.raises(SystemExit) as stop:
        run(raising(InputError("a\nb\x1b[31m\udcff.png, Fünf 类, is not an image\n")))
    assert stop.value.code == r"error: a\nb\x1b[31m\udcff.png, Fünf 类, is not an image"


def test_interruption_by_the_keyboard():
    with pytest.raises(SystemExit) as stop:
        run(raising(KeyboardInterrupt()))
    assert stop.value.code == 130


@pytest.mark.parametrize(("traceback", "lines"), [("0", 1), ("1", 5)])
def test_a_stage_that_fails_as_a_process(traceback, lines):
    code = "from pipeline.cli import InputError, run\ndef main(): raise InputError('no')\nrun(main)"
    environment = os.environ | {"TRACEBACK": traceback, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == ("error: no" if traceback == "0" else "storage.errors.InputError: no")
    assert (done.stderr.count("\n") == 1) == (lines == 1)


def test_whole_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with whole_file(path) as partial:
        partial.write_text("text")
        assert not path.exists()
        assert partial.parent == path.parent
    assert path.read_text() == "text"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_whole_file_leaves_the_old_one_on_an_error(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), whole_file(path) as partial:
        partial.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_whole_file_leaves_nothing_where_nothing_was(tmp_path):
    with pytest.raises(ValueError), whole_file(tmp_path / "file.txt") as partial:
        partial.write_text("ne")
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_whole_file_names_the_file_that_a_full_disk_has_no_room_for(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(OSError, match=f"^cannot write {path}: .* No space left"), whole_file(path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_write_json(tmp_path):
    write_json(tmp_path / "a.json", {"top1": 91.25, "images": 2})
    text = (tmp_path / "a.json").read_text()
    assert text == '{\n  "top1": 91.25,\n  "images": 2\n}\n'
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"top1": object()})
    assert json.loads((tmp_path / "a.json").read_text())["images"] == 2


def test_require(tmp_path):
    assert require(str(tmp_path), "make it") == tmp_path
    with pytest.raises(FileNotFoundError, match=r"^model\.bin does not exist; `make train` makes it$"):
        require("model.bin", "make train")


def test_text_is_utf8_whatever_the_locale_is(tmp_path):
    code = """
import locale
assert locale.getpreferredencoding(False) != "utf-8", "the test needs another one"
from storage.files import write_csv
from pipeline.params import load_params
write_csv("names.csv", [[load_params().card.data]])
"""
    params = (REPOSITORY / "params.yaml").read_text(encoding="utf-8").replace("data: Fashion-MNIST", "data: Fünf 类")
    (tmp_path / "params.yaml").write_text(params, encoding="utf-8")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | plain, check=True)
    assert (tmp_path / "names.csv").read_bytes().startswith('"Fünf 类, ©'.encode())
