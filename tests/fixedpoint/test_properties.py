"""Random programs, found and shrunk by Hypothesis: every form agrees with the oracle on every tensor."""

from fractions import Fraction

import numpy as np
import oracle
import pytest
import torch
from drawing import Drawing, share_of_examples
from hypothesis import given
from hypothesis import strategies as st
from onnx_files import EXACT, WRITERS, save
from programs import hard_inputs, in_real_numbers, int8_tensors, numpy_constants

from fixedpoint.c.runtime import CModel
from fixedpoint.c.source import c_source
from fixedpoint.onnx.graph import OUTPUT
from fixedpoint.onnx.runtime import OnnxModel
from fixedpoint.program import (
    INPUT,
    OPS,
    Clamp,
    Flatten,
    Linear,
    Program,
)
from fixedpoint.program.bounds import MAX_DIVISOR, accumulator_bound, check_exactness
from fixedpoint.program.constants import integers
from fixedpoint.program.integer import IntegerEvaluator, integer_tensor
from fixedpoint.quantize.calibrate import covering_exponent
from fixedpoint.quantize.qat import FakeQuantModel
from fixedpoint.quantize.rounding import fake_quantize

QUANTIZED_KINDS = {kind for kind, op in OPS.items() if op.quantized}
MAP_KINDS = sorted(QUANTIZED_KINDS - {"flatten", "linear"})  # those that take and give maps
FEATURE_KINDS = {"add", "clamp", "concat", "lookup", "mul", "rearrange", "select"}  # those that take features, too


@st.composite
def cases(draw, kind: str):
    """A program with an operation `kind`, often behind another one, and 1 to 6 images for it."""
    drawing, x = Drawing(draw), INPUT
    if draw(st.booleans()):
        x = drawing.copy(x)
    if draw(st.booleans()):
        x = getattr(drawing, draw(st.sampled_from(MAP_KINDS)))(x)
    if kind in ("flatten", "linear") or (kind in FEATURE_KINDS and draw(st.booleans())):
        x = drawing.flatten(x)
    if kind != "flatten":
        rank = {"rank": draw(st.sampled_from([1, 3]))} if kind == "rearrange" else {}
        x = getattr(drawing, kind)(x, **rank)
    program, seed = drawing.finish(x), drawing.number(0, 2**32 - 1)
    check_exactness(program)
    images = np.random.default_rng(seed).permutation(hard_inputs(program, 1, seed))[: drawing.number(1, 6)]
    return program, images


def expected(program: Program, x: np.ndarray) -> dict[str, np.ndarray]:
    return oracle.run(program.to_json(), numpy_constants(program), x)


each_kind = pytest.mark.parametrize("kind", sorted(QUANTIZED_KINDS))


@each_kind
@given(data=st.data())
@torch.no_grad()
def test_both_evaluators_compute_what_the_oracle_does(kind, data):
    program, x = data.draw(cases(kind))
    pixels = torch.from_numpy(x)
    whole = dict(IntegerEvaluator(program).run(pixels))
    fake = dict(FakeQuantModel(in_real_numbers(program)).run(pixels.float() / 128))
    for name, value in list(expected(program, x).items())[1:]:
        assert np.array_equal(whole[name], value), name
        assert np.array_equal(integer_tensor(program, name, fake[name]), value), name


@each_kind
@share_of_examples(10)
@given(data=st.data())
def test_every_onnx_file_computes_what_the_oracle_does(kind, data, tmp_path_factory):
    program, x = data.draw(cases(kind))
    values = expected(program, x)
    logits = np.ldexp(values[program.output].astype(np.float64), -program.logit_exponent.numpy())
    for form, mode in EXACT:
        path = save(WRITERS[form], program, tmp_path_factory.getbasetemp())
        tensors = OnnxModel(path, mode, outputs=int8_tensors(program)).tensors(x.astype(np.float32) / 128)
        assert np.array_equal(tensors.pop(OUTPUT), logits), (form, mode)
        for name, value in tensors.items():
            assert np.array_equal(value, values[name]), (form, mode, name)
        assert np.array_equal(OnnxModel(path, mode)(x.astype(np.float32) / 128), logits), (form, mode)


