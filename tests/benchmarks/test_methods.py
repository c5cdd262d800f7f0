import pytest
import torch

from benchmarks.methods import FloatScales
from fixedpoint.program import Flatten, Linear, Program
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.names import INPUT


def program():
    ops = (Flatten("flat", (INPUT,), (3,)), Linear("a", ("flat",), (2,)), Linear("fc", ("a",), (2,)))
    weights = {"a.weight": torch.tensor([[0.3, -0.3, 0.2999], [5.0, 0.0, 2.5]]), "fc.weight": torch.eye(2)}
    return Program((3, 1, 1), ops, weights | {"a.bias": torch.zeros(2), "fc.bias": torch.zeros(2)})


def test_float_scales_round_each_channel_and_each_tensor_to_int8():
    x = torch.randint(-128, 128, (64, 3, 1, 1), generator=torch.Generator().manual_seed(0)) / 128
    scaled = FloatScales(program(), x)
    weight = scaled.constants["a.weight"]
    assert weight[0].tolist() == pytest.approx([0.3, -0.3, 0.3]), "126.96 steps of 0.3 / 127 are 127"
    assert weight[1].tolist() == pytest.approx([5.0, 0.0, 5 * 64 / 127]), "63.5 steps of 5 / 127 are 64"
    values = dict(scaled.run(x))["a"]
    integers = values / scaled.scales["a"]
    assert torch.allclose(integers, integers.round(), atol=1e-3) and integers.min() >= -128 and integers.max() <= 127


def test_its_bias_correction_brings_means_to_those_of_the_float_network():
    x = torch.randint(0, 128, (64, 3, 1, 1), generator=torch.Generator().manual_seed(0)) / 128
    scaled, expected = FloatScales(program(), x), FloatEvaluator(program()).logits(x).mean(0)
    before = (scaled.logits(x).mean(0) - expected).abs().max()
    scaled.correct(x)
    assert (scaled.logits(x).mean(0) - expected).abs().max() < 0.01 * before
