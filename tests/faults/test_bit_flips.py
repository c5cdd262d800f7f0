"""One bit is flipped in a trusted file: it is named, or the result is the same; never another one without a word."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from attacks import copy_of, start

from pipeline.checkpoints import read_model
from pipeline.forms import FLOAT, INT, PTQ, QAT
from pipeline.tracked import LOCK, Tracked, cached, is_whole, outputs
from storage.errors import InputError
from storage.model_file import StoredModel, load_model

pytestmark = pytest.mark.faults
SEED = 29
OF_A_MODEL, OF_A_CHECKPOINT, OF_TRACKED = 40, 30, 120  # flips
HEADER = (
    4096  # bytes at the start of a model file, in which a quarter of the flips are: there are fewer than of weights
)


@pytest.fixture(scope="module")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(finished, tmp_path_factory.mktemp("flips") / "copy")


def flipped(content: bytes, count: int, name: str) -> Iterator[bytes]:
    """`content` with one of its bits flipped, `count` times."""
    bits = random.Random(f"{SEED} {name}")
    for number in range(count):
        bit = bits.randrange(8 * (min(HEADER, len(content)) if number % 4 == 0 else len(content)))
        yield content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]


def same(one: StoredModel, other: StoredModel) -> bool:
    about = all((a.form, a.info, a.program) == (b.form, b.info, b.program) for a, b in [(one, other)])
    names = one.tensors.keys() == other.tensors.keys()
    return about and names and all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


@pytest.mark.parametrize("form", [FLOAT, PTQ, QAT, INT], ids=lambda form: form.name)
def test_model_files(project, tmp_path, form):
    whole = (project / form.path).read_bytes()
    expected, path = load_model(project / form.path, (form.name,)), tmp_path / "model.safetensors"
    named = 0
    for damaged in flipped(whole, OF_A_MODEL, form.name):
        path.write_bytes(damaged)
        try:
            assert same(load_model(path, (form.name,)), expected)
        except InputError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
            named += 1
    print(f"{named} of {OF_A_MODEL} were named, the others changed nothing")
    assert named > 0.9 * OF_A_MODEL


@pytest.mark.parametrize("form", [FLOAT, QAT], ids=lambda form: form.name)
def test_checkpoints(project, tmp_path, form):
    (source,) = (project / "runs").glob(f"{form.name}-*/best.pt")
    path = tmp_path / "best.pt"
    assert read_model(source, form.name).tensors
    for damaged in flipped(source.read_bytes(), OF_A_CHECKPOINT, form.name):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"best\.pt is damaged"):
            read_model(path, form.name)


def test_a_training_does_not_go_on_from_a_damaged_checkpoint(project, server):
    *_, newest = sorted((project / "runs").glob("float-*/step_*.pt"))
    whole, model = newest.read_bytes(), (project / FLOAT.path).read_bytes()
    for damaged in flipped(whole, 3, "training"):
        newest.write_bytes(damaged)
        assert f"{newest.name} is damaged: remove it" in server.run("train_float", project).line
    newest.unlink()
    assert server.run("train_float", project, seconds=120).code == 0
    assert (project / FLOAT.path).read_bytes() == model


@pytest.mark.parametrize(
    ("form", "stage"), [(FLOAT, "calibrate"), (PTQ, "train_qat"), (QAT, "convert_int"), (INT, "golden")]
)
def test_stages_name_the_damaged_model(project, server, form, stage):
    path = project / form.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 16]))
    assert f"{form.path} is damaged or was edited" in server.run(stage, project).line
    path.write_bytes(whole)


def test_all_that_dvc_tracks(project, monkeypatch):
    """Flips over DVC's cache and over all results, metrics and plots among them; `make verify` tells each."""
    monkeypatch.chdir(project)
    cache, choice = Path(".dvc/cache").absolute(), random.Random(SEED)
    every = [*cached(cache), *outputs(cache)]
    assert len(every) > 100
    for file in (choice.choice(every) for _ in range(OF_TRACKED)):
        whole = file.path.read_bytes()
        if not whole:
            continue
        assert is_whole(file, int)
        replace(file, next(flipped(whole, 1, str(file.path))))
        assert not is_whole(file, int), file.path
        replace(file, whole)


@pytest.mark.parametrize("where", ["cache", "results"])
def test_make_verify(project, monkeypatch, where):
    monkeypatch.chdir(project)
    cache = Path(".dvc/cache").absolute()
    file = random.Random(SEED).choice([*cached(cache)] if where == "cache" else [*outputs(cache)])
    whole = file.path.read_bytes()
    replace(file, next(flipped(whole, 1, where)))
    ended = start("tools.verify", project)
    assert (
        ended.line
        == {"cache": "1 files in DVC's cache are damaged", "results": "1 results are damaged, or were edited"}[where]
    )
    assert f"{file.path} is damaged: remove it" in ended.output
    replace(file, whole)
    assert LOCK.exists()


def replace(file: Tracked, content: bytes) -> None:
    """Write a file, which DVC has made read-only, in its place: the cache has the mode and the time that it had."""
    before = file.path.stat()
    file.path.chmod(0o644)
    file.path.write_bytes(content)
    file.path.chmod(before.st_mode)
