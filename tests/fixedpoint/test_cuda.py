"""What a GPU would be given of QAT and of the integer model."""

import pytest
import torch
from fake_cuda import CUDA, fake_cuda, moved
from portable_programs import PROGRAMS as PORTABLE_PROGRAMS
from programs import PROGRAMS, in_real_numbers

from fixedpoint.program.integer import IntegerEvaluator
from fixedpoint.quantize.qat import FakeQuantModel

ALL = PROGRAMS | {f"portable {name}": program for name, program in PORTABLE_PROGRAMS.items()}


@pytest.mark.parametrize("name", ALL)
def test_the_whole_model_is_on_the_gpu_and_never_waited_for(name):
    program = ALL[name]
    models = FakeQuantModel(in_real_numbers(program)), IntegerEvaluator(program)
    with fake_cuda():
        for model, dtype in zip(map(moved, models), (torch.float32, torch.int8), strict=True):
            logits = model(torch.empty(2, *program.input_shape, dtype=dtype, device=CUDA))
            assert logits.device == CUDA
            assert logits.shape[0] == 2
