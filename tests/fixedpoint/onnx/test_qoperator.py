"""What makes int8_qoperator.onnx fast and exact in ONNX Runtime."""

import json

import numpy as np
import oracle
import portable_programs
import pytest
from onnx import numpy_helper
from onnx_files import save
from portable_programs import build
from programs import PROGRAMS, RELU, RELU6, conv, hard_inputs, int8_tensors, numpy_constants

from fixedpoint.onnx.graph import OUTPUT
from fixedpoint.onnx.qoperator import QOperatorWriter
from fixedpoint.onnx.runtime import OnnxModel
from fixedpoint.program import INPUT, Conv

MIXED = (5, 1, 2, 8, 3, 15, 4, 6, 7, 9, 10, 12)
# Portable programs that can be halved, and one that cannot
HALVES = {
    "negative": build((3, 8, 8), conv("x", INPUT, (12, 8, 8)), shifts=MIXED),
    "relu": build((3, 8, 8), conv("x", INPUT, (12, 8, 8), clamp=RELU), shifts=MIXED),
    "relu6_groups": build((8, 8, 8), conv("x", INPUT, (24, 4, 4), stride=(2, 2), groups=2, clamp=RELU6), shifts=MIXED),
    "depthwise": build((12, 8, 8), conv("x", INPUT, (12, 8, 8), groups=12), shifts=MIXED),
}
PORTABLE = portable_programs.PROGRAMS | HALVES


def constants(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("mode", ["default", "off"])
@pytest.mark.parametrize("name", PORTABLE)
def test_every_tensor_of_a_portable_program_is_the_oracles(name, mode, tmp_path):
    program = PORTABLE[name]
    x = hard_inputs(program, 2)
    expected = oracle.run(program.to_json(), numpy_constants(program), x)
    model = OnnxModel(save(QOperatorWriter, program, tmp_path), mode, outputs=int8_tensors(program))
    tensors = model.tensors(x.astype(np.float32) / 128)
    logits = np.ldexp(expected[program.output].astype(np.float64), -program.logit_exponent.numpy())
    assert np.array_equal(tensors.pop(OUTPUT), logits.reshape(len(x), -1))
    assert [tensor for tensor, value in tensors.items() if not np.array_equal(value, expected[tensor])] == []


@pytest.mark.parametrize("name", [*PROGRAMS, *(f"portable {name}" for name in PORTABLE)])
def test_no_two_products_leave_16_bits(name):
    """As x86 processors without VNNI add them: uint8 values times int8 weights, two at a time (vpmaddubsw)."""
    program = PORTABLE[name.removeprefix("portable ")] if name.startswith("portable ") else PROGRAMS[name]
    model = QOperatorWriter.export(program, {})
    values, seen = constants(model), 0
    places = {"QLinearConv": (2, 3), "MatMulInteger": (2, 1), "ConvInteger": (2, 1)}  # of zero point and weights
    for node in model.graph.node:
        if node.op_type in places:
            zero_point, weights = (values[node.input[place]] for place in places[node.op_type])
            greatest = {0: 127, 128: 255}[int(zero_point)]
            seen += 1
            if weights.dtype == np.int8:
                size = np.abs(weights.astype(int)).max()
                assert greatest * 2 * size <= np.iinfo(np.int16).max, node.name
    assert seen


@pytest.mark.parametrize("name", HALVES)
def test_int8_weights_multiply_values_below_zero_too(name):
    weights = constants(QOperatorWriter.export(HALVES[name], {}))["x/weight"]
    assert weights.dtype == np.int8 and 32 < np.abs(weights).max() <= 63


def test_weights_that_cannot_be_halved_are_uint8():
    weights = constants(QOperatorWriter.export(PROGRAMS["conv"], {}))["x/weight"]
    assert weights.dtype == np.uint8
    assert np.array_equal(weights.astype(int) - 128, numpy_constants(PROGRAMS["conv"])["x.weight"])


def test_the_zero_point_of_a_tensor_is_0_if_no_value_is_negative():
    program = PROGRAMS["network"]
    model = QOperatorWriter.export(program, {})
    found = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "zero_points"))
    tensors = int8_tensors(program)
    assert found.keys() == {INPUT, *tensors}
    by_name = {op.name: op for op in program.ops}
    convolutions = [name for name in tensors if isinstance(by_name[name], Conv)]
    assert {found[name] for name in convolutions} == {0, 128}, "both kinds must be there"
    for name in convolutions:
        assert found[name] == (0 if by_name[name].clamp[0] == 0 else 128), name
    assert found[INPUT] == 128
