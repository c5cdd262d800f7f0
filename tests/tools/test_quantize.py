"""make quantize: a checkpoint and images in; all forms, a report and a proof out."""

import gzip
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from html_pages import text, tree
from PIL import Image

from fixedpoint.program import Program
from fixedpoint.program.integer import integer_logits
from imagedb.sources.folder import FolderSource
from imagedb.writer import write_database
from pipeline.cli import run
from pipeline.float_model import float_model
from pipeline.forms import stored_program
from pipeline.params import load_params
from pipeline.quantized import run_selfcheck
from storage.errors import InputError
from storage.files import sha256
from storage.model_file import load_model
from tools import quantize

REPOSITORY = Path(__file__).parents[2]
RAW = REPOSITORY / "data/fashion_mnist/FashionMNIST/raw"
TEXT = """
from torch import nn


def build(num_classes):
    layers = nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, num_classes))
"""
OPTIONS = ("--size", "8", "--normalization", ".5,.5,.5/.25,.25,.25")
FORMS = [
    "c/main.c", "c/network.c", "c/network.h", "c/selfcheck.c", "exactness.json", "float/model.safetensors",
    "int/model.safetensors", "onnx/float.onnx", "onnx/int8_integer.onnx", "onnx/int8_qdq.onnx",
    "onnx/int8_qoperator.onnx", "ptq/model.safetensors", "report.html",
]  # fmt: skip

LITERT = ["litert/int8.tflite"] + [
    f"litert/selfcheck/{name}"
    for name in ("Makefile", "README.md", "golden_data.cc", "golden_data.h", "main.cc", "model_data.cc", "model_data.h")
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with parameters, a network, its checkpoint and images; the process is left as it was."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    path = [*sys.path]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNS_DIR", raising=False)
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    values["execution"]["threads"], values["machine"]["workers"] = 1, 0
    values["calibrate"] |= {"images": 24, "refinement": 8, "bias_correction": 8, "reconstruction": 8}
    values["calibrate"]["reconstruction_steps"] = 2
    Path("params.yaml").write_text(yaml.safe_dump(values))
    Path("theirs.py").write_text(TEXT)
    noise = np.random.default_rng(0)
    for index in range(12):
        photo = Path("photos", "ab"[index % 2], f"{index:02}.png")
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (10, 12, 3), np.uint8)).save(photo)
    scope: dict = {}
    exec(TEXT, scope)
    torch.manual_seed(0)
    torch.save({"state_dict": {f"net.{k}": v for k, v in scope["build"](2).state_dict().items()}}, "best.ckpt")
    yield tmp_path
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    sys.path[:] = path
    sys.modules.pop("own_theirs", None)


def quantized(monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["quantize", *arguments])
    run(quantize.main)
    return capsys.readouterr().out


def files(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.startswith("golden/"))


def values_of(program: Program) -> int:
    """The int8 values inside and the logits of twelve images."""
    return 12 * sum(math.prod(op.shape) for op in program.ops)


def test_all_forms_a_report_and_a_proof_of_images_without_labels(folder, monkeypatch, capsys):
    Path("names.txt").write_text("cat, small\ndog\n")
    given = ("theirs.py:build", "best.ckpt", "photos", *OPTIONS, "--class-names", "names.txt", "--output", "out")
    said = quantized(monkeypatch, capsys, *given)
    assert files(folder / "out") == sorted([*FORMS, *LITERT])
    model = Path("out/litert/int8.tflite").read_bytes()
    array = re.search(r"model_data\[\] = \{(.*?)\}", Path("out/litert/selfcheck/model_data.cc").read_text(), re.DOTALL)
    assert bytes(int(each) for each in re.findall(r"\d+", array[1])) == model
    assert "input.size: 8  (--size)\ninput.resize: 8  (as the size: the whole short side)\n" in said
    assert "from best.ckpt, in state_dict without net.; 2 classes\n" in said
    assert "calibrated on 12 of 12 images below photos\n" in said
    proof = json.loads(Path("out/exactness.json").read_text())
    assert proof["proved"] and proof["files"]["out/litert/int8.tflite"] == sha256("out/litert/int8.tflite")
    assert proof["logits"]["pairs"]["ptq = int"] == {"elements": 24, "mismatches": 0}
    assert proof["tensors"]["images"] == 12
    program = stored_program(load_model("out/int/model.safetensors", ("int",)))
    inside = f"{values_of(program):,} values"
    assert f"proof: {inside} in each of " in said and ": 0 differ\n" in said
    shown = dict(re.findall(r"^  (\S.*?)  +([\d,]+ values), 0 differ$", said, re.MULTILINE))
    several = {"onnx_int8_qdq (int8)", "onnx_int8_qoperator (off)", "onnx_int8_integer (off)", "litert (reference)"}
    assert {"ptq", "c", *several} < shown.keys()
    assert {each for name, each in shown.items() if "onnx" in name} | {shown["c"], shown["ptq"]} == {inside}
    assert shown["litert (xnnpack)"] == "24 values"
    assert "logits of 12 images, int8 values inside of 12\n" in said
    assert "out/c/selfcheck.c, compiled and run: PASS: 8 pictures, 16 logits\n" in said

    stored = load_model("out/float/model.safetensors", ("float",))
    assert stored.info.class_names == ["cat, small", "dog"]
    assert stored.info.normalization == {"mean": [0.5] * 3, "std": [0.25] * 3}
    params = load_params()
    changed = params.model_copy(update={"model": params.model.model_copy(update={"name": "theirs.py:build"})})
    monkeypatch.setattr("pipeline.float_model.load_params", lambda: changed)
    photos = sorted(Path("photos").rglob("*.png"))
    seen = [Image.open(path).convert("RGB").resize((10, 8), Image.BILINEAR) for path in photos]
    pixels = torch.from_numpy(np.stack(seen)[:, :, 1:9]).permute(0, 3, 1, 2)
    expected, found = float_model(stored)((pixels.float() - 128) / 128), integer_logits(program)(pixels)
    alike = int((expected.argmax(1) == found.argmax(1)).sum())
    assert f"predicts as the float network on {alike} of 12 images\n" in said
    assert (expected - found).abs().max() < 0.1
    check = Path("out/c/selfcheck.c")
    other = re.sub(
        r"(golden_logits\[\] = \{\s*)(-?\d+)", lambda found: f"{found[1]}{int(found[2]) + 1}", check.read_text()
    )
    check.write_text(other)
    with pytest.raises(InputError, match=r"^out/c/selfcheck\.c: FAIL: picture 0, class 0: got -?\d+, expected -?\d+$"):
        run_selfcheck(Path("out"))
    index = json.loads(Path("out/golden/index.json").read_text())
    assert index["images"] == [*range(8)] and index["labels"] == [-1] * 8
    page = " ".join(text(tree(Path("out/report.html").read_text())).split())
    assert "12 given images" in page and "calibrated = integer" in page and "QAT = integer" not in page


