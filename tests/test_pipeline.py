"""The whole pipeline on a tiny network and 96 pictures of the embedded sample.

Its stages run in this process, which imports what they need once, in the order of DVC, which then takes over what they
have written. In a second clone, `dvc repro` is killed in training, goes on, and must come to the same bytes
(make test-experiments). `make repro` and `make test-experiments` run all stages as processes of DVC.
"""

import csv
import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import yaml
from dvc.repo import Repo
from project import change, commands, commit, environment, files, make_project, ran, run_all, run_stage, shell
from safetensors.torch import load_file, save_file

from benchmarks.__main__ import main as benchmark
from fixedpoint.litert import writer as litert
from fixedpoint.onnx.seal import seal
from models.registry import create_model
from pipeline.forms import metadata, stored_program
from storage.model_file import load_model, save_model

ONNX = ("float", "int8_qdq", "int8_qoperator", "int8_integer")
FORMS = ("float", "ptq", "qat", "int", "onnx_float", "onnx_int8", "litert")
CONTRACT = [
    *("artifacts/db/train.lmdb", "artifacts/db/val.lmdb", "metrics/pack_train.json", "metrics/pack_val.json"),
    *("artifacts/db/train.digests", "artifacts/db/val.digests", "metrics/overlap.json"),
    *("metrics/ops.json", "artifacts/ops.csv", "metrics/exactness.json", "metrics/summary.md"),
    *("metrics/summary.json", "artifacts/MODEL_CARD.md"),
    *(f"plots/{name}" for name in ("top1.csv", "reliability.csv", "disagreement.csv", "disagreement.jpg")),
    *("artifacts/golden/index.json", "artifacts/int/report.html"),
    *(f"artifacts/c/{name}" for name in ("network.c", "network.h", "main.c", "selfcheck.c")),
    *(f"artifacts/litert/{name}" for name in ("int8.tflite", "selfcheck/main.cc", "selfcheck/model_data.cc")),
    *(f"artifacts/{form}/model.safetensors" for form in ("float", "ptq", "qat", "int")),
    *(f"artifacts/onnx/{name}.onnx" for name in ONNX),
    *(f"metrics/{form}.json" for form in FORMS),
    *(
        f"plots/{name.format(form)}"
        for name in ("confusion/{}.csv", "classes/{}.csv", "worst/{}.jpg")
        for form in FORMS
    ),
    *(f"plots/{run}/plots/metrics/{name}.tsv" for run in ("float", "qat") for name in ("train_loss", "val_top1")),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A committed copy of the repository with parameters for three classes; nothing has run."""
    return make_project(tmp_path_factory.mktemp("pipeline") / "project")


def kill_in_training(folder: Path) -> None:
    """`dvc repro`, it and all its processes killed after the first of two epochs."""
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=folder, env=environment(folder), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        assert any(line.startswith("      1/2 ") for line in process.stdout)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "artifacts" / "float" / "model.safetensors").exists()


@pytest.fixture(scope="module")
def done(project) -> Path:
    """A clone in which all stages have run, committed."""
    folder = project.with_name("first")
    shell(project, f"git clone --quiet {project} {folder}")
    run_all(folder)
    commit(folder)
    return folder


@contextmanager
def opened(folder: Path) -> Iterator[Repo]:
    """A repository as the command dvc sees it that is called there; the command takes a second to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_SITE_CACHE_DIR", environment(folder)["DVC_SITE_CACHE_DIR"])
        with Repo() as repo:
            yield repo


def status(folder: Path) -> dict:
    """What `dvc status --json` prints: what has changed, by stage."""
    with opened(folder) as repo:
        return repo.status()


def commit_code(folder: Path) -> None:
    """Run the stage `code` and let DVC take its results, as `dvc repro code` does."""
    shell(folder, "python -m stages.code")
    with opened(folder) as repo:
        repo.commit("code", force=True)


def copy_of(done: Path, folder: Path) -> Path:
    """A copy of the finished pipeline, to be spoiled."""
    return shutil.copytree(
        done, folder / "copy", ignore=shutil.ignore_patterns(".git", ".dvc", "runs", "__pycache__"), symlinks=True
    )


def load(path: Path) -> dict:
    return json.loads(path.read_text())


def test_every_file_of_the_contract_is_there(done):
    assert [name for name in CONTRACT if not (done / name).is_file()] == []


def test_integer_forms_agree_bit_for_bit(done):
    exactness = load(done / "metrics/exactness.json")
    names = {"qat", "int", "c"} | {f"onnx_{name}" for name in ONNX if name != "float"}
    for kind, elements in (("logits", 24 * 3), ("tensors", 8 * 1000)):
        pairs = exactness[kind]["pairs"]
        assert {form.split(" (")[0] for pair in pairs for form in pair.split(" = ")} == names
        assert all(count["elements"] >= elements for count in pairs.values())
        assert {pair: count for pair, count in pairs.items() if count["mismatches"]} == {}
    for kind, executions, elements in (
        ("litert_logits", ("xnnpack", "optimized", "reference"), 24 * 3),
        ("litert_tensors", ("optimized", "reference"), 8 * 1000),
    ):
        pairs = exactness[kind]["pairs"]
        forms = {form for pair in pairs for form in pair.split(" = ")}
        assert forms == {"int"} | {f"litert ({execution})" for execution in executions}
        assert all(count["elements"] >= elements and not count["mismatches"] for count in pairs.values())
    assert load(done / "metrics/summary.json")["mismatches"] == 0


def test_one_weight_changed_in_one_onnx_file_is_found(done, tmp_path):
    folder = copy_of(done, tmp_path)
    path = folder / "artifacts/onnx/int8_integer.onnx"
    model = onnx.load(path)
    bias = next(c for c in model.graph.initializer if c.name == "head.classifier.conv/bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.int32([[[1]], [[0]], [[0]]])))
    bias.name = "head.classifier.conv/bias"
    seal(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    with pytest.raises(SystemExit) as stop:
        run_stage("compare", folder)
    # one logit of 24 images in the two executions of this file
    assert stop.value.code.startswith("error: artifacts/onnx/int8_integer.onnx: logits[0] is ")
    assert re.search(
        r"in onnx_int8_integer \(default\) and not .*, for record 0 \('.*'\); 1 more forms differ; [\d,]+ values in "
        r"each of 11 executions \([\d,]+ in litert \(xnnpack\), which keeps no tensors\): "
        rf"{24 * 2} differ, see metrics/exactness\.json$",
        stop.value.code,
    )
    assert load(folder / "metrics/exactness.json")["proved"] is False
    assert not [
        name for name in ("metrics/summary.json", "metrics/summary.md", "plots/top1.csv") if (folder / name).exists()
    ]
    with pytest.raises(SystemExit, match="compare has FAILED"):
        run_stage("model_card", folder)
    assert not (folder / "artifacts/MODEL_CARD.md").exists()


def test_a_tflite_file_with_exact_filter_scales_is_found(done, tmp_path, monkeypatch):
    """What LiteRT's kernels but XNNPACK's round twice: the proof of conversion does not see it, `compare` does."""
    folder = copy_of(done, tmp_path)
    stored = load_model(folder / "artifacts/int/model.safetensors", ("int",))
    monkeypatch.setattr(litert, "filter_scale", litert.power_of_two)
    path = folder / "artifacts/litert/int8.tflite"
    path.write_bytes(litert.litert_model(stored_program(stored), metadata(stored.info)))
    with pytest.raises(SystemExit) as stop:
        run_stage("compare", folder)
    assert " differ, see metrics/exactness.json" in stop.value.code
    assert stop.value.code.startswith("error: artifacts/litert/int8.tflite: ")
    pairs = load(folder / "metrics/exactness.json")["litert_tensors"]["pairs"]
    assert all(pairs[f"int = litert ({name})"]["mismatches"] > 100 for name in ("optimized", "reference"))
    logits = load(folder / "metrics/exactness.json")["litert_logits"]["pairs"]
    assert logits["int = litert (xnnpack)"]["mismatches"] == 0


def test_scores_and_the_table_of_all_forms(done):
    table = (done / "metrics/summary.md").read_text()
    for form in FORMS:
        scores = load(done / f"metrics/{form}.json")
        assert scores.keys() == {"top1", "top5", "loss", "images", "sha256"} | ({"ties"} if form == "litert" else set())
        assert scores["images"] == 24
        assert scores["top5"] == 100, "three classes"
        assert f"{scores['top1']:.2f}" in table
    for label in (
        "| float |",
        "| calibrated (ptq) |",
        "| QAT |",
        "| integer |",
        "| ONNX float |",
        "| ONNX int8 ",
        "| LiteRT int8 |",
    ):
        assert table.count(label) == 1
    qat, *others = ({**load(done / f"metrics/{form}.json"), "sha256": ""} for form in ("qat", "int", "onnx_int8"))
    assert others == [qat, qat]


def test_the_model_card_is_that_of_the_files(done):
    card = (done / "artifacts/MODEL_CARD.md").read_text()
    rows = re.findall(r"^\| (artifacts/\S+) \| ([\d,]+) \| `(\w{64})` \|$", card, re.MULTILINE)
    assert {name for name, _, _ in rows} >= {f"artifacts/onnx/{name}.onnx" for name in ONNX} | {
        "artifacts/c/network.c",
        "artifacts/litert/int8.tflite",
    }
    for name, size, digest in rows:
        data = (done / name).read_bytes()
        assert (f"{len(data):,}", hashlib.sha256(data).hexdigest()) == (size, digest)
    metadata, recipe = yaml.safe_load(card.split("---\n")[1]), yaml.safe_load(card.split("```")[1].removeprefix("yaml"))
    (result,) = metadata["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(load(done / "metrics/int.json")["top1"] / 100, abs=1e-6)
    params = yaml.safe_load((done / "params.yaml").read_text())
    assert recipe == {name: params[name] for name in recipe}
    assert {"lr", "seed", "train", "qat", "calibrate"} <= recipe.keys()


def test_numbers_and_confusion_of_each_form(done):
    for form in FORMS:
        with (done / f"plots/confusion/{form}.csv").open(newline="") as file:
            cells = list(csv.DictReader(file))
        assert len(cells) == 9
        assert sum(int(cell["images"]) for cell in cells) == 24
        right = sum(int(cell["images"]) for cell in cells if cell["class"] == cell["taken_for"])
        assert load(done / f"metrics/{form}.json")["top1"] == pytest.approx(100 * right / 24, abs=1e-4)
    short = load(done / "metrics/summary.json")
    assert short["int_top1"] == load(done / "metrics/int.json")["top1"]
    assert short["macs"] == load(done / "metrics/ops.json")["macs"]


@pytest.mark.experiments
def test_another_clone_gives_the_same_bytes_even_when_killed(project, done):
    folder = project.with_name("second")
    shell(project, f"git clone --quiet {project} {folder}")
    kill_in_training(folder)
    shell(folder, "dvc repro train_float")
    ran = {stage["cmd"] for stage in yaml.safe_load((folder / "dvc.lock").read_text())["stages"].values()}
    assert "python -m stages.train_float" in ran
    left = [command for command in commands(folder) if f"python -m stages.{command}" not in ran]
    assert len(left) == 17
    for command in left:
        run_stage(command, folder)
    for kind in ("artifacts", "metrics", "plots"):
        assert files(folder / kind) == files(done / kind), kind


@pytest.mark.experiments
def test_the_speed_of_each_file_is_kept_in_runs_alone(done, monkeypatch, capsys):
    monkeypatch.chdir(done)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "deploy", "--quick", "--rounds", "1"])
    benchmark()
    results = json.loads((done / "runs/bench/benchmarks.json").read_text())["parts"]["deploy"]["results"]
    ours = [each for each in results if each["contestant"].startswith(("int8_", "int8.", "network.c"))]
    speeds = [each for each in ours if each["unit"] == "images/s" and each["values"]]
    assert {each["column"] for each in speeds} == {"1 image, 1 thread", "1 image, 2 threads"}
    assert len(speeds) >= 11 and min(value for each in speeds for value in each["values"]) > 0
    shares = [each["values"] for each in ours if each["unit"] == "% of logits differ"]
    assert len(shares) >= 6 and all(share == [0.0] for share in shares)
    absent = [each["error"] for each in results if each["contestant"].startswith("litert-torch") and each["error"]]
    assert absent and all("No module named 'litert_torch'" in error for error in absent)
    assert "| network.c, cc -O3 -march=native |" in capsys.readouterr().out
    assert (done / "runs/bench/benchmarks.md").exists()
    assert shell(done, "git status --porcelain") == ""


def test_nothing_runs_twice(done):
    assert status(done) == {}
    assert ran(shell(done, "dvc repro")) == []
    assert shell(done, "git status --short") == ""


@pytest.mark.parametrize(
    ("values", "stages"),
    [
        ({"qat__lr": 0.02}, {"train_qat", "model_card"}),
        ({"lr": 0.02}, {"train_float", "model_card"}),
        ({"machine__workers": 1}, set()),
    ],
)
def test_a_parameter_reruns_only_the_stages_that_read_it(done, values, stages):
    change(done, **values)
    try:
        assert status(done).keys() == stages
    finally:
        shell(done, "git checkout --quiet params.yaml")


def test_an_edit_of_code_reruns_only_the_stages_that_import_it(done):
    edits = {
        "fixedpoint/program/program.py": ("# a comment", set()),
        "training/optimization.py": ("FASTER = 1", {"train_float", "train_qat"}),
    }
    try:
        for path, (line, stages) in edits.items():
            with (done / path).open("a") as file:
                file.write(f"\n\n{line}\n")
            assert "code" in status(done)
            commit_code(done)
            assert status(done).keys() == stages
    finally:
        shell(done, "git checkout --quiet .")
        commit_code(done)


def stale_model(folder: Path) -> None:
    path = folder / "artifacts/float/model.safetensors"
    save_file(load_file(path), path, {"model": json.dumps({"format_version": 1})})


def other_classes(folder: Path) -> None:
    path = folder / "artifacts/float/model.safetensors"
    stored = load_model(path, ("float",))
    info = dataclasses.replace(stored.info, class_names=["Bag", "Sneaker", "Skirt"])
    save_model(path, "float", stored.tensors, info)


def table_in_the_network(folder: Path) -> None:
    path = folder / "artifacts/float/model.safetensors"
    info = dataclasses.replace(load_model(path, ("float",)).info, name="test_efficientnet", arguments={})
    save_model(path, "float", create_model(info.name, 3, 32, {}, None).state_dict(), info)


def flipped_byte(folder: Path) -> None:
    path = folder / "artifacts/litert/int8.tflite"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# Stage, what is wrong, and what the one line says.
MISTAKES = {
    "unknown parameter": (
        "count_ops",
        lambda folder: change(folder, qat__lrr=0.1),
        "params.yaml: qat.lrr is not a parameter; did you mean qat.lr?",
    ),
    "unknown model": (
        "train_float",
        lambda folder: change(folder, model__name="vargconvnet_33"),
        "model 'vargconvnet_33' is not known to timm; near matches: vargconvnet_32",
    ),
    "image size": (
        "train_float",
        lambda folder: change(folder, input__size=30),
        "img_size (input.size) 30 is not allowed, must be a multiple of 16, the network's total stride",
    ),
    "empty folder": (
        "pack --split-name val",
        lambda folder: (folder / "pictures/val/Empty").mkdir(),
        "pictures/val/Empty holds no images",
    ),
    "unreadable image": (
        "pack --split-name val",
        lambda folder: (folder / "pictures/val/Bag/broken.png").write_bytes(b"no picture"),
        "image Bag/broken.png (pictures/val/Bag/broken.png): not an image",
    ),
    "missing input": (
        "calibrate",
        lambda folder: shutil.rmtree(folder / "artifacts/float"),
        "artifacts/float/model.safetensors does not exist; `make train-float` makes it",
    ),
    "other version": (
        "calibrate",
        stale_model,
        "artifacts/float/model.safetensors has format version 1, supported is 5",
    ),
    "class count": (
        "train_float",
        lambda folder: change(folder, model__num_classes=4),
        "artifacts/db/train.lmdb has 3 classes, but model.num_classes is 4",
    ),
    "other classes": (
        "validate --step float",
        other_classes,
        "artifacts/float/model.safetensors has the class 'Skirt' where artifacts/db/val.lmdb has 'Trouser'",
    ),
    "other colours": (
        "validate --step onnx_int8",
        lambda folder: change(folder, input__color_space="rgb"),
        "artifacts/onnx/int8_qoperator.onnx has color_space yuv444, but input.color_space is rgb",
    ),
    "changed .tflite file": (
        "validate --step litert",
        flipped_byte,
        "artifacts/litert/int8.tflite is damaged or was edited; make export-litert writes it again",
    ),
    "network that is not portable": (
        "calibrate",
        table_in_the_network,
        "portable arithmetic has no products of tensors and no tables: ",
    ),
    "network of one image size": (
        "train_float",
        lambda folder: change(folder, model__name="vit_tiny_patch16_224", model__arguments={}),
        "vit_tiny_patch16_224 does not take images of input.size 32: Input height (32) doesn't match model (224).",
    ),
    "network of several outputs": (
        "train_float",
        lambda folder: change(folder, model__name="test_resnet", model__arguments={"features_only": True}),
        "test_resnet gives a list in training, not logits [images, 3]: see model.arguments",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_changes_no_file(done, tmp_path, capfd, name):
    command, mistake, message = MISTAKES[name]
    folder = copy_of(done, tmp_path)
    mistake(folder)
    before = files(folder)
    with pytest.raises(SystemExit) as stop:
        run_stage(command, folder)
    assert stop.value.code.startswith(f"error: {message}"), "Python prints it on stderr and exits with code 1"
    assert "\n" not in stop.value.code
    assert capfd.readouterr().err == ""
    assert files(folder) == before


def test_a_mistake_ends_the_process_with_code_1(done, tmp_path):
    folder = copy_of(done, tmp_path)
    command, mistake, message = MISTAKES["empty folder"]
    mistake(folder)
    before = files(folder)
    line = [sys.executable, "-B", "-m", *f"stages.{command}".split()]
    result = subprocess.run(line, cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {message}") and result.stderr.count("\n") == 1
    assert files(folder) == before
