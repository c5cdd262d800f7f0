"""The quantization report of a small pipeline."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from html_pages import rows, section, text, tree
from PIL import Image

from fixedpoint.program import Program
from fixedpoint.program.integer import IntegerEvaluator, integer_input
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from imagedb.sources.folder import FolderSource
from imagedb.writer import write_database
from models.normalization import normalize
from models.registry import create_model
from pipeline.cli import run
from pipeline.databases import plain_batches
from pipeline.float_model import float_program
from pipeline.forms import FLOAT, FORMS, INT, PTQ, QAT, Form, stored_program
from pipeline.params import load_params
from stages import report
from storage.files import sha256
from storage.model_file import ModelInfo, save_model

ARGUMENTS = {"channels": [8, 8, 8, 16, 16], "head_width": 16}
INFO = ModelInfo("vargconvnet_32", ARGUMENTS, 3, 32, "yuv444", ["a", "b", "c"])
SCORES = {"top1": 91.25, "top5": 100.0, "loss": 0.25, "images": 24}


def write_images() -> None:
    noise = np.random.default_rng(0)
    for split in ("train", "val"):
        for index in range(24):
            path = Path("images") / split / "abc"[index % 3] / f"{index:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
        Path("artifacts/db").mkdir(parents=True, exist_ok=True)
        write_database(FolderSource("images", split), f"artifacts/db/{split}.lmdb")


def write_models() -> None:
    """A random network; QAT has moved its weights by a thousandth."""
    torch.manual_seed(0)
    save_model(FLOAT.path, "float", create_model(INFO.name, 3, 32, ARGUMENTS).state_dict(), INFO)
    images = [normalize(pixels) for pixels, _ in plain_batches(load_params(), "train")]
    ptq = calibrate(float_program(FLOAT.load()), lambda: images)
    moved = {name: value * 1.001 for name, value in ptq.constants.items() if name.endswith(".weight")}
    qat = ptq.with_constants(**moved)
    for file, program in {PTQ: ptq, QAT: qat, INT: convert(qat)}.items():
        file.save(program, INFO)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """The current folder, with everything that the stage reads but metrics; the process is left as it was."""
    folder = tmp_path_factory.mktemp("report")
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    values["model"] |= {"name": INFO.name, "num_classes": 3, "arguments": ARGUMENTS}
    values["input"] |= {"size": 32, "color_space": "yuv444", "resize": None, "resample": "bilinear"}
    values["calibrate"]["images"] = 24
    values["execution"]["threads"], values["machine"]["workers"] = 1, 0
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_images()
        write_models()
        program = float_program(FLOAT.load())  # tests/stages/test_dvc_yaml.py runs the stage with its own
        patch.setattr(report, "float_program", lambda stored: program)
        yield folder
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def stage(workspace, monkeypatch, capsys):
    """Runs the stage and returns what it prints."""

    def run_stage(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["report", *arguments])
        run(report.main)
        return capsys.readouterr().out

    return run_stage


def stored(file: Form) -> Program:
    return stored_program(file.load())


def forms() -> dict[str, list[str]]:
    """The text of the page about each form, by its label."""
    (table,) = section(tree(report.PAGE.read_text()), "What each step gained").iter("table")
    return {label: cells for label, *cells in rows(table)}


def test_a_row_for_every_operation_on_the_page_and_on_the_screen(stage):
    printed = stage("--images", "9").splitlines()
    page, program = tree(report.PAGE.read_text()), stored(INT)
    (table,) = section(page, "Every operation").iter("table")
    for number, (op, line, row) in enumerate(zip(program.ops, printed[1:], rows(table), strict=False), 1):
        shape = " x ".join(map(str, op.shape))
        assert row[:2] == [str(number), f"{op.name}{op.kind} {shape}"]
        assert line.split()[:2] == [op.name, op.kind]
        assert re.findall(r"(\S+) dB", line) == row[5:8]
    advice = [line for line in printed if line.startswith("Most is lost ")]
    assert len(rows(table)) == len(program.ops) == len(printed) - 6 - len(advice), (
        "a heading, four forms and the file are printed, too"
    )
    assert 1 <= len(advice) <= 2
    assert "statistics of 9 validation images" in text(page)


def test_the_noise_of_the_logits_is_that_of_the_network_itself(stage):
    stage("--images", "24")
    x = torch.cat([normalize(pixels) for pixels, _ in plain_batches(load_params())])
    network = create_model(INFO.name, 3, 32, ARGUMENTS).eval()
    network.load_state_dict(FLOAT.load().tensors)
    with torch.no_grad():
        expected = network(x).double()
    for label, program in {"calibrated": convert(stored(PTQ)), "QAT = integer": stored(INT)}.items():
        logits = IntegerEvaluator(program)(integer_input(x)).double() * 2.0 ** -program.logit_exponent.double()
        ratio = 10 * math.log10(float((expected**2).sum() / ((expected - logits) ** 2).sum()))
        assert abs(float(forms()[label][3]) - ratio) < 0.06, label
    *_, to_float, to_own_weights = forms()["QAT = integer"]
    assert float(to_own_weights) > float(to_float), "its weights are others on purpose"
    assert forms()["calibrated"][3] == forms()["calibrated"][4]


def test_the_score_of_covering_exponents_is_that_of_a_model_without_finer_ones(stage):
    stage("--images", "5")
    images = [normalize(pixels) for pixels, _ in plain_batches(load_params(), "train")]
    program = convert(calibrate(float_program(FLOAT.load()), lambda: images, finer=0))
    right = total = 0
    for pixels, labels in plain_batches(load_params()):
        accumulators = IntegerEvaluator(program)(integer_input(normalize(pixels))).double()
        right += int(((accumulators * 2.0 ** -program.logit_exponent.double()).argmax(dim=1) == labels).sum())
        total += len(labels)
    assert forms()["covering exponents"][0] == f"{100 * right / total:.2f}"


def test_the_score_of_another_file_is_refused(stage):
    Path("metrics").mkdir()
    Path("metrics/int.json").write_text(json.dumps(SCORES | {"sha256": sha256(FLOAT.path)}))
    with pytest.raises(
        SystemExit, match=r"^error: metrics/int.json has the score of another file than artifacts/int/mo"
    ):
        stage("--images", "5")
    Path("metrics/int.json").unlink()


def test_the_same_bytes_twice_and_nothing_from_elsewhere(stage):
    stage("--images", "5")
    first = report.PAGE.read_bytes()
    stage("--images", "5")
    assert report.PAGE.read_bytes() == first
    assert not re.search(rb"https?:|src=|href=|@import|url\(", first)


def test_scores_where_there_are_some(stage):
    assert "float: top-1 not scored" in stage("--images", "5")
    Path("metrics").mkdir(exist_ok=True)
    for form, top1 in {"float": 91.25, "ptq": 87.0, "int": 89.5}.items():
        Path(f"metrics/{form}.json").write_text(json.dumps(SCORES | {"top1": top1, "sha256": sha256(FORMS[form].path)}))
    printed = stage("--images", "5")
    assert "float: top-1 91.25 %" in printed and "QAT = integer: top-1 89.50 %" in printed
    sentence = text(section(tree(report.PAGE.read_text()), "What each step gained").find("p"))
    assert "QAT: top-1 +2.50 points, loss +0.0000, " in sentence
    assert [forms()[label][1] for label in ("float", "calibrated", "QAT = integer")] == ["", "-4.25", "-1.75"]


def test_images_that_there_are_not(stage):
    with pytest.raises(SystemExit, match="error: --images 0 is not allowed, must be at least 1"):
        stage("--images", "0")


def test_more_images_than_there_are(stage):
    assert "measured on 24 images (all there are; 25 were asked for) of 3 classes" in stage("--images", "25")
    assert "24 images" in text(tree(report.PAGE.read_text()))


def test_an_integer_model_of_other_weights_is_refused(stage):
    whole = INT.path.read_bytes()
    program = convert(stored(PTQ))
    INT.save(program, INFO)
    try:
        with pytest.raises(SystemExit, match=r"int/model\.safetensors was not made from .*qat/model\.safetensors: "):
            stage()
    finally:
        INT.path.write_bytes(whole)
