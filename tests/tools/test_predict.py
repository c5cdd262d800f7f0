"""Prediction of image files, by a classifier whose logits are known."""

import dataclasses
import math
import os
from pathlib import Path

import brightest
import numpy as np
import pytest
import torch
from PIL import Image

from imagedb.sources.source import IndexedSource, SourceImage
from imagedb.writer import write_database
from pipeline import classifiers
from pipeline.classifiers import Classifier
from pipeline.cli import run
from pipeline.databases import plain_batches
from pipeline.forms import FORMS
from pipeline.params import load_params
from reports.predictions import BARS, BLUE, MARGIN, ROW, labelled
from tools import predict
from training.checkpoint import write_state


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder with parameters, model files and images; no database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNS_DIR", raising=False)
    brightest.write_params()
    brightest.write_forms()
    Path("a").mkdir()
    Path("b").mkdir()
    brightest.image(200, 190, 0).save("a/x.png")
    brightest.image(0, 0, 250).save("b/x.bmp")
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield tmp_path
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def stage(folder, monkeypatch):
    def run_stage(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["predict", *arguments])
        run(predict.main)

    return run_stage


def drawings() -> set[str]:
    return {str(path) for path in Path().rglob("*.png")} - {"a/x.png"}


@pytest.mark.parametrize("step", ["int", "qat", "onnx_float", "onnx_int8", "litert"])
def test_classes_and_probabilities_by_hand(stage, capsys, step):
    stage("--step", step, "a/x.png", "b/x.bmp")
    first = 100 / (1 + math.exp(-10 / 4))  # logits of red and green: 10 / 4 apart
    assert capsys.readouterr().out.split("\n") == [
        "a/x.png",
        f"  {first:6.2f} %  red",
        f"  {100 - first:6.2f} %  green",
        "    0.00 %  blue",
        "  drawn in runs/predictions/x.png",
        "b/x.bmp",
        "  100.00 %  blue",
        "    0.00 %  red",  # of equal ones the lower class
        "    0.00 %  green",
        "  drawn in runs/predictions/x_2.png",
        "",
    ]
    assert drawings() == {"runs/predictions/x.png", "runs/predictions/x_2.png"}


class EightClasses(Classifier):
    info = dataclasses.replace(brightest.INFO, class_names=[f"class {i}" for i in range(8)])

    def __call__(self, pixels):
        return torch.tensor([1.0, 4, 1, 4, 9, 0, 2, 3]).expand(len(pixels), 8)


def test_the_five_likeliest_of_many_classes(stage, monkeypatch, capsys):
    monkeypatch.setitem(FORMS, "int", dataclasses.replace(FORMS["int"], loader="EightClasses"))
    monkeypatch.setitem(classifiers.CLASSIFIERS, "EightClasses", EightClasses)
    stage(*["a/x.png"] * 6)  # more than a batch
    lines = capsys.readouterr().out.split("\n")
    assert [line.split("  ")[-1] for line in lines[1:6]] == [f"class {i}" for i in (4, 1, 3, 7, 6)]
    assert lines[36:41] == lines[1:6]
    assert len(drawings()) == 6


def test_names_do_not_command_the_terminal(stage, capsys):
    Path("b/\x1b[2J\udcff.png").write_bytes(Path("b/x.bmp").read_bytes())
    stage("b/\x1b[2J\udcff.png")
    assert capsys.readouterr().out.splitlines()[0] == r"b/\x1b[2J\udcff.png"


def test_a_checkpoint_and_another_folder(stage, capsys):
    with Path("best.pt").open("wb") as file:
        write_state(file, brightest.checkpoint())
    brightest.image(160, 200, 0).save("b/y.png")
    stage("b/y.png", "--step", "qat", "--output", "out")
    stage("b/y.png", "--step", "qat", "--output", "out", "--checkpoint", "best.pt")
    lines = capsys.readouterr().out.split("\n")
    assert [lines[1].split()[-1], lines[6].split()[-1]] == ["green", "green"]  # 2 * 8 < 18
    assert lines[6].split()[0] == f"{100 / (1 + math.exp(16 - 18)):.2f}"
    assert drawings() == {"b/y.png", "out/y.png"}


