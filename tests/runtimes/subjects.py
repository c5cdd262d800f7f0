"""The networks on which runtimes are compared: the pipeline's own model, and networks of timm with random weights.

The statistics of their BatchNorms are those of real images. They are calibrated on some real images and compared on
others, so that some values saturate.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from networks import random_network, real_images
from torch import Tensor

from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.litert.writer import LOGIT_TYPES, litert_model, logit_exponent
from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.qdq import QdqWriter
from fixedpoint.onnx.qoperator import QOperatorWriter
from fixedpoint.program import EXACT8, PORTABLE, Program
from fixedpoint.program.integer import IntegerEvaluator, integer_input, rounded_logits
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.correct import correct_biases
from models.normalization import normalize
from pipeline.databases import plain_batches
from pipeline.forms import INT, QAT, stored_program
from pipeline.params import load_params

SAMPLE = "sample"
ONNX_WRITERS = {"qdq": QdqWriter, "qoperator": QOperatorWriter, "integer": IntegerWriter}


class RefusedError(Exception):
    """A network is not run in a runtime, for a known reason."""


@dataclass(frozen=True)
class Network:
    """What is built and how much of it is compared.

    Attributes:
        size: Size of its images in pixels.
        images: Number of images whose logits are compared; None: all validation images.
        slow: The same for slow runtimes.
        traced: Number of images of which every tensor is compared.
        calibrated: Number of images to calibrate on; not used for the sample.
    """

    name: str
    size: int
    images: int | None
    slow: int
    traced: int
    calibrated: int = 32


ALL = {
    network.name: network
    for network in (
        Network(SAMPLE, 32, None, 500, 64),
        *(
            Network(name, 64, 96, 32, 4)
            for name in (
                "resnet18",
                "resnet50",
                "mobilenetv2_100",
                "regnetx_002",
                "tf_efficientnet_lite0",
                "mobilenetv4_conv_small",
                "densenet121",
            )
        ),
        Network("vargconvnet", 224, 8, 2, 1, calibrated=4),
    )
}


@dataclass(frozen=True, repr=False)
class Subject:
    """A network as files, its input, and what the integer model computes from that: what every runtime must compute.

    Attributes:
        trained: The program of the QAT model.
        program: The integer program.
        x: Network input, float32 [images, channels, height, width].
        folder: With `qdq.onnx`, `qoperator.onnx` and `integer.onnx`, and in portable arithmetic with `int8.tflite` and
            `int16.tflite`, which are named after their logits.
        accumulators: int32 [images, classes].
        tensors: Every int8 tensor of the first images, by name.
    """

    network: Network
    trained: Program
    program: Program
    x: Tensor
    folder: Path
    accumulators: np.ndarray
    tensors: dict[str, np.ndarray]

    @property
    def logits(self) -> dict[str, np.ndarray]:
        """The logits in each unit of a runtime: int32 accumulators, real numbers (float64), int8 and int16."""
        accumulators = torch.from_numpy(self.accumulators)
        found = {
            "accumulators": self.accumulators,
            "real": np.ldexp(self.accumulators.astype(np.float64), -self.program.logit_exponent.numpy()),
        }
        if self.program.is_portable:
            for dtype in LOGIT_TYPES:
                exponent = logit_exponent(self.program, dtype)
                found[dtype] = rounded_logits(self.program, accumulators, exponent, getattr(torch, dtype)).numpy()
        return found


def chosen() -> list[Network]:
    """The networks that NETWORKS names, all if it is not set, those with random weights in SIZE if that is set.

    Raises:
        ValueError: If there is none of that name.
    """
    names, size = os.environ.get("NETWORKS", "").replace(",", " ").split() or list(ALL), os.environ.get("SIZE")
    if unknown := set(names) - ALL.keys():
        raise ValueError(f"NETWORKS has {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    return [replace(ALL[name], size=int(size)) if size and name != SAMPLE else ALL[name] for name in names]


def make_subject(network: Network, folder: Path, arithmetic: str = PORTABLE) -> Subject:
    """Build a network and write its files into `folder`."""
    trained, program, x = _sample() if network.name == SAMPLE else _random(network, arithmetic)
    return subject_of(network, trained, program, x, folder)


def subject_of(network: Network, trained: Program, program: Program, x: Tensor, folder: Path) -> Subject:
    """Write the files of a network into `folder`; the arguments are the attributes of the subject."""
    for form, writer in ONNX_WRITERS.items():
        (folder / f"{form}.onnx").write_bytes(writer.export(program, {}).SerializeToString())
    if program.is_portable:
        for dtype in LOGIT_TYPES:
            (folder / f"{dtype}.tflite").write_bytes(litert_model(program, {}, dtype))
    evaluator = IntegerEvaluator(program)
    accumulators = torch.cat([evaluator(integer_input(batch)).flatten(1) for batch in x.split(32)])
    traced = evaluator.run(integer_input(x[: network.traced]))
    tensors = {name: value.numpy() for name, value in traced if name not in program.raw}
    return Subject(network, trained, program, x, folder, accumulators.numpy(), tensors)


def _sample() -> tuple[Program, Program, Tensor]:
    """The programs of the pipeline, and all validation images."""
    trained, program = (stored_program(file.load()) for file in (QAT, INT))
    if not program.is_portable:
        raise ValueError(f"{INT.path} is in {EXACT8}: set calibrate.arithmetic to {PORTABLE}, then make repro")
    return trained, program, torch.cat([normalize(pixels) for pixels, _ in plain_batches(load_params())])


def _random(network: Network, arithmetic: str) -> tuple[Program, Program, Tensor]:
    images = real_images(network.size, network.calibrated + network.images)
    known, x = images.split([network.calibrated, network.images])
    program = fold(capture(random_network(network.name, network.size, None), (3, network.size, network.size)))
    program = correct_biases(calibrate(program, lambda: [known], arithmetic=arithmetic), known)
    return program, convert(program), x
