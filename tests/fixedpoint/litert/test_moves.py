"""Random selections and rearrangements give the oracle's bits in LiteRT's kernels, for any number of images."""

import numpy as np
import oracle
import pytest
from drawing import Drawing, share_of_examples
from hypothesis import given
from hypothesis import strategies as st
from portable_programs import build
from programs import hard_inputs, numpy_constants

from fixedpoint.litert.graph import OUTPUT
from fixedpoint.litert.runtime import KERNELS, LitertModel
from fixedpoint.litert.writer import litert_model
from fixedpoint.program import INPUT


@pytest.mark.parametrize("kind", ["select", "rearrange"])
@share_of_examples(2)
@given(data=st.data())
def test_all_kernels_give_the_oracles_bits(kind, data):
    drawing = Drawing(data.draw)
    x = drawing.flatten(INPUT) if data.draw(st.booleans()) else INPUT
    for each in data.draw(st.sampled_from([(kind,), ("rearrange", kind)])):
        x = getattr(drawing, each)(x)
    program = build(drawing.shapes[INPUT], *drawing.ops, shifts=(8,), logit_shifts=(8,))
    images, constants = hard_inputs(program, 1)[: drawing.number(1, 6)], numpy_constants(program)
    values, content = oracle.run(program.to_json(), constants, images), litert_model(program, {})
    logits = oracle.int8_logits(program.to_json(), constants, values[program.output])
    for kernels in KERNELS:
        assert np.array_equal(LitertModel(content, kernels)(images), logits), kernels
    found = LitertModel(content, "reference", tensors=True).tensors(images)
    assert all(np.array_equal(value, values[name]) for name, value in found.items() if name != OUTPUT)
