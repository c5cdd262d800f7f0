"""Golden vectors from a model file and a database, and other tensors compared with them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fixedpoint.program import INPUT, Conv, Flatten, Program
from imagedb.sources.folder import FolderSource
from imagedb.writer import write_database
from pipeline.cli import run
from stages import golden
from storage.model_file import ModelInfo, save_model

WEIGHT = np.random.default_rng(1).integers(-9, 10, (2, 3, 16, 16), np.int8)
BIAS = np.array([50, -700], np.int32)


@pytest.fixture
def pixels() -> np.ndarray:
    """RGB, uint8 [20, 16, 16, 3]."""
    return np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)


@pytest.fixture
def stage(tmp_path, monkeypatch, pixels, capsys):
    """Runs the stage in a folder with a model of one convolution as large as the image, and returns what it prints."""
    params = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    params["input"] = {"size": 16, "color_space": "rgb", "resize": None, "resample": "bilinear"}
    params["model"]["num_classes"] = 2
    params["execution"]["threads"], params["machine"]["workers"] = 1, 0
    params["validation"]["batch_size"] = 3
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    for index, image in enumerate(pixels):
        path = Path("images/val") / "ab"[index // 10] / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    Path("artifacts/db").mkdir(parents=True)
    write_database(FolderSource("images", "val"), "artifacts/db/val.lmdb")
    constants = {"conv.weight": WEIGHT, "conv.bias": BIAS, "conv.weight_exponent": np.array([3, 5], np.int32)}
    ops = (Conv("conv", (INPUT,), (2, 1, 1), (1, 1), (0, 0), (1, 1), 1), Flatten("classes", ("conv",), (2,)))
    program = Program((3, 16, 16), ops, {k: torch.from_numpy(v) for k, v in constants.items()}, {INPUT: 7})
    info = ModelInfo("none", {}, 2, 16, "rgb", ["a", "b"])
    save_model("artifacts/int/model.safetensors", "int", program.constants, info, program.to_json())
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()

    def run_stage(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["golden", *arguments])
        run(golden.main)
        return capsys.readouterr().out

    yield run_stage
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def expected(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Input and logits, from the pixels themselves."""
    x = pixels.transpose(0, 3, 1, 2).astype(np.int64) - 128
    return x, np.tensordot(x, WEIGHT.astype(np.int64), ((1, 2, 3), (1, 2, 3))) + BIAS


def test_tensors_of_images_of_all_classes(stage, pixels):
    assert "3 tensors of 5 images of 2 classes, 2 or 3 each in artifacts/golden" in stage("--images", "5")
    index = json.loads(Path("artifacts/golden/index.json").read_text())
    assert sorted(index["labels"]) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])
    x, logits = expected(pixels[index["images"]])
    assert np.array_equal(np.fromfile("artifacts/golden/input.bin", np.int8), x.ravel())
    assert np.array_equal(np.fromfile("artifacts/golden/classes.bin", np.int32), logits.ravel())


def test_eight_images_without_options(stage):
    assert "of 8 images" in stage()


def test_more_images_than_there_are(stage):
    assert "3 tensors of 20 images (all there are; 21 were asked for) of 2 classes, 10 each" in stage("--images", "21")


def write_theirs(pixels: np.ndarray, images: list[int], indexed: bool) -> np.ndarray:
    """theirs/: the logits of another runtime, in a raw file."""
    logits = expected(pixels[images])[1].astype(np.int32)
    Path("theirs").mkdir()
    logits.tofile("theirs/conv.bin")
    if indexed:
        Path("theirs/index.json").write_text(json.dumps({"format_version": 1, "images": images}))
    return logits


def test_tensors_of_another_runtime(stage, pixels):
    stage("--images", "4")
    drawn = json.loads(Path("artifacts/golden/index.json").read_text())["images"]
    write_theirs(pixels, drawn, indexed=False)
    Path("theirs/covn.bin").write_bytes(b"")
    printed = stage("--check", "theirs", "--images", "4").splitlines()
    assert printed == [
        "theirs has no index.json: its tensors are read as those of 4 images (--images)",
        "8 values in 1 of 3 tensors compared, none differs",
        "not compared: input, classes",
        "no tensors of the model: covn",
    ]


def test_the_index_says_which_images(stage, pixels):
    logits = write_theirs(pixels, [19, 2, 2], indexed=True)
    assert "6 values" in stage("--check", "theirs")
    changed = logits.copy()
    changed[1, 1] += 2
    changed[2, 0] -= 1
    changed.tofile("theirs/conv.bin")
    np.savez("theirs/tensors.npz", classes=logits + 1, input=expected(pixels[[19, 2, 2]])[0])
    with pytest.raises(SystemExit) as stop:
        stage("--check", "theirs")
    assert stop.value.code == (
        f"error: conv (theirs/conv.bin): 2 of 6 values differ, the first at [1, 1, 0, 0]: {logits[1, 1] + 2} there, "
        f"{logits[1, 1]} here; 2 of 3 tensors differ"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "0"], "--images 0 is not allowed, must be at least 1"),
        (["--check", "theirs"], "theirs holds no tensor of the model, neither in a <tensor>.bin nor in a .npz"),
        (["--checkpoint", "other"], "other does not exist; `make convert-int` makes it"),
    ],
)
def test_mistakes_are_one_line(stage, arguments, message):
    with pytest.raises(SystemExit) as stop:
        stage(*arguments)
    assert stop.value.code == f"error: {message}"
    assert not Path("artifacts/golden").exists()


def test_an_image_that_the_database_does_not_hold(stage, pixels):
    write_theirs(pixels, [3], indexed=True)
    Path("theirs/index.json").write_text('{"format_version": 1, "images": [20]}')
    with pytest.raises(SystemExit, match=r"error: artifacts/db/val\.lmdb has no record 20, only 0 to 19"):
        stage("--check", "theirs")