def test_no_drawing_replaces_another_or_an_image(stage):
    brightest.image(1, 2, 3).save("b/x.png")
    before = Path("b/x.png").read_bytes()
    stage("b/x.png", "b/x.bmp", "a/x.png", "--output", "b")
    assert Path("b/x.png").read_bytes() == before
    assert drawings() == {"b/x.png", "b/x_2.png", "b/x_3.png", "b/x_4.png"}


def test_names_of_any_bytes_and_length_work(stage, capsys):
    """255 bytes are all that file systems take; the drawing of x.jpeg is x.png, that of a second one x_2.png."""
    names = ["a" * 251 + ".png", "ä" * 126 + ".ab", "b" * 253 + ".x", "b" * 253 + ".y", "-x.png", "a\nb\x1b[31m.png"]
    names += [os.fsdecode(b"\xff\xfe.png"), "' $(id);.png", "類.png"]
    for name in names:
        brightest.image(200, 190, 0).save(name, "PNG")
    stage("--output", "out", "--", *names)
    shown = capsys.readouterr().out.split("\n")
    assert len(shown) == 5 * len(names) + 1 and all(line.isprintable() for line in shown)
    written = {os.fsencode(path.name) for path in Path("out").iterdir()}
    cut = {b"b" * 251 + b".png", b"b" * 249 + b"_2.png", "ä".encode() * 125 + b".png"}
    assert written == cut | {os.fsencode(name) for name in names if name.endswith(".png")}


class Files(IndexedSource):
    class_names = ("a", "b")

    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return SourceImage(str(index), 0, self.paths[index].read_bytes())


@pytest.mark.parametrize("size", [(8, 8), (40, 27), (5, 9)])
def test_files_of_all_kinds_are_rendered_as_in_validation(folder, size):
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(noise)
    wide = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    kinds = {
        "rgb.jpg": image,
        "grey.jpg": image.convert("L"),
        "cmyk.jpg": image.convert("CMYK"),
        "grey.png": image.convert("L"),
        "alpha.png": image.convert("RGBA"),
        "palette.gif": image.convert("P"),
        "wide.png": wide,
        "webp.webp": image,
    }
    for name, image in kinds.items():
        image.save(name)
    brightest.write_params(classes=2)
    Path("artifacts/db").mkdir()
    write_database(Files([Path(name) for name in kinds]), Path("artifacts/db/val.lmdb"))
    params = load_params()
    expected = torch.cat([pixels for pixels, _ in plain_batches(params)])
    assert torch.equal(torch.stack([predict.read_pixels(Path(name), params.input) for name in kinds]), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("a/x.png none.jpg", "none.jpg does not exist"),
        ("a/x.png b", "b is a folder; name images in it"),
        ("a/x.png pipe", "pipe is not a regular file"),
        ("a/x.png --checkpoint pipe", "model file pipe does not exist"),
        ("a/x.png /dev/zero", "/dev/zero is not a regular file"),
        (
            "a/x.png params.yaml",
            "params.yaml: not an image, allowed: JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM; leave it out",
        ),
        ("a/x.png --step float", "artifacts/float/model.safetensors does not exist; `make train-float` makes it"),
        ("a/x.png --checkpoint none", "model file none does not exist"),
        ("a/x.png --checkpoint params.yaml --step onnx_int8", "params.yaml is not an ONNX file .*"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(stage, capsys, arguments, message):
    os.mkfifo("pipe")
    with pytest.raises(SystemExit, match=f"^error: {message}$"):
        stage(*arguments.split())
    assert capsys.readouterr().out == ""
    assert not Path("runs").exists()


def test_the_drawing_by_hand():
    sheet = labelled(Image.new("RGB", (400, 200), "red"), (100, 50, 300, 150), "x.png", [("a", 0.75), ("b", 0.25)])
    pixels = np.asarray(sheet)
    left, top = MARGIN, MARGIN  # of the image, 320 x 160
    assert pixels[top, left].tolist() == pixels[top + 80, left + 160].tolist() == [255, 0, 0]
    assert pixels[top + 40, left + 80].tolist() == pixels[top + 119, left + 239].tolist() == list(BLUE)
    for row, probability in ((1, 0.75), (2, 0.25)):
        bar = pixels[MARGIN + ROW * row + 28, left + 320 + MARGIN :]
        assert int((bar == BLUE).all(axis=1).sum()) == BARS * probability


def test_a_frame_smaller_than_a_pixel_is_drawn():
    labelled(Image.new("RGB", (9000, 9000)), (4499, 4499, 4501, 4501), "x", [("a", 1)])
