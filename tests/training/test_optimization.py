import pytest
import torch
from torch import nn
from training_runs import recipe

from training.optimization import Schedule, make_optimizer

STEPS = 10  # per epoch


def rates(given, losses, steps=STEPS):
    """The learning rate of every step, given these validation losses."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=given.lr)
    schedule, found = Schedule(optimizer, given, steps), []
    for epoch, loss in enumerate(losses):
        for step in range(steps):
            schedule.before_step(epoch * steps + step)
            found.append(optimizer.param_groups[0]["lr"])
        schedule.after_epoch((epoch + 1) * steps, loss)
    return found


def test_step_multiplies_every_few_epochs_after_the_warmup():
    given = recipe(schedule="step", epochs=4, warmup_epochs=0.5, decay_epochs=1.5, decay_rate=0.1)
    expected = [0.1 * step / 5 for step in range(5)] + [0.1] * 15 + [0.01] * 15 + [0.001] * 5
    assert rates(given, [1] * 4) == pytest.approx(expected)


def test_plateau_multiplies_when_the_loss_has_not_fallen_for_more_than_its_patience():
    given = recipe(schedule="plateau", epochs=9, warmup_epochs=1, decay_epochs=1, decay_rate=0.5)
    losses = [9, 5, 5, 6, 4, 4, 4, 4, 4]  # the first is the warm-up's and does not count
    warmup = [0.1 * step / 10 for step in range(10)]
    expected = warmup + [0.1] * 30 + [0.05] * 30 + [0.025] * 20
    assert rates(given, losses) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["step", "plateau"])
def test_decays_beyond_the_run_are_none(schedule):
    given = recipe(schedule=schedule, epochs=3, warmup_epochs=0, decay_epochs=1e308)
    assert rates(given, [1, 1, 1]) == [given.lr] * 30


def test_a_run_without_epochs_has_no_warmup():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    assert Schedule(optimizer, recipe(epochs=0, warmup_epochs=1e308), STEPS).warmup == 0


def test_the_state_of_a_plateau_goes_on():
    given = recipe(schedule="plateau", epochs=9, warmup_epochs=0, decay_epochs=1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=given.lr)
    first, second = Schedule(optimizer, given, 1), Schedule(optimizer, given, 1)
    for done, loss in enumerate([3, 2, 2], 1):
        first.after_epoch(done, loss)
    assert optimizer.param_groups[0]["lr"] == given.lr
    second.load_state_dict(first.state_dict())
    second.after_epoch(4, 2)
    assert optimizer.param_groups[0]["lr"] == given.lr / 2


def test_frozen_weights_are_not_the_optimizers():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    groups = make_optimizer(model, recipe()).param_groups
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in model[1].parameters()}
