"""Validation of every form on images whose logits are known, and its tables."""

import dataclasses
import hashlib
import json
from pathlib import Path

import brightest
import numpy as np
import pytest
import torch
from PIL import Image

from fixedpoint.litert.writer import litert_model
from fixedpoint.onnx.qoperator import QOperatorWriter
from pipeline.cli import run
from pipeline.forms import FORMS, LITERT, NO_LITERT
from reports import predictions
from reports.contact_sheet import contact_sheet
from stages import validate
from storage.model_file import save_model
from training.checkpoint import write_state

# Two of three red ones and all others are classified rightly; as there are 20, four are not among the worst 16.
RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)
COLORS = [(RED, 0), (GREEN, 0), (RED, 0), *[(GREEN, 1), (BLUE, 2)] * 8, (RED, 0)]
CLASSES_CSV = """class,images,top1,taken_for,taken_for_images
red,4,75.0,green,1
green,8,100.0,,0
blue,8,100.0,,0
"""
TABLE = """class  images  top-1 %  most often predicted as
red         4    75.00  green (1)
green       8   100.00
blue        8   100.00
"""
RESULTS = {"metrics.json", "classes.csv", "confusion.csv", "worst.jpg"}


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Runs the stage in a folder with the model files and the images."""
    monkeypatch.chdir(tmp_path)
    brightest.write_params()
    brightest.write_forms()
    brightest.write_images(COLORS)
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()

    def run_stage(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["validate", *arguments])
        run(validate.main)

    yield run_stage
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def written() -> set[str]:
    return {
        str(path) for path in Path().rglob("*.*") if path.is_file() and path.parts[0] in ("metrics", "plots", "out")
    }


@pytest.mark.parametrize("step", ["int", "qat", "onnx_float", "onnx_int8", "litert"])
def test_results_of_each_form(stage, capsys, step):
    stage("--step", step)
    scores, *note, table = capsys.readouterr().out.split("\n", 2 if FORMS[step].is_integer else 1)
    assert [line.startswith("the form is not proved by its score") for line in note] == [True] * FORMS[step].is_integer
    logits = [brightest.logits(color) for color, _ in COLORS]
    loss = torch.nn.CrossEntropyLoss()(torch.tensor(logits).double(), torch.tensor([label for _, label in COLORS]))
    expected = {"top1": 95, "top5": 100, "loss": round(float(loss), 4), "images": 20}
    ties = sum(sorted(row)[-1] == sorted(row)[-2] for row in logits)
    assert json.loads(scores) == expected | ({"ties": ties} if step == "litert" else {})
    assert table == TABLE
    folders = {"metrics": "metrics", "classes": "plots/classes", "confusion": "plots/confusion", "worst": "plots/worst"}
    assert written() == {f"{folders[Path(name).stem]}/{step}{Path(name).suffix}" for name in RESULTS}
    digest = hashlib.sha256(FORMS[step].path.read_bytes()).hexdigest()
    assert json.loads(Path(f"metrics/{step}.json").read_text()) == json.loads(scores) | {"sha256": digest}
    assert Path(f"plots/classes/{step}.csv").read_text() == CLASSES_CSV
    assert "red,green,1\n" in Path(f"plots/confusion/{step}.csv").read_text()


def test_a_form_that_exact8_has_not_is_written_as_nothing(stage, capsys):
    LITERT.path.unlink()
    NO_LITERT.write_text("none\n")
    stage("--step", "litert")
    assert capsys.readouterr().out == "none\n"
    assert json.loads(Path("metrics/litert.json").read_text()) == {}
    assert Path("plots/classes/litert.csv").read_text() == CLASSES_CSV.splitlines()[0] + "\n"
    assert Path("plots/confusion/litert.csv").read_text() == "class,taken_for,images\n"
    assert Image.open("plots/worst/litert.jpg").size == (1, 1)
    NO_LITERT.unlink()
    with pytest.raises(SystemExit, match=r"int8.tflite does not exist; `make export-litert` makes it"):
        stage("--step", "litert")


def test_a_checkpoint_is_scored_and_nothing_written_but_on_demand(stage, capsys):
    with Path("best.pt").open("wb") as file:
        write_state(file, brightest.checkpoint())
    stage("--step", "qat", "--checkpoint", "best.pt")
    printed = capsys.readouterr().out
    assert written() == set()
    assert json.loads(printed.split("\n")[0])["top1"] == 95
    stage("--step", "qat", "--checkpoint", "best.pt", "--output", "out/qat")
    assert capsys.readouterr().out == printed
    assert written() == {f"out/qat/{name}" for name in RESULTS}
    stage("--step", "qat", "--output", "out/model")
    assert Path("out/qat/metrics.json").read_text() != Path("out/model/metrics.json").read_text()  # red counts twice


def test_the_worst_images_come_first(stage, monkeypatch):
    captions = []

    def draw(database, indices, columns, tile, texts, views):
        captions.extend(texts)
        return contact_sheet(database, indices, columns, tile, texts, views)

    monkeypatch.setattr(predictions, "contact_sheet", draw)
    stage("--step", "int", "--output", "out")
    assert len(captions) == 16
    assert captions[0] == ("1: 1.png", "is red (0 %)", "predicted as green (100 %)")
    assert captions[1] == ("0: 0.png", "is red (100 %)", "predicted as red (100 %)")  # of equal ones the first
    assert captions[2][0] == "2: 2.png"
    image = Image.open("out/worst.jpg").convert("RGB")
    assert np.abs(np.subtract(image.getpixel((90, 90)), GREEN)).max() < 6
    assert np.abs(np.subtract(image.getpixel((270, 90)), RED)).max() < 6


def test_equal_results_are_equal_bytes(stage):
    for folder in ("out/a", "out/b"):
        stage("--step", "int", "--output", folder)
    assert all(Path(f"out/a/{name}").read_bytes() == Path(f"out/b/{name}").read_bytes() for name in RESULTS)
    assert Path("out/a/worst.jpg").stat().st_size < 300_000


@pytest.mark.parametrize(
    ("step", "checkpoint", "message"),
    [
        ("onnx_int8", FORMS["onnx_float"].path, "{} holds a float model, which --step onnx_int8 does not take"),
        ("onnx_float", FORMS["onnx_int8"].path, "{} holds an int8 model, which --step onnx_float does not take"),
        ("float", FORMS["int"].path, "{} holds a model in form 'int', expected float"),
        ("int", "none.safetensors", "model file {} does not exist"),
        ("qat", "none.pt", "model file {} does not exist"),
        ("onnx_int8", "none.onnx", "model file {} does not exist"),
        ("litert", "none.tflite", "model file {} does not exist"),
        ("litert", "bare.tflite", "{} has no class_names in its metadata: no stage wrote it"),
        ("litert", FORMS["onnx_int8"].path, "{} is not a .tflite file of this repository"),
        ("onnx_int8", "bare.onnx", "{} has no class_names in its metadata: no stage wrote it"),
    ],
)
def test_a_file_of_another_form_is_refused(stage, step, checkpoint, message):
    Path("bare.tflite").write_bytes(litert_model(brightest.portable_program(), {}))
    Path("bare.onnx").write_bytes(QOperatorWriter.export(brightest.program(), {}).SerializeToString())
    with pytest.raises(SystemExit, match=message.format(checkpoint)):
        stage("--step", step, "--checkpoint", str(checkpoint))
    assert written() == set()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ["red", "blue", "green"]}, "has the class 'blue' where artifacts/db/val.lmdb has 'green'"),
        ({"color_space": "yuv444"}, "has color_space yuv444, but input.color_space is rgb"),
        ({"resample": "bicubic"}, "has resample bicubic, but input.resample is bilinear"),
    ],
)
def test_a_model_for_other_images_is_refused(stage, changes, message):
    made, info = brightest.program(), dataclasses.replace(brightest.INFO, **changes)
    save_model("other.safetensors", "int", made.constants, info, made.to_json())
    with pytest.raises(SystemExit, match=f"other.safetensors {message}"):
        stage("--step", "int", "--checkpoint", "other.safetensors")
