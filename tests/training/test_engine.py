import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from training_runs import FORMAT, STEPS, batches, network, recipe

from evaluation.score import predict, score
from models.normalization import normalize
from pixels.batches import BatchPartition, OrderedBatches, Pixels
from pixels.views import center_views
from training import engine
from training import step as training_step
from training.checkpoint import Checkpoints
from training.execution import Execution
from training.losses import distilled_loss, label_loss
from training.mixing import Mixing
from training.recipe import Recipe
from training.step import TrainingStep


class Stop(Exception):
    pass


def validation(database):
    data = OrderedBatches(Pixels(database, center_views(FORMAT), FORMAT), 10, 0)
    return lambda model: score(*predict(lambda pixels: model(normalize(pixels)), data))


def scripted(*top1):
    """A validation that gives scores from a list, whatever the model is."""
    scores = iter(top1)
    return lambda model: {"top1": next(scores), "loss": 1.0}


class Watching(engine.Observer):
    def __init__(self, progress=lambda steps, total, label: steps, report=lambda row: None, request=lambda: 0):
        self.progress, self.row, self.request = progress, report, request

    def epoch(self, steps, epoch, done):
        return self.progress(steps, STEPS - done, f"epoch {epoch}/4")


def fit(
    database, folder, model=None, given=None, workers=0, validate=None, score_start=False, count=2, data=None, **options
):
    """Train on `database`, with checkpoints in `folder`."""
    given, validate = given or recipe(), validate or validation(database)
    watching = Watching(**{name: options.pop(name) for name in ("progress", "report", "request") if name in options})
    mixing = Mixing(given, 3) if given.mixes else None
    training = TrainingStep(
        model or network(), given, **{"loss_of": label_loss(0.1, given.loss), "mixing": mixing} | options
    )
    data = data or {1: batches(database, workers, BatchPartition(accumulate=given.accumulate))}
    scored = lambda model, between: between() or validate(model)  # noqa: E731
    return engine.fit(training, data, scored, Checkpoints(folder, count), score_start, {"made_by": "a test"}, watching)


def contents(fitted) -> tuple:
    """All results of a run, as bytes."""
    weights = [
        (name, str(value.dtype), tuple(value.shape), value.stride(), value.numpy().tobytes())
        for part in (fitted.best, fitted.last)
        for name, value in part.items()
    ]
    return weights, repr(fitted.history)


@pytest.fixture(scope="module")
def uninterrupted(database, tmp_path_factory):
    return contents(fit(database, tmp_path_factory.mktemp("run")))


@pytest.fixture
def optimizers(monkeypatch):
    """The optimizers that `fit` makes."""
    made, original = [], training_step.make_optimizer
    monkeypatch.setattr(training_step, "make_optimizer", lambda *a: made.append(original(*a)) or made[-1])
    return made


def lr_at(step: int, warmup: int, given: Recipe) -> float:
    if step < warmup:
        return given.lr * step / warmup
    if given.schedule == "constant":
        return given.lr
    return given.lr * (1 + math.cos(math.pi * (step - warmup) / (given.epochs * STEPS - warmup))) / 2


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize(("warmup_epochs", "warmup"), [(0, 0), (1, 3), (1.5, 4), (2, 6), (3, 6)])
def test_learning_rate_of_each_step(database, tmp_path, optimizers, warmup_epochs, warmup, schedule):
    given, found = recipe(warmup_epochs=warmup_epochs, schedule=schedule), []

    def validate(model):
        return {"top1": 0, "loss": 0}

    def progress(steps, total, label):
        assert total == STEPS
        for step in steps:
            yield step  # and it is back after the optimizer's step
            found.append(optimizers[0].param_groups[0]["lr"])

    history = fit(database, tmp_path, given=given, validate=validate, progress=progress).history
    assert found == pytest.approx([lr_at(step, warmup, given) for step in range(4 * STEPS)], rel=1e-9, abs=1e-12)
    assert [row["lr"] for row in history] == found[STEPS - 1 :: STEPS]
    assert {group["lr"] for group in optimizers[0].param_groups} == {found[-1]}


class Silent(nn.Module):
    """A network whose gradients are all zero."""

    def __init__(self):
        super().__init__()
        self.layers = network()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(1)

    def forward(self, x):
        return 0 * self.layers(x)


