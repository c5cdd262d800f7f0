"""What `Program.from_json` refuses, in one line that names the operation and what of it."""

import json
from dataclasses import replace

import portable_programs
import pytest
import torch
from programs import PROGRAMS, in_real_numbers

from fixedpoint.errors import QuantizationError
from fixedpoint.program import Program
from fixedpoint.program.elementwise import ARGUMENTS, FUNCTIONS
from fixedpoint.program.portable import prove


def changed(name: str, *path, to, programs=PROGRAMS) -> Program:
    """The program with another value at the path of its JSON form; ... removes it."""
    value = json.loads(json.dumps(programs[name].to_json()))
    *holders, last = path
    holder = value
    for key in holders:
        holder = holder[key]
    if to is ...:
        del holder[last]
    else:
        holder[last] = to
    return Program.from_json(value, programs[name].constants)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("name", "path", "to", "message"),
    [
        ("conv", ["input_shape"], [3, 8], r"the program: input_shape must be tuple\[int, int, int\], not \[3, 8\]"),
        ("conv", ["input_shape", 1], -8, r"input has the shape \[3, -8, 8\]; allowed are sizes from 1"),
        ("conv", ["input_shape", 1], 2**29, r"input has the shape .* and 2\*\*28 values"),
        ("conv", ["input_shape", 1], nested(100_000), r"input_shape must be int, not \[\[\["),
        ("conv", ["ops"], [], "the program has no operation"),
        ("conv", ["ops"], nested(100_000), r"the program's operation \[\[.*\] is not one of this version"),
        ("conv", ["ops"], {}, r"ops must be tuple\[.*Op, \.\.\.\], not {}"),
        ("conv", ["exponents"], {}, "has no exponents: it is not calibrated"),
        ("conv", ["exponents", "x"], ..., "exponents must be those of all int8 tensors; not so 'x'"),
        ("conv", ["exponents", "logits"], 1, "exponents must be those of all int8 tensors; not so 'logits'"),
        ("conv", ["exponents", "x"], 10**9, "x \\(conv\\): an exponent of 1000000000 exceeds 126"),
        ("conv", ["exponents", "x"], 10**400, "exponents of x must be int, not 1000"),
        ("conv", ["exponents", "x"], -200, r"x \(conv\): an exponent of -200 exceeds 126"),
        ("conv", ["exponents", "x"], -100, r"x \(conv\): a shift by 11\d exceeds 100"),
        ("conv", ["exponents", "x"], True, "exponents of x must be int, not True"),
        ("conv", ["exponents", "input"], 6, "the exponent of input must be 7"),
        ("max_pool", ["exponents", "x"], 6, r"x \(max_pool\): its exponent must be that of its operand, 7, not 6"),
        ("conv", ["arithmetic"], "float", "arithmetic and weight_limit must be .*; not 'float' with 127"),
        ("conv", ["weight_limit"], 126, "must be portable with 126; exact8 with 63 or 127; not 'exact8' with 126"),
        ("conv", ["weight_limit"], 63, r"x \(conv\): a weight of \d+ exceeds 63"),
        ("conv", ["int8_logit_exponent"], 3, "int8_logit_exponent of exact8 cannot be 3"),
        ("conv", ["ops", 0, "name"], "input", "two tensors have the name input"),
        ("conv", ["ops", 0, "name"], "x*\\\n/ {", r"the name of an operation must be .*, not 'x\*\\\\\\n/ {'"),
        ("conv", ["ops", 0, "name"], "a" * 201, "the name of an operation must be at most 200 letters"),
        ("conv", ["ops", 0, "inputs"], ["flat"], r"x \(conv\): it reads 'flat', which no operation before it computes"),
        ("conv", ["ops", 0, "inputs"], ["x"], r"x \(conv\): it reads 'x', which no operation before it computes"),
        ("conv", ["ops", 0, "inputs"], [], r"x \(conv\): it cannot read 0 tensors"),
        ("add", ["ops", 2, "inputs"], ["a"], r"x \(add\): it cannot read 1 tensors"),
        ("mul", ["ops", 2, "inputs"], ["a", "b", "a"], r"x \(mul\): it cannot read 3 tensors"),
        ("conv", ["ops", 0, "stride"], [0, 1], r"x \(conv\): kernel, stride and dilation must be 1 or more"),
        ("conv", ["ops", 0, "stride"], [1], r"x: stride must be tuple\[int, int\], not \[1\]"),
        ("conv", ["ops", 0, "padding"], [-1, 1], r"x \(conv\): padding must not be negative, as in \[-1, 1\]"),
        ("conv", ["ops", 0, "dilation"], [9, 1], r"x \(conv\): a kernel of \[3, 3\] does not fit into a map of \[8"),
        ("conv", ["ops", 0, "groups"], 0, r"x \(conv\): groups of 0 do not divide 6"),
        ("conv", ["ops", 0, "groups"], 2, r"x \(conv\): weight \[6, 3, 3, 3\] does not fit 3 channels"),
        ("conv", ["ops", 0, "groups"], 1.0, r"x: groups must be int, not 1\.0"),
        ("conv", ["ops", 0, "fixed"], True, r"x \(conv\): fixed must be a mean of each channel by itself"),
        ("conv", ["ops", 0, "shape"], [6, 8, 9], r"x \(conv\): its shape must be \[6, 8, 8\], not \[6, 8, 9\]"),
        ("conv", ["ops", 0, "clamp"], [1.0, 0.0], r"x \(conv\): clamp is empty: \[1\.0, 0\.0\]"),
        ("conv", ["ops", 0, "clamp"], [float("nan"), None], r"x: clamp must be .*, not nan"),
        ("conv", ["ops", 0, "clamp"], [0, 1e39], r"x: clamp must be .*, not 1e\+39"),
        ("max_pool", ["ops", 0, "clamp"], [0.0, None], r"x \(max_pool\): it takes no clamp"),
        ("max_pool", ["ops", 0, "padding"], [2, 0], r"x \(max_pool\): padding \[2, 0\] exceeds half the kernel"),
        ("pad", ["ops", 0, "value"], [0.0, 0.0], r"x \(pad\): value must be 1 number or 3, not 2"),
        ("lookup_sigmoid", ["ops", 1, "function"], "exec", r"x \(lookup\): function must be one of elu, gelu"),
        ("lookup_sigmoid", ["ops", 1, "arguments"], [1.0], r"x \(lookup\): arguments of sigmoid must be 0 numbers"),
        ("concat", ["ops", 2, "inputs"], ["a", "b"], r"x \(concat\): its shape must be \[8, 8, 8\], not \[11, 8, 8\]"),
        ("add", ["ops", 2, "inputs"], ["a", "input"], r"x \(add\): its operands must have one shape, not \[4, 8, 8\]"),
        ("linear", ["ops", 1, "inputs"], ["input"], r"x \(linear\): its operand must be \[features\], not \[40, 1"),
        ("conv", ["ops", -1, "clamp"], [0.0, None], "the logits must come from a conv or linear without activation"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_allowed_is_named(name, path, to, message):
    with pytest.raises(QuantizationError, match=rf"^[^\n]*{message}[^\n]*$"):
        changed(name, *path, to=to)


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"x.bias": torch.zeros(5, dtype=torch.int32)}, r"x \(conv\): bias must be \[6\], not \[5\]"),
        ({"x.bias": torch.zeros(6)}, r"x \(conv\): bias must be int32, not float32"),
        ({"x.bias": None}, r"x \(conv\): the constant bias is missing"),
        ({"x.weight": torch.ones(6, 3, 3, dtype=torch.int8)}, r"x \(conv\): weight must be \[out, in / groups, .*\]"),
        ({"x.weight": torch.ones(0, 3, 3, 3, dtype=torch.int8)}, r"x \(conv\): weight is empty"),
        ({"x.weight": torch.full((6, 3, 3, 3), -128, dtype=torch.int8)}, r"x \(conv\): a weight of 128 exceeds 127"),
        ({"x.weight_exponent": torch.zeros(5, dtype=torch.int32)}, r"x \(conv\): weight_exponent must be \[6\]"),
        ({"x.weight_exponent": torch.full((6,), 2**31 - 1, dtype=torch.int32)}, r"an exponent of 21474836\d\d exceeds"),
        ({"x.table": torch.zeros(256, dtype=torch.int8)}, "no operation has the constant 'x.table'"),
        ({"../../y": torch.zeros(1)}, r"no operation has the constant '\.\./\.\./y'"),
    ],
)  # fmt: skip
def test_a_constant_that_is_not_allowed_is_named(constants, message):
    program = PROGRAMS["conv"]
    found = {key: value for key, value in {**program.constants, **constants}.items() if value is not None}
    with pytest.raises(QuantizationError, match=rf"^{message}[^\n]*$|^x \(conv\): {message}[^\n]*$"):
        Program.from_json(program.to_json(), found)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("constant", ["x.weight", "x.bias"])
