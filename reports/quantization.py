"""What quantization costs and gains, measured step by step and operation by operation."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from torch import Tensor

from evaluation.score import Scores
from fixedpoint.analysis.statistics import (
    INT8,
    Noise,
    OwnNoise,
    Values,
    accumulated_noise,
    integer_values,
    own_noise,
    result_bounds,
    weight_histogram,
)
from fixedpoint.c.memory_plan import plan
from fixedpoint.c.source import flash_bytes
from fixedpoint.onnx.runtime import saturating_weights
from fixedpoint.program import Op, Program
from fixedpoint.program.bounds import accumulator_bound
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from storage.model_file import ModelInfo

WORST = 5


@dataclass(frozen=True)
class Form:
    """A form of the model.

    Attributes:
        label: What it is called.
        scores: None where nobody has scored it.
        noise: Of its logits against the float network's.
        own_weights: Of its logits against those of its weights in float.
    """

    label: str
    scores: Scores | None
    noise: Noise = field(default_factory=Noise)
    own_weights: Noise = field(default_factory=Noise)


@dataclass(frozen=True)
class Weights:
    """The weights of a conv or linear.

    Attributes:
        histogram: How often each int8 value occurs, int64 [256].
        exponents: The least and the greatest.
        accumulator: Greatest magnitude that is possible in its accumulators.
    """

    histogram: Tensor
    exponents: tuple[int, int]
    accumulator: int

    def share(self, magnitudes: Iterable[int]) -> float:
        """Of the weights that have one of these magnitudes."""
        counts = self.histogram.tolist()
        return sum(counts[q - INT8[0]] for m in magnitudes for q in {m, -m} if q in INT8) / sum(counts)


@dataclass(frozen=True)
class Layer:
    """An operation of the integer model and the tensor that it computes.

    Attributes:
        exponent: Of the result; None of raw accumulators.
        bounds: Least and greatest integer of the result; None of raw accumulators.
        own: Noise that it adds by itself, calibrated.
        calibrated, integer: Noise up to here against the float network.
        own_weights: Noise up to here of the integer model against its weights in float.
        weights: None where there are none.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    exponent: int | None
    bounds: tuple[int, int] | None
    values: Values
    own: OwnNoise
    calibrated: Noise
    integer: Noise
    own_weights: Noise
    weights: Weights | None

    @property
    def clipped(self) -> float:
        """Share of its values."""
        return self.values.clipped / self.values.elements

    @property
    def rounding_share(self) -> float:
        """Of the noise that it adds by itself, what is from rounding and clipping its result."""
        return min(self.own.result.noise / self.own.total.noise, 1)


@dataclass(frozen=True)
class Report:
    """What is measured.

    Attributes:
        network: Its name.
        input_shape: Channels, height, width.
        color_space: Of the input.
        images: How many the statistics are of.
        weight_limit: Greatest magnitude of a weight.
        arithmetic: Of the integer model.
        forms: By name: float, covering, ptq, int.
        layers: In order of computation.
        saturating: Weights by layer that make the QDQ file unsafe, of `fixedpoint.onnx.runtime.saturating_weights`.
        peak: Bytes of memory that the C program needs for activations.
        flash: Bytes of its constants.
    """

    network: str
    input_shape: tuple[int, int, int]
    color_space: str
    images: int
    weight_limit: int
    arithmetic: str
    forms: dict[str, Form]
    layers: list[Layer]
    saturating: dict[str, int]
    peak: int
    flash: int

    @property
    def worst(self) -> list[Layer]:
        """The operations that add most noise by themselves, the worst first."""
        noisy = [layer for layer in self.layers if layer.own.total.noise]
        return sorted(noisy, key=attrgetter("own.total.decibels"))[:WORST]

    @property
    def most_clipped(self) -> Layer:
        """The operation of whose values the greatest share is clipped."""
        return max(self.layers, key=attrgetter("clipped"))

    @property
    def tightest(self) -> Layer:
        """The operation whose accumulators can become largest."""
        return max(self._weighted, key=attrgetter("weights.accumulator"))

    @property
    def weight_count(self) -> int:
        """Of all operations together."""
        return sum(int(weights.histogram.sum()) for layer in self._weighted if (weights := layer.weights))

    @property
    def _weighted(self) -> list[Layer]:
        return [layer for layer in self.layers if layer.weights]


def measure(
    reference: Program,
    programs: Mapping[str, Program],
    covering: Program,
    scores: Mapping[str, Scores | None],
    info: ModelInfo,
    count: int,
    images: Callable[[], Iterable[Tensor]],
) -> Report:
    """Everything that the page shows.

    Args:
        reference: The float network.
        programs: Those of the ptq, qat and int model files.
        covering: Of `covering_program`.
        scores: Of the forms float, covering, ptq and int.
        info: Of the int model file.
        count: How many images the statistics are of.
        images: Gives these, as the network's input in batches.
    """
    program, ptq = programs["int"], convert(programs["ptq"])
    noise = accumulated_noise(reference, {"covering": covering, "ptq": ptq, "int": program}, images())
    noise["own_weights"] = accumulated_noise(programs["qat"], {"int": program}, images())["int"]
    own, values = own_noise(reference, ptq, images()), integer_values(program, images())
    logits = {form: of_form[program.output] for form, of_form in noise.items()}
    return Report(
        network=info.name,
        input_shape=program.input_shape,
        color_space=info.color_space,
        images=count,
        weight_limit=program.weight_limit,
        arithmetic=program.arithmetic,
        forms={
            "float": Form("float", scores["float"]),
            "covering": Form("covering exponents", scores["covering"], logits["covering"], logits["covering"]),
            "ptq": Form("calibrated", scores["ptq"], logits["ptq"], logits["ptq"]),
            "int": Form("QAT = integer", scores["int"], logits["int"], logits["own_weights"]),
        },
        layers=[
            Layer(
                name=op.name,
                kind=op.kind,
                shape=op.shape,
                exponent=program.exponents.get(op.name),
                bounds=result_bounds(program, op) if op.name in program.exponents else None,
                values=values[op.name],
                own=own[op.name],
                calibrated=noise["ptq"][op.name],
                integer=noise["int"][op.name],
                own_weights=noise["own_weights"][op.name],
                weights=_weights(program, op) if op.weighted else None,
            )
            for op in program.ops
        ],
        saturating=saturating_weights(program),
        peak=plan(program).peak,
        flash=flash_bytes(program),
    )


def covering_program(reference: Program, program: Program, images: Callable[[], Iterable[Tensor]]) -> Program:
    """The float network in the arithmetic of `program`, with the exponents that cover its tensors and no finer ones.

    Args:
        reference: The float network.
        program: The integer one.
        images: Gives those of the calibration, as the network's input in batches.
    """
    bits = program.weight_limit.bit_length() + 1
    with warnings.catch_warnings(action="ignore"):  # the calibrate stage has shown them
        return convert(calibrate(reference, images, 0, program.arithmetic, bits))


def _weights(program: Program, op: Op) -> Weights:
    exponents = program.constants[f"{op.name}.weight_exponent"]
    bound = accumulator_bound(program, op, *(program.constants[f"{op.name}.{name}"] for name in ("weight", "bias")))
    return Weights(weight_histogram(program, op), (int(exponents.min()), int(exponents.max())), int(bound.max()))
