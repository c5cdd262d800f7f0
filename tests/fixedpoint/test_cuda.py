"""What QAT and the integer model would send to a GPU."""

import pytest
import torch
from fake_cuda import CUDA, fake_cuda, moved
from portable_programs import PROGRAMS as PORTABLE_PROGRAMS
from programs import PROGRAMS, in_real_numbers

from fixedpoint.program.integer import IntegerEvaluator, signed_pixels
from fixedpoint.quantize.qat import FakeQuantModel

ALL = PROGRAMS | {f"portable {name}": program for name, program in PORTABLE_PROGRAMS.items()}


@pytest.mark.parametrize("name", ALL)
def test_every_tensor_is_on_the_gpu_in_the_type_it_must_have_and_is_never_waited_for(name):
    program = ALL[name]
    models = FakeQuantModel(in_real_numbers(program)), IntegerEvaluator(program)
    with fake_cuda():
        trained, integer = map(moved, models)
        found = dict(trained.run(torch.empty(2, *program.input_shape, device=CUDA)))
        pixels = torch.empty(2, *program.input_shape, dtype=torch.uint8, device=CUDA)
        integers = dict(integer.run(signed_pixels(pixels)))
    assert list(found) == list(integers) == [op.name for op in program.ops]
    for op in program.ops:
        raw = torch.int32 if op.name in program.raw else torch.int8
        for value, dtype in ((found[op.name], torch.float32), (integers[op.name], raw)):
            assert (value.device, value.dtype, tuple(value.shape)) == (CUDA, dtype, (2, *op.shape)), op.name
