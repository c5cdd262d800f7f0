"""One step of training: from the pictures of a batch to new weights."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from training.augment import derive_seed, normalize
from training.data import Batch
from training.distributed import Group
from training.grouped import use_dense
from training.losses import LossOf
from training.mixing import Mixing
from training.optimization import make_optimizer
from training.recipe import Recipe

Seeds = tuple[int, int, int]  # of the run, epoch, step


@dataclass(frozen=True)
class Execution:
    """How a training step is computed.

    Attributes:
        precision: "tf32" and "bf16" convolve with fewer bits.
        compile: by torch.compile.
        dense_groups: grouped convolutions as dense ones, where `training.grouped` knows that to be faster.
    """

    precision: Literal["float32", "tf32", "bf16"] = "float32"
    compile: bool = False
    dense_groups: bool = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """Outside of the block, nothing is computed with fewer bits, or by whatever cuDNN finds to be fastest."""
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
        cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
        cudnn.allow_tf32 = matmul.allow_tf32 = self.precision != "float32"
        try:
            yield
        finally:
            cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


class NotFinite(ValueError):
    """A loss is NaN or infinite; says where in the network that began."""


class TrainingStep:
    """Forward, backward and update.

    Args:
        model: On the device to train on; its input is float32 [batch, 3, size, size].
        recipe: Optimizer, clipping, averaging.
        loss_of: What is minimized.
        execution: How it is computed.
        group: The processes that share each batch.
        mixing: What mixes pictures and labels.
        frozen: Parts of `model` that stay as they are.
        project: Called with the model after each update, to put weights back, in place, that left what is allowed.

    Attributes:
        kept: What is scored and kept: the model or, with `recipe.ema_decay`, the average of its weights.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        loss_of: LossOf,
        execution: Execution = Execution(),
        group: Group | None = None,
        mixing: Mixing | None = None,
        frozen: Sequence[nn.Module] = (),
        project: Callable[[nn.Module], None] = lambda model: None,
    ):
        for part in frozen:
            part.requires_grad_(False)
        if execution.dense_groups:
            use_dense(model)
        self.model = model.to(memory_format=torch.channels_last)
        self.recipe = recipe
        self.loss_of = loss_of
        self.execution = execution
        self.group = group or Group()
        self.mixing = mixing
        self.frozen = frozen
        self.project = project
        self.device = next(model.parameters()).device
        self.optimizer = make_optimizer(model, recipe)
        self.ema = _average(model, recipe.ema_decay) if recipe.ema_decay else None
        self.kept = self.ema.module if self.ema else model
        self.network: Any = self.group.wrap(model)
        if execution.compile:
            self.network = torch.compile(self.network, dynamic=False)

    def train(self) -> None:
        """Put the model into train mode, frozen parts excepted."""
        self.network.train()
        for part in self.frozen:
            part.eval()

    def __call__(self, parts: Sequence[Batch], numbers: Sequence[int], seeds: Seeds, done: int) -> Tensor:
        """Make one step.

        Args:
            parts: This process's share of a batch, uint8 pixels [batch, 3, size, size] and labels each.
            numbers: Their numbers among all parts of the batch.
            seeds: Seed, epoch and step, from which mixing and dropout draw.
            done: Steps of the whole run, this one included.

        Returns:
            float64 [2]: mean of the parts' losses, and how many of their pictures have their greatest logit where
            their label (of mixed ones, the greater part of it) is. On the device, and perhaps not there yet.

        Raises:
            NotFinite: On the CPU, before the weights change; a GPU is not made to wait for its loss.
        """
        with self.execution.active():
            return self._step(parts, numbers, seeds, done)

    def _step(self, parts: Sequence[Batch], numbers: Sequence[int], seeds: Seeds, done: int) -> Tensor:
        figures = torch.zeros(2, dtype=torch.float64, device=self.device)
        self.optimizer.zero_grad()
        for i, ((pixels, labels), number) in enumerate(zip(parts, numbers, strict=True), 1):
            torch.manual_seed(derive_seed(*seeds, number))  # for what draws as it runs, such as dropout
            last = i == len(parts)
            with nullcontext() if last or self.group.size == 1 else self.network.no_sync():
                loss, right = self._forward(pixels, labels, seeds)
                (loss / len(parts) if len(parts) > 1 else loss).backward()
            figures += torch.stack([loss.detach().double() / len(parts), right.double()])
        if self.recipe.clip_grad:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.optimizer.step()
        self.project(self.model)
        if self.ema:
            self.ema.update(self.model, done)
        return figures

    def _forward(self, pixels: Tensor, labels: Tensor, seeds: Seeds) -> tuple[Tensor, Tensor]:
        x = normalize(pixels.to(self.device, non_blocking=True)).contiguous(memory_format=torch.channels_last)
        targets = labels.to(self.device, non_blocking=True)
        if self.mixing:
            x, targets = self.mixing(x, targets, *seeds)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.execution.precision == "bf16"):
            logits = self.network(x)
            if self.execution.precision == "bf16":
                logits = logits.float()
            loss = self.loss_of(logits, targets, x)
        if self.device.type == "cpu" and not loss.isfinite():
            raise NotFinite(f"the loss is {loss.item()}, and the first to be so is {first_not_finite(self.model, x)}")
        likeliest = targets if targets.dim() == 1 else targets.argmax(dim=1)
        return loss, (logits.detach().argmax(dim=1) == likeliest).sum()


@torch.no_grad()
def first_not_finite(model: nn.Module, x: Tensor) -> str:
    """What in the model has the first value that is not finite when it sees `x`, in words; its statistics change."""
    for name, tensor in model.named_parameters():
        if not tensor.isfinite().all():
            return f"the weights {name}"
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, tuple, object], None]:
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            if not found and isinstance(output, Tensor) and not output.isfinite().all():
                found.append(f"the output of {name}")

        return hook

    hooks = [module.register_forward_hook(look(name or "the network")) for name, module in model.named_modules()]
    model(x)
    for handle in hooks:
        handle.remove()
    return found[0] if found else "itself, of finite logits"


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state dict on the CPU."""
    return {name: copy.deepcopy(value.detach().cpu().contiguous()) for name, value in model.state_dict().items()}


def _average(model: nn.Module, decay: float) -> ModelEmaV3:
    """The exponential moving average of weights and buffers, whose decay in step 1, 2, ... is min(decay, s / (s + 9)).

    Here s is step - 1, so that the start is forgotten: the warm-up of TensorFlow's ExponentialMovingAverage.
    """
    return ModelEmaV3(model, decay, use_warmup=True, warmup_gamma=9, warmup_power=1)
