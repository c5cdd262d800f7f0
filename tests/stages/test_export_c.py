"""The C files of a model file, and how the stage reports what they need."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from fixedpoint.analysis.golden import golden_tensors, write_golden
from fixedpoint.c.runtime import CModel
from fixedpoint.program import INPUT, Conv, Flatten, Program
from fixedpoint.program.integer import IntegerEvaluator
from pipeline.cli import run
from stages import export_c
from storage.model_file import ModelInfo, save_model

INFO = ModelInfo("tiny", {}, 2, 8, "yuv444", ["a", "b */"])


@pytest.fixture
def program() -> Program:
    """One convolution as large as the image."""
    rng = np.random.default_rng(0)
    constants = {
        "conv.weight": rng.integers(-9, 10, (2, 3, 8, 8), np.int8),
        "conv.bias": np.array([50, -700], np.int32),
        "conv.weight_exponent": np.array([3, -5], np.int32),
    }
    ops = (Conv("conv", (INPUT,), (2, 1, 1), (1, 1), (0, 0), (1, 1), 1), Flatten("classes", ("conv",), (2,)))
    return Program((3, 8, 8), ops, {k: torch.from_numpy(v) for k, v in constants.items()}, {INPUT: 7})


@pytest.fixture
def stage(tmp_path, monkeypatch, program):
    """Runs the stage in a folder with the model file of `program` at its place."""
    monkeypatch.chdir(tmp_path)
    save_model("artifacts/int/model.safetensors", "int", program.constants, INFO, program.to_json())
    x = torch.from_numpy(np.random.default_rng(2).integers(-128, 128, (4, 3, 8, 8), np.int8))
    write_golden("artifacts/golden", program, golden_tensors(program, x), [0, 1, 2, 3], [0, 1, 0, 1])

    def run_stage(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["export_c", *arguments])
        run(export_c.main)

    return run_stage


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_the_files_compute_what_the_model_does(stage, program, capsys):
    stage()
    assert contents("artifacts/c").keys() == {"network.c", "network.h", "main.c", "selfcheck.c"}
    # the values under the kernel; weights, biases and exponents
    assert capsys.readouterr().out == (
        "artifacts/c: 192 bytes of activations (RAM), 394 bytes of constants (flash), at most 768 bytes of stack\n"
    )
    x = np.random.default_rng(1).integers(-128, 128, (5, 3, 8, 8), np.int8)
    expected = IntegerEvaluator(program).logits(torch.from_numpy(x)).numpy()
    assert np.array_equal(CModel("artifacts/c", options=["-O1", "-Wall", "-Werror"])(x), expected)


def test_the_self_check_passes_and_finds_a_changed_bias(stage, program):
    stage()
    sums = program.constants["conv.weight"].int().sum((1, 2, 3))
    first, second = (program.constants["conv.bias"] - 128 * sums).tolist()  # what is added to the pixels is taken off
    folder = Path("artifacts/c")

    def checked() -> subprocess.CompletedProcess:
        command = "cc -std=c99 -O1 -Wall -Werror network.c selfcheck.c -o check"
        subprocess.run(command.split(), cwd=folder, check=True)
        return subprocess.run([folder.absolute() / "check"], capture_output=True, text=True)

    assert (checked().returncode, checked().stdout) == (0, "PASS: 4 pictures, 8 logits\n")
    text = (folder / "network.c").read_text()
    assert text.count(f"{first},{second}") == 1
    (folder / "network.c").write_text(text.replace(f"{first},{second}", f"{first},{second - 1}"))
    assert checked().returncode == 1
    assert checked().stdout.startswith("FAIL: picture 0, class 1: got ")


def test_golden_images_of_another_size_are_refused(stage):
    Path("artifacts/golden/input.bin").write_bytes(b"few")
    with pytest.raises(SystemExit, match=r"^error: artifacts/golden/input.bin has 3 bytes; .* is 768$"):
        stage()


def test_the_header_says_what_the_network_is(stage):
    stage()
    comment = re.match(r"/\*(.*?)\*/", Path("artifacts/c/network.h").read_text(), re.DOTALL)[1]
    assert ' * network: "tiny"\n * class_names: ["a", "b * /"]\n * color_space: "yuv444"\n * image_size: 8\n' in comment


def test_another_folder_gets_the_same_bytes(stage):
    stage()
    Path("artifacts/int/model.safetensors").rename("model.safetensors")
    stage("--checkpoint", "model.safetensors", "--output", "elsewhere")
    assert contents("elsewhere") == contents("artifacts/c")


def test_another_name_is_in_every_file(stage):
    stage("--name", "shoes")
    assert contents("artifacts/c").keys() == {"shoes.c", "shoes.h", "shoes_main.c", "shoes_selfcheck.c"}
    assert b'#include "shoes.h"' in contents("artifacts/c")["shoes_selfcheck.c"]
    with pytest.raises(SystemExit, match=r"^error: the name of the C form must be .*, unlike 'Shoes'$"):
        stage("--name", "Shoes")


def test_mistakes_stop_with_one_line(stage, program):
    save_model("ptq.safetensors", "ptq", program.constants, INFO, program.to_json())
    with pytest.raises(SystemExit, match=r"^error: ptq.safetensors holds a model in form 'ptq', expected int$"):
        stage("--checkpoint", "ptq.safetensors")
    with pytest.raises(SystemExit, match=r"^error: nothing.safetensors does not exist; `make convert-int` makes it$"):
        stage("--checkpoint", "nothing.safetensors")
    wide = program.with_constants(**{"conv.bias": torch.tensor([0, 2**24], dtype=torch.int32)})
    save_model("wide.safetensors", "int", wide.constants, INFO, wide.to_json())
    with pytest.raises(SystemExit, match=r"^error: conv: the accumulator of channel 1 can reach .*$"):
        stage("--checkpoint", "wide.safetensors")
    assert not Path("artifacts/c").exists()
