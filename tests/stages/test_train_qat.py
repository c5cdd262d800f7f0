"""The training stages on a small network and coloured noise, from float training to QAT."""

import csv
import dataclasses
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from evaluation.score import predict, score
from fixedpoint.program.integer import integer_logits
from imagedb.sources.source import IndexedSource, SourceImage
from imagedb.writer import write_database
from models.registry import create_model
from models.vargconvnet import VarGConvNet
from pipeline.checkpoints import read_model
from pipeline.classifiers import load_classifier
from pipeline.databases import plain_batches
from pipeline.forms import FORMS, stored_program
from pipeline.params import load_params
from stages import calibrate, train_float, train_qat
from storage.model_file import load_model, save_model
from training.execution import Execution

REPOSITORY = Path(__file__).parents[2]
QAT = Path("artifacts/qat/model.safetensors")


class Noise(IndexedSource):
    """Images of noise, brighter in one of three colours, which is their class."""

    class_names = ("red", "green", "blue")

    def __len__(self):
        return 24

    def __getitem__(self, index):
        pixels = np.random.default_rng(index).integers(0, 200, (32, 32, 3), np.uint8)
        pixels[..., index % 3] += 20
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return SourceImage(str(index), index % 3, buffer.getvalue())


def write_params(**qat) -> None:
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    values |= {"epochs": 0, "batch_size": 8}
    values["execution"]["threads"], values["machine"]["workers"] = 1, 0
    arguments = {"channels": [8, 8, 8, 16, 16], "head_width": 16}
    values["model"] |= {"name": "vargconvnet_32", "num_classes": 3, "arguments": arguments}
    values["calibrate"] |= {"images": 24, "refinement": 24, "bias_correction": 24, "reconstruction": 24}
    values["calibrate"]["reconstruction_steps"] = 2
    values["qat"] |= {"epochs": 2, "batch_size": 8, "warmup_epochs": 0} | qat
    Path("params.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture(scope="module", autouse=True)
def workspace(tmp_path_factory):
    """The current folder, with databases and the float and calibrated models; the process is left as it was."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("workspace"))
        patch.delenv("RUNS_DIR", raising=False)
        Path("artifacts/db").mkdir(parents=True)
        for split in ("train", "val"):
            write_database(Noise(), Path(f"artifacts/db/{split}.lmdb"))
        write_params()
        patch.setattr(sys, "argv", ["stage"])
        train_float.main()
        calibrate.main()
        yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def qat(monkeypatch, *arguments, **parameters):
    write_params(**parameters)
    monkeypatch.setattr(sys, "argv", ["train_qat", *arguments])
    train_qat.main()


def curve(stage: str, name: str) -> list[tuple[int, float]]:
    with Path(f"plots/{stage}/plots/metrics/{name}.tsv").open() as file:
        return [(int(row["step"]), float(row[name])) for row in csv.DictReader(file, delimiter="\t")]


def scores(step: str, path: str | Path) -> dict[str, float]:
    """The scores of a model file, computed by the function that validates it."""
    params = load_params()
    return score(*predict(load_classifier(FORMS[step], path, torch.device("cpu"), params), plain_batches(params)))


def equal(left: str | Path, right: str | Path, forms=("ptq", "qat")) -> bool:
    left, right = (load_model(path, forms) for path in (left, right))
    assert left.tensors.keys() == right.tensors.keys()
    assert left.program == right.program
    return all(torch.equal(left.tensors[name], right.tensors[name]) for name in left.tensors)


def test_float_training_of_no_epochs_keeps_and_scores_the_start():
    params = load_params()
    torch.manual_seed(params.seed)
    start = create_model("vargconvnet_32", 3, 32, params.model.arguments).state_dict()
    path = "artifacts/float/model.safetensors"
    stored = load_model(path, ("float",)).tensors
    assert stored.keys() == start.keys()
    assert all(torch.equal(stored[name], start[name]) for name in start)
    assert equal(path, "artifacts/float/last.safetensors", ("float",))
    assert curve("float", "val_loss") == [(0, scores("float", path)["loss"])]


def test_qat_of_no_epochs_passes_calibration_on(monkeypatch):
    qat(monkeypatch, epochs=0)
    for path in (QAT, "artifacts/qat/last.safetensors"):
        assert equal("artifacts/ptq/model.safetensors", path)
    assert curve("qat", "val_loss") == [(0, scores("ptq", "artifacts/ptq/model.safetensors")["loss"])]


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_qat_scores_what_it_starts_from_and_what_it_keeps(monkeypatch, ema_decay):
    scored = []
    monkeypatch.setattr(train_qat, "integer_logits", lambda p, device: scored.append(p) or integer_logits(p, device))
    qat(monkeypatch, lr=0.05, ema_decay=ema_decay)
    assert [program.constants["head.classifier.conv.weight"].dtype for program in scored] == [torch.int8] * 3
    last = "artifacts/qat/last.safetensors"
    assert not equal("artifacts/ptq/model.safetensors", last)
    losses, top1 = curve("qat", "val_loss"), curve("qat", "val_top1")
    assert [step for step, _ in losses] == [0, 1, 2]
    assert losses[0][1] == scores("ptq", "artifacts/ptq/model.safetensors")["loss"]
    assert losses[2][1] == scores("qat", last)["loss"]
    assert scores("qat", QAT)["top1"] == max(value for _, value in top1)
    assert [step for step, _ in curve("qat", "train_loss")] == [1, 2]


def test_the_best_checkpoint_of_a_run_is_the_model_that_it_has_written(monkeypatch):
    qat(monkeypatch, lr=0.03)
    best = max(Path("runs").glob("qat-*/best.pt"), key=lambda path: path.stat().st_mtime)
    stored, written = read_model(best, "qat"), load_model(QAT, ("qat",))
    assert stored.info == written.info
    assert stored_program(stored).to_json() == stored_program(written).to_json()
    assert stored.tensors.keys() == written.tensors.keys()
    assert all(torch.equal(stored.tensors[name], written.tensors[name]) for name in written.tensors)
    (best,) = Path("runs").glob("float-*/best.pt")
    assert scores("float", best) == scores("float", "artifacts/float/model.safetensors")


def test_the_calibrated_model_is_close_to_its_teacher_and_not_to_the_labels(monkeypatch):
    losses = []
    for distill in (0, 1):
        qat(monkeypatch, lr=1e-6, epochs=1, distill=distill)
        losses.append(curve("qat", "train_loss")[0][1])
    assert losses[1] < 0.1 < losses[0]


def test_a_teacher_with_other_classes_is_refused(monkeypatch, tmp_path):
    stored = load_model("artifacts/float/model.safetensors", ("float",))
    info = dataclasses.replace(stored.info, class_names=["red", "blue", "green"])
    save_model(tmp_path / "teacher", "float", stored.tensors, info)
    with pytest.raises(ValueError, match="teacher has other classes than the model it is to teach"):
        qat(monkeypatch, "--teacher", str(tmp_path / "teacher"), distill=1)


def test_the_teacher_is_computed_as_the_student_is(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: compiled.append(network) or network)
    monkeypatch.setattr(train_qat, "execution", lambda machine: Execution(compile=True))
    qat(monkeypatch, epochs=1, distill=1)
    assert [type(network) for network in compiled] == [VarGConvNet]


def test_only_distillation_needs_a_teacher(monkeypatch):
    qat(monkeypatch, "--teacher", "none", distill=0, epochs=0)
    with pytest.raises(FileNotFoundError, match="none does not exist; `make train-float` makes it"):
        qat(monkeypatch, "--teacher", "none", distill=1)
