import math
from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch._inductor.cpu_vec_isa import pick_vec_isa
from torch.utils._python_dispatch import TorchDispatchMode
from training_runs import batches, network, recipe

from models.normalization import normalize
from pixels.batches import BatchPartition
from training import step as training_step
from training.execution import Execution
from training.losses import label_loss
from training.mixing import Mixing
from training.step import NotFinite, TrainingStep, first_not_finite


def without_statistics(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 3))


def steps(database, model, given, count=3, execution=Execution(), late=False, **options):  # noqa: B008
    """The losses and the numbers of correct images of the first steps."""
    step = TrainingStep(model, given, label_loss(given.label_smoothing), execution, **options)
    step.late = late
    step.train()
    data = batches(database, partition=BatchPartition(accumulate=given.accumulate))
    return [
        step(parts, data.partition.numbers(), (5, 0, done), done + 1).tolist()
        for done, parts in zip(range(count), data.epoch(0), strict=False)
    ]


def test_a_batch_in_parts_is_the_batch_where_nothing_sees_the_whole(database):
    model, parted = nn.Sequential(*without_statistics()), nn.Sequential(*without_statistics())
    model[3].p = parted[3].p = 0  # dropout draws by part
    straight = steps(database, model, recipe(clip_grad=0.1))
    accumulated = steps(database, parted, recipe(clip_grad=0.1).model_copy(update={"accumulate": 4}))
    for one, other in zip(straight, accumulated, strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    for name, value in model.state_dict().items():
        assert torch.allclose(value, parted.state_dict()[name], rtol=1e-5, atol=1e-7), name


def test_the_first_loss_and_the_number_of_correct_images(database):
    model = network(dropout=0)
    ((loss, right),) = steps(database, model, recipe(label_smoothing=0), 1)
    ((pixels, labels),) = next(iter(batches(database).epoch(0)))
    logits = network(dropout=0).train()((pixels - 128.0) / 128)
    assert loss == pytest.approx(float(-logits.log_softmax(1)[range(8), labels].mean().detach()), rel=1e-5)
    assert right == (logits.argmax(1) == labels).sum()


def test_frozen_parts_stay_as_they_are(database):
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    steps(database, model, recipe(lr=1), frozen=[model[0], model[1]])
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert same == {name for name in before if name.startswith(("0.", "1."))}, "statistics of BatchNorm, too"


def test_bf16_trains_with_fewer_bits_and_float32_weights(database):
    exact, rough = (steps(database, network(dropout=0), recipe(), execution=Execution(p)) for p in ("float32", "bf16"))
    for (one, _), (other, _) in zip(exact, rough, strict=True):
        assert one != other
        assert one == pytest.approx(other, rel=0.05)


@pytest.mark.parametrize("clip_grad", [None, 0.5])
def test_fp16_leaves_out_steps_until_the_loss_is_scaled_so_that_no_gradient_overflows(database, clip_grad):
    start, exact, rough = (network(dropout=0) for _ in range(3))
    given = recipe(weight_decay=0, clip_grad=clip_grad)
    steps(database, exact, given, 1)
    step = TrainingStep(rough, given, label_loss(given.label_smoothing), Execution("fp16"))
    step.train()
    parts = next(iter(batches(database).epoch(0)))
    scales = [step.scaler.get_scale()]
    while len(scales) < 2 or scales[-1] < scales[-2]:
        for one, other in zip(start.parameters(), rough.parameters(), strict=True):
            assert torch.equal(one, other)
        step(parts, [0], (5, 0, len(scales)), len(scales))
        scales.append(step.scaler.get_scale())
    assert scales == [*(2.0**16 / 2**n for n in range(len(scales) - 1)), scales[-2]]
    assert len(scales) > 2, "some have been left out"
    for before, one, other in zip(start.parameters(), exact.parameters(), rough.parameters(), strict=True):
        assert not torch.equal(one, other)
        assert torch.allclose(one - before, other - before, rtol=0.05, atol=5e-4)


def test_gradients_that_stay_infinite_in_fp16(database):
    class Endless(torch.autograd.Function):
        """The identity, with a gradient that no scale makes finite."""

        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * math.inf

    step = TrainingStep(
        network(), recipe(), lambda logits, targets, x: Endless.apply(logits).square().mean(), Execution("fp16")
    )
    step.train()
    parts = next(iter(batches(database).epoch(0)))
    for done in range(32):
        step(parts, [0], (5, 0, done), done + 1)
        step.check()
    step(parts, [0], (5, 0, 32), 33)
    with pytest.raises(NotFinite, match=r"^the gradients in fp16 are not finite, even of 8e-06 times the loss$"):
        step.check()


def test_fewer_bits_end_with_the_step(database):
    seen = []

    class Looking(nn.Sequential):
        def forward(self, x):
            seen.append(torch.backends.cudnn.allow_tf32)
            return super().forward(x)

    before = torch.backends.cudnn.allow_tf32
    for precision in ("float32", "tf32"):
        steps(database, Looking(*network()), recipe(), 1, Execution(precision))
        assert torch.backends.cudnn.allow_tf32 == before
    assert seen == [False, True]


def test_a_compiled_step_is_the_step(database):
    given = recipe(ema_decay=0.5)
    model, compiled = network(dropout=0), network(dropout=0)
    straight = steps(database, model, given, 2)
    for one, other in zip(straight, steps(database, compiled, given, 2, Execution(compile=True)), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert compiled.state_dict().keys() == model.state_dict().keys()


def test_a_compiled_graph_is_that_of_the_pinned_instructions():
    """The key of PyTorch's cache of graphs has the inductor's configuration in it, and nothing of the environment."""
    Execution(compile=True).of(nn.Linear(1, 1))
    assert torch._inductor.config.save_config_portable()["cpp.simdlen"] == 256
    assert str(pick_vec_isa()) == "avx2"


def test_more_sizes_of_images_than_pytorch_compiles_by_default(monkeypatch):
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    step = TrainingStep(model, recipe(), label_loss(0), Execution(compile=True))
    for done in range(12):
        batch = torch.zeros(4, 3, 8 + done, 8 + done, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
        step([batch], [0], (0, 0, done), done + 1)
    assert counter.frame_count == 12


def test_where_the_first_value_is_not_finite():
    model = network().train()
    x = torch.zeros(2, 3, 8, 8)
    assert first_not_finite(model, x) == "the loss itself, from finite logits"
    x[0, 0, 4, 4] = math.nan
    assert first_not_finite(model, x) == "the output of 0"
    assert not model._forward_hooks and not model[0]._forward_hooks
    with torch.no_grad():
        model[5].bias[1] = math.inf
    assert first_not_finite(model, x) == "the weights 5.bias"


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_loss_that_is_looked_at_late_is_traced_back_to_where_it_began(database, accumulate):
    given = recipe(ema_decay=0.5).model_copy(update={"accumulate": accumulate})
    data = batches(database, partition=BatchPartition(accumulate=accumulate))
    work = list(data.epoch(0))
    poison = normalize(work[1][-1][0])
    sees = {}

    def fresh():
        step = TrainingStep(network(), given, label_loss(0))
        step.train()
        return step

    expected, step = fresh(), fresh()
    step.late = True  # as on a GPU
    step.model.register_forward_pre_hook(lambda module, inputs: sees.update(poison=torch.equal(inputs[0], poison)))
    step.model[3].register_forward_hook(lambda module, inputs, output: output * (math.nan if sees["poison"] else 1))
    for one in (expected, step):
        one(work[0], data.partition.numbers(), (5, 0, 0), 1)
    step.check()
    step(work[1], data.partition.numbers(), (5, 0, 1), 2)
    assert step.model[5].weight.isnan().any(), "the weights had to wait for the loss"
    message = "^the loss is nan in epoch 1, step 2; it began in the output of 3$"
    with pytest.raises(NotFinite, match=message):
        step(work[2], data.partition.numbers(), (5, 0, 2), 3)
    for (name, value), other in zip(step.model.named_parameters(), expected.model.parameters(), strict=True):
        assert torch.equal(value, other), name


def test_late_steps_are_the_steps(database):
    straight, late = network(), network()
    expected = steps(database, straight, recipe(ema_decay=0.5))
    found = steps(database, late, recipe(ema_decay=0.5), late=True)
    assert found == expected
    assert all(torch.equal(value, straight.state_dict()[name]) for name, value in late.state_dict().items())


class Reads(TorchDispatchMode):
    """Counts how often Python reads a value, for which it would have to wait for a GPU."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        self.count += function == torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **named or {})


@pytest.mark.parametrize("values", [{}, {"ema_decay": 0.5, "clip_grad": 1, "optimizer": "nesterov"}, {"mixup": 0.4}])
def test_a_late_step_asks_for_one_value_alone_the_loss_of_the_step_before(database, values):
    given = recipe(**values)
    mixing = Mixing(given, 3) if given.mixes else None
    step = TrainingStep(network(), given, label_loss(given.label_smoothing), mixing=mixing)
    step.train()
    found = {}
    for late in (False, True):
        step.late, found[late] = late, []
        for done, parts in enumerate(batches(database).epoch(0)):
            with Reads() as reads:
                step(parts, [0], (5, 0, done), done + 1)
            found[late].append(reads.count)
    assert found[True] == [0, 1, 1]
    assert min(found[False]) >= 1, "a step that looks at its own loss asks for it"


def test_a_gpu_projects_now_and_then(database, monkeypatch):
    monkeypatch.setattr(training_step, "PROJECT_EVERY", 2)
    projected = []
    steps(database, network(), recipe(), late=True, project=lambda model: projected.append(model))
    assert len(projected) == 1, "of 3 steps"


def test_a_loss_that_is_not_finite_leaves_the_weights(database):
    model = network()
    before = {name: value.clone() for name, value in model.named_parameters()}
    step = TrainingStep(model, recipe(), lambda logits, targets, x: logits.sum() * math.nan)
    ((pixels, labels),) = next(iter(batches(database).epoch(0)))
    message = "^the loss is nan in epoch 1, step 1; it began in the loss itself, from finite logits$"
    with pytest.raises(NotFinite, match=message):
        step([(pixels, labels)], [0], (5, 0, 0), 1)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_a_step_on_the_cpu_seeds_the_cpu_alone_as_pytorch_does(database, monkeypatch):
    found, model = [], network()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("it writes down the stack each time"))
    monkeypatch.setattr(training_step, "derive_seed", lambda *parts: found.append(parts) or 7)
    model[4].register_forward_hook(lambda module, inputs, output: found.append(torch.rand(1).item()))
    steps(database, model, recipe(), 1)
    torch.default_generator.manual_seed(7)
    nn.functional.dropout(torch.ones(8, 144))
    assert found == [(5, 0, 0, 0), torch.rand(1).item()]
