import numpy as np
import oracle
import pytest
import torch
from programs import PROGRAMS, build, hard_inputs, numpy_constants

from fixedpoint.program import INPUT, Clamp
from fixedpoint.program.integer import IntegerEvaluator, integer_input, integer_tensor, signed_pixels


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_tensor_is_the_oracles(name):
    program = PROGRAMS[name]
    x = hard_inputs(program)
    expected = oracle.run(program.to_json(), numpy_constants(program), x)
    tensors = dict(IntegerEvaluator(program).run(torch.from_numpy(x)))
    assert list(tensors) == [op.name for op in program.ops]
    for tensor, value in tensors.items():
        assert value.dtype == (torch.int32 if tensor in program.raw else torch.int8), tensor
        assert np.count_nonzero(value.numpy() != expected[tensor]) == 0, tensor


@pytest.mark.parametrize("clamp", [(2.0, 3.0), (-3.0, -2.0), (1.5, None), (None, -1.25), (0.5, 0.5)])
def test_bounds_beyond_int8_saturate(clamp):
    program = build((3, 4, 4), Clamp("x", (INPUT,), (3, 4, 4), clamp=clamp))
    x = hard_inputs(program)
    low, high = (end if bound is None else bound * 128 for bound, end in zip(clamp, (-128, 127), strict=True))
    expected = np.clip(np.clip(x.astype(np.float64), low, high), -128, 127)
    tensors = dict(IntegerEvaluator(program).run(torch.from_numpy(x)))
    assert np.array_equal(tensors["x"].numpy(), expected)


def test_an_image_does_not_depend_on_its_batch():
    program = PROGRAMS["network"]
    x = torch.from_numpy(hard_inputs(program, 1))
    together = IntegerEvaluator(program).logits(x)
    assert together.dtype == torch.int32 and together.shape == (6, 5)
    assert torch.equal(together, torch.cat([IntegerEvaluator(program).logits(image[None]) for image in x]))


def test_the_input_is_the_pixel_less_128():
    pixels = torch.arange(256)
    x = integer_input((pixels.float() - 128) / 128)
    assert x.dtype == torch.int8 and x.tolist() == [p - 128 for p in range(256)]
    assert torch.equal(signed_pixels(pixels.to(torch.uint8)), x)


def test_integer_tensor_undoes_the_exponents():
    program = PROGRAMS["conv"]
    integers = torch.tensor([-128, -1, 0, 127])
    for name in (INPUT, "x", "flat"):
        real = integers * 2.0 ** -program.exponents[name]
        assert torch.equal(integer_tensor(program, name, real), integers.int())
    accumulators = torch.tensor([[5, -(2**24) + 1, 0, 77, 2**23 + 1]])
    exponents = program.exponents["flat"] + program.constants["logits.weight_exponent"]
    logits = torch.tensor([[v * 2.0**-e for v, e in zip(accumulators[0].tolist(), exponents.tolist(), strict=True)]])
    assert torch.equal(integer_tensor(program, "logits", logits), accumulators.int())