def test_weight_decay_is_on_weights_only(database, tmp_path):
    given = recipe(momentum=0, weight_decay=0.5)
    last = fit(database, tmp_path, Silent(), given).last
    shrunk = math.prod(1 - 0.5 * lr_at(step, 3, given) for step in range(4 * STEPS))
    assert 0.5 < shrunk < 0.9
    for name in ("layers.0.weight", "layers.5.weight"):
        assert torch.allclose(last[name], torch.tensor(shrunk))
    for name in ("layers.0.bias", "layers.1.weight", "layers.1.bias", "layers.5.bias"):
        assert (last[name] == 1).all()


class Sgd:
    """SGD with momentum and weight decay in the gradient, by its formula in float64."""

    def __init__(self, nesterov: bool):
        self.nesterov, self.velocity = nesterov, {}

    def __call__(self, name, value, gradient, lr, decay):
        gradient = gradient + decay * value
        self.velocity[name] = 0.9 * self.velocity.get(name, 0) + gradient
        return value - lr * (gradient + 0.9 * self.velocity[name] if self.nesterov else self.velocity[name])


class Adam:
    """AdamW (Loshchilov and Hutter 2019), or LAMB (You et al. 2020): betas 0.9 and 0.999."""

    def __init__(self, lamb: bool):
        self.lamb, self.moments, self.steps = lamb, {}, {}

    def __call__(self, name, value, gradient, lr, decay):
        first, second = self.moments.get(name, (0, 0))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        self.moments[name] = first, second
        self.steps[name] = step = self.steps.get(name, 0) + 1
        update = first / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + (1e-6 if self.lamb else 1e-8))
        if not self.lamb:
            return value * (1 - lr * decay) - lr * update
        update = update + decay * value
        return value - lr * (value.norm() / update.norm() if decay else 1) * update


