"""What a training step would give to a GPU."""

import pytest
import torch
from fake_cuda import CUDA, fake_cuda, moved
from torch import Tensor, nn
from training_runs import recipe

from models.registry import create_model
from training.execution import AUTOCAST, Execution
from training.losses import distilled_loss, label_loss
from training.mixing import Mixing
from training.step import TrainingStep

FUSED = ("sgd", "nesterov", "adamw")


def backward(loss: Tensor, model: nn.Module) -> None:
    """Gradients with the parameters' shapes, because the engine that computes them needs a driver."""
    assert (loss.shape, loss.device, loss.dtype) == ((), CUDA, torch.float32)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)


def watched(model: nn.Module, seen: list[Tensor]) -> nn.Module:
    """The model on the GPU, which adds the results of its convolutions to `seen`."""
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda part, inputs, output: seen.append(output))
    return moved(model)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")  # as PyTorch does, to copy a module
@pytest.mark.parametrize(
    ("values", "precision"),
    [
        (values, precision)
        for values, precisions in (
            ({"optimizer": "sgd"}, ("float32", "tf32", "bf16", "fp16")),
            ({"optimizer": "nesterov", "ema_decay": 0.9, "mixup": 0.2, "cutmix": 1}, ("float32", "fp16")),
            ({"optimizer": "adamw", "clip_grad": 1, "accumulate": 2}, ("bf16", "fp16")),
            # not in fp16: PyTorch's scaler waits for what has no fused kernel
            ({"optimizer": "lamb", "loss": "binary_cross_entropy"}, ("float32",)),
            ({"optimizer": "lamb", "loss": "binary_cross_entropy", "mixup": 0.2, "ema_decay": 0.9}, ("bf16",)),
        )
        for precision in precisions
    ],
)
def test_a_step_is_on_the_gpu_in_the_types_and_the_layout_of_its_precision(monkeypatch, values, precision):
    given = recipe().model_copy(update=values)
    model, teacher = (create_model("vargconvnet_32", 3, 32, {}) for _ in range(2))
    frozen = [next(model.children())]
    seen: list[Tensor] = []
    with fake_cuda():
        monkeypatch.setattr(Tensor, "backward", lambda loss: backward(loss, model))
        teacher = watched(teacher, seen).to(memory_format=torch.channels_last)
        execution = Execution(precision, dense_groups=precision == "bf16")
        loss_of = distilled_loss(label_loss(0.1, given.loss), execution.of(teacher), 0.5, 4)
        mixing = Mixing(given, 3) if given.mixes else None
        step = TrainingStep(watched(model, seen), given, loss_of, execution, mixing=mixing, frozen=frozen)
        for group in step.optimizer.param_groups:
            assert bool(group.get("fused")) == (given.optimizer in FUSED)
            group["fused"] = False  # a fused kernel cannot be called with fake tensors
        if precision == "fp16":  # only the kernel takes a scale
            monkeypatch.setattr(step.optimizer, "step", lambda: None)
        monkeypatch.setattr(step, "check", lambda but: None)  # which checks the losses of earlier steps
        step.train()
        totals = torch.zeros(2, dtype=torch.float64, device=CUDA)
        pixels, labels = torch.empty(8, 3, 32, 32, dtype=torch.uint8), torch.empty(8, dtype=torch.int64)
        for done in range(2):
            totals += step([(pixels, labels)] * given.accumulate, range(given.accumulate), (0, 0, done), done + 1)
        assert {value.device for value in step.scored.state_dict().values()} == {CUDA}
        assert {x.dtype for x in seen} == {AUTOCAST.get(precision, torch.float32)}
        if precision not in AUTOCAST:  # without cuDNN, PyTorch has no such convolution that keeps the layout
            assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)
