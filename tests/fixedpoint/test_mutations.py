"""Proof that the tests can fail: a form that computes something else than the oracle is detected.

A mutation changes a number, a rounding or a line of one form; the oracle runs the program as it was.
"""

import re
from collections import defaultdict
from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import oracle
import pytest
import torch
from onnx import numpy_helper
from onnx_files import WRITERS
from programs import PROGRAMS, hard_inputs, in_real_numbers, int8_tensors, numpy_constants

from fixedpoint.c.runtime import CModel
from fixedpoint.c.source import c_source
from fixedpoint.errors import QuantizationError
from fixedpoint.onnx import seal
from fixedpoint.onnx.graph import OUTPUT, Graph, Writer
from fixedpoint.onnx.runtime import OnnxModel
from fixedpoint.program import INPUT, Program
from fixedpoint.program.integer import IntegerEvaluator, integer_tensor
from fixedpoint.quantize.qat import FakeQuantModel


@pytest.fixture(autouse=True)
def operators(monkeypatch):
    """Those of other roundings are run, too."""
    monkeypatch.setattr(seal, "OPERATORS", seal.OPERATORS | {"Floor", "Ceil"})


@cache
def inputs(name: str) -> np.ndarray:
    return hard_inputs(PROGRAMS[name])


@cache
def expected(name: str) -> dict[str, np.ndarray]:
    program = PROGRAMS[name]
    return oracle.run(program.to_json(), numpy_constants(program), inputs(name))


def integer_tensors(program: Program, x: np.ndarray, folder) -> dict[str, np.ndarray]:
    return dict(IntegerEvaluator(program).run(torch.from_numpy(x)))


def qat_tensors(program: Program, x: np.ndarray, folder) -> dict[str, np.ndarray]:
    tensors = FakeQuantModel(in_real_numbers(program)).run(torch.from_numpy(x).float() / 128)
    return {name: integer_tensor(program, name, value.detach()) for name, value in tensors}


