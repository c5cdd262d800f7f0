"""A change of training pixels by code of the user's own: what it gets, what it must give, what depends on it."""

import sys
from pathlib import Path

import pytest
import torch

from pipeline.code import dependencies
from pipeline.own_change import own_change
from storage.errors import InputError

TEXT = """
import torch
from grain import STRENGTH


def noise(pixels, generator):
    change = torch.randint(-STRENGTH, STRENGTH + 1, pixels.shape, generator=generator)
    return (pixels + change).clamp(0, 255).to(torch.uint8)


def shrink(pixels, generator):
    return pixels[:, 1:]


def lighten(pixels, generator):
    return pixels / 2


def forget(pixels, generator):
    pixels += 1


def fail(pixels, generator):
    raise KeyError("colour")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/noise.py").write_text(TEXT)
    (tmp_path / "theirs/grain.py").write_text("STRENGTH = 9\n")
    monkeypatch.chdir(tmp_path)
    path = [*sys.path]
    yield tmp_path
    sys.path[:] = path
    for name in ("own_noise", "grain"):
        sys.modules.pop(name, None)


def pixels() -> torch.Tensor:
    return torch.full((3, 4, 4), 100, dtype=torch.uint8)


def test_it_gets_pixels_and_a_generator(folder):
    change = own_change("theirs/noise.py:noise", "augment.extra")
    first, again, other = (change(pixels(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.dtype == torch.uint8 and 91 <= first.min() < first.max() <= 109
    assert own_change(None, "augment.extra") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("theirs/noise.py", r"theirs/noise\.py is not allowed, must be FILE\.py:FUNCTION"),
        ("theirs/none.py:noise", r"theirs/none\.py:noise: there is no file theirs/none\.py in "),
        ("theirs/noise.py:nois", r"theirs/noise\.py:nois: there is no nois; there is: noise"),
        (
            "theirs/noise.py:shrink",
            r"theirs/noise\.py:shrink gives torch\.uint8 \[3, 3, 4\], must give a tensor of torch\.uint8 \[3, 4,",
        ),
        (
            "theirs/noise.py:lighten",
            r"theirs/noise\.py:lighten gives torch\.float32 \[3, 4, 4\], must give a tensor of torch\.uint8",
        ),
        ("theirs/noise.py:forget", r"theirs/noise\.py:forget gives NoneType, must give a tensor"),
        ("theirs/noise.py:fail", r"theirs/noise\.py:fail raises KeyError 'colour' \(noise\.py, line 24\)"),
    ],
)
def test_mistakes_name_the_parameter_and_what_to_give(folder, name, message):
    with pytest.raises(InputError, match=rf"^qat\.augment\.extra {message}") as raised:
        own_change(name, "qat.augment.extra")(pixels(), torch.Generator())
    assert "\n" not in str(raised.value)


def test_only_the_training_that_runs_it_depends_on_its_code(folder):
    def lines(stage: str, extra: str | None) -> set[str]:
        return {*dependencies(stage, "vargconvnet_32", extra).splitlines()}

    for stage in ("train_float", "train_qat"):
        before = lines(stage, "theirs/noise.py:noise")
        assert {line.split("  ")[1] for line in before - lines(stage, None)} == {"noise.py", "grain.py"}
        Path("theirs/grain.py").write_text(f"STRENGTH = '{stage}'\n")
        changed = before ^ lines(stage, "theirs/noise.py:noise")
        assert {line.split("  ")[1] for line in changed} == {"grain.py"}
    with pytest.raises(InputError, match=r"^augment\.extra theirs/none\.py:f: there is no file"):
        dependencies("train_float", "vargconvnet_32", "theirs/none.py:f")
