"""What trainers save: the weights are found in it, and it is said where."""

import hashlib
import pathlib
import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn
from torch.optim.swa_utils import AveragedModel

from models.pretrained import load_weights
from storage.errors import InputError


def network(classes: int = 5) -> nn.Module:
    return nn.Sequential(
        OrderedDict(conv1=nn.Conv2d(3, 4, 3), bn1=nn.BatchNorm2d(4), flat=nn.Flatten(), fc=nn.Linear(4, classes))
    )


class Settings:
    """Of a class that nobody who reads the file has."""

    def __init__(self):
        self.lr, self.folder, self.layers = 0.1, pathlib.PurePosixPath("/data"), [nn.Linear(1, 1)]


class Attributes(dict):
    """As Lightning's AttributeDict and others: filled by items."""


def prefixed(weights: dict, prefix: str) -> dict:
    return {f"{prefix}{name}": value for name, value in weights.items()}


torch.manual_seed(1)
MODEL = network()
WEIGHTS = MODEL.state_dict()
OTHER = {name: value + 1 for name, value in WEIGHTS.items()}
AVERAGE = AveragedModel(MODEL).state_dict()  # "n_averaged", and module. before each name
STATE = torch.optim.SGD(MODEL.parameters(), 0.1, momentum=0.9).state_dict()
LIGHTNING = {
    "epoch": 3,
    "pytorch-lightning_version": "2.5.0",
    "state_dict": prefixed(WEIGHTS, "model.") | {"criterion.weight": torch.ones(5)},
    "optimizer_states": [STATE],
    "callbacks": {"ModelCheckpoint{}": {"best_model_score": torch.tensor(0.5), "dirpath": pathlib.PurePosixPath("/x")}},
    "hyper_parameters": Attributes(lr=0.1, model=Settings()),
    "datamodule": Settings(),
}
LAYOUTS = {
    "state dict": (WEIGHTS, "the file's own names"),
    "data parallel": (prefixed(WEIGHTS, "module."), r"without module\."),
    "compiled": (torch.compile(MODEL).state_dict(), "the file's own names"),
    "compiled in DDP": (prefixed(WEIGHTS, "module._orig_mod."), r"without module\."),
    "PyTorch's example": (
        {"epoch": 9, "arch": "resnet18", "state_dict": prefixed(WEIGHTS, "module."), "best_acc1": torch.tensor(71.0)},
        r"in state_dict without module\.",
    ),
    "timm": ({"state_dict": OTHER, "state_dict_ema": WEIGHTS, "metric": np.float64(71.2)}, "in state_dict_ema"),
    "torchvision": ({"model": OTHER, "model_ema": AVERAGE, "optimizer": STATE}, r"in model_ema without module\."),
    "torchvision without averages": ({"model": WEIGHTS, "optimizer": STATE, "args": Settings()}, "in model"),
    "Lightning": (LIGHTNING, r"in state_dict without model\.; passed over: criterion.weight"),
    "Lightning, compiled": ({"state_dict": prefixed(WEIGHTS, "net._orig_mod.")}, r"in state_dict without net\."),
    "Lightning, averaged": (
        {"state_dict": prefixed(OTHER, "net.") | prefixed(WEIGHTS, "ema_net.module.")},
        r"in state_dict without ema_net.module\.; passed over: net\.conv1",
    ),
    "MMPretrain": (
        {
            "meta": {"epoch": 9},
            "message_hub": {"log": Settings()},
            "state_dict": {
                ("head." if name.startswith("fc.") else "backbone.") + name: w for name, w in WEIGHTS.items()
            }
            | {"data_preprocessor.mean": torch.ones(3)},
            "ema_state_dict": prefixed(OTHER, "module."),
        },
        r"in state_dict without backbone\. without head\.; passed over: data_preprocessor.mean",
    ),
    "Composer": ({"state": {"model": prefixed(WEIGHTS, "module."), "rank_zero_seed": 17}}, r"in state\.model without"),
    "fastai": ({"model": WEIGHTS, "opt": STATE}, "in model"),
    "model_state_dict": ({"model_state_dict": WEIGHTS, "loss": 0.1}, "in model_state_dict"),
    "net": ({"net": WEIGHTS, "acc": 93.2, "epoch": 3}, "in net"),
    "the same twice": ({"model": WEIGHTS, "best_model": {**WEIGHTS}}, "in model"),
}


def load(path: pathlib.Path, model: nn.Module, new_layers: tuple[str, ...] = ()) -> str:
    return load_weights(model, path, hashlib.sha256(path.read_bytes()).hexdigest(), new_layers)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_weights_are_found_and_it_is_said_where(tmp_path, name):
    contents, where = LAYOUTS[name]
    torch.save(contents, tmp_path / "w.ckpt")
    model = network()
    said = load(tmp_path / "w.ckpt", model)
    assert all(torch.equal(value, WEIGHTS[key]) for key, value in model.state_dict().items())
    assert re.fullmatch(rf"9 tensors from .*w\.ckpt, {where}.*", said), said


