"""Checkpoints of training in the place of model files."""

import math
from pathlib import Path

import brightest
import pytest
import torch

from models.registry import create_model
from pipeline.checkpoints import about, read_model
from pipeline.float_model import float_model
from pipeline.forms import stored_program
from pipeline.params import load_params
from storage.errors import InputError
from storage.model_file import ModelInfo, save_model
from training.checkpoint import write_state


def save(contents, path):
    with Path(path).open("wb") as file:
        write_state(file, contents)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_checkpoint_of_float_training_is_the_scored_network():
    arguments = {"channels": [8, 8, 8, 16, 16], "head_width": 16}
    info = ModelInfo("vargconvnet_32", arguments, 3, 32, "yuv444", brightest.CLASSES)
    network = create_model(info.name, 3, 32, arguments)
    brightest.write_params()
    described = about("float", info, None, load_params())
    save({"scored": network.state_dict(), "model": None, "about": described}, "best.pt")
    stored = read_model(Path("best.pt"), "float")
    assert (stored.form, stored.info, stored.program) == ("float", info, None)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(float_model(stored)(x), network.eval()(x))


def test_a_checkpoint_of_qat_is_the_program_with_the_scored_weights():
    save(brightest.checkpoint(), "step_00000007.pt")
    stored = read_model(Path("step_00000007.pt"), "qat")
    assert (stored.form, stored.info) == ("qat", brightest.INFO)
    program = stored_program(stored)
    calibrated = brightest.program(torch.float32)
    assert (program.ops, program.exponents) == (calibrated.ops, calibrated.exponents)
    assert [float(program.constants["conv.weight"][c, c].mean()) for c in range(3)] == [1, 0.5, 0.5]


def test_a_model_file_is_read_as_before():
    made = brightest.program()
    save_model("model.safetensors", "int", made.constants, brightest.INFO, made.to_json())
    assert stored_program(read_model(Path("model.safetensors"), "int")).to_json() == made.to_json()


def without(key):
    return {name: value for name, value in brightest.checkpoint().items() if name != key}


@pytest.mark.parametrize(
    ("contents", "form", "message"),
    [
        (brightest.checkpoint(), "float", "x.pt is a checkpoint of form 'qat', expected 'float'"),
        (brightest.checkpoint(), "int", "x.pt is a checkpoint of form 'qat', expected 'int'"),
        (without("scored"), "qat", "x.pt is no checkpoint of this version's train_float or train_qat"),
        (without("about"), "qat", "x.pt is no checkpoint of this version's train_float or train_qat"),
        (brightest.checkpoint(info={"name": "x"}), "qat", "x.pt does not describe its model as this version does"),
        (brightest.checkpoint() | {"scored": [1]}, "qat", "x.pt holds no weights by name"),
        (
            brightest.checkpoint() | {"scored": {"w": torch.tensor(math.nan)}},
            "qat",
            "x.pt: w holds values that are not",
        ),
        ([1, 2], "qat", "x.pt is no checkpoint of this version's"),
        (brightest.checkpoint() | {"scored": {}}, "qat", "the weights in x.pt do not fit its program: .* Missing key"),
    ],
)
def test_another_checkpoint_is_refused_in_one_line(contents, form, message):
    save(contents, "x.pt")
    with pytest.raises(ValueError, match=message) as error:
        read_model(Path("x.pt"), form)
    assert "\n" not in str(error.value)


def test_a_damaged_checkpoint_is_refused_and_runs_no_code():
    save(brightest.checkpoint(), "x.pt")
    whole = Path("x.pt").read_bytes()
    for contents in (b"", b"text", whole[: len(whole) // 2]):
        Path("x.pt").write_bytes(contents)
        with pytest.raises(InputError, match=r"x\.pt is damaged, or no checkpoint"):
            read_model(Path("x.pt"), "qat")
    save({"scored": test_a_damaged_checkpoint_is_refused_and_runs_no_code}, "x.pt")
    with pytest.raises(InputError, match=r"x\.pt cannot be read as a checkpoint: Weights only load failed"):
        read_model(Path("x.pt"), "qat")
    with pytest.raises(OSError, match=r"No such file or directory: 'none\.pt'"):
        read_model(Path("none.pt"), "qat")
