"""What `benchmarks.train` measures without a database, on random images that lie on the device.

A training step is forward, loss with label smoothing, backward, SGD with momentum, and the next learning rate. "ours"
is `training.step.TrainingStep`, always channels last; "QAT" the same of the calibrated network, BatchNorm folded, with
labels and no teacher. "timm's loop" is a step of timm's train.py, made of timm's parts; that one waits for the GPU
after each step, this one does not. "dense groups" computes grouped convolutions by `training.grouped`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn

from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.program import Program
from fixedpoint.program.integer import integer_logits
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.qat import FakeQuantModel
from models.normalization import normalize
from models.registry import create_model
from pipeline.databases import open_database
from pipeline.params import Params
from pixels.batches import Batch
from training.execution import Execution
from training.grouped import block_diagonal
from training.losses import label_loss
from training.optimization import Schedule
from training.recipe import Recipe
from training.step import TrainingStep

Step = Callable[[int], Tensor]  # makes step number 0, 1, ..., and returns its loss or logits
Contestants = dict[str, Callable[[], int]]  # each works once, and returns its number of images

STEPS = 5  # in a round
EPOCH = 1000  # steps, for the schedules
TRAINING_EXECUTIONS = {
    "cpu": [Execution(), Execution(compile=True)],
    "cuda": [Execution(), Execution("bf16"), Execution("bf16", compile=True)],
}
EVALUATION_EXECUTIONS = {
    "cpu": [Execution(), Execution(compile=True)],
    "cuda": [Execution(), Execution("tf32", compile=True)],
}
DETAILED = ("cuda",)  # where layout and dense groups are rows as well
# Grouped convolutions of vargconvnet at 224 px: channels in and out, kernel, stride, groups, height and width.
GROUPED = [(128, 256, 3, 1, 2, 28), (160, 320, 3, 1, 4, 14), (320, 640, 3, 1, 8, 7), (160, 320, 5, 2, 4, 14)]


@dataclass(frozen=True)
class Work:
    """A network, its batches, its recipe and its device."""

    network: str
    arguments: dict
    classes: int
    size: int
    batch: int
    recipe: Recipe
    device: torch.device

    def __str__(self) -> str:
        return f"{self.network}, {self.size} px, batch {self.batch}, {self.device.type}"

    def model(self) -> nn.Module:
        """The network with random weights."""
        torch.manual_seed(0)
        return create_model(self.network, self.classes, self.size, self.arguments)

    def images(self) -> Batch:
        """Random pixels, uint8 [batch, 3, size, size], and labels, the same each time."""
        torch.manual_seed(0)
        pixels = torch.randint(0, 256, (self.batch, 3, self.size, self.size), dtype=torch.uint8)
        return pixels.to(self.device), torch.randint(0, self.classes, (self.batch,)).to(self.device)

    @cached_property
    def program(self) -> Program:
        """The network with BatchNorm folded, calibrated on a few images."""
        folded = fold(capture(self.model().eval(), (3, self.size, self.size)))
        return calibrate(folded, lambda: [normalize(self.images()[0][:16].cpu())])


def plain_recipe(params: Params) -> Recipe:
    """The recipe of params.yaml's float training, without what timm's loop lacks, and slow enough for random images."""
    changes = {"optimizer": "sgd", "schedule": "cosine", "lr": 1e-4, "epochs": 10, "warmup_epochs": 0}
    alone = {"processes": 1, "accumulate": 1, "clip_grad": None, "ema_decay": None}
    return params.float_recipe.model_copy(update=changes | alone)


def classes(params: Params) -> int:
    """The number of classes that params.yaml names, or else the database."""
    return params.model.num_classes or len(open_database(params, "val").class_names)


def works(params: Params, device: torch.device) -> list[Work]:
    """What is measured by default on this device."""
    if device.type == "cuda":
        networks, sizes = ("vargconvnet", "resnet50"), (256, 512)
        return [Work(name, {}, 1000, 224, batch, plain_recipe(params), device) for batch in sizes for name in networks]
    model = params.model
    size, batch = params.input.size, params.batch_size
    return [Work(model.name, model.arguments, classes(params), size, batch, plain_recipe(params), device)]


def training(work: Work) -> Contestants:
    """Training steps of each kind."""
    program = work.program
    rows: dict[str, Step] = {}
    for execution in TRAINING_EXECUTIONS[work.device.type]:
        title = _title(execution)
        rows[f"ours, {title}"] = our_step(work, work.model(), execution)
        rows[f"timm's loop, {title}"] = timm_step(work, execution, torch.channels_last)
        rows[f"QAT, {title}"] = our_step(work, FakeQuantModel(program), execution)
        if work.device.type in DETAILED:
            rows[f"timm's loop, {title}, contiguous"] = timm_step(work, execution, torch.contiguous_format)
        if work.device.type in DETAILED and execution.precision == "bf16":
            dense = replace(execution, dense_groups=True)
            rows[f"ours, {title}, dense groups"] = our_step(work, work.model(), dense)
            rows[f"QAT, {title}, dense groups"] = our_step(work, FakeQuantModel(program), dense)
    return {name: repeated(step, work.batch) for name, step in rows.items()}


def evaluation(work: Work) -> Contestants:
    """Logits of a batch, in float and in integers, whose bits are compared with those of the default execution."""
    pixels, _ = work.images()
    x = normalize(pixels).contiguous(memory_format=torch.channels_last)
    network = work.model().to(work.device).to(memory_format=torch.channels_last).eval()
    integer = integer_logits(convert(work.program), work.device)

    def evaluated(logits_of: Callable[[Tensor], Tensor], x: Tensor, execution: Execution) -> Step:
        logits_of = torch.compile(logits_of) if execution.compile else logits_of

        @torch.no_grad()
        def step(number: int) -> Tensor:
            with execution.active():
                return logits_of(x)

        return step

    rows: dict[str, Step] = {}
    exact = evaluated(integer, pixels, Execution())(0)
    for execution in EVALUATION_EXECUTIONS[work.device.type]:
        rows[f"float, {_title(execution)}"] = evaluated(network, x, execution)
        integers = evaluated(integer, pixels, execution)
        note = "" if torch.equal(integers(0), exact) else ": NOT EXACT"
        rows[f"integers, {_title(execution)}{note}"] = integers
    return {name: repeated(step, work.batch) for name, step in rows.items()}


def grouped(shape: tuple[int, int, int, int, int, int], device: torch.device) -> Contestants:
    """Forward and backward of a grouped convolution as it is and as a dense one, of GROUPED; bf16 on a GPU."""
    channels, out, kernel, stride, groups, side = shape
    batch, dtype = (256, torch.bfloat16) if device.type == "cuda" else (8, torch.float32)
    x = torch.randn(batch, channels, side, side, device=device, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    weight = torch.randn(out, channels // groups, kernel, kernel, device=device, dtype=dtype)
    operands = x.requires_grad_(), weight.requires_grad_()

    def step(number: int, dense: bool = False) -> Tensor:
        kernels = block_diagonal(weight, groups) if dense else weight
        y = F.conv2d(x, kernels, None, stride, kernel // 2, 1, 1 if dense else groups)
        return torch.autograd.grad(y, operands, torch.ones_like(y))[1]

    return {"grouped": repeated(step, batch), "dense": repeated(partial(step, dense=True), batch)}


def our_step(work: Work, model: nn.Module, execution: Execution) -> Callable[..., Tensor]:
    """A training step of ours, of random images unless it is given a batch."""
    options: dict[str, Any] = {"project": FakeQuantModel.project} if isinstance(model, FakeQuantModel) else {}
    loss_of = label_loss(work.recipe.label_smoothing)
    step = TrainingStep(model.to(work.device), work.recipe, loss_of, execution, **options)
    step.train()
    schedule = Schedule(step.optimizer, work.recipe, EPOCH)
    own = (work.images(),)

    def one(number: int, parts: Sequence[Batch] = own) -> Tensor:
        schedule.before_step(number)
        return step(parts, range(1), (0, 0, number), number + 1)[0]

    return one


def timm_step(work: Work, execution: Execution, layout: torch.memory_format) -> Step:
    """A training step of timm's loop."""
    model = work.model().to(work.device).to(memory_format=layout).train()
    recipe = work.recipe
    optimizer = create_optimizer_v2(
        model, "momentum", lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    scheduler, _ = create_scheduler_v2(
        optimizer, num_epochs=recipe.epochs, step_on_epochs=False, updates_per_epoch=EPOCH
    )
    loss_of = LabelSmoothingCrossEntropy(recipe.label_smoothing)
    network = torch.compile(model) if execution.compile else model
    pixels, labels = work.images()

    def one(number: int) -> Tensor:
        x = normalize(pixels).contiguous(memory_format=layout)
        with execution.autocast(work.device):
            loss = loss_of(network(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step_update(number + 1)
        return loss.detach()

    return one


def _title(execution: Execution) -> str:
    return execution.precision + (", compiled" if execution.compile else "")


def repeated(step: Step, batch: int) -> Callable[[], int]:
    """A function that makes the next STEPS steps and waits for them."""
    numbers = count()

    def work() -> int:
        for _ in range(STEPS):
            result = step(next(numbers))
        result.flatten()[0].item()  # waits for the GPU
        return STEPS * batch

    return work
