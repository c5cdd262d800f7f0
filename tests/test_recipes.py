"""The recipes from files as they are distributed to the C source; the files are miniatures with few images."""

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from imagenet_archives import SYNSETS, encoded, write_devkit, write_train, write_val
from PIL import Image
from project import REPOSITORY, change, environment, make_project, run_all, shell

pytestmark = pytest.mark.experiments
TRAIN, VAL = 24, 8  # images of a class of ImageNet; the other data sets have as many images in all
CLASSES = SYNSETS[:3]


def image(number: int, seed: int) -> bytes:
    """Stripes, of a width that tells the class, under noise; as in ImageNet, few are square, and some are grey."""
    random = np.random.default_rng([number, seed])
    height, width = random.integers(200, 400, 2)
    stripes = 64 * (np.arange(width) // (8 * number) % 2).astype(np.uint8)
    pixels = random.integers(0, 192, (height, width, 3), np.uint8) + stripes[:, None]
    return encoded(pixels[..., 0] if seed % 8 == 0 else pixels)


def write_archives(folder: Path) -> None:
    root = folder / "data/imagenet"
    root.mkdir(parents=True)
    truth = [number for number, *_ in CLASSES] * VAL
    train = {
        wnid: {f"{wnid}_{seed}.JPEG": image(number, seed) for seed in range(TRAIN)} for number, wnid, *_ in CLASSES
    }
    val = {f"ILSVRC2012_val_{i:08d}.JPEG": image(number, 1000 + i) for i, number in enumerate(truth, 1)}
    write_devkit(root, SYNSETS, truth)
    write_train(root, train.items())
    write_val(root, val.items())


def write_fashion_mnist(folder: Path) -> None:
    """The four files of the full set, with the first images of the sample."""
    raw = folder / "data/fashion_mnist_full/FashionMNIST/raw"
    raw.mkdir(parents=True)
    for file in (REPOSITORY / "data/fashion_mnist/FashionMNIST/raw").glob("*.gz"):
        content, count = gzip.decompress(file.read_bytes()), 3 * (TRAIN if file.name.startswith("train") else VAL)
        end = 16 + 28 * 28 * count if "images" in file.name else 8 + count
        (raw / file.name).write_bytes(gzip.compress(content[:4] + count.to_bytes(4, "big") + content[8:end]))


def write_solar_cells(folder: Path) -> None:
    """What the package holds, every other cell with a dark line, and the lists that the recipe's head makes of it."""
    data = folder / "data/elpv/elpv_dataset/data"
    (data / "images").mkdir(parents=True)
    labels = []
    for number in range(1, 3 * (TRAIN + VAL) + 1):
        pixels = np.random.default_rng(number).integers(64, 192, (300, 300), np.uint8)
        pixels[140:160] //= 1 + 3 * (number // 4 % 2)
        Image.fromarray(pixels).save(data / f"images/cell{number:04d}.png")
        probability = (1 / 3, 2 / 3)[number // 4 % 2]
        labels.append(f"images/cell{number:04d}.png  {probability}  {('mono', 'poly')[number % 2]}\n")
    (data / "labels.csv").write_text("".join(labels))
    head = (REPOSITORY / "recipes/solar_cells.yaml").read_text().splitlines()
    lists = "\n".join(line.removeprefix("#   ") for line in head if line.startswith(("#   cd", "#   echo", "#   awk")))
    subprocess.run(["bash", "-ec", lists], cwd=folder, env=environment(folder), check=True)
    for split, count in (("train", TRAIN), ("val", VAL)):
        listed = [line.split(",") for line in (data / f"{split}.csv").read_text().splitlines()[1:]]
        assert {int(path[11:15]) % 4 == 0 for path, _ in listed} == {split == "val"} and len(listed) == 3 * count
        assert {(int(path[11:15]) // 4 % 2, label) for path, label in listed} == {(0, "functional"), (1, "defective")}


WRITERS: dict[str, tuple[int, Callable[[Path], None]]] = {  # classes, and what puts the data in place
    "imagenet": (3, write_archives),
    "imagenet_modern": (3, write_archives),
    "fashion_mnist_full": (10, write_fashion_mnist),
    "solar_cells": (2, write_solar_cells),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_recipe_gives_an_exact_integer_model(tmp_path, name):
    """Its own images' sizes, augmentation and optimization; a narrow network, few images, the CPU."""
    classes, write = WRITERS[name]
    folder = make_project(tmp_path / "project")
    shell(folder, f"python -m tools.recipe {name}")
    arguments = yaml.safe_load((folder / "params.yaml").read_text())["model"]["arguments"]
    change(
        folder,
        epochs=2,
        batch_size=16,
        train__warmup_epochs=1,
        model__num_classes=classes,
        model__arguments=arguments | {"channels": [8, 8, 8, 16, 16], "head_width": 16},
        calibrate__images=24,
        calibrate__refinement=8,
        calibrate__bias_correction=8,
        calibrate__reconstruction=8,
        calibrate__reconstruction_steps=2,
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
    write(folder)
    run_all(folder)
    metrics = {path.stem: json.loads(path.read_text()) for path in (folder / "metrics").glob("*.json")}
    assert (metrics["pack_train"]["images"], metrics["pack_val"]["images"]) == (3 * TRAIN, 3 * VAL)
    assert metrics["exactness"]["logits"]["images"] == 3 * VAL
    for kind in ("logits", "tensors", "litert_logits", "litert_tensors"):
        assert {pair["mismatches"] for pair in metrics["exactness"][kind]["pairs"].values()} == {0}
    assert metrics["qat"]["top1"] == metrics["int"]["top1"] == metrics["onnx_int8"]["top1"]
