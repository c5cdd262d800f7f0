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
    bad = nn.Sequential(nn.SiLU(), nn.GroupNorm(1, 3), nn.Conv2d(3, 5, 4), nn.LayerNorm(1), nn.Flatten())
    trial = try_quantization(bad, (3, 4, 4), EXACT8)
    assert trial.captured is None and trial.converted is None and len(trial.causes) == 1
    assert "group_norm in 1" in trial.causes[0] and "layer_norm in 3" in trial.causes[0]
    in_portable = try_quantization(bad, (3, 4, 4), PORTABLE).causes
    assert in_portable[:1] == trial.causes and "0 (a table)" in in_portable[1]


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
