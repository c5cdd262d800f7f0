import json

import pytest
import torch
from programs import PROGRAMS, in_real_numbers
from torch import nn

from evaluation.exactness import Agreement
from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.program import Program
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.integer import IntegerEvaluator, integer_input, integer_tensor
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.qat import FakeQuantModel
from models.registry import create_model


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_integers_come_back_from_their_real_numbers(name):
    program = PROGRAMS[name]
    converted = convert(in_real_numbers(program))
    assert converted.constants.keys() == program.constants.keys()
    for constant, value in program.constants.items():
        assert converted.constants[constant].dtype == value.dtype, constant
        assert torch.equal(converted.constants[constant], value), constant
    assert converted.ops == program.ops and converted.exponents == program.exponents


def test_constants_are_rounded_half_to_even_and_saturated():
    program = PROGRAMS["linear"]
    exponent = program.constants["x.weight_exponent"]
    steps = torch.tensor([0.5, 1.5, -2.5, 126.5, 127.4, 127.5, 200, -127.5, -128, -1000])
    weight = torch.zeros(16, 40)
    weight[:, : len(steps)] = steps * torch.exp2(-exponent.double())[:, None]
    bias = torch.tensor([2.5, -3.5] * 8) * torch.exp2(-7 - exponent.double())
    real = in_real_numbers(program).with_constants(**{"x.weight": weight, "x.bias": bias.float()})
    converted = convert(real)
    expected = [0, 2, -2, 126, 127, 127, 127, -127, -127, -127] + [0] * 30
    assert converted.constants["x.weight"].tolist() == [expected] * 16
    assert converted.constants["x.weight"].dtype == torch.int8
    assert converted.constants["x.bias"].tolist() == [2, -4] * 8
    assert converted.constants["x.bias"].dtype == torch.int32
    assert real.constants["x.weight"] is weight


@pytest.mark.parametrize("size", [2.0**20, -(2.0**40)])
def test_a_program_that_would_not_be_exact_is_refused(size):
    real = in_real_numbers(PROGRAMS["linear"])
    bias = real.constants["x.bias"].clone()
    bias[3] = size
    with pytest.raises(ValueError, match="x: the accumulator of channel 3 can reach"):
        convert(real.with_constants(**{"x.bias": bias}))


def images(count, size, seed):
    pixels = torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(seed))
    return (pixels - 128) / 128


@pytest.fixture(
    scope="module",
    params=[("vargconvnet_32", 32), ("resnet18", 64), ("mobilenetv2_100", 64)],
    ids=lambda parameters: parameters[0],
)
def case(request):
    """A calibrated network with the BatchNorm statistics of a training step, and images for it."""
    name, size = request.param
    torch.manual_seed(0)
    model = create_model(name, 10, size, {})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    with torch.no_grad():
        model.train()(images(8, size, seed=1))
    program = fold(capture(model, (3, size, size)))
    return calibrate(program, lambda: images(6, size, seed=2).split(4)), images(4, size, seed=3)


@torch.no_grad()
def test_the_qat_model_and_the_integer_model_give_the_same_bits(case):
    program, x = case
    converted = convert(program)
    fake, whole = FakeQuantModel(program).train().run(x), IntegerEvaluator(converted).run(integer_input(x))
    compared = {}
    for (name, real), (_, value) in zip(fake, whole, strict=True):
        agreement = Agreement(["qat", "int"], "int")
        agreement.add({"qat": integer_tensor(converted, name, real), "int": value}, name)
        assert agreement.mismatches == 0, name
        compared[name] = value.float().std()
    assert list(compared) == [op.name for op in program.ops]
    assert min(compared.values()) > 1, "tensors that are nearly constant prove nothing"


@torch.no_grad()
def test_training_steps_and_conversion_change_no_bit(case):
    program, x = case
    model = FakeQuantModel(program)
    generator = torch.Generator().manual_seed(4)
    for parameter in model.parameters():  # smaller on average, so that the accumulators stay below 2**24
        parameter.mul_(0.9 + 0.05 * torch.randn(parameter.shape, generator=generator))
    converted = convert(model.trained())
    logits = IntegerEvaluator(converted).logits(integer_input(x))
    assert torch.equal(integer_tensor(converted, converted.output, model(x)), logits)


@torch.no_grad()
def test_the_integer_model_is_close_to_the_float_network(case):
    program, x = case
    expected, quantized = dict(FloatEvaluator(program).run(x)), dict(FakeQuantModel(program).run(x))
    noise = {n: (quantized[n] - v).square().sum() / v.square().sum() for n, v in expected.items()}
    assert noise[program.ops[0].name] < 1e-3
    assert noise[program.output] < 0.8  # a deep network with random weights multiplies it; zeros would have 1


def test_the_stored_form_gives_the_same_program(case):
    program, x = case
    converted = convert(program)
    back = Program.from_json(json.loads(json.dumps(converted.to_json())), converted.constants)
    assert back == converted
    assert {value.dtype for value in converted.constants.values()} == {torch.int8, torch.int32}
    assert torch.equal(
        IntegerEvaluator(back).logits(integer_input(x)), IntegerEvaluator(converted).logits(integer_input(x))
    )