@each_kind
@share_of_examples(30)
@given(data=st.data())
def test_the_c_source_computes_what_the_oracle_does(kind, data):
    program, x = data.draw(cases(kind))
    tensors = CModel(c_source(program, {}), trace=True, options=["-O1"]).tensors(x)
    for name, value in list(expected(program, x).items())[1:]:
        assert np.array_equal(tensors[name], value.reshape(len(x), -1)), name


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.floats(-(2.0**20), 2.0**20, width=32), min_size=1), st.integers(-30, 30), st.booleans())
def test_fake_quantize_is_the_rounding_of_the_exact_product(values, exponent, ties):
    if ties:
        values = [round(value) / 2 * 2.0**-exponent for value in values]
    low, high = -100, 99
    unit = Fraction(2) ** exponent
    rounded = [min(max(round(Fraction(value) * unit), low), high) for value in values]
    result = fake_quantize(torch.tensor(values, dtype=torch.float32), 2.0**exponent, low, high)
    assert [Fraction(value) * unit for value in result.tolist()] == rounded


@given(st.lists(finite, min_size=1), st.integers(-40, 40))
def test_integers_are_the_rounding_of_the_exact_product(values, exponent):
    limit = 2**40
    exact = [min(max(round(Fraction(value) * Fraction(2) ** exponent), -limit), limit) for value in values]
    exponents = torch.full((len(values),), exponent, dtype=torch.int32)
    assert integers(torch.tensor(values, dtype=torch.float32), exponents, limit).tolist() == exact


@given(st.floats(0, width=32, exclude_min=True, allow_infinity=False), st.sampled_from([127, 63]))
def test_the_covering_exponent_is_the_greatest_that_covers(largest, limit):
    exponent = int(covering_exponent(torch.tensor(largest), limit))
    assert Fraction(largest) * Fraction(2) ** exponent <= limit < Fraction(largest) * Fraction(2) ** (exponent + 1)


@given(st.integers(1, MAX_DIVISOR - 1))
def test_a_float32_quotient_rounds_as_the_exact_one(divisor):
    """Where an average pool could go wrong: at each tie within int8 and beside it."""
    ties = np.arange(-256, 257) * divisor // 2
    totals = (ties[:, None] + np.array([-1, 0, 1])).ravel()
    quotients = torch.from_numpy(totals).float() / torch.full(totals.shape, float(divisor))
    assert np.array_equal(quotients.round().clamp(-128, 127), np.clip(oracle.rne(totals, divisor), -128, 127))


@given(
    st.lists(st.integers(-127, 127), min_size=1, max_size=6),
    st.integers(-(2**15), 2**15),
    st.tuples(st.integers(-128, 127), st.integers(-128, 127)).map(sorted),
)
def test_the_bound_is_the_greatest_partial_sum(weight, bias, bounds):
    """It is that of all subsets of the products and the bias; adding in any order passes only through such sums."""
    low, high = bounds
    ops = (
        Clamp("x", (INPUT,), (len(weight), 1, 1), clamp=(low / 128, high / 128)),
        Flatten("flat", ("x",), (len(weight),)),
        Linear("fc", ("flat",), (1,)),
    )
    program = Program(ops[0].shape, ops, {}, {INPUT: 7, "x": 7, "flat": 7})
    bound = accumulator_bound(program, ops[-1], torch.tensor([weight]), torch.tensor([bias])).item()
    sums = np.zeros(1, np.int64)
    for choices in ({0, low * w, high * w} for w in weight):
        sums = np.unique(np.add.outer(sums, list(choices)))
    sums = np.concatenate([sums, sums + bias])
    assert np.abs(sums).max() == bound
