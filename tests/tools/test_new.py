"""`make new`: what it says of images, and the params.yaml that it writes."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from imagenet_archives import SYNSETS, jpeg, write_devkit, write_train, write_val
from photographs import write_photographs
from PIL import Image
from project import REPOSITORY, environment

from imagedb.images import SUFFIXES
from imagedb.sources.image_list import ImageListSource
from models.pretrained import load_weights
from models.registry import create_model
from pipeline.params import load_params
from pipeline.sources import open_source
from storage.model_file import ModelInfo, save_model
from tools import new


@pytest.fixture(autouse=True)
def folder(shipped_folder) -> Path:
    return shipped_folder


@pytest.fixture
def call(caller):
    return caller(new)


def write(path: str, color: tuple[int, int, int], size: tuple[int, int] = (300, 200)) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def test_classes_without_a_split(call):
    names = ("hot dog", "12", 'b, "c"')
    write_photographs(Path("my photos"), 5, names)
    before = {path: path.read_bytes() for path in Path("my photos").rglob("*.jpg")}
    lines, mistake = call("my photos")
    assert mistake is None
    assert lines[0] == "15 images in 3 classes in my photos, 5 of each"
    assert re.fullmatch(
        r"\d+ x \d+ to \d+ x \d+ pixels, width / height 0\.\d\d to [12]\.\d\d, \d+ of 15 grey; 15 JPEG", lines[1]
    )
    assert lines[2:4] == [
        "my photos/train.jsonl: 12 images, the rest of each class",
        "my photos/val.jsonl: 3 images, a fifth of each class",
    ]
    assert all(re.fullmatch(r"[\w.]+: .+ -> .+  # .+", line) for line in lines[4:-1])
    assert "input.resize: null -> 146  # of photographs, the centre 128 pixels are seen" in lines
    assert lines[-1] == "params.yaml is written; make repro trains and converts"
    params = load_params()
    assert (params.pack.source, params.pack.root, params.model.num_classes) == ("list", "my photos", None)
    pack = params.pack
    splits = [open_source(pack.source, pack.root, name, None) for name in (pack.splits.train, pack.splits.val)]
    assert [source.class_names for source in splits] == [sorted(names)] * 2
    listed = {Path("my photos", each.name): each.image() for source in splits for each in source.images()}
    assert listed == before
    text = Path("params.yaml").read_text()
    assert text.startswith("# The images in my photos; `make new` has written this file.\n")
    assert call("my photos")[0][2:] == ["params.yaml is written; make repro trains and converts"]  # lists that stay
    assert Path("params.yaml").read_text() == text
    shutil.copy(next(iter(before)), "my photos/12/later.JPG")
    assert (
        "1 images in my photos are in neither list; to divide all again, remove train.jsonl and val.jsonl"
        in "\n".join(call("my photos")[0])
    )


def test_two_folders_of_splits(call):
    for split, shade in (("train", 0), ("val", 100)):
        for number in range(6):
            write(f"pets/{split}/{'ab'[number % 2]}/{number}.png", (shade, 9 * number, 0))
    shutil.copy("pets/train/a/0.png", "pets/val/b/copy.png")
    lines, mistake = call("pets")
    assert mistake is None and not [*Path("pets").rglob("*.jsonl")]
    assert "13 images in 2 classes in pets, 6 to 7 of a class, fewest of a" in lines
    assert "300 x 200 to 300 x 200 pixels, width / height 1.50, 2 of 13 grey; 13 PNG" in lines
    assert "1 images are copies of another one" in lines
    assert "warning: 1 validation images are training images, too: b/copy.png, there a/0.png; remove them" in lines
    pack = load_params().pack
    assert (pack.source, pack.root, pack.splits.train, pack.splits.val) == ("folder", "pets", "train", "val")


def test_training_images_alone_are_divided(call):
    for number in range(10):
        write(f"pets/Train/{'ab'[number % 2]}/{number}.png", (number, 0, 0))
    assert call("pets")[1] is None
    source = ImageListSource("pets", "val.jsonl")
    assert source.class_names == ["a", "b"] and len(source) == 2
    assert all(each.name.startswith("Train/") and each.image() for each in source)


def test_a_list_is_divided_beside_it(call, tmp_path):
    rows = []
    for number in range(10):
        write(f"elsewhere/{number}.png", (number, 0, 0))
        rows.append(f"{tmp_path}/elsewhere/{number}.png,{number % 2}")
    Path("lists").mkdir()
    Path("lists/all.csv").write_text("\n".join(["path,label", *rows]))
    assert call("lists/all.csv")[1] is None
    assert load_params().pack.root == "lists"
    assert [len(ImageListSource("lists", f"{name}.jsonl")) for name in ("train", "val")] == [8, 2]


def test_archives_of_imagenet_keep_the_recipe_of_imagenet(call, tmp_path):
    root = tmp_path / "archives"
    root.mkdir()
    classes = SYNSETS[:3]
    write_devkit(root, SYNSETS, [number for number, *_ in classes])
    write_train(root, ((wnid, {f"{wnid}_1.JPEG": jpeg(number)}) for number, wnid, *_ in classes))
    write_val(root, [(f"ILSVRC2012_val_{number:08d}.JPEG", jpeg(10 + number)) for number, *_ in classes])
    lines, mistake = call("archives")
    params = load_params()
    assert mistake is None and "model.name: vargconvnet_32 -> vargconvnet  # as in recipes/imagenet.yaml" in lines
    assert (params.pack.source, params.pack.root, params.model.num_classes) == ("imagenet", "archives", 3)
    assert (params.input.size, params.report.images, params.epochs) == (224, 3, 600)


def test_a_folder_elsewhere_has_its_whole_path_and_a_dry_run_writes_nothing(call, tmp_path_factory):
    root = tmp_path_factory.mktemp("elsewhere")
    for number in range(10):
        write(f"{root}/{'ab'[number % 2]}/{number}.png", (number, 0, 0))
    before = Path("params.yaml").read_bytes()
    lines, mistake = call(str(root), "--dry-run", "--network", "resnet18", "--size", "64")
    assert mistake is None and Path("params.yaml").read_bytes() == before and not [*root.glob("*.jsonl")]
    assert f"pack.root: data/fashion_mnist -> {root}  # where they are" in lines
    assert any(line.startswith("model.name: vargconvnet_32 -> resnet18  # ") for line in lines)
    assert any(line.startswith("input.size: 32 -> 64  # ") for line in lines)


OWN = """
from torch import nn


