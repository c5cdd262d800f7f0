import hashlib
import pickle

import pytest
import torch
from safetensors.torch import save_file

from models import create_model
from models.pretrained import load_weights

NORMALIZATION = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(1)
    return create_model("resnet18", 5, 32, {}).state_dict()


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("kind", ["safetensors", "state dict", "training checkpoint", "averaged"])
@pytest.mark.parametrize("name", ["resnet18", "torchvision/resnet18"])
def test_files_of_timm_and_torchvision(weights, tmp_path, kind, name):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    zeros = {key: torch.zeros_like(value) for key, value in weights.items()}
    contents = {
        "state dict": weights,
        "training checkpoint": {"epoch": 3, "state_dict": {f"module.{key}": v for key, v in weights.items()}},
        "averaged": {"state_dict": zeros, "state_dict_ema": weights},
    }
    save_file(weights, path) if kind == "safetensors" else torch.save(contents[kind], path)
    model = create_model(name, 5, 32, {})
    load_weights(model, path, digest(path))
    assert same(model.state_dict(), weights)


def test_a_normalized_network_takes_the_weights_of_the_network(weights, tmp_path):
    save_file(weights, tmp_path / "w.safetensors")
    model = create_model("resnet18", 5, 32, {}, NORMALIZATION)
    load_weights(model, tmp_path / "w.safetensors", digest(tmp_path / "w.safetensors"))
    assert same(model.network.state_dict(), weights)


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
        (path, "00", "resnet18", f"has sha256 {digest(path)}, but model.checkpoint_sha256 is 00"),
        (path, digest(path), "resnet10t", r"does not fit: .*; .*; .* and \d+ more"),
        (pickled, digest(pickled), "resnet18", "cannot be read as weights"),
        (text, digest(text), "resnet18", "cannot be read as weights"),
        (pointer, digest(pointer), "resnet18", "is a pointer of git-lfs; `git lfs pull` fetches the file itself"),
    ]
    for file, sha256, name, message in cases:
        with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
            load_weights(create_model(name, 5, 32, {}), file, sha256)
        assert "\n" not in str(raised.value)
    assert "code ran" not in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"does not fit: fc.bias is \[5\] and not \[7\]; fc.weight is"):
        load_weights(create_model("resnet18", 7, 32, {}), path, digest(path))


def test_pickle_is_what_the_harmful_file_would_run(capsys):
    pickle.loads(pickle.dumps(Harmful()))
    assert "code ran" in capsys.readouterr().out