@pytest.mark.parametrize("clip_grad", [None, 0.5])
@pytest.mark.parametrize(
    ("optimizer", "formula", "variant"),
    [("sgd", Sgd, False), ("nesterov", Sgd, True), ("adamw", Adam, False), ("lamb", Adam, True)],
)
def test_training_follows_the_formula_of_the_optimizer(database, tmp_path, optimizer, formula, variant, clip_grad):
    given = recipe(epochs=2, optimizer=optimizer, clip_grad=clip_grad, lr=0.01)
    model, rule = network(dropout=0).double(), formula(variant)
    parameters = {name: value.detach().clone() for name, value in model.named_parameters()}
    step, losses, norms = 0, [], []
    reference = network(dropout=0).double().train()
    for epoch in range(2):
        for ((pixels, labels),) in batches(database).epoch(epoch):
            reference.load_state_dict(parameters, strict=False)
            reference.zero_grad()
            logits = reference((pixels.double() - 128) / 128)
            target = 0.9 * nn.functional.one_hot(labels, 3) + 0.1 / 3
            loss = -(target * logits.log_softmax(1)).sum(1).mean()
            loss.backward()
            losses.append(float(loss.detach()))
            norms.append(math.sqrt(sum(float((p.grad**2).sum()) for p in reference.parameters())))
            limit = clip_grad or (1 if optimizer == "lamb" else math.inf)  # LAMB clips by itself
            for name, parameter in reference.named_parameters():
                gradient = parameter.grad * min(1, limit / norms[-1])
                decay = 0.01 if parameter.ndim > 1 else 0
                parameters[name] = rule(name, parameters[name], gradient, lr_at(step, 3, given), decay)
            step += 1

    assert max(norms) > 0.5, "nothing was clipped"
    model[0].register_forward_pre_hook(lambda module, inputs: inputs[0].double())
    fitted = fit(database, tmp_path, model, given, validate=scripted(0, 0))
    for name, value in parameters.items():
        if name != "0.bias":  # BatchNorm removes it: its gradient is rounding errors, which Adam scales up
            assert torch.allclose(fitted.last[name], value, rtol=1e-6, atol=1e-8), name
    assert [row["train_loss"] for row in fitted.history] == pytest.approx(
        [sum(losses[:STEPS]) / STEPS, sum(losses[STEPS:]) / STEPS], abs=1e-6
    )


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_average_is_what_is_scored_and_kept(database, tmp_path, decay):
    model, seen, expected, averages = network(), [], None, []

    def progress(steps, total, label):
        nonlocal expected
        for step in steps:
            yield step
            number = len(seen) + 1
            share = min(decay, (number - 1) / (number + 8))
            now = {name: value.clone().double() for name, value in model.state_dict().items()}
            expected = {n: share * expected[n] + (1 - share) * now[n] for n in now} if expected else now
            seen.append(now)

    def validate(network):
        averages.append({name: value.clone() for name, value in network.state_dict().items()})
        assert not network.training
        return {"top1": -len(seen), "loss": 0}

    fitted = fit(database, tmp_path, model, recipe(ema_decay=decay), validate=validate, progress=progress)
    assert len(seen) == 4 * STEPS
    for name, value in expected.items():
        if name != "1.num_batches_tracked":
            assert torch.allclose(fitted.last[name].double(), value, rtol=1e-4, atol=1e-6), name
    assert not torch.allclose(expected["0.weight"], seen[-1]["0.weight"], rtol=1e-3), "the average is the last"
    for found, average in ((fitted.best, averages[0]), (fitted.last, averages[-1])):
        assert all(torch.equal(found[name], average[name]) for name in average)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_weights_are_projected_after_each_step_and_before_they_are_scored(database, tmp_path, ema_decay):
    calls = []

    def project(model):
        calls.append(model)
        with torch.no_grad():
            model[5].bias.clamp_(max=0.01)

    def validate(model):
        assert model[5].bias.max() <= 0.01
        assert calls[-1] is model
        return {"top1": 0, "loss": 0}

    model = network()
    fit(database, tmp_path, model, recipe(ema_decay=ema_decay), validate=validate, project=project)
    assert sum(called is model for called in calls) == 4 * STEPS + (0 if ema_decay else 4)
    assert len(calls) == 4 * STEPS + 4


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize(("score_start", "epochs"), [(False, 0), (True, 0), (True, 2)])
def test_the_start_as_epoch_0(database, tmp_path, score_start, epochs, ema_decay):
    def no_steps(steps, total, label):
        assert epochs
        return steps

    start = network().state_dict()
    rows, given = [], recipe(epochs=epochs, ema_decay=ema_decay)
    scores = scripted(80, 79, 80)
    fitted = fit(
        database,
        tmp_path,
        network(),
        given,
        validate=scores,
        score_start=score_start,
        report=rows.append,
        progress=no_steps,
    )
    assert rows == fitted.history
    assert rows[0] == {"epoch": 0, "val_loss": 1.0, "val_top1": 80}
    assert [row["epoch"] for row in rows] == list(range(epochs + 1))
    assert all(torch.equal(fitted.best[name], start[name]) for name in start)
    assert all(torch.equal(fitted.last[name], start[name]) for name in start) == (epochs == 0)


def test_history_has_a_row_an_epoch(database, tmp_path):
    rows = []
    fitted = fit(database, tmp_path, report=rows.append)
    assert [set(row) for row in rows] == [{"epoch", "train_loss", "train_top1", "lr", "val_loss", "val_top1"}] * 4
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows == fitted.history


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_epochs_before(database, tmp_path, value):
    class Diverging(nn.Sequential):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) * (value if self.calls == STEPS + 2 else 1)

    message = r"^the loss is (nan|inf) in epoch 2, step 2; it began in .*: lower the lr, which is 0\.1$"
    with pytest.raises(ValueError, match=message):
        fit(database, tmp_path, Diverging(*network()), validate=scripted(1, 2, 3, 4))
    assert Checkpoints(tmp_path).load()["epoch"] == 2


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_weights_that_are_not_finite_are_not_kept(database, tmp_path, value):
    """No loss shows the weights after the last update of an epoch."""
    model, asked = network(), []

    def request():
        asked.append(1)
        if len(asked) == STEPS + 1 + STEPS:  # one in the first validation
            model[0].bias.data[1] = value
        return engine.Request.CONTINUE

    message = r"^the weights 0\.bias are not finite in the validation after epoch 2: lower the lr, which is 0\.25$"
    with pytest.raises(ValueError, match=message):
        fit(database, tmp_path, model, given=recipe(lr=0.25), validate=scripted(1, 2), request=request)
    assert Checkpoints(tmp_path).load()["epoch"] == 2


