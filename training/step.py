"""One step of training: from the pictures of a batch to new weights."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.amp import GradScaler

from evaluation.score import NotFinite
from models.normalization import normalize
from pixels.batches import Batch
from pixels.seeds import derive_seed
from training.distributed import Group
from training.execution import PLAIN, Execution
from training.losses import LossOf
from training.mixing import Mixing
from training.optimization import make_optimizer
from training.recipe import Recipe

Seeds = tuple[int, int, int]  # of the run, epoch, step
PROJECT_EVERY = 64  # steps of a GPU, which has to wait while weights that left what is allowed are looked for
SMALLEST_SCALE = 2.0**-16  # of the loss in fp16, which is halved where gradients are not finite: a few times are usual


class _Work(NamedTuple):
    """What a step is made of, as in `TrainingStep.__call__`."""

    parts: Sequence[Batch]
    numbers: Sequence[int]
    seeds: Seeds

    def __str__(self) -> str:
        return f"in epoch {self.seeds[1] + 1}, step {self.seeds[2] + 1}"


class _Unchecked(NamedTuple):
    """A step, the weights before it, and its loss, which is there once the device has come to `known`."""

    work: _Work
    before: list[Tensor]
    loss: Tensor
    known: torch.cuda.Event | None


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
        project: Called with the model after each update or, on a GPU, each PROJECT_EVERYth, to put weights back, in
            place, that left what is allowed.

    Raises:
        ValueError: If nothing is left to train.

    Attributes:
        kept: What is scored and kept: the model or, with `recipe.ema_decay`, the average of its weights.
        late: Whether a loss is looked at when the next step has been given to the device, as that of a GPU is.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        loss_of: LossOf,
        execution: Execution = PLAIN,
        group: Group | None = None,
        mixing: Mixing | None = None,
        frozen: Sequence[nn.Module] = (),
        project: Callable[[nn.Module], None] = lambda model: None,
    ):
        for part in frozen:
            part.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ValueError("all layers are frozen, and no weight is left to train")
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
        self.scaler = GradScaler(self.device.type, enabled=execution.precision == "fp16")
        self.ema = _average(model, recipe.ema_decay) if recipe.ema_decay else None
        self.kept = self.ema.module if self.ema else model
        self.network = execution.of(self.group.wrap(model))
        self.late = self.device.type != "cpu"
        self.unchecked: deque[_Unchecked] = deque()
        self.state = [value for value in model.state_dict().values() if value.is_floating_point()]

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
            NotFinite: If the loss, or `late` the one of the step before, is NaN or infinite; says in which step and, of
                one that was made again, where in the network it began.
        """
        work = _Work(parts, numbers, seeds)
        with self.execution.active():
            if not self.late:
                return self._step(work, done)
            before = list(torch._foreach_mul(self.state, 1))  # copies, by one kernel
            figures = self._step(work, done)
        loss = figures.to("cpu", non_blocking=True)[0]
        known = torch.cuda.current_stream().record_event() if figures.is_cuda else None
        self.unchecked.append(_Unchecked(work, before, loss, known))
        self.check(but=1)
        return figures

    def check(self, but: int = 0) -> None:
        """Look at the losses of all steps but the last ones; of all steps, at what fp16 makes of the gradients, too.

        Raises:
            NotFinite: If one is NaN or infinite; the weights are again those that made it so. If gradients stay so.
        """
        while len(self.unchecked) > but:
            work, before, loss, known = self.unchecked.popleft()
            if known:
                known.synchronize()
            if not loss.isfinite():
                self._make_again(work, before)
                raise NotFinite(f"the loss is {loss.item()} {work}, but not when that is made again")
        if not but and (scale := self.scaler.get_scale()) < SMALLEST_SCALE:
            raise NotFinite(f"the gradients in fp16 are not finite, even of {scale:.1g} times the loss")

    @torch.no_grad()
    def _make_again(self, work: _Work, before: list[Tensor]) -> None:
        torch._foreach_copy_(self.state, before)
        with self.execution.active():
            for part in range(len(work.parts)):
                loss, _, x = self._forward(work, part, self.model)
                self._require_finite(loss, x, work)

    def _step(self, work: _Work, done: int) -> Tensor:
        figures = torch.zeros(2, dtype=torch.float64, device=self.device)
        self.optimizer.zero_grad()
        parts = len(work.parts)
        for part in range(parts):
            with nullcontext() if part == parts - 1 or self.group.size == 1 else self.network.no_sync():
                loss, right, x = self._forward(work, part, self.network)
                if not self.late:
                    self._require_finite(loss, x, work)
                self.scaler.scale(loss / parts if parts > 1 else loss).backward()
            figures += torch.stack([loss.detach().double() / parts, right.double()])
        if self.recipe.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.scaler.step(self.optimizer)  # in fp16, but for one with an overflow in its gradients
        self.scaler.update()
        if not self.late or done % PROJECT_EVERY == 0:
            self.project(self.model)
        if self.ema:
            self.ema.update(self.model, done)
        return figures

    def _forward(self, work: _Work, part: int, network: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, correct pictures, and what the network saw."""
        pixels, labels = work.parts[part]
        torch.manual_seed(derive_seed(*work.seeds, work.numbers[part]))  # for what draws as it runs, such as dropout
        x = normalize(pixels.to(self.device, non_blocking=True)).contiguous(memory_format=torch.channels_last)
        targets = labels.to(self.device, non_blocking=True)
        if self.mixing:
            x, targets = self.mixing(x, targets, *work.seeds)
        with self.execution.autocast(self.device):
            logits = network(x).float()
            loss = self.loss_of(logits, targets, x)
        likeliest = targets if targets.dim() == 1 else targets.argmax(dim=1)
        return loss, (logits.detach().argmax(dim=1) == likeliest).sum(), x

    def _require_finite(self, loss: Tensor, x: Tensor, work: _Work) -> None:
        if not loss.isfinite():
            with self.execution.autocast(self.device):
                first = first_not_finite(self.model, x)
            raise NotFinite(f"the loss is {loss.item()} {work}, and the first to be so is {first}")


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
    state = model.state_dict()
    return {name: value.cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}


def _average(model: nn.Module, decay: float) -> ModelEmaV3:
    """The exponential moving average of weights and buffers, whose decay in step 1, 2, ... is min(decay, s / (s + 9)).

    Here s is step - 1, so that the start is forgotten: the warm-up of TensorFlow's ExponentialMovingAverage.
    """
    return ModelEmaV3(model, decay, use_warmup=True, warmup_gamma=9, warmup_power=1)
