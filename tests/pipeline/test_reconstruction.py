"""Reconstruction that is interrupted goes on after its last finished block, to the same result."""

import pytest
import torch
from programs import conv

from fixedpoint.program import INPUT, Flatten, Linear, Program
from fixedpoint.quantize import reconstruct as module
from fixedpoint.quantize.calibrate import calibrate
from pipeline.params import load_params
from pipeline.paths import runs_folder
from pipeline.reconstruction import States, reconstructed, states_of
from storage.errors import InputError
from storage.model_file import ModelInfo

INFO = ModelInfo("vargconvnet_32", {}, 2, 4, "rgb", ["a", "b"])
X = (torch.randint(-128, 128, (16, 3, 1, 1), generator=torch.Generator().manual_seed(0)) / 128).expand(16, 3, 4, 4)
BLOCKS = 3


def program():
    torch.manual_seed(0)
    ops = (
        conv("a", INPUT, (4, 4, 4), clamp=(0.0, None)),
        conv("b", "a", (4, 4, 4), clamp=(0.0, None)),
        Flatten("flat", ("b",), (64,)),
        Linear("fc", ("flat",), (2,)),
    )
    shapes = {"a": (4, 3, 3, 3), "b": (4, 4, 3, 3), "fc": (2, 64)}
    constants = {f"{name}.weight": torch.randn(shape) ** 3 / 8 for name, shape in shapes.items()}
    constants |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    return calibrate(Program((3, 4, 4), ops, constants), lambda: [X], weight_bits=7)


def run(folder, start):
    return reconstructed(start, start, X, 30, States(folder, INFO))


def test_it_resumes_after_the_last_finished_block(tmp_path, monkeypatch):
    start = program()
    expected = run(tmp_path / "whole", start)
    learned, learn = [], module._learn

    def interrupted(model, block, *arguments):
        learned.append(block[-1].name)
        if len(learned) == 2:
            raise KeyboardInterrupt
        learn(model, block, *arguments)

    monkeypatch.setattr(module, "_learn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", start)
    found = run(tmp_path / "cut", start)
    assert learned == ["a", "b", "b", "fc"]
    assert all(torch.equal(found.constants[name], value) for name, value in expected.constants.items())
    assert any(not torch.equal(found.constants[name], value) for name, value in start.constants.items())
    (left,), (whole,) = ([*(tmp_path / name).iterdir()] for name in ("cut", "whole"))
    assert left.name == whole.name == f"block_{BLOCKS:04d}.safetensors"
    assert left.read_bytes() == whole.read_bytes()
    run(tmp_path / "cut", start)
    assert len(learned) == 4, "what is finished is not learned again"


def test_a_damaged_state_is_named(tmp_path):
    run(tmp_path, program())
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"^{path} .*: remove it, and the run resumes"):
        States(tmp_path, INFO).load()


def test_a_run_is_known_by_its_inputs_and_its_parameters(monkeypatch):
    monkeypatch.setattr("pipeline.reconstruction.dependencies", lambda stage, network: f"{stage} {network}")
    params = load_params()
    changed = params.model_copy(update={"calibrate": params.calibrate.model_copy(update={"reconstruction_steps": 7})})
    folders = [
        states_of(params, INFO, ["a", "b"]).folder,
        states_of(params, INFO, ["a", "c"]).folder,
        states_of(changed, INFO, ["a", "b"]).folder,
    ]
    assert len({*folders}) == 3
    assert {folder.parent for folder in folders} == {runs_folder()}
    assert states_of(params, INFO, ["a", "b"]).folder == folders[0]
