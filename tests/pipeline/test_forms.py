"""The table of forms: what is in it, and that a new row is all that a new form needs."""

import json
from pathlib import Path

import brightest
import pytest
import torch
import yaml

from pipeline import classifiers
from pipeline.classifiers import Classifier, load_classifier
from pipeline.cli import run
from pipeline.forms import FORMS, Form
from pipeline.params import load_params
from reports.summary import forms_table
from stages import validate
from tools import predict

REPOSITORY = Path(__file__).parents[2]
CPU = torch.device("cpu")


class Redness(Classifier):
    """A form that predicts red for every image, and whose file holds only the name of the colour."""

    def __init__(self, form, path, device, params):
        super().__init__(form, path, device, params)
        assert path.read_text() == "red"
        self.info = brightest.INFO

    def __call__(self, pixels):
        assert pixels.dtype == torch.uint8
        return torch.tensor([1.0, 0, 0]).expand(len(pixels), 3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with parameters, four images and the file of a form `redness`, which is in the table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNS_DIR", raising=False)
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    brightest.write_params()
    brightest.write_images([((200, 0, 0), 0), ((0, 200, 0), 1), ((0, 0, 200), 2), ((90, 0, 0), 0)])
    Path("redness.txt").write_text("red")
    row = Form("redness", Path("redness.txt"), "paint", "red as can be", "Redness")
    monkeypatch.setitem(FORMS, row.name, row)
    monkeypatch.setitem(classifiers.CLASSIFIERS, "Redness", Redness)
    yield tmp_path
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def call(monkeypatch, script, *arguments):
    monkeypatch.setattr("sys.argv", ["script", *arguments])
    run(script.main)


def test_the_forms_in_the_order_of_the_tables():
    assert {name: form.label for name, form in FORMS.items()} == {
        "float": "float",
        "ptq": "calibrated (ptq)",
        "qat": "QAT",
        "int": "integer",
        "onnx_float": "ONNX float",
        "onnx_int8": "ONNX int8 (QOperator)",
        "litert": "LiteRT int8",
    }


def test_a_class_runs_every_form():
    assert {form.loader for form in FORMS.values()} == classifiers.CLASSIFIERS.keys()


def test_dvc_validates_every_form_and_make_makes_it():
    scored = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]["validate"]["foreach"]
    targets = (REPOSITORY / "Makefile").read_text()
    assert list(scored) == list(FORMS)
    for name, form in FORMS.items():
        written = Path(scored[name]["file"])
        assert form.path in (written, written / "int8.tflite"), name  # or a note beside it
        assert f"\n{form.target}: " in targets, name


def test_a_new_row_is_validated(folder, monkeypatch, capsys):
    call(monkeypatch, validate, "--step", "redness")
    assert json.loads(capsys.readouterr().out.split("\n")[0])["top1"] == 50
    assert json.loads(Path("metrics/redness.json").read_text())["images"] == 4
    assert Path("plots/classes/redness.csv").read_text().splitlines()[1:] == [
        "red,2,100.0,,0",
        "green,1,0.0,red,1",
        "blue,1,0.0,red,1",
    ]


def test_a_new_row_predicts(folder, monkeypatch, capsys):
    brightest.image(0, 0, 250).save("blue.png")
    call(monkeypatch, predict, "--step", "redness", "blue.png")
    assert capsys.readouterr().out.split("\n")[1].endswith("  red")


def test_a_new_row_stands_in_the_table_of_results(folder):
    scores = {name: {"top1": 50.0, "top5": 100.0, "loss": 1.0, "images": 4} for name in FORMS}
    lines = forms_table(scores, {name: form.label for name, form in FORMS.items()})
    assert lines[-1] == "| red as can be | 50.00 | +0.00 | 100.00 | 1.0000 |"
    assert len(lines) == 2 + len(FORMS)


def test_a_missing_file_is_named_with_what_makes_it(folder):
    Path("redness.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"^redness.txt does not exist; `make paint` makes it$"):
        load_classifier(FORMS["redness"], None, CPU, load_params())


def test_a_note_says_why_there_is_no_such_form(folder):
    brightest.write_forms()
    form = FORMS["litert"]
    assert form.absence is None
    form.note.write_text("there is none\n")
    assert form.absence == "there is none"
    with pytest.raises(ValueError, match=r"^there is none$"):
        load_classifier(form, None, CPU, load_params())
    assert load_classifier(form, form.path, CPU, load_params()).info.class_names == brightest.CLASSES


@pytest.mark.parametrize("form", ["int", "qat", "onnx_float", "onnx_int8", "litert"])
def test_every_form_takes_pixels_and_prepares_its_own_input(folder, form):
    brightest.write_forms()
    pixels = torch.tensor([[0, 128, 255], [200, 190, 1]], dtype=torch.uint8)[:, :, None, None].expand(2, 3, 8, 8)
    logits = load_classifier(FORMS[form], None, CPU, load_params())(pixels)
    assert logits.tolist() == [brightest.logits((0, 128, 255)), brightest.logits((200, 190, 1))]
