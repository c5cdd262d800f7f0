from dataclasses import fields

import pytest

from fixedpoint.program import OPS, BatchNorm, Conv, Linear, is_fixed


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
