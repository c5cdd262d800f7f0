import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from programs import PROGRAMS, hard_inputs

from fixedpoint.errors import QuantizationError
from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.qoperator import QOperatorWriter
from fixedpoint.onnx.runtime import ONNX_MODES, OnnxModel, saturating_weights
from fixedpoint.onnx.seal import seal

REPOSITORY = Path(__file__).parents[3]
PROGRAM = PROGRAMS["network"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    path.write_bytes(QOperatorWriter.export(PROGRAM, {}).SerializeToString())
    return path


def pixels(count=2):
    return hard_inputs(PROGRAM, count).astype(np.float32) / 128


def test_logits_do_not_depend_on_threads_batch_or_form(path, tmp_path):
    x = pixels()
    logits = OnnxModel(path)(x)
    assert logits.dtype == np.float32 and logits.shape == (len(x), 5)
    assert np.array_equal(OnnxModel(path, threads=2)(x), logits)
    assert np.array_equal(OnnxModel(path)(x[:1]), logits[:1])
    integer = tmp_path / "integer.onnx"
    integer.write_bytes(IntegerWriter.export(PROGRAM, {}).SerializeToString())
    assert np.array_equal(OnnxModel(integer)(x), logits)
    assert OnnxModel(integer)(x).dtype == np.float32
    for file in (path, integer):
        assert np.array_equal(OnnxModel(file)((x * 128).astype(np.int8)), logits), "of the pixels themselves"


def test_tensors_are_the_named_ones_and_the_logits(path):
    x = pixels()
    tensors = OnnxModel(path, "off", outputs=["sum", "mix"]).tensors(x)
    assert list(tensors) == ["sum", "mix", "logits"]
    assert tensors["sum"].dtype == np.int8 and tensors["sum"].shape == (len(x), 8, 16, 16)


def test_mistakes_are_one_clear_line(path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.onnx"):
        OnnxModel(tmp_path / "missing.onnx")
    with pytest.raises(ValueError, match=f"mode 'fast' is not allowed, must be one of {', '.join(ONNX_MODES)}"):
        OnnxModel(path, "fast")
    with pytest.raises(ValueError, match="no tensor 'summ'"):
        OnnxModel(path, outputs=["summ"])


@pytest.mark.parametrize("outputs", [(), ("sum",)])
def test_a_file_that_is_not_onnx_is_named(tmp_path, outputs):
    path = tmp_path / "junk.onnx"
    path.write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"junk\.onnx[^\n]*$"):
        OnnxModel(path, outputs=outputs)


def test_a_file_that_onnx_runtime_refuses_is_named(path, tmp_path):
    model = onnx.load(path)
    model.opset_import[0].version = 999
    seal(model)
    future = tmp_path / "future.onnx"
    onnx.save(model, future)
    with pytest.raises(ValueError, match=r"future\.onnx: [^\n]*opset[^\n]*$"):
        OnnxModel(future)


def test_a_batch_that_onnx_runtime_refuses_is_one_line(path):
    with pytest.raises(QuantizationError, match=r"model\.onnx: [^\n]*[Ii]nvalid dimensions[^\n]*$"):
        OnnxModel(path)(pixels()[:, :, :4])


def test_telemetry_is_off(path, tmp_path):
    """ONNX Runtime leaves a device id and a queue of events in the user's cache where it is on."""
    script = f"import fixedpoint.onnx.runtime as r; r.OnnxModel({str(path)!r})"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=REPOSITORY, check=True)
    assert [*tmp_path.rglob("*")] == []


def test_saturating_weights_are_those_beyond_64():
    weight = torch.zeros_like(PROGRAM.constants["left.weight"])
    small = {
        f"{op.name}.weight": PROGRAM.constants[f"{op.name}.weight"].clamp(-64, 64)
        for op in PROGRAM.ops
        if op.kind == "conv"
    }
    program = PROGRAM.with_constants(**small)
    assert saturating_weights(program) == {}
    weight.view(-1)[:3] = torch.tensor([65, -65, 64])
    assert saturating_weights(program.with_constants(**{"left.weight": weight})) == {"left": 2}


@pytest.mark.parametrize("weight", [1, 63, 64, 65, 127])
def test_a_weight_saturates_where_two_products_leave_16_bits(weight):
    """As x86 processors without VNNI add them: uint8 activations times int8 weights, two at a time (vpmaddubsw)."""
    zeros = {name: torch.zeros_like(value) for name, value in PROGRAM.constants.items() if name.endswith(".weight")}
    zeros["left.weight"].view(-1)[0] = weight
    products = np.uint8([255, 255]).astype(np.int64) * np.int8([weight, weight])
    saturates = products.sum() > np.iinfo(np.int16).max
    assert saturating_weights(PROGRAM.with_constants(**zeros)) == ({"left": 1} if saturates else {})
