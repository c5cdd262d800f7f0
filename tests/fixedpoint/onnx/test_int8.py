import json

import numpy as np
import onnx
import onnxruntime
import oracle
import portable_programs
import pytest
import torch
from extremes import EXTREMES
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_files import EXACT, WRITERS, save
from programs import PROGRAMS, hard_inputs, int8_tensors, numpy_constants

from fixedpoint.onnx.graph import OUTPUT
from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.qdq import QdqWriter
from fixedpoint.onnx.qoperator import QOperatorWriter
from fixedpoint.onnx.runtime import OnnxModel
from fixedpoint.program import INPUT, BatchNorm, Program


@pytest.fixture(scope="module", params=PROGRAMS)
def case(request):
    """A program, its float input, and the oracle's tensors."""
    program = PROGRAMS[request.param]
    x = hard_inputs(program)
    return program, x.astype(np.float32) / 128, oracle.run(program.to_json(), numpy_constants(program), x)


@pytest.mark.parametrize(("form", "mode"), EXACT)
def test_every_tensor_is_the_oracles(case, form, mode, tmp_path):
    program, x, expected = case
    path = save(WRITERS[form], program, tmp_path)
    logits = np.ldexp(expected[program.output].astype(np.float64), -program.logit_exponent.numpy())
    model = OnnxModel(path, mode, outputs=int8_tensors(program))
    tensors = model.tensors(x)
    assert np.array_equal(tensors.pop(OUTPUT), logits)
    for name, value in tensors.items():
        assert value.dtype == np.int8, name
        assert np.count_nonzero(value != expected[name]) == 0, name
    # without the extra outputs more is fused, so that is another computation
    assert np.array_equal(OnnxModel(path, mode)(x), logits)


def test_qdq_loads_under_default_options(case, tmp_path):
    program, x, _ = case
    logits = OnnxModel(save(QdqWriter, program, tmp_path))(x)
    assert logits.shape == (len(x), 5) and logits.dtype == np.float32


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_integer_file_holds_no_float_tensor(name):
    model = onnx.shape_inference.infer_shapes(IntegerWriter.export(PROGRAMS[name], {}), strict_mode=True)
    graph = model.graph
    values = [*graph.value_info, *graph.input, *graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {constant.name: constant.data_type for constant in graph.initializer}
    assert {name for node in graph.node for name in [*node.input, *node.output]} - {""} <= set(types)
    assert set(types.values()) <= {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64}
    assert types["input"] == TensorProto.INT8 and types[OUTPUT] == TensorProto.INT32


@pytest.mark.parametrize("writer", WRITERS.values())
def test_export_is_deterministic_and_keeps_the_metadata(writer):
    program = PROGRAMS["network"]
    metadata = {"class_names": ["a", "ü"], "color_space": "yuv444"}
    model, again = (writer.export(program, metadata) for _ in range(2))
    assert model.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    properties = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert properties["class_names"] == ["a", "ü"]
    integer = writer is IntegerWriter
    assert properties["input_normalization"] == {"offset": 128, "divisor": 1 if integer else 128}
    if integer:
        assert properties["logit_exponent"] == program.logit_exponent.tolist()


@pytest.mark.parametrize("writer", WRITERS.values())
def test_the_batch_is_dynamic_and_zero_points_are_explicit(writer):
    model = writer.export(PROGRAMS["network"], {})
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    linear = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert all(len(node.input) == 3 for node in linear)


@pytest.mark.parametrize("writer", WRITERS.values())
def test_an_operation_that_is_not_exported_is_named(writer):
    program = PROGRAMS["clamp"]
    norm = BatchNorm("norm", ("input",), (3, 8, 8))
    program = Program(program.input_shape, (norm, *program.ops), program.constants, program.exponents)
    with pytest.raises(ValueError, match="norm is a batch_norm"):
        writer.export(program, {})


@pytest.mark.parametrize("writer", [QdqWriter, QOperatorWriter])
def test_a_scale_outside_float32_is_refused(writer):
    program = PROGRAMS["conv"]
    exponent = program.constants["x.weight_exponent"]
    program = program.with_constants(**{"x.weight_exponent": torch.full_like(exponent, 127)})
    with pytest.raises(ValueError, match="x has an exponent"):
        writer.export(program, {})


@pytest.mark.parametrize("mode", ["default", "off"])
@pytest.mark.parametrize("name", EXTREMES)
def test_the_integer_file_shifts_in_both_directions_and_saturates(name, mode, tmp_path):
    program = EXTREMES[name]
    x = hard_inputs(program, 2)
    expected = oracle.run(program.to_json(), numpy_constants(program), x)
    tensors = OnnxModel(save(IntegerWriter, program, tmp_path), mode, outputs=int8_tensors(program)).tensors(x)
    assert {
        tensor for tensor in int8_tensors(program) if not np.array_equal(tensors[tensor], expected[tensor])
    } == set()


@pytest.mark.parametrize("name", ["network", "network_se", "conv_extreme_shifts"])
def test_the_reference_evaluator_of_onnx_gives_the_same_integers(name):
    program = (PROGRAMS | portable_programs.PROGRAMS)[name]
    x = hard_inputs(program, 1)
    expected = oracle.run(program.to_json(), numpy_constants(program), x)[program.output]
    (logits,) = ReferenceEvaluator(IntegerWriter.export(program, {})).run(None, {INPUT: x})
    assert logits.dtype == np.int32 and np.array_equal(logits, expected)


@pytest.mark.parametrize("name", [*EXTREMES, "network", "network_se", "avg_pool_56x56_coarse", "conv_near_the_limit"])
def test_the_integer_file_may_be_divided_in_float32(name):
    """As OpenVINO divides integers."""
    program = (PROGRAMS | EXTREMES)[name]
    model = IntegerWriter.export(program, {})
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    divisions = {node.input[0]: constants[node.input[1]] for node in model.graph.node if node.op_type in ("Div", "Mod")}
    model.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in divisions)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = dict(zip(divisions, session.run([*divisions], {INPUT: hard_inputs(program, 2)}), strict=True))
    for tensor, divisor in divisions.items():
        quotient = values[tensor].astype(np.float32) / divisor.astype(np.float32)
        assert np.array_equal(quotient.astype(np.int64).clip(0, 2**8), (values[tensor] // divisor).clip(0, 2**8)), (
            tensor
        )
