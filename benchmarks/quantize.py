"""The cost of quantization by us, by PyTorch (torchao, PT2E) and by Brevitas, beside the float network's.

    make bench ONLY=quantize     installs the peers next to the project's packages, and runs this

A training step is forward, cross-entropy, backward and SGD on a batch of random pixels; "distilled" also has the
float network as a teacher, as qat.distill sets it. All quantize to int8, weights with one scale per output channel and
activations with one per tensor, and start from calibrated ranges. Inference is that of the integer model, of PT2E's
converted one and of Brevitas' in eval mode, all in PyTorch without a compiler.
"""

import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from benchmarks.options import options
from benchmarks.profiles import compared, explained
from benchmarks.results import Result, timed
from benchmarks.timing import interleaved_rounds
from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.program.integer import IntegerEvaluator, integer_input
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.qat import FakeQuantModel
from models.normalization import normalize
from models.registry import create_model
from pipeline.machine import prepare
from pipeline.params import load_params
from training.losses import LossOf, distilled_loss, label_loss

Movable = TypeVar("Movable", nn.Module, Tensor)
Contestant = Callable[[nn.Module, Tensor], tuple[nn.Module, Callable]]  # the models for training and for inference

CLASSES = 10
# Image size, batch and arguments of each network, which leave out what is not the same work for all: dropout and
# stochastic depth (folding drops them), BatchNorms that start at zero (NaN in PT2E's QAT) or have an eps of their own
# (PT2E puts PyTorch's default in its place).
NETWORKS: dict[str, tuple[int, int, dict[str, Any]]] = {
    "vargconvnet_32": (32, 64, {}),
    "resnet18": (64, 16, {"zero_init_last": False}),
    "torchvision/mobilenet_v2": (64, 32, {"dropout": 0.0}),
    "torchvision/mobilenet_v3_small": (64, 32, {"dropout": 0.0, "norm_layer": nn.BatchNorm2d}),
    "torchvision/efficientnet_b0": (64, 16, {"dropout": 0.0, "stochastic_depth_prob": 0.0}),
}


def main() -> list[Result]:
    arguments = options("quantize")
    if arguments.quick:
        arguments.networks = arguments.networks[:1]
    warnings.simplefilter("ignore")  # the peers' deprecations
    prepare(load_params().execution)
    torch.use_deterministic_algorithms(False)  # the peers have operations without a deterministic form
    results: list[Result] = []
    for name in arguments.networks:
        size, batch, settings = NETWORKS[name]
        torch.manual_seed(0)
        x = channels_last(normalize(torch.randint(0, 256, (batch, 3, size, size))))
        labels = torch.randint(0, CLASSES, (batch,))
        network = warm(create_model(name, CLASSES, size, settings), x)
        teacher = deepcopy(network).eval()
        training: dict[str, nn.Module] = {"float": network}
        inference: dict[str, Callable] = {"float": teacher}
        peers: dict[str, Contestant] = {"ours": ours, "PT2E": pt2e, "Brevitas": brevitas}
        errors = {}
        for contestant, models in peers.items():
            try:
                training[contestant], inference[contestant] = models(deepcopy(network), x)
            except Exception as error:  # a peer's may be any; it is shown in the table
                errors[contestant] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        steps = {key: _step(model, x, labels, label_loss(0)) for key, model in training.items()}
        distilled = distilled_loss(label_loss(0), teacher, 1, 4)
        steps["ours, distilled"] = _step(training["ours"], x, labels, distilled)
        for task, contestants in {
            "training step": steps,
            "inference": {key: _forward(model, x) for key, model in inference.items()},
        }.items():
            case = f"{name}, {size} px, batch {batch}"
            measured = timed("quantize", case, "images/s", interleaved_rounds(contestants, arguments.rounds), task)
            results += explained(measured, {"ours": list(peers)[1:]}, partial(_compared, contestants))
            results += [Result("quantize", case, key, "images/s", error=errors[key], column=task) for key in errors]
    return results


def _compared(contestants: dict[str, Callable[[], int]], one: str, other: str) -> str:
    return compared(contestants[one], contestants[other])


def channels_last(x: Movable) -> Movable:
    return x.to(memory_format=torch.channels_last)


@torch.no_grad()
def warm(network: nn.Module, x: Tensor) -> nn.Module:
    """The network with BatchNorm statistics of `x`, ready to train."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the statistics of the last batch
    network = channels_last(network.train())
    network(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network


def ours(network: nn.Module, x: Tensor) -> tuple[nn.Module, Callable]:
    _, channels, height, width = x.shape
    program = calibrate(fold(capture(network.eval(), (channels, height, width))), lambda: [x])
    integer = IntegerEvaluator(convert(program))
    return channels_last(FakeQuantModel(program)), lambda x: integer(integer_input(x))


def pt2e(network: nn.Module, x: Tensor) -> tuple[nn.Module, nn.Module]:
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config(is_qat=True))
    prepared = prepare_qat_pt2e(torch.export.export(network.train(), (x,)).module(), quantizer)
    prepared(x)  # sets the ranges; it was exported in train mode
    return prepared, move_exported_model_to_eval(convert_pt2e(deepcopy(prepared)))


def brevitas(network: nn.Module, x: Tensor) -> tuple[nn.Module, nn.Module]:
    from brevitas.fx import value_trace
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.graph.quantize import preprocess_for_quantize, quantize

    graph = value_trace(network.eval(), value_args={"x": x})
    model = quantize(preprocess_for_quantize(graph, trace_model=False))
    with torch.no_grad(), calibration_mode(model):
        model(x)
    return channels_last(model.train()), deepcopy(model).eval()


def _step(model: nn.Module, x: Tensor, labels: Tensor, loss_of: LossOf) -> Callable[[], int]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> int:
        optimizer.zero_grad()
        loss_of(model(x), labels, x).backward()
        optimizer.step()
        if isinstance(model, FakeQuantModel):
            model.project()
        return len(x)

    return step


def _forward(model: Callable, x: Tensor) -> Callable[[], int]:
    @torch.no_grad()
    def forward() -> int:
        model(x)
        return len(x)

    return forward