def test_logits_that_are_not_finite_are_not_scored(database, tmp_path):
    def validate(model):
        return score(torch.tensor([[math.inf, 0.0]]), torch.tensor([0]))

    message = "^the network gives logits that are not finite in the validation after epoch 1: lower the lr"
    with pytest.raises(ValueError, match=message):
        fit(database, tmp_path, validate=validate)
    assert Checkpoints(tmp_path).load() is None


def test_a_network_of_which_nothing_is_left_to_train_is_refused():
    model = network()
    with pytest.raises(ValueError, match=r"^all layers are frozen, and no weight is left to train$"):
        TrainingStep(model, recipe(), label_loss(0), frozen=[model])
    TrainingStep(model, recipe().model_copy(update={"epochs": 0}), label_loss(0), frozen=[model])  # nothing is trained


def test_best_is_the_first_of_the_highest_top1_and_last_is_the_last(database, tmp_path):
    seen, scores = [], scripted(50, 70, 70, 60)

    def validate(model):
        assert not model.training
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return scores(model)

    fitted = fit(database, tmp_path, validate=validate)
    assert [row["val_top1"] for row in fitted.history] == [50, 70, 70, 60]
    for weights, expected in ((fitted.best, seen[1]), (fitted.last, seen[3])):
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_the_same_run_gives_the_same_bytes(database, tmp_path, uninterrupted):
    torch.manual_seed(77)
    assert contents(fit(database, tmp_path)) == uninterrupted


def test_dropout_does_not_depend_on_the_number_of_workers(database, tmp_path, uninterrupted):
    assert contents(fit(database, tmp_path, workers=2)) == uninterrupted


@pytest.mark.parametrize("where", ["training", "validation", "report"])
@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_an_interrupted_run_ends_with_the_same_bytes(database, tmp_path, uninterrupted, epoch, where):
    def progress(steps, total, label):
        for number, step in enumerate(steps):
            if where == "training" and label == f"epoch {epoch}/4" and number == 1:
                raise Stop
            yield step

    rows = []

    def report(row):
        rows.append(row)
        if where == "report" and len(rows) == epoch:
            raise Stop

    def validate(model):
        if where == "validation" and len(rows) == epoch - 1:
            raise Stop
        return validation(database)(model)

    with pytest.raises(Stop):
        fit(database, tmp_path, validate=validate, report=report, progress=progress)

    labels, again = [], []
    done = epoch if where == "report" else epoch - 1
    fitted = fit(
        database,
        tmp_path,
        network(seed=9 if done else 0),  # after a whole epoch the weights come from the checkpoint
        report=again.append,
        progress=lambda steps, total, label: labels.append(label) or steps,
    )
    assert contents(fitted) == uninterrupted
    assert again == fitted.history
    assert labels == [f"epoch {number}/4" for number in range(done + 1, 5)]


FEATURES = {
    "nesterov": {"given": recipe(optimizer="nesterov")},
    "adamw": {"given": recipe(optimizer="adamw", lr=0.01)},
    "lamb": {"given": recipe(optimizer="lamb", lr=0.01, schedule="constant")},
    "ema": {"given": recipe(ema_decay=0.9, clip_grad=0.5)},
    "start": {"score_start": True},
    "mixed": {"given": recipe(mixup=0.2, cutmix=1, loss="binary_cross_entropy", lr=0.01)},
    "parts": {"given": recipe(mixup=0.4, schedule="plateau", decay_epochs=0.4).model_copy(update={"accumulate": 2})},
    "step": {"given": recipe(schedule="step", decay_epochs=0.5)},
    "fp16": {"given": recipe(clip_grad=0.5), "execution": Execution("fp16")},
}


def with_feature(name: str) -> dict:
    """The arguments of `fit`, and distillation."""
    given = FEATURES[name].get("given", recipe())
    return FEATURES[name] | {"loss_of": distilled_loss(label_loss(0.1, given.loss), network(seed=3).eval(), 0.5, 2)}


@pytest.fixture(scope="module", params=FEATURES)
def straight(request, database, tmp_path_factory):
    """A feature, and what a run with it that nothing stops ends with."""
    fitted = fit(database, tmp_path_factory.mktemp("straight"), **with_feature(request.param))
    return request.param, contents(fitted)


