import json
import re

import numpy as np
import pytest
import torch
from programs import PROGRAMS, hard_inputs

from fixedpoint.onnx.float import FloatWriter
from fixedpoint.onnx.graph import OPSET, Graph
from fixedpoint.onnx.runtime import OnnxModel
from fixedpoint.program import Program, per_channel, power_of_two
from fixedpoint.program.floating import FloatEvaluator


def in_float(program: Program) -> Program:
    """A float program: the real numbers that the constants of an integer program stand for."""
    constants = {}
    for op in program.ops:
        if op.weighted:
            weight, bias = (program.constants[f"{op.name}.{name}"].float() for name in ("weight", "bias"))
            exponent = program.constants[f"{op.name}.weight_exponent"]
            constants[f"{op.name}.weight"] = weight * per_channel(power_of_two(-exponent), weight, 0)
            constants[f"{op.name}.bias"] = bias * power_of_two(-program.accumulator_exponent(op))
    return Program(program.input_shape, program.ops, constants)


@pytest.mark.parametrize("mode", ["default", "off"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_float_file_computes_what_the_float_evaluator_does(name, mode, tmp_path):
    program = in_float(PROGRAMS[name])
    (tmp_path / "float.onnx").write_bytes(FloatWriter.export(program, {}).SerializeToString())
    x = hard_inputs(program).astype(np.float32) / 128
    expected = dict(FloatEvaluator(program).run(torch.from_numpy(x)))
    names = [op.name for op in program.ops if op.name not in program.raw]
    tensors = OnnxModel(tmp_path / "float.onnx", mode, outputs=names).tensors(x)
    for tensor in names:
        largest = expected[tensor][expected[tensor].isfinite()].abs().max()
        np.testing.assert_allclose(tensors[tensor], expected[tensor], rtol=1e-5, atol=1e-5 * largest)
    logits = expected[program.output]
    np.testing.assert_allclose(tensors["logits"], logits, rtol=1e-5, atol=1e-5 * logits.abs().max())


def test_the_file_says_how_to_feed_it_and_nothing_of_when_it_was_made():
    program = in_float(PROGRAMS["network"])
    model, again = (FloatWriter.export(program, {"color_space": "rgb"}) for _ in range(2))
    assert model.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    properties = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert re.fullmatch("[0-9a-f]{64}", properties.pop("digest"))
    assert properties == {"color_space": "rgb", "input_normalization": {"offset": 128, "divisor": 128}}
    assert [entry.version for entry in model.opset_import] == [OPSET]


def test_a_name_can_be_taken_once():
    graph = Graph()
    graph.constant("a", np.float32(1))
    with pytest.raises(ValueError, match="name 'a'"):
        graph.node("Relu", ["a"], "a")
