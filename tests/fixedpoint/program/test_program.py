import json
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from programs import PROGRAMS, avg_pool, build, conv, two_branches

from fixedpoint.program import (
    INPUT,
    Add,
    AvgPool,
    Clamp,
    Concat,
    Flatten,
    Linear,
    MaxPool,
    Program,
)


def without_constants(program):
    return replace(program, constants={})


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_json_form_gives_the_program_back(name):
    program = PROGRAMS[name]
    back = Program.from_json(json.loads(json.dumps(program.to_json())), program.constants)
    assert without_constants(back) == without_constants(program)
    assert back.constants is program.constants


@pytest.mark.parametrize(
    "change", [{"kind": "softmax"}, {"colour": 1}, {"stride": ...}], ids=["kind", "unknown attribute", "attribute less"]
)
def test_a_program_of_another_version_is_refused(change):
    value = PROGRAMS["conv"].to_json()
    value["ops"][0] = {k: v for k, v in (value["ops"][0] | change).items() if v is not ...}
    with pytest.raises(ValueError, match=r"the program's operation .* is not one of this version"):
        Program.from_json(value, {})


def test_a_file_without_a_program_is_refused():
    with pytest.raises(ValueError, match="the model file holds no program"):
        Program.from_json(None, {})


def test_shapes_and_readers_by_hand():
    program = two_branches(Add("x", ("a", "b", "a"), (4, 8, 8)), x=3)
    maps = dict.fromkeys(("a", "b", "x"), (4, 8, 8))
    assert program.shapes == {INPUT: (3, 8, 8), **maps, "flat": (256,), "logits": (5,)}
    assert [op.name for op in program.readers(INPUT)] == ["a", "b"]
    assert [op.name for op in program.readers("a")] == ["x"]
    assert program.readers("logits") == []
    assert program.last_reader == {INPUT: "b", "a": "x", "b": "x", "x": "flat", "flat": "logits"}


def test_the_logits_are_the_accumulators_of_the_last_layer():
    assert PROGRAMS["conv"].last_layer.name == "logits" and PROGRAMS["conv"].raw == {"logits"}
    program = PROGRAMS["conv_logits"]
    assert program.last_layer.name == "logits" and program.output == "classes"
    assert program.raw == {"logits", "classes"}
    expected = program.constants["logits.weight_exponent"] + program.exponents["global"]
    assert torch.equal(program.logit_exponent, expected)


def last(*ops, **sizes):
    return Program((3, 4, 4), ops, {f"{name}.bias": torch.zeros(size) for name, size in sizes.items()})


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (last(Linear("fc", ("f",), (5,), clamp=(0.0, None)), fc=5), "without activation, not from fc"),
        (last(Linear("fc", ("f",), (5,)), Clamp("relu", ("fc",), (5,)), fc=5), "not from relu"),
        (last(Linear("fc", ("f",), (5,)), AvgPool("gap", ("fc",), (5,), (1, 1), (1, 1)), fc=5), "not from gap"),
        (last(conv("c", INPUT, (5, 2, 1)), Flatten("f", ("c",), (10,)), c=5), r"c gives \[5, 2, 1\]"),
        (last(Linear("fc", (INPUT,), (3, 5)), fc=5), "not from fc"),
    ],
)
def test_logits_from_elsewhere_are_refused(program, message):
    with pytest.raises(ValueError, match=message):
        _ = program.last_layer


@pytest.mark.parametrize(
    ("clamp", "exponent", "expected"),
    [
        ((None, None), 4, (-128, 127)),
        ((0.0, None), 4, (0, 127)),
        ((0.0, 6.0), -3, (0, 1)),  # 0.75
        ((0.0, 6.0), -2, (0, 2)),  # 1.5 is a tie
        ((0.0, 6.0), 0, (0, 6)),
        ((0.0, 6.0), 4, (0, 96)),
        ((0.0, 6.0), 5, (0, 127)),
        ((0.0, 6.0), 40, (0, 127)),
        ((-1.0, 1.0), 6, (-64, 64)),
        ((-1.0, 1.0), 7, (-128, 127)),
        ((2.0, 3.0), 7, (127, 127)),
        ((-3.0, -2.0), 7, (-128, -128)),
    ],
)
def test_bounds_by_hand(clamp, exponent, expected):
    program = Program((3, 4, 4), (Clamp("x", (INPUT,), (3, 4, 4), clamp=clamp),), {}, {"x": exponent})
    assert program.bounds(program.ops[0]) == expected


@pytest.mark.parametrize("exponent", range(-4, 12))
def test_bounds_are_the_rounded_clamp_within_int8(exponent):
    for low, high in [(-0.7, 0.3), (0.0, 6.0), (-1.0, 1.0), (0.1, 20.0), (-300.0, -0.01)]:
        op = Clamp("x", (INPUT,), (3, 4, 4), clamp=(low, high))
        expected = (round(Fraction(bound) * Fraction(2) ** exponent) for bound in (low, high))
        saturated = tuple(min(max(bound, -128), 127) for bound in expected)
        assert Program((3, 4, 4), (op,), {}, {"x": exponent}).bounds(op) == saturated


def test_input_bounds_look_through_what_does_not_change_values():
    program = build(
        (3, 8, 8),
        conv("a", INPUT, (4, 8, 8), clamp=(0.0, 6.0)),
        MaxPool("m", ("a",), (4, 4, 4), (2, 2), (2, 2), (0, 0)),
        Clamp("c", ("m",), (4, 4, 4), clamp=(None, 2.0)),
        Concat("b", ("c", "m"), (8, 4, 4)),
        exponents={"a": 3},
    )
    bounds = {op.name: program.input_bounds(op) for op in program.ops}
    assert bounds["a"] == (-128, 127)
    assert bounds["m"] == bounds["c"] == (0, 48)
    assert bounds["b"] == (-128, 16)
    assert bounds["flat"] == bounds["logits"] == (-128, 127)


def test_with_constants_leaves_the_original():
    program = avg_pool((2, 2), (2, 2), 8, shift=0)
    bias = torch.ones(5, dtype=torch.int32)
    changed = program.with_constants(**{"logits.bias": bias})
    assert changed.constants["logits.bias"] is bias and program.constants["logits.bias"] is not bias
    assert changed.constants["logits.weight"] is program.constants["logits.weight"]
