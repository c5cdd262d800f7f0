"""The .tflite file of a model file, its self-check, and the note in its place for exact8."""

from pathlib import Path

import brightest
import numpy as np
import pytest
import torch

from fixedpoint.analysis.golden import golden_tensors, write_golden
from fixedpoint.litert.runtime import LitertModel
from pipeline.cli import run
from stages import export_litert
from storage.model_file import save_model


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Runs the stage in a folder with a portable model file and golden vectors at their places."""
    monkeypatch.chdir(tmp_path)
    brightest.write_params()
    program = brightest.portable_program()
    save_model("artifacts/int/model.safetensors", "int", program.constants, brightest.INFO, program.to_json())
    x = torch.from_numpy(np.random.default_rng(2).integers(-128, 128, (4, 3, 8, 8), np.int8))
    write_golden("artifacts/golden", program, golden_tensors(program, x), [0, 1, 2, 3], [0, 1, 0, 1])

    def run_stage(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["export_litert", *arguments])
        run(export_litert.main)

    return run_stage


def names(folder: str = "artifacts/litert") -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def test_the_file_computes_what_the_model_does_and_says_what_it_is(stage, capsys):
    stage()
    model = LitertModel("artifacts/litert/int8.tflite")
    size = Path("artifacts/litert/int8.tflite").stat().st_size
    assert capsys.readouterr().out == f"artifacts/litert: {size:,} bytes, int8 logits\n"
    colors = [(0, 128, 255), (200, 190, 0)]
    x = np.stack([np.asarray(brightest.image(*color)).transpose(2, 0, 1) - 128 for color in colors]).astype(np.int8)
    assert (model(x) * 2.0**-model.exponent).tolist() == [brightest.logits(color) for color in colors]
    about = {
        "network": "brightest",
        "class_names": ["red", "green", "blue"],
        "color_space": "rgb",
        "image_size": 8,
        "resample": "bilinear",
    }
    assert {key: model.metadata[key] for key in about} == about


def test_the_self_check_has_the_file_and_the_golden_logits(stage):
    stage()
    assert {"selfcheck/main.cc", "selfcheck/README.md", "selfcheck/Makefile"} <= names()
    text = Path("artifacts/litert/selfcheck/model_data.cc").read_text()
    numbers = text[text.index("= {") + 3 : text.rindex("}")].split(",")
    assert bytes(map(int, filter(str.strip, numbers))) == Path("artifacts/litert/int8.tflite").read_bytes()


def test_logits_of_16_bits(stage, capsys):
    params = Path("params.yaml").read_text()
    assert params.count("logits: int8") == 1
    Path("params.yaml").write_text(params.replace("logits: int8", "logits: int16"))
    stage()
    assert capsys.readouterr().out.endswith("bytes, int16 logits\n")
    model = LitertModel("artifacts/litert/int8.tflite", "reference")
    assert model(np.zeros((1, 3, 8, 8), np.int8)).dtype == np.int16
    assert model.exponent > 2


def test_a_model_of_exact8_has_a_note_in_its_place(stage, capsys):
    stage()
    made = brightest.program()
    save_model("artifacts/int/model.safetensors", "int", made.constants, brightest.INFO, made.to_json())
    capsys.readouterr()
    stage()
    note = "a model of exact8 arithmetic has no .tflite file; calibrate.arithmetic: portable gives one\n"
    assert Path("artifacts/litert/none.txt").read_text() == note
    assert capsys.readouterr().out == f"artifacts/litert: {note}"
    assert names() == {"none.txt"}
    stage("--output", "elsewhere")
    assert names("elsewhere") == {"none.txt"}


def test_equal_models_give_equal_bytes(stage):
    stage()
    stage("--output", "elsewhere")
    assert names("elsewhere") == names()
    for name in names():
        assert Path("elsewhere", name).read_bytes() == Path("artifacts/litert", name).read_bytes()


def test_mistakes_stop_with_one_line(stage):
    with pytest.raises(SystemExit, match=r"^error: nothing.safetensors does not exist; `make convert-int` makes it$"):
        stage("--checkpoint", "nothing.safetensors")
    program = brightest.portable_program()
    even = program.with_constants(**{"conv.bias": torch.tensor([1, 2, 1], dtype=torch.int32)})
    save_model("even.safetensors", "int", even.constants, brightest.INFO, even.to_json())
    with pytest.raises(SystemExit, match=r"^error: conv: channel 1 has a bias that lets its accumulators be ties .*$"):
        stage("--checkpoint", "even.safetensors")
    (Path("artifacts/golden") / "index.json").unlink()
    with pytest.raises(SystemExit, match=r"^error: artifacts/golden holds no golden vectors$"):
        stage()
    assert not Path("artifacts/litert").exists()