def test_formats_are_known_by_their_contents(tmp_path):
    save_file(dict(WEIGHTS), tmp_path / "pytorch_model.bin")  # safetensors under PyTorch's name
    torch.save(WEIGHTS, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    for path in tmp_path.iterdir():
        model = network()
        load(path, model)
        assert torch.equal(model.fc.weight, WEIGHTS["fc.weight"])


def test_the_head_may_be_new_in_any_layout(tmp_path):
    torch.save(LIGHTNING, tmp_path / "w.ckpt")
    model = network(12)
    with pytest.raises(InputError, match=r"does not fit: fc.bias is \[5\] and not \[12\]; .*new_layers \[fc\] would"):
        load(tmp_path / "w.ckpt", model)
    before = model.fc.weight.clone()
    load(tmp_path / "w.ckpt", model, ("fc",))
    assert torch.equal(model.fc.weight, before) and torch.equal(model.conv1.weight, WEIGHTS["conv1.weight"])


def test_several_that_fit_are_not_chosen_from(tmp_path):
    for contents, places in (
        ({"student": prefixed(WEIGHTS, "module."), "teacher": OTHER}, r"in student without module\. and in teacher"),
        ({"state_dict": prefixed(WEIGHTS, "online.") | prefixed(OTHER, "target.")}, r"without online\. and .*target\."),
    ):
        torch.save(contents, tmp_path / "w.pt")
        with pytest.raises(InputError, match=rf"holds several weights that fit \(.*{places}\): save those"):
            load(tmp_path / "w.pt", network())


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (MODEL, r"w\.pt is a torch\.nn\.modules\.container\.Sequential, which only its own code can read: save its"),
        (
            {"model": MODEL, "ema": None, "epoch": 3},
            "holds no weights by name, but objects of torch.nn.modules.container",
        ),
        ([1, 2], "holds no weights by name: save its weights alone where it was made, torch.save"),
        ({"accuracy": 3}, "holds no weights by name: "),
        ({"conv1.weight": WEIGHTS["conv1.weight"]}, "does not fit: bn1.bias is missing"),
        ({"a": torch.ones(1)}, r"does not fit: .* and \d+ more"),
        (
            WEIGHTS | {"bn1.running_mean": torch.tensor([0, 1, float("nan"), 2])},
            "bn1.running_mean .*not finite.*channel 2",
        ),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path, contents, message):
    torch.save(contents, tmp_path / "w.pt")
    with pytest.raises(InputError, match=message) as raised:
        load(tmp_path / "w.pt", network())
    assert "\n" not in str(raised.value)


def test_other_archives_are_no_weights(tmp_path):
    torch.jit.script(nn.Linear(1, 1)).save(tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"cannot be read as weights: .*; save its weights alone where it was made"):
        load(tmp_path / "w.pt", network())
    torch.save({"a": torch.ones(9)}, tmp_path / "whole.pt")
    neither, cut = (
        "it is neither safetensors nor a dictionary of tensors.*; save its weights",
        "it is cut off or damaged; copy",
    )
    for content, reason in (
        (b"", cut),
        ((tmp_path / "whole.pt").read_bytes()[:-100], cut),
        (b"\x89HDF" * 9, neither),
        (b"hello", neither),
        (b"import torch\n", neither),
    ):
        (tmp_path / "w.pt").write_bytes(content)
        with pytest.raises(InputError, match=rf"cannot be read as weights: {reason}"):
            load(tmp_path / "w.pt", network())
    with pytest.raises(FileNotFoundError, match="is a folder"):
        load_weights(network(), tmp_path, "", ())


def test_counts_of_batches_may_be_missing_as_in_old_files(tmp_path):
    torch.save({name: w for name, w in WEIGHTS.items() if "num_batches" not in name}, tmp_path / "w.pt")
    model = network()
    load(tmp_path / "w.pt", model)
    assert torch.equal(model.bn1.running_var, WEIGHTS["bn1.running_var"])


def test_a_tensor_with_two_names_needs_one_and_has_one_value(tmp_path):
    def tied() -> nn.Module:
        model = nn.Sequential(OrderedDict(first=nn.Linear(3, 3), second=nn.Linear(3, 3), norm=nn.BatchNorm1d(3)))
        model.second.weight = model.first.weight
        model.again = model.norm
        return model

    source, path = tied(), tmp_path / "w.safetensors"
    save_model(source, path)  # which stores one name of each
    model = tied()
    assert load(path, model).startswith("8 tensors")
    assert torch.equal(model.second.weight, source.first.weight) and model.second.weight is model.first.weight
    save_file({name: value.clone() for name, value in source.state_dict().items()}, path)
    assert load(path, model).startswith("14 tensors")
    save_file({name: value + ("second" in name) for name, value in source.state_dict().items()}, path)
    with pytest.raises(InputError, match=r"second.weight is not first.weight, which it is in the network"):
        load(path, model)
