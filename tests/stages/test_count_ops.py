import csv
import json
from pathlib import Path

import pytest
import yaml

from pipeline.cli import run
from stages import count_ops


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Runs the stage in an empty folder whose params.yaml asks for vargconvnet_32 with 10 classes at 32x32."""
    params = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    params["model"] |= {"name": "vargconvnet_32", "num_classes": 10, "arguments": {"head_width": 64}}
    params["input"]["size"] = 32
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)

    def run_stage(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["count_ops", *arguments])
        run(count_ops.main)

    return run_stage


def files() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file() and path.name != "params.yaml")


def test_without_arguments_writes_the_outputs_of_the_pipeline(stage, capsys):
    stage()
    assert files() == ["artifacts/ops.csv", "metrics/ops.json"]
    totals = json.loads(Path("metrics/ops.json").read_text())
    assert totals.keys() == {"macs", "params", "uncounted"}
    with Path("artifacts/ops.csv").open() as file:
        layers = list(csv.DictReader(file))
    assert sum(int(layer["macs"]) for layer in layers) == totals["macs"]
    assert sum(int(layer["params"]) for layer in layers) == totals["params"]
    assert f"{totals['macs']:,}" in capsys.readouterr().out


def test_by_hand_prints_only(stage, capsys):
    stage("--model", "vargconvnet", "--input-shape", "1,3,224,224")
    printed = capsys.readouterr().out
    assert "4,529,081,856" in printed
    assert "9,434,328" in printed
    assert "aten::add x15" in printed
    assert files() == []


def test_output_dir_by_hand(stage):
    stage("--model", "vargconvnet_32", "--output", "elsewhere")
    assert files() == ["elsewhere/ops.csv", "elsewhere/ops.json"]
    with Path("elsewhere/ops.csv").open() as file:
        last = list(csv.DictReader(file))[-2]
    assert last["params"] == str(64 * 10 + 10), "the model of params.yaml keeps its classes and arguments"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--model", "vargconvnet_33"], "near matches: vargconvnet_32"),
        (["--input-shape", "1,3,30,30"], "img_size .* 30 is not allowed, must be a multiple of 16"),
        (["--input-shape", "2,3,32,32"], "must be 1,channels,height,width"),
    ],
)
def test_mistakes_stop_with_one_line(stage, arguments, message):
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        stage(*arguments)


def test_malformed_shape_is_a_usage_error(stage, capsys):
    with pytest.raises(SystemExit):
        stage("--input-shape", "1,3")
    assert "must be batch,channels,height,width" in capsys.readouterr().err