def test_the_databases_give_scores_and_exact8_has_no_tflite(folder, monkeypatch, capsys):
    for split in ("train", "val"):
        Path("artifacts/db").mkdir(parents=True, exist_ok=True)
        write_database(FolderSource(".", "photos"), Path(f"artifacts/db/{split}.lmdb"))
    given = ("theirs.py:build", "best.ckpt", *OPTIONS, "--arithmetic", "exact8")
    said = quantized(monkeypatch, capsys, *given)
    assert files(Path("artifacts/quantized")) == sorted(FORMS)
    stored = load_model("artifacts/quantized/int/model.safetensors", ("int",))
    assert stored.info.class_names == ["a", "b"]
    assert "float: top-1 " in said and f"proof: {values_of(stored_program(stored)):,} values in each of " in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet19", "best.ckpt", "photos", *OPTIONS), r"error: model 'resnet19' is not known to timm"),
        (("theirs.py:build", "best.ckpt", "photos"), r"error: nothing is published .* add --size and --normalization"),
        (("theirs.py:build", "last.ckpt", "photos", *OPTIONS), r"error: there is no checkpoint last\.ckpt"),
        (("theirs.py:build", "best.ckpt", "pictures", *OPTIONS), r"error: pictures is not there"),
        (("theirs.py:build", "best.ckpt", *OPTIONS), r"error: .*train\.lmdb does not exist; `make pack` makes it"),
        (
            ("theirs.py:build", "best.ckpt", "photos", *OPTIONS, "--class-names", "names.txt"),
            r"error: names\.txt has 1 classes, must have 2, as the checkpoint",
        ),
    ],
)
def test_mistakes_are_one_line(folder, monkeypatch, capsys, arguments, message):
    Path("names.txt").write_text("cat\n")
    with pytest.raises(SystemExit, match=message) as raised:
        quantized(monkeypatch, capsys, *arguments)
    assert "\n" not in str(raised.value)


def bare_loop(images: np.ndarray, labels: np.ndarray) -> dict[str, torch.Tensor]:
    """The weights of a resnet18 after a few steps of plain PyTorch, nothing of this repository."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=3)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    inputs = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    for batch in torch.arange(len(images)).split(32) * 2:
        loss = torch.nn.functional.cross_entropy(network(inputs[batch]), torch.from_numpy(labels)[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.state_dict()


@pytest.mark.networks
def test_a_resnet18_fine_tuned_elsewhere(folder, monkeypatch, capsys):
    pixels = np.frombuffer(gzip.decompress((RAW / "train-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((RAW / "train-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    chosen = np.isin(labels, (1, 7, 8)).nonzero()[0][:256]
    pictures = [Image.fromarray(pixels.reshape(-1, 28, 28)[index]).convert("RGB") for index in chosen]
    images = np.stack([np.asarray(picture.resize((64, 64), Image.BICUBIC)) for picture in pictures])
    torch.save({"state_dict": bare_loop(images, np.searchsorted((1, 7, 8), labels[chosen]))}, "best.ckpt")
    Path("clothes").mkdir()
    for number, picture in enumerate(pictures[:32]):
        picture.save(f"clothes/{number:02}.png")
    given = ("--size", "64", "--resize", "64", "--reconstruction", "0", "--output", "out")
    said = quantized(monkeypatch, capsys, "resnet18", "best.ckpt", "clothes", *given)
    assert "3 classes" in said and "calibrated on 24 of 32 images" in said and ": 0 differ\n" in said
    alike, _, images = said.partition("float network on ")[2].split()[:3]
    assert int(images) == 24 and int(alike) >= 23  # as many as calibrate.images
