import warnings
from dataclasses import replace

import numpy as np
import oracle
import pytest
import torch
import torch.nn.functional as F
from networks import Net
from programs import numpy_constants
from torch import nn

from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.litert.runtime import KERNELS, LitertModel
from fixedpoint.litert.writer import litert_model
from fixedpoint.program import INPUT, Flatten, Linear, Lookup, Program
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.integer import integer_input
from fixedpoint.program.leaky import leaky_relu, negative_branches
from fixedpoint.program.portable import lower
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert


@pytest.mark.parametrize("shape", [(4, 3, 2), (4,)])
def test_each_channel_has_its_slope(shape):
    slopes = torch.tensor([0.25, 0.0, -0.5, 2.0])
    source = [] if len(shape) == 3 else [Flatten("flat", (INPUT,), (4,))]
    ops, constants = leaky_relu("y", source[0].name if source else INPUT, shape, slopes, (None, 3.0), {INPUT, "flat"})
    program = Program(shape if len(shape) == 3 else (4, 1, 1), (*source, *ops), constants)
    program.check()
    x = torch.linspace(-8, 8, 5 * 4 * 6).reshape(-1, *program.input_shape)
    assert torch.equal(FloatEvaluator(program).logits(x), F.prelu(x.reshape(len(x), *shape), slopes).clamp(max=3))


def test_names_that_are_taken_are_not_given_again():
    ops, _ = leaky_relu("y", INPUT, (2, 1, 1), torch.ones(2), (None, None), {INPUT, "y.negative"})
    assert [op.name for op in ops] == ["y.positive", "y.negative_1", "y.scaled", "y"]


class Leaky(nn.Module):
    """LeakyReLU on a map, with a clamp behind it, and on features."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 6, 3), nn.LeakyReLU(0.1)
        self.hidden, self.head = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.act(self.conv(x)).clamp(max=0.75).mean((2, 3))
        return self.head(F.leaky_relu(self.hidden(x), 0.3))


@torch.no_grad()
def test_a_network_with_it_is_portable_and_the_same_in_every_kernel_of_litert():
    torch.manual_seed(0)
    network, x = Leaky().eval(), torch.randint(-128, 128, (8, 3, 6, 6)) / 128
    program = fold(capture(network, (3, 6, 6)))
    assert {op.function for op in program.ops if isinstance(op, Lookup)} == {"leaky_relu"}
    assert torch.allclose(FloatEvaluator(lower(program)).logits(x), network(x), atol=1e-6)
    whole = convert(calibrate(program, lambda: [x], arithmetic="portable"))
    values, images = numpy_constants(whole), integer_input(x).numpy()
    logits = oracle.run(whole.to_json(), values, images)[whole.output]
    wanted = oracle.int8_logits(whole.to_json(), values, logits.reshape(len(x), -1))
    assert len(np.unique(wanted)) > 10
    for kernels in KERNELS:
        assert np.array_equal(LitertModel(litert_model(whole, {}), kernels)(images), wanted), kernels


class Slopes(nn.Module):
    """A LeakyReLU and a PReLU of maps, and one of features, whose negative parts are small."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.more = nn.Conv2d(3, 6, 3), nn.LeakyReLU(0.01), nn.Conv2d(6, 6, 1)
        self.slopes, self.hidden, self.head = nn.PReLU(6, 0.02), nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.slopes(self.more(self.act(self.conv(x)))).mean((2, 3))
        return self.head(F.leaky_relu(self.hidden(x), 0.01))


def calibrated(network):
    torch.manual_seed(0)
    x = torch.randint(-128, 128, (8, 3, 6, 6)) / 128
    return calibrate(fold(capture(network.eval(), (3, 6, 6))), lambda: [x], arithmetic="portable")


def test_the_small_part_of_a_leaky_relu_is_no_loss():
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program = calibrated(Slopes())
    assert len(negative_branches(program.ops)) == 3


def test_but_it_is_where_the_sum_would_have_another_exponent():
    """The result is added to a tensor that is a hundred times larger."""
    torch.manual_seed(0)
    network = Slopes()
    network.act = Net(lambda net, x: F.leaky_relu(x, 0.01) + net.large(x), large=nn.Conv2d(6, 6, 1))
    network.act.large.bias.data.fill_(100.0)
    with pytest.warns(UserWarning) as found:
        calibrated(network)
    names = [str(each.message).partition(" ")[0] for each in found]
    assert "act.lookup.scaled" in names and "act.lookup" in names


@pytest.mark.parametrize("other", ["positive", "negative", "source"])
def test_only_the_two_parts_of_one_tensor_are_a_leaky_relu(other):
    ops, _ = leaky_relu("y", INPUT, (2, 1, 1), torch.ones(2), (None, None), {INPUT})
    assert negative_branches(ops) == {"y.scaled": "y"}
    positive, negative, scaled, add = ops
    changed = {
        "positive": [replace(positive, clamp=(0.0, 1.0)), negative, scaled, add],
        "negative": [positive, replace(negative, clamp=(None, 0.5)), scaled, add],
        "source": [positive, replace(negative, inputs=("z",)), scaled, add],
    }[other]
    assert negative_branches(changed) == {}
    assert negative_branches([positive, negative, scaled, replace(add, inputs=add.inputs[::-1])]) != {}


def test_other_tables_are_refused_still():
    lookup = Lookup("s", (INPUT,), (2, 1, 1), "sigmoid", ())
    ops = lookup, Flatten("f", ("s",), (2,)), Linear("y", ("f",), (2,))
    constants = {"y.weight": torch.eye(2), "y.bias": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"no tables: s \(a table\)"):
        lower(Program((2, 1, 1), ops, constants))
