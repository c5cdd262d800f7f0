"""A network of the user's own, with shared weights, through the stages; images without classes that only calibrate."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from imagedb.sources.source import IndexedSource, SourceImage
from imagedb.writer import write_database
from pipeline.float_model import float_model
from pipeline.forms import FORMS
from stages import calibrate, convert_int, count_ops, train_float, train_qat, validate
from storage.errors import InputError
from storage.model_file import load_model, save_model

REPOSITORY = Path(__file__).parents[2]
NAME = "../my_nets/net.py:Net"
TEXT = """
from torch import nn
from my_block import block


class Net(nn.Module):
    def __init__(self, num_classes, width):
        super().__init__()
        self.stem = block(3, width)
        self.first = block(width, width)
        self.second = self.first
        self.one, self.two = nn.Linear(width, width), nn.Linear(width, width)
        self.two.weight = self.one.weight
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.second(self.first(self.stem(x))).mean((2, 3))
        return self.head(self.two(self.one(x).relu()).relu())
"""
BLOCK = """
from torch import nn


def block(before, after):
    return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
"""


class Noise(IndexedSource):
    """Images of noise, brighter in one of three colours, which is their class."""

    def __init__(self, images: int, class_names: tuple[str, ...] = ("red", "green", "blue")):
        self.count, self.class_names = images, class_names

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        pixels = np.random.default_rng(index).integers(0, 200, (8, 8, 3), np.uint8)
        pixels[..., index % 3] += 20
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return SourceImage(str(index), index % 3 % len(self.class_names), buffer.getvalue())


def write_params(**changes) -> None:
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    values |= {"epochs": 1, "batch_size": 8}
    values["train"]["warmup_epochs"] = 0
    values["input"]["size"] = 8
    values["execution"]["threads"], values["machine"]["workers"] = 1, 0
    values["model"] |= {"name": NAME, "num_classes": None, "arguments": {"width": 6}}
    values["calibrate"] |= {"images": 24, "refinement": 8, "bias_correction": 8, "reconstruction": 0}
    values["qat"] |= {"epochs": 1, "batch_size": 8}
    for name, value in changes.items():
        section, _, key = name.rpartition("__")
        (values[section] if section else values)[key] = value
    Path("params.yaml").write_text(yaml.safe_dump(values))


def write_databases(train: Noise, val: Noise) -> None:
    Path("artifacts/db").mkdir(parents=True, exist_ok=True)
    write_database(train, Path("artifacts/db/train.lmdb"))
    write_database(val, Path("artifacts/db/val.lmdb"))


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Runs stages in a project beside a folder with a network; the process is left as it was."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    path = [*sys.path]
    (tmp_path / "my_nets").mkdir()
    (tmp_path / "my_nets/net.py").write_text(TEXT)
    (tmp_path / "my_nets/my_block.py").write_text(BLOCK)
    (tmp_path / "project/metrics").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("RUNS_DIR", raising=False)

    def run(script, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", [script.__name__, *arguments])
        script.main()

    yield run
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    sys.path[:] = path
    for name in ("own_net", "own_change", "my_block"):
        sys.modules.pop(name, None)


def test_shared_weights_from_training_to_integers(stage, capsys):
    write_databases(Noise(24), Noise(12))
    write_params()
    stage(train_float)
    stored = load_model(FORMS["float"].path, ("float",))
    assert (stored.info.name, stored.info.num_classes) == (NAME, 3)
    assert torch.equal(stored.tensors["second.0.weight"], stored.tensors["first.0.weight"])
    network = float_model(stored)
    assert network.second is network.first and network.two.weight is network.one.weight
    for script in (calibrate, train_qat, convert_int):
        stage(script)
    for form in ("float", "int"):
        stage(validate, "--step", form)
    Path("metrics/pack_val.json").write_text('{"classes": 3}')
    stage(count_ops)
    assert "second" not in capsys.readouterr().out


def test_a_file_from_somebody_else_makes_no_code_run(stage, tmp_path):
    write_databases(Noise(24), Noise(12))
    write_params(epochs=0)
    stage(train_float)
    stored = load_model(FORMS["float"].path, ("float",))
    (tmp_path / "my_nets/other.py").write_text("raise SystemExit('ran')")
    for name in ("../my_nets/other.py:Net", "../my_nets/../my_nets/net.py:Net", "os:system"):
        changed = stored.info.__class__(**vars(stored.info) | {"name": name})
        save_model("theirs.safetensors", "float", stored.tensors, changed)
        for script, arguments in ((validate, ("--step", "float")), (calibrate, ())):
            with pytest.raises(
                InputError, match=r"network is .*, code that is run only if it is model\.name in params"
            ):
                stage(script, *arguments, "--checkpoint", "theirs.safetensors")


def test_without_epochs_few_images_and_any_classes_calibrate(stage):
    write_databases(Noise(5, ("anything",)), Noise(3))  # fewer than a batch, and other classes
    write_params(epochs=0, qat__epochs=0)
    for script in (train_float, calibrate, train_qat):
        stage(script)
    assert load_model(FORMS["qat"].path, ("qat",)).info.class_names == ["red", "green", "blue"]
    write_params()
    with pytest.raises(
        InputError, match=r"there are 5 training images, fewer than batch_size 8 and qat\.batch_size 8: "
    ):
        stage(train_float)
    write_params(batch_size=4, qat__batch_size=4)
    with pytest.raises(InputError, match=r"have different classes: only one has anything, blue, green, red"):
        stage(train_float)
    write_params(epochs=0, model__num_classes=4)
    message = r"val\.lmdb has 3 classes, but model\.num_classes is 4; classes without images can be named in a list's"
    with pytest.raises(InputError, match=message):
        stage(train_float)


def test_training_runs_the_users_change_of_its_images(stage, tmp_path):
    (tmp_path / "my_nets/change.py").write_text("def change(pixels, generator):\n    return [*pixels.shape]\n")
    write_databases(Noise(24), Noise(12))
    write_params(augment__extra="../my_nets/change.py:change")
    message = (
        r"^augment\.extra \.\./my_nets/change\.py:change gives list, must give a tensor of torch\.uint8 \[3, 8, 8\]"
    )
    with pytest.raises(InputError, match=message):
        stage(train_float)
