import argparse
import hashlib
import pickle

import pytest
import torch
from safetensors.torch import save_file

from models.pretrained import load_weights
from models.registry import create_model
from storage.model_file import ModelInfo, save_model

NORMALIZATION = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(1)
    return create_model("resnet18", 5, 32, {}).state_dict()


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("kind", ["safetensors", "state dict", "training checkpoint", "averaged", "ours"])
@pytest.mark.parametrize("name", ["resnet18", "torchvision/resnet18"])
def test_files_of_timm_of_torchvision_and_of_this_repository(weights, tmp_path, kind, name):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    zeros = {key: torch.zeros_like(value) for key, value in weights.items()}
    contents = {
        "state dict": weights,
        "training checkpoint": {"epoch": 3, "state_dict": {f"module.{key}": v for key, v in weights.items()}},
        "averaged": {"state_dict": zeros, "state_dict_ema": weights, "args": argparse.Namespace(lr=0.1)},
        "ours": {"epoch": 3, "model": zeros, "scored": weights, "best": zeros, "history": [{"val_top1": 0.5}]},
    }
    save_file(weights, path) if kind == "safetensors" else torch.save(contents[kind], path)
    model = create_model(name, 5, 32, {})
    load_weights(model, path, digest(path), [])
    assert same(model.state_dict(), weights)


def test_a_normalized_network_takes_the_weights_of_the_network(weights, tmp_path):
    save_file(weights, tmp_path / "w.safetensors")
    model = create_model("resnet18", 5, 32, {}, NORMALIZATION)
    load_weights(model, tmp_path / "w.safetensors", digest(tmp_path / "w.safetensors"), [])
    assert same(model.network.state_dict(), weights)


def test_model_files_of_this_repository_with_and_without_a_normalization(weights, tmp_path):
    path = tmp_path / "model.safetensors"
    info = ModelInfo("resnet18", {}, 5, 32, "rgb", list("abcde"))
    save_model(path, "float", weights, info)
    plain = create_model("resnet18", 5, 32, {})
    load_weights(plain, path, digest(path), [])
    assert same(plain.state_dict(), weights)

    source = create_model("resnet18", 5, 32, {}, NORMALIZATION)
    save_model(path, "float", source.state_dict(), info)
    model = create_model("resnet18", 5, 32, {}, NORMALIZATION)
    load_weights(model, path, digest(path), [])
    assert same(model.state_dict(), source.state_dict())
    model = create_model("resnet18", 5, 32, {}, NORMALIZATION | {"std": [0.2, 0.2, 0.2]})
    with pytest.raises(ValueError, match=r"was trained with another normalization than model\.normalization"):
        load_weights(model, path, digest(path), [])
    with pytest.raises(ValueError, match="does not fit"):
        load_weights(plain, path, digest(path), [])


@pytest.mark.parametrize("normalization", [None, NORMALIZATION])
@pytest.mark.parametrize("lacking", [False, True])
def test_new_layers_keep_their_random_weights(weights, tmp_path, normalization, lacking):
    path = tmp_path / "w.safetensors"
    save_file({name: w for name, w in weights.items() if not (lacking and name.startswith(("fc.", "bn1.")))}, path)
    model = create_model("resnet18", 7, 32, {}, normalization)
    network = model.network if normalization else model
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    load_weights(model, path, digest(path), ["fc", "bn1"])
    new = {name for name in weights if name.startswith(("fc.", "bn1."))}
    assert len(new) == 2 + 5
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name] if name in new else weights[name]), name


def test_a_new_classifier_of_vargconvnet(tmp_path):
    path = tmp_path / "w.pth"
    source = create_model("vargconvnet_025", 5, 32, {})
    torch.save(source.state_dict(), path)
    model = create_model("vargconvnet_025", 3, 32, {})
    with pytest.raises(ValueError, match=r"new_layers \[head.classifier.bn, head.classifier.conv\] would leave"):
        load_weights(model, path, digest(path), [])
    load_weights(model, path, digest(path), ["head.classifier"])
    assert torch.equal(model.head.hidden.conv.weight, source.head.hidden.conv.weight)
    assert model.head.classifier.conv.weight.shape[0] == 3


class Harmful:
    def __reduce__(self):
        return (print, ("code ran",))


def test_mistakes_are_named_in_one_line(weights, tmp_path, capsys):
    path = tmp_path / "w.safetensors"
    save_file(weights, path)
    pickled, text = tmp_path / "w.pth", tmp_path / "text.pth"
    torch.save({"state_dict": weights, "extra": Harmful()}, pickled)
    text.write_text("hello")
    pointer = tmp_path / "pointer.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n")
    cases = [
        (tmp_path / "none.pth", "", "resnet18", "none.pth does not exist"),
        (path, "00", "resnet18", f"has sha256 {digest(path)}, but .* is 00: set it, if you mean this file$"),
        (path, digest(path), "resnet10t", r"does not fit: .*; .*; .* and \d+ more"),
        (pickled, digest(pickled), "resnet18", "cannot be read as weights"),
        (text, digest(text), "resnet18", "cannot be read as weights"),
        (pointer, digest(pointer), "resnet18", "is a pointer of git-lfs; `git lfs pull` fetches the file itself"),
    ]
    for file, sha256, name, message in cases:
        with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
            load_weights(create_model(name, 5, 32, {}), file, sha256, [])
        assert "\n" not in str(raised.value)
    assert "code ran" not in capsys.readouterr().out
    hint = r"; train.init_from.new_layers \[fc\] would leave what differs random"
    fits = [
        (
            "resnet18",
            [],
            rf"init_from.file .* does not fit: fc.bias is \[5\] and not \[7\]; fc.weight is .*{hint}$",
        ),
        ("resnet18", ["fcc"], "train.init_from.new_layers: the network has no layer 'fcc'; near matches: fc$"),
        ("resnet18", ["global_pool"], "the network has no layer 'global_pool'; near matches: none$"),
        ("resnet18", [""], "the network has no layer ''"),
        ("resnet18", ["bn1"], f"does not fit: fc.bias .*{hint}$"),
        ("resnet10t", ["fc"], r"does not fit: .* and \d+ more$"),
    ]
    for name, new_layers, message in fits:
        with pytest.raises(ValueError, match=message):
            load_weights(create_model(name, 7, 32, {}), path, digest(path), new_layers)


def test_pickle_is_what_the_harmful_file_would_run(capsys):
    pickle.loads(pickle.dumps(Harmful()))
    assert "code ran" in capsys.readouterr().out