def onnx_tensors(model: onnx.ModelProto, program: Program, x: np.ndarray, folder) -> dict[str, np.ndarray]:
    seal.seal(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    tensors = OnnxModel(folder / "model.onnx", "off", outputs=int8_tensors(program)).tensors(x.astype(np.float32) / 128)
    logits = np.ldexp(tensors.pop(OUTPUT), program.logit_exponent.numpy())
    return tensors | {program.output: logits}


def exported(writer: type[Writer]):
    return lambda program, x, folder: onnx_tensors(writer.export(program, {}), program, x, folder)


FORMS = {"int": integer_tensors, "qat": qat_tensors}
FORMS |= {f"onnx_{form}": exported(writer) for form, writer in WRITERS.items()}


def wrong(name: str, tensors: dict[str, np.ndarray]) -> list[str]:
    """The tensors that differ from the oracle's for the program `name`."""
    pairs = {tensor: (np.asarray(value), expected(name)[tensor]) for tensor, value in tensors.items()}
    return [
        tensor for tensor, (a, b) in pairs.items() if not np.array_equal(a.reshape(len(a), -1), b.reshape(len(b), -1))
    ]


def constant(name: str, index: int, step: int):
    """A mutation that adds `step` to one element of a constant."""

    def mutate(program: Program) -> Program:
        value = program.constants[name].clone()
        value.view(-1)[index] += step
        return program.with_constants(**{name: value})

    return mutate


def operation(name: str, **attributes):
    """A mutation that gives the operation `name` other attributes."""

    def mutate(program: Program) -> Program:
        ops = [replace(op, **attributes) if op.name == name else op for op in program.ops]
        return replace(program, ops=tuple(ops))

    return mutate


def exponent(name: str, step: int):
    """A mutation that adds `step` to the exponent of a tensor, which shifts its integers."""
    return lambda program: replace(program, exponents=program.exponents | {name: program.exponents[name] + step})


# By what is wrong: the program, the tensor in which it has to be seen (and in the logits), and the mutation.
MUTATIONS = {
    "weight of a conv": ("conv", "x", constant("x.weight", 40, 1)),
    "weight of a depthwise conv": ("conv_depthwise", "x", constant("x.weight", 40, -1)),
    "weight of a linear": ("linear", "x", constant("x.weight", 40, 1)),
    "weight of a logit": ("conv_logits", "classes", constant("logits.weight", 0, 1)),
    "bias of a conv": ("conv", "x", constant("x.bias", 5, 1)),
    "bias of a linear": ("linear", "x", constant("x.bias", 0, -1)),
    "bias of a logit": ("conv", "logits", constant("logits.bias", 4, 1)),
    "shift of a channel": ("conv", "x", constant("x.weight_exponent", 0, 1)),
    "shift of a channel to the left": ("conv_negative_shifts", "x", constant("x.weight_exponent", 0, -1)),
    "shift of a linear": ("linear", "x", constant("x.weight_exponent", 1, -1)),
    "shift of a sum": ("add", "x", exponent("x", 1)),
    "shift of an operand": ("add_three", "a", exponent("a", -1)),
    "shift of a product": ("mul", "x", exponent("x", -1)),
    "shift of a mean": ("avg_pool_7x7", "pool", exponent("pool", 1)),
    "shift of a concatenation": ("concat", "x", exponent("x", -1)),
    "upper bound": ("conv_relu6", "x", operation("x", clamp=(0.0, 6.0625))),
    "lower bound": ("conv_hardtanh", "x", operation("x", clamp=(-1 - 2.0**-5, 1.0))),
    "no lower bound": ("conv_many_terms", "x", operation("x", clamp=(None, None))),
    "upper bound of a clamp": ("clamp_both_sides", "x", operation("x", clamp=(-0.25, 0.6 - 2.0**-7))),
    "upper bound of a product": ("mul_relu6", "x", operation("x", clamp=(0.0, 6 - 2.0**-4))),
    "lower bound of a product": ("mul_features", "x", operation("x", clamp=(0.25 + 2.0**-6, None))),
    "upper bound of a concatenation": ("concat_clamp", "x", operation("x", clamp=(0.0, 6.0625))),
    "least entry of a table": ("lookup", "x", constant("x.table", 0, 1)),
    "middle entry of a table": ("lookup", "x", constant("x.table", 128, 1)),
    "greatest entry of a table": ("lookup_features", "x", constant("x.table", 255, -1)),
    "value of a pad": ("pad", "x", operation("x", value=(2.0**-7,))),
    "value of a channel's pad": ("pad_values", "x", operation("x", value=(0.30078125, -7.0, 0.765625))),
    "value before a max pool": ("pad_max_pool", "p", operation("p", value=(-127 / 128,))),
    "place of a map in its pad": ("pad", "x", operation("x", padding=(1, 1, 1, 3))),
    "constants between rows, not columns": (
        "pad_between",
        "x",
        operation("x", padding=(5, 2, 0, 0), between=(0, 1)),
    ),
    "place between constants": ("pad_between_values", "x", operation("x", padding=(0, 1, 0, 1))),
    "value between rows": ("transposed_conv", "p", operation("p", value=(2.0**-7,))),
    "rows joined as columns": ("concat_rows", "x", operation("x", shape=(4, 8, 24), axis=2)),
    "columns joined as rows": ("concat_columns", "x", operation("x", shape=(4, 16, 8), axis=1)),
    "order of rows": ("concat_rows", "x", operation("x", inputs=("a", "b", "b"))),
    "factor": ("mul_gate_left", "x", operation("x", inputs=(INPUT, INPUT))),
    "order of a concatenation": ("concat", "x", operation("x", inputs=("a", "b", INPUT))),
    "padding of a max pool": ("max_pool_padding", "x", operation("x", kernel=(2, 2), padding=(1, 1), stride=(2, 2))),
    "number of a channel": ("select_shuffle", "x", operation("x", channels=(0, 3, 1, 4, 5, 2))),
    "number of a row": ("select_reflect", "x", operation("x", rows=(2, 1, 0, 1, 2, 3, 3))),
    "direction of columns": ("select_flip", "x", operation("x", columns=(0, 1, 2, 3, 4))),
    "rows for columns": ("select_repeat_some", "x", operation("x", rows=(1, 1, 2, 2), columns=(0, 0, 1, 1))),
    "number of a feature": ("select_features", "b", operation("b", channels=(7, 7, 0, 22, 5))),
    "order of axes": ("rearrange_shuffle_pixels", "x", operation("x", axes=(0, 3, 2, 4, 1))),
    "sizes of a view": ("rearrange_shuffle_channels", "x", operation("x", view=(4, 3, 3, 4))),
    "order of the axes of features": ("rearrange_to_features", "x", operation("x", axes=(2, 1, 0))),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_number_is_seen(form, mutation, tmp_path):
    name, tensor, mutate = MUTATIONS[mutation]
    differing = wrong(name, FORMS[form](mutate(PROGRAMS[name]), inputs(name), tmp_path))
    assert tensor in differing and PROGRAMS[name].output in differing


# Half to even is `round`. Each of these differs from it in ties alone, but for the last.
ROUNDINGS = {
    "half up": lambda x: x.add_(0.5).floor_(),
    "half down": lambda x: x.sub_(0.5).ceil_(),
    "half away from zero": lambda x: x.copy_(x.sign() * (x.abs() + 0.5).floor()),
    "half to zero": lambda x: x.copy_(x.sign() * (x.abs() - 0.5).ceil()),
    "down": torch.Tensor.floor_,
}
ROUNDED = {
    "conv": "x",
    "linear": "x",
    "add": "x",
    "mul": "x",
    "concat": "x",
    "avg_pool_2x2": "pool",
    "avg_pool_7x7": "pool",
}
QUANTIZED = [(name, form) for form in ("onnx_qdq", "onnx_qoperator") for name in ROUNDED]
QUANTIZED.remove(("conv", "onnx_qoperator"))  # QLinearConv rounds within itself


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("form", ["int", "qat"])
@pytest.mark.parametrize("name", ROUNDED)
def test_another_rounding_is_seen(name, form, rounding, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "round_", ROUNDINGS[rounding])
    assert ROUNDED[name] in wrong(name, FORMS[form](PROGRAMS[name], inputs(name), tmp_path))


@pytest.mark.parametrize("form", ["int", "qat"])
@pytest.mark.parametrize("name", ["avg_pool_1x7", "avg_pool_2x7", "avg_pool_11x11"])
def test_a_product_with_a_rounded_reciprocal_is_seen(name, form, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "__truediv__", lambda x, divisor: x * (1 / divisor))
    assert "pool" in wrong(name, FORMS[form](PROGRAMS[name], inputs(name), tmp_path))


@pytest.mark.parametrize(("kind", "offset"), [("Floor", 0.5), ("Ceil", -0.5)], ids=["half up", "half down"])
@pytest.mark.parametrize(("name", "form"), QUANTIZED)
def test_another_rounding_before_quantize_linear_is_seen(name, form, kind, offset, tmp_path, monkeypatch):
    node = Graph.node

    def rounded(self, operator: str, inputs: list[str], output: str, **attributes) -> str:
        if operator == "QuantizeLinear":
            real, scale, zero_point = inputs
            steps = node(self, "Div", [real, scale], f"{output}/steps")
            half = self.constant(f"{output}/half", np.float32(offset))
            steps = node(self, kind, [node(self, "Add", [steps, half], f"{output}/shifted")], f"{output}/integers")
            inputs = [node(self, "Mul", [steps, scale], f"{output}/rounded"), scale, zero_point]
        return node(self, operator, inputs, output, **attributes)

    monkeypatch.setattr(Graph, "node", rounded)
    assert ROUNDED[name] in wrong(name, FORMS[form](PROGRAMS[name], inputs(name), tmp_path))


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize("half", [0, 1], ids=["half down", "half up"])
def test_another_rounding_of_the_integer_file_is_seen(name, half, tmp_path):
    """Without the step that tests whether a quotient is odd, with half the divisor added or one less."""
    model = WRITERS["integer"].export(PROGRAMS[name], {})
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if tensor.name.endswith("/odd/by"):
            tensor.CopyFrom(numpy_helper.from_array(np.ones_like(value), tensor.name))
        if tensor.name.endswith("/half/by"):
            tensor.CopyFrom(numpy_helper.from_array(value + half, tensor.name))
    assert ROUNDED[name] in wrong(name, onnx_tensors(model, PROGRAMS[name], inputs(name), tmp_path))


def bumped(value: np.ndarray) -> np.ndarray:
    """`value` with its first element off by one, or doubled if it is a float other than zero."""
    value = value.copy()
    first = value.reshape(-1)[:1]
    if value.dtype == np.float32:
        first[0] = 2 * first[0] or -1
    else:
        first += 1 if first[0] < np.iinfo(value.dtype).max else -1
    return value


@cache
def files(form: str) -> dict[str, onnx.ModelProto]:
    return {name: WRITERS[form].export(program, {}) for name, program in PROGRAMS.items()}


def seen(name: str, model: onnx.ModelProto, index: int, folder) -> bool:
    """Whether the file of program `name` is refused or differs from the oracle when its constant `index` is bumped."""
    mutant = onnx.ModelProto()
    mutant.CopyFrom(model)
    tensor = mutant.graph.initializer[index]
    tensor.CopyFrom(numpy_helper.from_array(bumped(numpy_helper.to_array(tensor)), tensor.name))
    try:
        return bool(wrong(name, onnx_tensors(mutant, PROGRAMS[name], inputs(name), folder)))
    except QuantizationError:
        return True


@pytest.mark.parametrize("form", WRITERS)
def test_each_constant_of_an_onnx_file_matters(form, tmp_path):
    """Constants that play one role, such as the upper bound of an add, matter in at least one of the programs."""
    roles = defaultdict(list)
    for name, model in files(form).items():
        kinds = {INPUT: INPUT} | {op.name: op.kind for op in PROGRAMS[name].ops}
        for index, tensor in enumerate(model.graph.initializer):
            owner, _, part = tensor.name.partition("/")
            if not part.endswith(("/axes", "/limited/by")):  # sizes that do not fit; a limit beyond what saturates
                roles[kinds[owner], re.sub(r"\d", "", part)].append((name, index))
    unseen = [
        role
        for role, places in roles.items()
        if not any(seen(name, files(form)[name], index, tmp_path) for name, index in places)
    ]
    assert unseen == []


# By what is wrong: the program, the tensor in which it has to be seen, and a line of the C source before and after.
C_MUTATIONS = {
    "half up": ("conv", "x", "- 1 + odd", ""),
    "half down": ("mul", "x", "- 1 + odd", "- 1"),
    "no upper bound": ("conv_relu6", "x", "value > high ? high : value", "value"),
    "no lower bound": ("conv_relu6", "x", "value < low ? low : value", "value"),
    "ones around a map": ("conv", "x", "memset(patch, 0,", "memset(patch, 1,"),
    "mean rounded half up": ("avg_pool_7x7", "pool", " && below % 2", ""),
    "mean rounded half down": ("avg_pool_2x2", "pool", "twice_the_rest == divisor", "0"),
    "operands not aligned": ("add_three", "x", " << op->left[o]", ""),
    "table off by one": ("lookup", "x", "x[k] + 128", "x[k] + 129 & 255"),
    "maximum of at least zero": ("max_pool", "x", "memset(y, -128,", "memset(y, 0,"),
    "one value for all channels": ("pad_values", "x", "op->values[c * op->step]", "op->values[0]"),
    "no rows between": ("pad_between_value", "x", "row * (1 + op->between.height)", "row"),
    "no columns between": ("transposed_conv", "p", "column * (1 + op->between.width)", "column"),
    "columns between taken for none": ("transposed_conv", "p", "op->between.width ? 1", "0 ? 1"),
    "rows joined where columns should be": ("concat_columns", "x", "x += size, y += total", "x += size, y += size"),
    "channels without a step": ("select_steps", "x", "axis->first + i * axis->step", "axis->first + i"),
    "columns from the first": ("select_columns", "x", "memcpy(y, source + values->first", "memcpy(y, source"),
    "rows as wide as the result": ("select_shuffle", "x", "* op->width +", "* 1 +"),
    "numbers as they are": ("select_reflect", "x", "axis->numbers ? axis->numbers[i]", "0 ? axis->numbers[i]"),
    "the first piece alone": ("rearrange_shuffle_pixels", "x", "rest % sizes[axis] * steps[axis]", "0"),
    "columns next to each other": ("rearrange_reversed", "x", "source[k * steps[axes - 1]]", "source[k]"),
}


@pytest.mark.parametrize("mutation", C_MUTATIONS)
def test_a_wrong_line_of_c_is_seen(mutation):
    name, tensor, right, line = C_MUTATIONS[mutation]
    sources = c_source(PROGRAMS[name], {})
    assert sources["network.c"].count(right) == 1
    sources["network.c"] = sources["network.c"].replace(right, line)
    assert tensor in wrong(name, CModel(sources, trace=True, options=["-O0"]).tensors(inputs(name)))
