"""What stands in the way of a network is found before its training, all of it, and nothing else stands in the way."""

import pytest
import torch
from torch import nn

from fixedpoint.program import EXACT8, PORTABLE
from fixedpoint.trial import try_quantization


def network(*last, activation=nn.ReLU, pool=8):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), activation(), nn.AvgPool2d(pool), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, 5), *last)


@pytest.mark.parametrize("arithmetic", [PORTABLE, EXACT8])
def test_a_network_that_can_be_quantized(arithmetic):
    trial = try_quantization(network(), (3, 8, 8), arithmetic)
    assert (trial.causes, trial.doubts, trial.notes) == ((), (), ())
    assert trial.converted.is_integer and trial.converted.arithmetic == arithmetic


def test_all_causes_come_at_once():
    bad = network(nn.ReLU(), activation=nn.SiLU)
    in_portable, in_exact8 = (try_quantization(bad, (3, 8, 8), arithmetic).causes for arithmetic in (PORTABLE, EXACT8))
    assert len(in_portable) == 2 and "from a conv or linear without activation" in in_portable[0]
    assert "2 (a table)" in in_portable[1]
    assert in_exact8 == in_portable[:1]
    assert try_quantization(bad, (3, 8, 8), EXACT8).converted is None


def test_what_cannot_be_captured():
    trial = try_quantization(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Flatten()), (3, 4, 4), EXACT8)
    assert trial.captured is None and trial.converted is None and len(trial.causes) == 1
    assert "group_norm" in trial.causes[0]


@pytest.mark.parametrize(("arithmetic", "size"), [(PORTABLE, 192), (EXACT8, 368)])
def test_a_mean_over_too_many_values_is_a_cause(arithmetic, size):
    trial = try_quantization(network(pool=size), (3, size, size), arithmetic)
    assert len(trial.causes) == 1 and f"mean over {size * size} values" in trial.causes[0]


@pytest.mark.parametrize("scale", [0.0, 2.0**-60, 2.0**60])
@pytest.mark.parametrize("arithmetic", [PORTABLE, EXACT8])
def test_the_size_of_weights_is_no_cause(arithmetic, scale):
    model = network()
    with torch.no_grad():
        model[0].weight *= scale
    assert try_quantization(model, (3, 8, 8), arithmetic).causes == ()


def test_nothing_changes():
    model = network(nn.Dropout(0.5)).train()
    weights, state = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    assert try_quantization(model, (3, 8, 8), PORTABLE).causes == ()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(each.training for each in model.modules())
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