def test_weights_that_are_not_finite_are_named(number, constant):
    program = in_real_numbers(PROGRAMS["conv"])
    Program.from_json(program.to_json(), program.constants)
    program.constants[constant].view(-1)[3] = number
    name = constant.removeprefix("x.")
    with pytest.raises(QuantizationError, match=rf"^x \(conv\): {name} holds infinite numbers or NaN$"):
        Program.from_json(program.to_json(), program.constants)


@pytest.mark.parametrize("key", ["name", "kind", "stride"])
def test_an_attribute_that_is_nested_without_end_is_one_line(key):
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(QuantizationError, match=r"^[^\n]{,400}$"):
        changed("conv", "ops", 0, key, to=value)


def test_a_mean_has_equal_weights():
    program = portable_programs.PROGRAMS["mean_3x3"]
    weight = program.constants["x.weight"].clone()
    weight[0, 0, 0, 1] += 2
    with pytest.raises(QuantizationError, match=r"x \(conv\): the weights of a fixed mean must be equal"):
        Program.from_json(program.to_json(), program.constants | {"x.weight": weight})


@pytest.mark.parametrize("value", [3, [], "x", {}, {"ops": []}, nested(100_000)])
def test_what_is_no_program_is_one_line(value):
    with pytest.raises(QuantizationError, match=r"^the program [^\n]{0,200} is not one of this version$"):
        Program.from_json(value, {})


@pytest.mark.parametrize("programs", [PROGRAMS, portable_programs.PROGRAMS], ids=["exact8", "portable"])
def test_every_program_of_the_tests_is_allowed_with_integers_and_with_floats(programs):
    for program in programs.values():
        for each in (program, in_real_numbers(program)):
            back = Program.from_json(json.loads(json.dumps(each.to_json())), each.constants)
            assert back.is_integer == (each is program)
            assert replace(back, constants={}) == replace(program, constants={})


def test_the_proof_is_of_integers():
    with pytest.raises(QuantizationError, match="the program has float weights, where integers must be"):
        prove(in_real_numbers(PROGRAMS["conv"]))


def test_functions_take_as_many_arguments_as_it_says():
    for name, function in FUNCTIONS.items():
        function(torch.zeros(3), *[0.5] * ARGUMENTS.get(name, 0))
    assert ARGUMENTS.keys() <= FUNCTIONS.keys()
