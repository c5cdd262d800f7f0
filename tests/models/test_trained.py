"""Networks that were trained elsewhere, as trainers save them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.trained import described, find_start, load_trained
from storage.errors import InputError
from storage.model_file import ModelInfo, save_model

TEXT = """
from torch import nn


def net(num_classes, width=4):
    return nn.ModuleDict({"body": nn.Conv2d(3, width, 3), "head": nn.Linear(width, 2 * num_classes)})
"""
CLASSES = 5
WEIGHTS = {
    "body.weight": torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)),
    "body.bias": torch.arange(4.0),
    "head.weight": torch.arange(2.0 * CLASSES * 4).reshape(2 * CLASSES, 4),  # two rows a class
    "head.bias": torch.arange(2.0 * CLASSES),
}
ZEROS = {name: torch.zeros_like(value) for name, value in WEIGHTS.items()}


def under(prefix: str, weights: dict = WEIGHTS) -> dict:
    return {f"{prefix}{name}": value for name, value in weights.items()}


@pytest.fixture
def network(tmp_path) -> str:
    (tmp_path / "theirs.py").write_text(TEXT)
    return f"{tmp_path / 'theirs.py'}:net"


def load(network: str, path: Path, **arguments):
    return load_trained(network, path, 8, arguments, None)


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (WEIGHTS, "the file's own names"),
        (under("module."), "without module."),
        (under("_orig_mod."), "the file's own names"),
        ({"epoch": 3, "state_dict": under("model.") | {"loss.weight": torch.ones(3)}}, "in state_dict without model."),
        ({"state_dict": under("module._orig_mod."), "optimizer": {"state": {}}}, "in state_dict without module."),
        ({"model": ZEROS, "scored": WEIGHTS, "best": WEIGHTS, "history": [{"val_top1": 0.5}]}, "in scored"),
        ({"state_dict": ZEROS, "state_dict_ema": WEIGHTS}, "in state_dict_ema"),
        ({"model": ZEROS, "model_ema": under("module.") | {"n_averaged": torch.tensor(1)}}, "in model_ema without mod"),
    ],
    ids=["plain", "DDP", "compiled", "Lightning", "compiled DDP", "ours", "timm's average", "torchvision's average"],
)
def test_what_trainers_save(network, tmp_path, contents, said):
    torch.save(contents, tmp_path / "w.pt")
    found = load(network, tmp_path / "w.pt")
    assert found.classes == CLASSES and said in found.taken and not found.network.training
    state = found.network.state_dict()
    assert state.keys() == WEIGHTS.keys() and all(torch.equal(state[name], WEIGHTS[name]) for name in WEIGHTS)


def test_safetensors_and_half_precision(network, tmp_path):
    save_file({name: value.half() for name, value in WEIGHTS.items()}, tmp_path / "w.safetensors")
    found = load(network, tmp_path / "w.safetensors")
    assert found.classes == CLASSES and found.network["head"].weight.dtype == torch.float32


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)


def test_what_cannot_be_loaded_is_one_line_that_says_what_to_do(network, tmp_path):
    save = r"torch\.save\(model\.state_dict\(\), FILE\)"
    torch.save(Whole(), tmp_path / "module.pt")
    torch.save({"model": Whole()}, tmp_path / "inside.pt")
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "script.pt")
    torch.save({name: value for name, value in WEIGHTS.items() if name != "body.bias"}, tmp_path / "missing.pt")
    torch.save(WEIGHTS | {"neck.weight": torch.ones(1)}, tmp_path / "more.pt")
    torch.save({name: value for name, value in WEIGHTS.items() if "head" not in name}, tmp_path / "headless.pt")
    torch.save({name: value[:2] for name, value in WEIGHTS.items()}, tmp_path / "one.pt")
    torch.save(WEIGHTS | {"body.bias": torch.full((4,), torch.nan)}, tmp_path / "nan.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "more.pt").read_bytes()[:900])
    (tmp_path / "empty.pt").touch()
    another = "; the network must be the one that was saved, with its arguments$"
    cases = {
        "module.pt": save,
        "inside.pt": save,
        "script.pt": save,
        "missing.pt": rf"does not fit: body\.bias is missing{another}",
        "more.pt": rf"does not fit: the network has no neck\.weight{another}",
        "headless.pt": rf"it has no head\.weight, head\.bias{another}",
        "one.pt": r"has a head\.weight for 1 class: two or more are needed",
        "nan.pt": r"body\.bias holds values that are not finite",
        "cut.pt": r"cut\.pt cannot be read as weights: it is cut off or damaged; copy it again$",
        "empty.pt": "it is cut off or damaged; copy it again$",
    }
    for name, message in cases.items():
        with pytest.raises(InputError, match=message) as raised:
            load(network, tmp_path / name)
        assert "\n" not in str(raised.value) and name in str(raised.value)
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint nowhere\.pt"):
        load(network, Path("nowhere.pt"))
    with pytest.raises(FileNotFoundError, match="is a folder"):
        load(network, tmp_path)


def test_another_network_than_the_files_is_named(network, tmp_path):
    torch.save(WEIGHTS, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"\(for .*theirs\.py:net\) does not fit: body\.bias is \[4\] and not \[6\]"):
        load(network, tmp_path / "w.pt", width=6)


@pytest.mark.parametrize("more", [{}, {"neck": 1}], ids=["all", "without a last layer"])
def test_a_start_for_other_classes(network, tmp_path, more):
    torch.save({name: each for name, each in WEIGHTS.items() if not more or "head" not in name}, tmp_path / "w.pt")
    found = find_start(network, tmp_path / "w.pt", 8, {})
    assert found.classes == (None if more else CLASSES) and found.last == ["head"]


def test_a_start_needs_all_other_layers(network, tmp_path):
    torch.save({name: each for name, each in WEIGHTS.items() if name != "body.bias"}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"w\.pt \(for .*:net\) does not fit: body\.bias is missing"):
        find_start(network, tmp_path / "w.pt", 8, {})


def test_what_a_file_says_of_itself(tmp_path):
    info = ModelInfo("resnet18", {}, 2, 64, "yuv444", ["a", "b"], None, "bicubic")
    save_model(tmp_path / "ours.safetensors", "float", {"x": torch.ones(1)}, info)
    save_file({"x": torch.ones(1)}, tmp_path / "theirs.safetensors")
    torch.save({"x": torch.ones(1)}, tmp_path / "theirs.pt")
    assert described(tmp_path / "ours.safetensors") == info
    assert described(tmp_path / "theirs.safetensors") is described(tmp_path / "theirs.pt") is None
