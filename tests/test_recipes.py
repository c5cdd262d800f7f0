"""The recipes for ImageNet, from its three archives to the C source; the archives are miniatures of three classes."""

import json
from pathlib import Path

import numpy as np
import pytest
from imagenet_archives import SYNSETS, encoded, write_devkit, write_train, write_val
from project import change, make_project, shell

pytestmark = pytest.mark.experiments
TRAIN, VAL = 24, 8  # images of a class
CLASSES = SYNSETS[:3]


def image(number: int, seed: int) -> bytes:
    """Stripes, of a width that tells the class, under noise; as in ImageNet, few are square, and some are grey."""
    random = np.random.default_rng([number, seed])
    height, width = random.integers(200, 400, 2)
    stripes = 64 * (np.arange(width) // (8 * number) % 2).astype(np.uint8)
    pixels = random.integers(0, 192, (height, width, 3), np.uint8) + stripes[:, None]
    return encoded(pixels[..., 0] if seed % 8 == 0 else pixels)


def write_archives(root: Path) -> None:
    root.mkdir(parents=True)
    truth = [number for number, *_ in CLASSES] * VAL
    train = {
        wnid: {f"{wnid}_{seed}.JPEG": image(number, seed) for seed in range(TRAIN)} for number, wnid, *_ in CLASSES
    }
    val = {f"ILSVRC2012_val_{i:08d}.JPEG": image(number, 1000 + i) for i, number in enumerate(truth, 1)}
    write_devkit(root, SYNSETS, truth)
    write_train(root, train.items())
    write_val(root, val.items())


@pytest.mark.parametrize("name", ["imagenet", "imagenet_modern"])
def test_a_recipe_gives_an_exact_integer_model(tmp_path, name):
    """Its own images' sizes, augmentation and optimization; a narrow network, few images, the CPU."""
    folder = make_project(tmp_path / "project")
    shell(folder, f"make recipe NAME={name}")
    change(
        folder,
        epochs=2,
        batch_size=16,
        train__warmup_epochs=1,
        model__num_classes=3,
        model__arguments={"channels": [8, 8, 8, 16, 16], "head_width": 16},
        calibrate__images=24,
        calibrate__refinement=8,
        calibrate__bias_correction=8,
        qat__epochs=1,
        qat__batch_size=16,
        compare__images=24,
        compare__intermediate_images=8,
        golden__images=2,
        report__images=8,
        gate__quantization_drop=100,
        execution__device="cpu",
        execution__threads=2,
        machine__workers=0,
    )
    write_archives(folder / "data/imagenet")
    shell(folder, "dvc repro")
    metrics = {path.stem: json.loads(path.read_text()) for path in (folder / "metrics").glob("*.json")}
    assert (metrics["pack_train"]["images"], metrics["pack_val"]["images"]) == (3 * TRAIN, 3 * VAL)
    assert metrics["exactness"]["logits"]["images"] == 3 * VAL
    for found in metrics["exactness"].values():
        assert {pair["mismatches"] for pair in found["pairs"].values()} == {0}
    assert metrics["qat"]["top1"] == metrics["int"]["top1"] == metrics["onnx_int8"]["top1"]
