from fractions import Fraction

import numpy as np
import oracle
import pytest
from programs import PROGRAMS, hard_inputs, numpy_constants


@pytest.mark.parametrize("divisor", [1, 2, 3, 4, 6, 7, 9, 14, 49, 64, 98, 121])
def test_rne_is_pythons_rounding_of_the_exact_rational(divisor):
    numerators = np.arange(-3 * divisor - 5, 3 * divisor + 6)
    expected = [round(Fraction(int(n), divisor)) for n in numerators]
    assert oracle.rne(numerators, divisor).tolist() == expected


def test_divide_by_power_takes_shifts_of_both_signs_and_a_count():
    numerators = np.array([-13, -7, -1, 0, 5, 21, 63])
    for shift in range(-3, 5):
        for count in (1, 4, 9):
            expected = [round(Fraction(int(n)) / (count * Fraction(2) ** shift)) for n in numerators]
            assert oracle.divide_by_power(numerators, shift, count).tolist() == expected


@pytest.mark.parametrize(
    ("clamp", "exponent", "expected"),
    [
        ((None, None), 3, (-128, 127)),
        ((0.0, None), 3, (0, 127)),
        ((0.0, 6.0), 3, (0, 48)),
        ((0.0, 6.0), 5, (0, 127)),
        ((-1.0, 1.0), 4, (-16, 16)),
        ((-0.25, 0.6), 1, (0, 1)),  # -0.5 is a tie and goes to the even 0
        ((2.0, 3.0), 7, (127, 127)),
        ((-3.0, -2.0), 7, (-128, -128)),
    ],
)
def test_bounds(clamp, exponent, expected):
    assert oracle.bounds(clamp, exponent) == expected


def run(kind, operand, exponents, constants=None, clamp=(None, None), **attributes):
    op = {"kind": kind, "name": "y", "inputs": ["input"], "clamp": clamp, **attributes}
    return oracle.run({"ops": [op], "exponents": exponents}, constants or {}, np.array(operand, np.int8))["y"].tolist()


def test_conv_by_hand():
    constants = {
        "y.weight": np.array([[[[1, 2], [3, 4]]]], np.int8),
        "y.bias": np.array([1], np.int32),
        "y.weight_exponent": np.array([1], np.int32),
    }
    window = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    image = [[[[1, 0, 2], [0, 1, 0]]]]
    # accumulators 1 + 4 + 1 = 6 and 2 * 2 + 3 + 1 = 8; a shift of 2 gives 1.5 -> 2 and 2
    assert run("conv", image, {"input": 7, "y": 6}, constants, **window) == [[[[2, 2]]]]
    assert run("conv", image, {"input": 7, "y": 9}, constants, **window) == [[[[12, 16]]]]  # a shift of -1
    assert run("conv", image, {"input": 7}, constants, **window) == [[[[6, 8]]]]  # logits stay accumulators


def test_linear_by_hand():
    constants = {
        "y.weight": np.array([[1, 1], [10, -20]], np.int8),
        "y.bias": np.array([0, -5], np.int32),
        "y.weight_exponent": np.array([1, 3], np.int32),
    }
    assert run("linear", [[2, 3]], {"input": 7, "y": 7}, constants) == [[2, -6]]  # 5 / 2 and -45 / 8
    assert run("linear", [[2, 3]], {"input": 7, "y": 7}, constants, clamp=(0.0, None)) == [[2, 0]]


def test_add_by_hand():
    ops = [{"kind": "add", "name": "y", "inputs": ["input", "input"], "clamp": (None, None)}]
    x = np.array([[1, 3, 127, -128]], np.int8)
    assert oracle.run({"ops": ops, "exponents": {"input": 7, "y": 5}}, {}, x)["y"].tolist() == [[0, 2, 64, -64]]
    assert oracle.run({"ops": ops, "exponents": {"input": 7, "y": 7}}, {}, x)["y"].tolist() == [[2, 6, 127, -128]]


def test_pools_by_hand():
    image = [[[[1, 2], [3, 4]]]]
    window = {"kernel": (2, 2), "stride": (2, 2)}
    assert run("avg_pool", image, {"input": 7, "y": 7}, **window) == [[[[2]]]]  # 2.5
    assert run("avg_pool", image, {"input": 7, "y": 8}, **window) == [[[[5]]]]
    negative = [[[[-1, -2], [-3, -4]]]]
    assert run("max_pool", negative, {"input": 7, "y": 7}, kernel=(3, 3), stride=(2, 2), padding=(1, 1)) == [[[[-1]]]]


def test_mul_by_hand():
    x = np.array([[3, 5, -7, 127, -128]], np.int8)
    square = {"kind": "mul", "name": "y", "inputs": ["input", "input"], "clamp": (None, None)}
    # halves of 9, 25, 49, 16129 and 16384
    assert oracle.run({"ops": [square], "exponents": {"input": 7, "y": 13}}, {}, x)["y"].tolist() == [
        [4, 12, 24, 127, 127]
    ]


