import math

import pytest
import torch
from torch import nn

from fixedpoint.onnx.float import FORMULAS
from fixedpoint.program import INPUT, Lookup, Program
from fixedpoint.program.functions import FUNCTIONS, TableLookup, evaluate, look_up, slopes, table

# Each function as its definition has it, by Python's math.
DEFINITIONS = {
    "elu": lambda x, alpha: x if x > 0 else alpha * math.expm1(x),
    "gelu": lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "hardsigmoid": lambda x: min(max(x + 3, 0), 6) / 6,
    "hardswish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "leaky_relu": lambda x, slope: x if x > 0 else slope * x,
    "mish": lambda x: x * math.tanh(math.log1p(math.exp(x))),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "tanh": math.tanh,
}
ARGUMENTS = {"elu": (1.5,), "leaky_relu": (0.1,)}


def lookup(function, exponents=(4, 5), clamp=(None, None)):
    op = Lookup("y", (INPUT,), (4,), function, ARGUMENTS.get(function, ()), clamp=clamp)
    return Program((4, 1, 1), (op,), {}, {INPUT: exponents[0], "y": exponents[1]}), op


def test_every_function_has_a_definition_and_a_formula():
    assert FUNCTIONS.keys() == DEFINITIONS.keys() == FORMULAS.keys()


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("exponents", [(4, 5), (5, 3), (6, 7)])
def test_the_table_is_the_rounded_function(function, exponents):
    program, op = lookup(function, exponents)
    values = table(program, op)
    assert values.dtype == torch.int8 and values.shape == (256,)
    for q in range(-128, 128):
        real = DEFINITIONS[function](q / 2 ** exponents[0], *op.arguments) * 2 ** exponents[1]
        near = abs(real - math.floor(real) - 0.5) < 1e-9  # where the last bit of the function decides
        expected = min(max(round(real), -128), 127)
        assert values[q + 128] == expected or near, q


def test_ties_go_to_the_even_number_and_the_clamp_is_in_the_table():
    program, op = lookup("leaky_relu", (0, -1))
    assert [int(table(program, op)[q + 128]) for q in (1, 3, 5, 7)] == [0, 2, 2, 4]
    program, op = lookup("hardswish", (4, 4), clamp=(0.0, 2.5))
    values = table(program, op)
    assert (int(values.min()), int(values.max())) == (0, 40)
    assert evaluate(op, torch.tensor([-1.0, 1.5, 5.0])).tolist() == [0.0, 1.125, 2.5]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_slopes_are_those_of_the_function_and_zero_where_clamped(function):
    program, op = lookup(function, (5, 6))
    found, step, h = slopes(program, op), 2.0**-5, 1e-6
    for q in range(-128, 128, 5):
        x = q * step
        if q % 32 == 0 and function in ("hardswish", "hardsigmoid", "elu", "leaky_relu"):
            continue  # a kink
        real = DEFINITIONS[function]
        clamped = not -128 <= round(real(x, *op.arguments) * 64) <= 127
        expected = 0 if clamped else (real(x + h, *op.arguments) - real(x - h, *op.arguments)) / (2 * h)
        assert float(found[q + 128]) == pytest.approx(expected, abs=1e-5), q


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_look_up_keeps_shape_and_memory_format(format):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-128, 128, (3, 5, 4, 2), generator=generator).float().contiguous(memory_format=format)
    values = torch.randn(256, generator=generator)
    found = look_up(values, x)
    assert found.is_contiguous(memory_format=format)
    assert all(found[i] == values[int(x[i]) + 128] for i in [(0, 0, 0, 0), (2, 4, 3, 1), (1, 3, 0, 1), (0, 2, 2, 0)])
    assert torch.equal(look_up(values, x[:, 0]), found[:, 0])
    assert look_up(values, torch.arange(-128.0, 128)).tolist() == values.tolist()


def test_the_gradient_is_the_slope():
    values, slope = torch.arange(256.0), torch.arange(256.0) / 7
    x = torch.tensor([[-4.0, 0.25, 3.75]], requires_grad=True)
    y = TableLookup.apply(x, 2, values, slope)
    assert y.tolist() == [[128 - 16, 129, 128 + 15]]
    (y * torch.tensor([1.0, 2, 3])).sum().backward()
    assert torch.equal(x.grad, slope[[112, 129, 143]] * torch.tensor([[1.0, 2, 3]]))


def test_functions_agree_with_the_modules_of_pytorch():
    modules = {"silu": nn.SiLU(), "hardswish": nn.Hardswish(), "gelu_tanh": nn.GELU("tanh"), "elu": nn.ELU(1.5)}
    x = torch.linspace(-4, 4, 33)
    for name, module in modules.items():
        _, op = lookup(name)
        assert torch.equal(evaluate(op, x), module(x))