def build(num_classes):
    layers = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)
    return nn.Sequential(*layers)
"""


def photographs_and_weights() -> None:
    """pets/<class>/*.jpg, three classes, and weights.pt of a resnet18 for seven."""
    write_photographs(Path("pets"), 5)
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=7)
    torch.save({"epoch": 3, "state_dict": {f"model.{k}": v for k, v in network.state_dict().items()}}, "weights.pt")


def test_weights_to_start_from(call):
    photographs_and_weights()
    lines, mistake = call("pets", "--network", "resnet18", "--checkpoint", "weights.pt", "--size", "64")
    assert mistake is None
    params = load_params()
    start = params.train.init_from
    digest = hashlib.sha256(Path("weights.pt").read_bytes()).hexdigest()
    assert (start.file, start.sha256, start.new_layers) == ("weights.pt", digest, ("fc",))
    assert (params.model.name, params.input.size, params.input.resize) == ("resnet18", 64, 67)  # 64 / 0.95
    assert params.model.normalization.mean == (0.485, 0.456, 0.406)
    assert (params.input.color_space, params.input.resample) == ("rgb", "bicubic")
    assert "model.name: vargconvnet_32 -> resnet18  # as asked for" in lines
    model = create_model(params.model.name, 3, 64, {}, params.model.normalization.model_dump())
    assert load_weights(model, start.file, start.sha256, start.new_layers).startswith("120 tensors from weights.pt")
    assert call("pets", "--network", "resnet18.tv_in1k", "--checkpoint", "weights.pt", "--size", "64")[1] is None
    again = load_params()
    assert (again.model.name, again.input.resize, again.input.resample) == ("resnet18", 73, "bilinear")  # 64 / 0.875


def test_a_model_file_of_this_repository_names_its_network(call):
    write_photographs(Path("pets"), 5)
    model = create_model("vargconvnet_32", 2, 32, {"channels": [8, 8, 8, 16, 16]})
    info = ModelInfo("vargconvnet_32", {"channels": [8, 8, 8, 16, 16]}, 2, 32, "yuv444", ["a", "b"])
    save_model("ours.safetensors", "float", model.state_dict(), info)
    assert call("pets", "--checkpoint", "ours.safetensors")[1] is None
    params = load_params()
    assert params.model.arguments == {"channels": [8, 8, 8, 16, 16]} and params.model.normalization is None
    assert (params.input.size, params.input.color_space) == (32, "yuv444")
    assert params.train.init_from.new_layers == ("head.classifier.bn", "head.classifier.conv")


def test_a_network_that_portable_arithmetic_has_not(call):
    write_photographs(Path("pets"), 5)
    lines, mistake = call("pets", "--network", "mobilenetv3_small_050", "--size", "64")
    assert mistake is None and load_params().calibrate.arithmetic == "exact8"
    assert any(
        line.startswith("calibrate.arithmetic: portable -> exact8  # portable arithmetic has no ") for line in lines
    )


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        (["--checkpoint", "weights.pt"], "weights.pt does not say of which network it is: add NETWORK, e.g. NETWORK="),
        (["--network", "own.py:build"], "own.py:build cannot be quantized: "),
        (["--checkpoint", "nowhere.pt", "--network", "resnet18"], "there is no checkpoint nowhere.pt"),
        (
            ["--checkpoint", "weights.pt", "--network", "resnet34"],
            "checkpoint weights.pt (for resnet34) does not fit: ",
        ),
        (
            ["--checkpoint", "weights.pt", "--network", "resnet19"],
            "model 'resnet19' is not known to timm; near matches",
        ),
        (
            ["--checkpoint", "weights.pt", "--network", "vargconvnet_32"],
            "nothing is published on how images are prepare",
        ),
    ],
)
def test_networks_and_weights_that_do_not_go(call, arguments, mistake):
    photographs_and_weights()
    Path("own.py").write_text(OWN)
    before = Path("params.yaml").read_bytes()
    _, error = call("pets", *arguments)
    assert error.startswith(f"error: {mistake}") and "\n" not in error
    assert Path("params.yaml").read_bytes() == before and not [*Path().rglob("*.jsonl")]


@pytest.mark.parametrize(
    ("paths", "argument", "mistake"),
    [
        (["x/photos/a/1.png", "x/photos/b/1.png"], "x", "x has one class only, photos; did you mean x/photos?"),
        (["x/1.png", "x/a/1.png"], "x", "x holds images without a class, such as 1.png; expected x/<class>/<image>"),
        (["x/train/a/1.png", "x/train/b/1.png", "x/val/a/1.png", "x/val/c/1.png"], "x", "train and val in x have "),
        (["x/a/1.png", "x/b/1.png", "x/b/2.png"], "x", "'a', 'b': a class needs two different images that can be "),
        ([], "nowhere", "nowhere does not exist; expected DIR/train/<class>/"),
        (["x/a/1.txt"], "x", "x/a holds no images (.bmp, .gif, .jpeg, .jpg, .png, .ppm, .tif, .tiff, .webp)"),
        (["photos.zip"], "photos.zip", "photos.zip is no folder and no list: extract an archive first"),
    ],
)
def test_mistakes_are_one_line(call, paths, argument, mistake):
    before = Path("params.yaml").read_bytes()
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(next((REPOSITORY / "docs").glob("*.png")), path)
    _, error = call(argument)
    assert error.startswith(f"error: {mistake}") and "\n" not in error
    assert Path("params.yaml").read_bytes() == before and not [*Path().rglob("*.jsonl")]


def test_damaged_and_look_alike(call):
    for number in range(10):
        write(f"x/{('Bag', 'bag')[number % 2]}/{number}.png", (number, 0, 0))
    Path("x/bag/broken.png").write_bytes(Path("x/bag/1.png").read_bytes()[:60])
    lines, mistake = call("x")
    assert mistake is None and lines[0].startswith("warning: 'Bag' and 'bag' look alike")
    assert any(line.startswith("damaged: bag/broken.png: ") for line in lines)
    listed = {each.name for name in ("train", "val") for each in ImageListSource("x", f"{name}.jsonl")}
    assert len(listed) == 10 and "bag/broken.png" not in listed
    for path in Path("x").glob("*.jsonl"):
        path.unlink()
    shutil.copytree("x", "y/train")
    shutil.copytree("x", "y/val")
    lines, mistake = call("y")
    assert any(line.startswith("pack.on_bad_image: error -> skip  # 2 damaged images; ") for line in lines)


def test_the_documentation_lists_what_is_taken_for_an_image():
    page = (REPOSITORY / "docs/data.md").read_text()
    (listed,) = re.findall(r"An image is a file that ends in (.*?), in capitals, too", page, re.DOTALL)
    assert {*re.findall(r"\.\w+", listed)} == {*SUFFIXES}


def test_the_target_of_make(folder):
    shutil.copy(REPOSITORY / "Makefile", folder)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} "$@"\n')
    (folder / ".venv/bin/python").chmod(0o755)
    write_photographs(folder / "my photos", 2)

    def make(*arguments: str) -> subprocess.CompletedProcess:
        command = ["make", "--assume-old=setup", "new", *arguments]
        return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True)

    done = make("DATA=my photos", "SIZE=64")
    assert done.returncode == 0, done.stderr
    assert (load_params().pack.root, load_params().input.size) == ("my photos", 64)
    done = make()
    assert done.returncode == 2 and "error: no images; e.g. make new DATA=photos\n" in done.stdout