@pytest.mark.parametrize("inputs", [["g", "input"], ["input", "g"]])
@pytest.mark.parametrize(
    ("exponent", "expected"),
    [
        (11, [[[2, 2]], [[3, 0]]]),  # eighths: 1.5, 2.5, 2.625 and -0.375
        (13, [[[6, 10]], [[10, -2]]]),  # halves: the last two are 10.5 and -1.5
        (16, [[[48, 80]], [[84, -12]]]),  # times four
    ],
)
def test_mul_by_a_factor_for_each_map_by_hand(inputs, exponent, expected):
    gate = {"kind": "avg_pool", "name": "g", "inputs": ["input"], "kernel": (1, 2), "stride": (1, 2)}  # 4 and -3
    ops = [gate, {"kind": "mul", "name": "y", "inputs": inputs}]
    program = {"ops": [{"clamp": (None, None), **op} for op in ops], "exponents": {"input": 7, "g": 7, "y": exponent}}
    x = np.array([[[[3, 5]], [[-7, 1]]]], np.int8)  # products 12, 20, 21, -3
    assert oracle.run(program, {}, x)["y"].tolist() == [expected]


def test_lookup_by_hand():
    table = np.zeros(256, np.int8)
    table[[0, 127, 128, 255]] = 5, -128, 127, -7
    image = [[[[-128, -1], [0, 127]]]]
    assert run("lookup", image, {"input": 7, "y": 3}, {"y.table": table}) == [[[[5, -128], [127, -7]]]]


def test_pad_by_hand():
    image, exponents = [[[[1, 2]], [[3, 4]]]], {"input": 3, "y": 3}
    pads = {"between": (0, 0), "padding": (1, 0, 0, 2), "value": (0.3125, None)}  # above, on the right; 2.5 is a tie
    assert run("pad", image, exponents, **pads) == [
        [[[2, 2, 2, 2], [1, 2, 2, 2]], [[-128, -128, -128, -128], [3, 4, -128, -128]]]
    ]
    pads |= {"padding": (0, 1, 1, 0), "value": (-100.0,)}  # below and on the left, for all channels
    assert run("pad", image, exponents, **pads) == [[[[-128, 1, 2], [-128] * 3], [[-128, 3, 4], [-128] * 3]]]


def test_pad_between_values_by_hand():
    pads = {"padding": (1, 0, 0, 1), "between": (1, 2), "value": (0.625,)}  # 5, above and on the right
    result = run("pad", [[[[1, 2], [3, 4]]]], {"input": 3, "y": 3}, **pads)
    assert result == [[[[5] * 5, [1, 5, 5, 2, 5], [5] * 5, [3, 5, 5, 4, 5]]]]


def test_select_by_hand():
    image, exponents = [[[[1, 2, 3], [4, 5, 6]], [[-1, -2, -3], [-4, -5, -6]]]], {"input": 7, "y": 7}
    chosen = {"channels": (1,), "rows": (1, 0, 1), "columns": (2, 0)}
    assert run("select", image, exponents, **chosen) == [[[[-6, -4], [-3, -1], [-6, -4]]]]
    features = {"channels": (2, 2, 0), "rows": (), "columns": ()}
    assert run("select", [[7, 8, 9], [1, 2, 3]], exponents, **features) == [[9, 9, 7], [3, 3, 1]]


def test_rearrange_by_hand():
    image, exponents = [[[[1, 2]], [[3, 4]], [[5, 6]], [[7, 8]]]], {"input": 7, "y": 7}  # four channels of 1 x 2
    shuffled = {"view": (1, 2, 2, 1, 2), "axes": (0, 3, 1, 4, 2), "shape": (1, 2, 4)}  # pixels of one channel
    assert run("rearrange", image, exponents, **shuffled) == [[[[1, 3, 2, 4], [5, 7, 6, 8]]]]
    features = {"view": (4, 2), "axes": (1, 0), "shape": (8,)}
    assert run("rearrange", image, exponents, **features) == [[1, 3, 5, 7, 2, 4, 6, 8]]


def test_concat_by_hand():
    ops = [{"kind": "clamp", "name": "c", "inputs": ["input"], "clamp": (0.0, None)}]
    ops += [{"kind": "concat", "name": "y", "inputs": ["input", "c"], "clamp": (None, 0.25), "axis": 0}]
    x = np.array([[-6, 10, 127]], np.int8)
    exponents = {"input": 7, "c": 7, "y": 5}
    assert oracle.run({"ops": ops, "exponents": exponents}, {}, x)["y"].tolist() == [[-2, 2, 8, 0, 2, 8]]


@pytest.mark.parametrize(("axis", "expected"), [(0, [[[1, 2]]] * 2), (1, [[[1, 2], [1, 2]]]), (2, [[[1, 2, 1, 2]]])])
def test_concat_of_each_axis_by_hand(axis, expected):
    op = {"kind": "concat", "name": "y", "inputs": ["input", "input"], "clamp": (None, None), "axis": axis}
    program = {"ops": [op], "exponents": {"input": 7, "y": 7}}
    assert oracle.run(program, {}, np.array([[[[1, 2]]]], np.int8))["y"].tolist() == [expected]


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name.startswith("avg_pool")])
def test_the_inputs_make_average_pools_meet_ties(name):
    program = PROGRAMS[name]
    pool = program.ops[0]
    total = oracle.windows(hard_inputs(program).astype(np.int64), pool.kernel, pool.stride).sum(axis=(4, 5))
    shift = 7 - program.exponents["pool"]
    divisor = pool.kernel[0] * pool.kernel[1] * 2.0**shift
    ties = np.count_nonzero(total / divisor % 1 == 0.5)
    assert ties > 0 or divisor % 2 != 0


def test_shapes_are_those_of_the_program():
    program = PROGRAMS["network"]
    x = hard_inputs(program, count=1)
    tensors = oracle.run(program.to_json(), numpy_constants(program), x)
    assert {name: value.shape[1:] for name, value in tensors.items() if name != "input"} == {
        op.name: op.shape for op in program.ops
    }
