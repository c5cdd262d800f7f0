from dataclasses import fields

import pytest

from fixedpoint.program import INPUT, OPS, BatchNorm, Concat, Conv, Linear, Pad, is_fixed


def test_kinds_are_the_keys_of_ops():
    assert all(op.kind == kind for kind, op in OPS.items())


def test_weights_are_factors_that_are_quantized():
    for op in OPS.values():
        assert op.weighted == (op.quantized and op.factor_and_offset is not None)
    named = {op: op.factor_and_offset for op in OPS.values() if op.factor_and_offset}
    assert named == {Conv: ("weight", "bias"), Linear: ("weight", "bias"), BatchNorm: ("scale", "shift")}


def test_what_takes_no_clamp_keeps_the_exponent_of_its_operand():
    moves = {"pad", "max_pool", "flatten", "select", "rearrange"}
    assert {kind for kind, op in OPS.items() if not op.takes_clamp} == moves
    assert {kind for kind, op in OPS.items() if op.keeps_exponent} == moves | {"clamp"}


@pytest.mark.parametrize("kind", OPS)
def test_what_is_true_of_a_kind_is_no_field_of_its_operations(kind):
    own = {"kind", "factor_and_offset", "weighted", "quantized", "takes_clamp", "keeps_exponent", "shares_exponent"}
    assert not own & {field.name for field in fields(OPS[kind])}


def test_only_a_convolution_can_be_fixed():
    op = Conv("x", ("input",), (3, 1, 1), (1, 1), (0, 0), (1, 1), 3, fixed=True)
    assert is_fixed(op) and not is_fixed(Linear("x", ("input",), (3,)))


@pytest.mark.parametrize("between", [(-1, 0), (0, 2**28), (2**14, 2**14), (2**31 - 1, 0)])
def test_what_lies_between_values_is_bounded_even_where_there_is_one_alone(between):
    pad = Pad("x", (INPUT,), (1, 1, 1), (0, 0, 0, 0), (0.0,), between=between)
    with pytest.raises(ValueError, match="between must be 0 or more"):
        pad.result_shape([(1, 1, 1)], {})


@pytest.mark.parametrize(("axis", "shape"), [(0, (6, 2, 4)), (1, (3, 4, 4)), (2, (3, 2, 8))])
def test_a_concatenation_is_longer_in_its_axis(axis, shape):
    assert Concat("x", (INPUT, INPUT), shape, axis=axis).result_shape([(3, 2, 4)] * 2, {}) == shape


@pytest.mark.parametrize(
    ("axis", "shapes", "message"),
    [
        (3, [(3, 2, 4)] * 2, "have no axis 3"),
        (-1, [(3, 2, 4)] * 2, "have no axis -1"),
        (1, [(3,), (3,)], "have no axis 1"),
        (0, [(3, 2, 4), (24,)], "have no axis 0"),
        (1, [(3, 2, 4), (4, 2, 4)], "must differ in axis 1 alone"),
    ],
)
def test_a_concatenation_that_cannot_be_is_refused(axis, shapes, message):
    with pytest.raises(ValueError, match=message):
        Concat("x", (INPUT, INPUT), (1,), axis=axis).result_shape(shapes, {})