@pytest.mark.parametrize("at", [1, 4, 9, 16])  # the first step, one within an epoch, after one, and a validation
def test_a_stopped_run_with_each_feature_ends_with_the_same_bytes(database, tmp_path, straight, at):
    name, expected = straight
    asked = iter([engine.Request.CONTINUE] * (at - 1) + [engine.Request.STOP])
    with pytest.raises(engine.Stopped):
        fit(database, tmp_path, request=lambda: next(asked), **with_feature(name))
    assert contents(fit(database, tmp_path, network(seed=9), **with_feature(name))) == expected


@pytest.mark.parametrize("action", [engine.Request.SAVE, engine.Request.STOP])
@pytest.mark.parametrize("at", range(1, 4 * (STEPS + 1) + 1))  # each of an epoch's steps, and its validation
def test_a_run_stopped_after_any_step_ends_with_the_same_bytes(database, tmp_path, uninterrupted, at, action):
    asked = []

    def requests():
        asked.append(None)
        if len(asked) == at + 1 and action == engine.Request.SAVE:
            raise Stop  # there is a checkpoint, and what follows it is lost
        return action if len(asked) == at else engine.Request.CONTINUE

    with pytest.raises((Stop, engine.Stopped)):
        fit(database, tmp_path, request=requests)
        raise Stop  # the last request was a checkpoint in the last validation
    assert contents(fit(database, tmp_path, network(seed=9))) == uninterrupted


def test_requests_for_checkpoints_change_nothing(database, tmp_path, uninterrupted):
    assert contents(fit(database, tmp_path, request=lambda: engine.Request.SAVE)) == uninterrupted


def test_the_last_checkpoints_and_the_best_are_kept(database, tmp_path):
    fit(database, tmp_path, validate=scripted(50, 70, 70, 60), request=lambda: engine.Request.SAVE, count=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.pt",
        *(f"step_{number:08d}.pt" for number in (10, 11, 12)),
    ]
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["history"][-1]["epoch"] == 2
    assert best["about"] == {"made_by": "a test"}
    assert {"model", "scored", "optimizer", "schedule", "epoch", "done", "totals"} <= best.keys()


def test_a_run_without_its_best_checkpoint_says_so(database, tmp_path):
    fit(database, tmp_path, validate=scripted(50, 70, 70, 60))
    (tmp_path / "best.pt").unlink()
    with pytest.raises(ValueError, match=r"best\.pt is missing: remove .*, and the run starts again$"):
        fit(database, tmp_path)


def test_a_best_checkpoint_that_was_not_copied_in_time_is_copied(database, tmp_path, monkeypatch, uninterrupted):
    def stop(self, path):
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Checkpoints, "_copy_to_best", stop)
        fit(database, tmp_path)
    assert contents(fit(database, tmp_path, network(seed=9))) == uninterrupted


def test_a_finished_run_is_not_trained_again(database, tmp_path, uninterrupted):
    fit(database, tmp_path)

    def validate(model):
        raise AssertionError

    rows = []
    assert contents(fit(database, tmp_path, network(seed=9), validate=validate, report=rows.append)) == uninterrupted
    assert len(rows) == 4


def hang_in_the_third_save() -> None:
    save, saves = Checkpoints.save, []

    def hang(descriptor):
        print("saving", flush=True)
        time.sleep(600)

    def third(self, *arguments):
        saves.append(arguments)
        if len(saves) == 3:
            os.fsync = hang
        save(self, *arguments)

    Checkpoints.save = third


def test_a_run_killed_while_it_saves_ends_with_the_same_bytes(database, tmp_path, uninterrupted):
    here = Path(__file__)
    code = f"from {here.stem} import *; from imagedb.reader import ImageDatabase; hang_in_the_third_save()\n"
    code += "fit(ImageDatabase(sys.argv[1]), Path(sys.argv[2]))"
    paths = os.pathsep.join(map(str, (here.parent, here.parents[1], here.parents[2])))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, database.path, tmp_path]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"saving\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert Checkpoints(tmp_path).load()["epoch"] == 3
    assert contents(fit(database, tmp_path, network(seed=9))) == uninterrupted
