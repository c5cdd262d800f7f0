"""One training step: from the images of a batch to new weights."""

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
from storage.errors import InputError
from training.distributed import Group
from training.execution import PLAIN, Execution
from training.losses import LossOf
from training.mixing import Mixing
from training.optimization import make_optimizer
from training.recipe import Recipe

Seeds = tuple[int, int, int]  # seed of the run, epoch, step
PROJECT_EVERY = 64  # steps on a GPU from one projection to the next, because the GPU has to wait for each
SMALLEST_SCALE = 2.0**-16  # fp16 halves the scale of the loss if gradients are not finite; a few times are normal


class _Work(NamedTuple):
    """The inputs of a step: the arguments of `TrainingStep.__call__`."""

    parts: Sequence[Batch]
    numbers: Sequence[int]
    seeds: Seeds

    def __str__(self) -> str:
        return f"in epoch {self.seeds[1] + 1}, step {self.seeds[2] + 1}"


class _Unchecked(NamedTuple):
    """A step, the weights before it, and its loss, which is valid once the device has reached `known`."""

    work: _Work
    before: list[Tensor]
    loss: Tensor
    known: torch.cuda.Event | None


class TrainingStep:
    """Forward, backward and update.

    Args:
        model: The model, on the device to train on; its input is float32 [batch, 3, size, size].
        recipe: Gives the optimizer, the clipping and the averaging.
        loss_of: The loss to minimize.
        execution: How the step is computed.
        group: The processes that share each batch.
        mixing: Mixes images and labels; None: they are not mixed.
        frozen: Parts of `model` that do not change.
        project: Brings weights back into their allowed range, in place; called with the model after each update, on
            a GPU after each PROJECT_EVERYth.

    Raises:
        InputError: If there are epochs, and all weights are frozen.

    Attributes:
        scored: The model that is validated and saved: the trained one or, with `recipe.ema_decay`, its average.
        late: Whether a loss is checked only after the device has got the next step, as on a GPU.
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
        if not recipe.epochs:
            model.requires_grad_(True)  # an optimizer must have weights, although it has no step to do
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise InputError("all layers are frozen, and no weight is left to train")
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
        self.scored = self.ema.module if self.ema else model
        self.network = execution.of(self.group.wrap(model))
        self.late = self.device.type != "cpu"
        self.unchecked: deque[_Unchecked] = deque()
        self.state = [value for value in model.state_dict().values() if value.is_floating_point()]

    def train(self) -> None:
        """Put the model, except frozen parts, into training mode."""
        self.network.train()
        for part in self.frozen:
            part.eval()

    def __call__(self, parts: Sequence[Batch], numbers: Sequence[int], seeds: Seeds, done: int) -> Tensor:
        """Make one step.

        Args:
            parts: This process's parts of a batch, each uint8 pixels [batch, 3, size, size] and labels.
            numbers: The numbers of these parts among all parts of the batch.
            seeds: Seed, epoch and step, which determine mixing and dropout.
            done: Steps of the run, including this one.

        Returns:
            float64 [2]: the mean loss of the parts, and the number of images whose largest logit is that of their
            label (if mixed: of its larger part). The tensor is on the device, which may still be computing it.

        Raises:
            NotFinite: If the loss (if `late`: that of the step before) is NaN or infinite; the message names the step
                and the first such value in the network.
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
        """Check the losses of all steps but the last `but` ones; if 0, check also the gradients in fp16.

        Raises:
            NotFinite: If a loss is NaN or infinite, with the weights from before that step put back; or if the
                gradients in fp16 are not finite at any scale.
        """
        while len(self.unchecked) > but:
            work, before, loss, known = self.unchecked.popleft()
            if known:
                known.synchronize()
            if not loss.isfinite():
                self._repeat(work, before)
                raise NotFinite(f"the loss is {loss.item()} {work}, but it is finite when the step is repeated")
        if not but and (scale := self.scaler.get_scale()) < SMALLEST_SCALE:
            raise NotFinite(f"the gradients in fp16 are not finite, even of {scale:.1g} times the loss")

    @torch.no_grad()
    def _repeat(self, work: _Work, before: list[Tensor]) -> None:
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
                loss, correct, x = self._forward(work, part, self.network)
                if not self.late:
                    self._require_finite(loss, x, work)
                self.scaler.scale(loss / parts if parts > 1 else loss).backward()
            figures += torch.stack([loss.detach().double() / parts, correct.double()])
        if self.recipe.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.scaler.step(self.optimizer)  # fp16 skips the step if its gradients overflow
        self.scaler.update()
        if not self.late or done % PROJECT_EVERY == 0:
            self.project(self.model)
        if self.ema:
            self.ema.update(self.model, done)
        return figures

    def _forward(self, work: _Work, part: int, network: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, the number of correct images, and the network's input."""
        pixels, labels = work.parts[part]
        self._seed(derive_seed(*work.seeds, work.numbers[part]))  # for random layers, such as dropout
        x = normalize(pixels.to(self.device, non_blocking=True)).contiguous(memory_format=torch.channels_last)
        targets = labels.to(self.device, non_blocking=True)
        if self.mixing:
            x, targets = self.mixing(x, targets, *work.seeds)
        with self.execution.autocast(self.device):
            logits = network(x).float()
            loss = self.loss_of(logits, targets, x)
        likeliest = targets if targets.dim() == 1 else targets.argmax(dim=1)
        return loss, (logits.detach().argmax(dim=1) == likeliest).sum(), x

    def _seed(self, seed: int) -> None:
        if self.device.type == "cpu":  # PyTorch's own seeds GPUs as well, for which it writes down the stack each time
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _require_finite(self, loss: Tensor, x: Tensor, work: _Work) -> None:
        if not loss.isfinite():
            with self.execution.autocast(self.device):
                first = first_not_finite(self.model, x)
            raise NotFinite(f"the loss is {loss.item()} {work}; it began in {first}")


@torch.no_grad()
def first_not_finite(model: nn.Module, x: Tensor) -> str:
    """The first tensor in the model with a value that is not finite for the input `x`, in words.

    The statistics of BatchNorm may change.
    """
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
    return found[0] if found else "the loss itself, from finite logits"


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's state dict, on the CPU."""
    state = model.state_dict()
    return {name: value.cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}


def _average(model: nn.Module, decay: float) -> ModelEmaV3:
    """The exponential moving average of weights and buffers, with decay min(decay, s / (s + 9)) in step s + 1.

    So the average forgets its start: the warm-up of TensorFlow's ExponentialMovingAverage.
    """
    return ModelEmaV3(model, decay, use_warmup=True, warmup_gamma=9, warmup_power=1)
