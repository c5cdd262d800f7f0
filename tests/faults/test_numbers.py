"""Data of which the right result is known: noise, ten images, one class, constants, dead channels, no step at all."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from attacks import Ended, StageServer, copy_of
from PIL import Image
from project import change, commands
from safetensors.torch import load_file, save_file
from sample_images import noise

pytestmark = pytest.mark.faults

PLAIN = {"augment__crop_padding": 0, "augment__flip": 0}
QAT_PLAIN = {"qat__augment__crop_padding": 0, "qat__augment__flip": 0}
SCORES = ("float", "ptq", "qat", "int", "onnx_float", "onnx_int8", "litert")
Labelled = Iterable[tuple[str, np.ndarray]]  # class name, pixels


@pytest.fixture
def project(finished, tmp_path) -> Path:
    """The finished project without results, whose images and parameters a test changes."""
    folder = copy_of(finished, tmp_path / "project")
    for name in ("artifacts/db", "artifacts/float", "metrics", "plots", "runs"):
        shutil.rmtree(folder / name)
    return folder


def write(project: Path, train: Labelled, val: Labelled) -> None:
    """Replace the images of the project."""
    shutil.rmtree(project / "pictures")
    for split, images in (("train", train), ("val", val)):
        for number, (name, pixels) in enumerate(images):
            path = project / "pictures" / split / name / f"{split}{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def sample(project: Path, split: str) -> list[tuple[str, np.ndarray]]:
    """The images of the sample, their classes by turns."""
    files = sorted((project / "pictures" / split).glob("*/*.png"), key=lambda file: (file.name, file.parent.name))
    return [(file.parent.name, np.asarray(Image.open(file))) for file in files]


def train(server: StageServer, project: Path, **params: object) -> Ended:
    """Pack and train in float; how the last stage ended that ran."""
    change(project, **params)
    for command in ("pack --split-name train", "pack --split-name val", "train_float"):
        ended = server.run(command, project)
        if ended.code:
            break
    return ended


def finish(server: StageServer, project: Path) -> dict[str, float]:
    """All stages after float training must succeed, and all forms agree; the top-1 of each form."""
    done = ("code", "pack", "train_float")
    for command in commands(project):
        if not command.startswith(done):
            ended = server.run(command, project)
            assert ended.code == 0, f"{command}: {ended.errors}"
    assert json.loads((project / "metrics/summary.json").read_text())["mismatches"] == 0
    scores = {name: json.loads((project / f"metrics/{name}.json").read_text()) for name in SCORES}
    json.dumps(scores, allow_nan=False)
    return {name: score["top1"] for name, score in scores.items()}


def top1(project: Path, column: str = "val_top1") -> list[float]:
    """The curve of float training."""
    lines = (project / f"plots/float/plots/metrics/{column}.tsv").read_text().splitlines()[1:]
    return [float(line.split()[1]) for line in lines]


def weights(project: Path, stage: str = "float") -> dict[str, torch.Tensor]:
    stored = load_file(project / f"artifacts/{stage}/last.safetensors")
    return {
        name: value for name, value in stored.items() if not name.endswith(("running_mean", "running_var", "tracked"))
    }


def test_labels_that_are_shuffled_cannot_be_predicted(server, project):
    assert train(server, project, epochs=8, **PLAIN).code == 0
    assert top1(project)[-1] > 80  # 24 images of three classes
    images = sample(project, "train")
    names = np.random.default_rng(0).permutation([name for name, _ in images])
    write(project, zip(names, (pixels for _, pixels in images), strict=True), sample(project, "val"))
    assert train(server, project).code == 0
    assert top1(project)[-1] < 67  # chance is 33 +- 10


def test_ten_images_are_learned_by_heart(server, project):
    ten = sample(project, "train")[:10]
    write(project, ten, ten)
    assert train(server, project, epochs=40, batch_size=10, calibrate__images=10, qat__batch_size=10, **PLAIN).code == 0
    assert top1(project, "train_top1")[-1] == top1(project)[-1] == 100
    assert set(finish(server, project).values()) == {100}


def test_noise_under_random_labels_is_learned_by_heart_and_not_generalized(server, project):
    made = [("abc"[i % 3], noise(32, 32, i)) for i in range(48)]
    write(project, made[:24], made[24:])
    assert train(server, project, epochs=60, batch_size=24, train__label_smoothing=0, **PLAIN).code == 0
    assert top1(project, "train_top1")[-1] == 100
    assert top1(project)[-1] < 67


@pytest.mark.parametrize("value", [0, 128, 255])
def test_images_of_one_colour(server, project, value):
    flat = [("abc"[i % 3], np.full((32, 32, 3), value, np.uint8)) for i in range(24)]
    write(project, flat, flat)
    assert train(server, project).code == 0
    assert set(finish(server, project).values()) == {33.3333}  # all are predicted as one class


def test_one_image_of_each_class(server, project):
    one = [
        images[0] for name in ("Bag", "Sneaker") if (images := [i for i in sample(project, "train") if i[0] == name])
    ]
    write(project, one, one)
    assert "a batch of 16 images" in train(server, project, model__num_classes=2).line
    assert train(server, project, epochs=0, batch_size=2).code == 0
    small = {"images": 1, "bias_correction": 1, "refinement": 1, "reconstruction": 0}
    change(project, qat__epochs=0, qat__batch_size=2, **{f"calibrate__{name}": count for name, count in small.items()})
    change(project, golden__images=1, report__images=1, compare__intermediate_images=1)
    assert set(finish(server, project).values()) <= {0, 50, 100}


def test_one_class_is_refused(server, project):
    write(project, *([each for each in sample(project, split) if each[0] == "Bag"] for split in ("train", "val")))
    assert "model.num_classes is 3" in train(server, project).line
    assert "model.num_classes: 1 is not allowed" in train(server, project, model__num_classes=1).line


def test_classes_that_only_one_side_has(server, project):
    images = sample(project, "train")
    names = dict(zip(("Bag", "Sneaker", "Trouser"), ("Bag", "Sneaker", "Boot"), strict=True))
    write(project, images, ((names[name], pixels) for name, pixels in sample(project, "val")))
    line = train(server, project).line
    assert "Trouser" in line
    assert "Boot" in line


def test_dead_channels(server, project):
    """A third of the channels of each layer give zeros, and BatchNorm has measured no variance there."""
    assert train(server, project, epochs=0).code == 0
    state = load_file(project / "artifacts/float/model.safetensors")
    for value in state.values():
        if value.ndim == 4 and len(value) > 3:  # no logit
            value[: len(value) // 3] = 0
    for name, value in state.items():
        if name.endswith("running_var"):
            value[: len(value) // 3] = 0
    save_file(state, project / "dead.safetensors")
    digest = hashlib.sha256((project / "dead.safetensors").read_bytes()).hexdigest()
    weights_file = {"file": "dead.safetensors", "sha256": digest, "new_layers": []}
    assert train(server, project, train__init_from=weights_file, qat__epochs=0).code == 0
    scores = finish(server, project)
    assert scores["int"] == scores["qat"] == scores["onnx_int8"]


def test_a_learning_rate_without_effect_keeps_the_weights(server, project):
    assert "lr: 0 is not allowed" in train(server, project, lr=0).line
    assert train(server, project, lr=0.1, epochs=0).code == 0
    initial = weights(project)
    assert train(server, project, epochs=3, lr=1e-30).code == 0
    for name, value in weights(project).items():  # but for biases that begin as zeros
        assert torch.allclose(value, initial[name], rtol=0, atol=1e-20), name


def test_no_epochs_keep_the_initial_weights_and_score_them(server, project):
    change(project, qat__epochs=0)
    assert train(server, project, epochs=0).code == 0
    assert len(top1(project)) == 1
    best, last = (load_file(project / f"artifacts/float/{name}.safetensors") for name in ("model", "last"))
    assert all(torch.equal(best[name], last[name]) for name in best)
    scores = finish(server, project)
    assert scores["float"] == top1(project)[0]
    assert (
        load_file(project / "artifacts/qat/model.safetensors").keys()
        == load_file(project / "artifacts/ptq/model.safetensors").keys()
    )
