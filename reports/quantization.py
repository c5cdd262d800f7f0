"""Measures what quantization costs and gains, step by step and operation by operation."""

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
from fixedpoint.program import PORTABLE, Op, Program
from fixedpoint.program.bounds import accumulator_bound
from fixedpoint.program.portable import lower
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.scales import with_best_scales
from storage.model_file import ModelInfo

WORST = 5


@dataclass(frozen=True)
class FormFigures:
    """The figures of one form of the model.

    Attributes:
        label: The name that is shown.
        scores: Its scores, None if it has not been scored.
        noise: Noise of its logits against the float network's.
        own_weights: Noise of its logits against those of the same weights in float.
    """

    label: str
    scores: Scores | None
    noise: Noise = field(default_factory=Noise)
    own_weights: Noise = field(default_factory=Noise)


@dataclass(frozen=True)
class WeightFigures:
    """The figures of the weights of a conv or linear.

    Attributes:
        histogram: How often each int8 value occurs, int64 [256].
        exponents: The least and the greatest exponent.
        accumulator: Greatest magnitude that its accumulators can reach.
    """

    histogram: Tensor
    exponents: tuple[int, int]
    accumulator: int

    def fraction(self, magnitudes: Iterable[int]) -> float:
        """The fraction of the weights that have one of these magnitudes."""
        counts = self.histogram.tolist()
        return sum(counts[q - INT8[0]] for m in magnitudes for q in {m, -m} if q in INT8) / sum(counts)


@dataclass(frozen=True)
class OperationFigures:
    """The figures of an operation of the integer model and of the tensor that it computes.

    Attributes:
        exponent: Exponent of the result; None for raw accumulators.
        bounds: Least and greatest integer of the result; None for raw accumulators.
        own: Noise that the calibrated operation adds by itself.
        calibrated, integer: Noise of the tensor in that form against the float network.
        own_weights: Noise of the integer model's tensor against that of the same weights in float.
        weights: None if the operation has no weights.
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
    weights: WeightFigures | None

    @property
    def clipped(self) -> float:
        """The fraction of its values that is clipped."""
        return self.values.clipped / self.values.elements

    @property
    def rounding_fraction(self) -> float:
        """The fraction of its own noise that comes from rounding and clipping the result."""
        return min(self.own.result.noise / self.own.total.noise, 1)


@dataclass(frozen=True)
class Report:
    """Everything that the report shows.

    Attributes:
        network: The network's name.
        input_shape: Channels, height, width.
        color_space: Colour space of the input.
        images: Number of images that the statistics are computed from.
        split: What these images are.
        weight_limit: Greatest magnitude of an integer weight.
        arithmetic: Arithmetic of the integer model.
        trained: Whether QAT has trained the weights.
        forms: Figures by form: float, covering, ptq, int.
        layers: Figures of the operations, in order of computation.
        saturating: The result of `fixedpoint.onnx.runtime.saturating_weights`: weights that make the QDQ file unsafe.
        peak: Bytes of memory that the C program needs for activations.
        flash: Bytes of its constants.
    """

    network: str
    input_shape: tuple[int, int, int]
    color_space: str
    images: int
    split: str
    weight_limit: int
    arithmetic: str
    trained: bool
    forms: dict[str, FormFigures]
    layers: list[OperationFigures]
    saturating: dict[str, int]
    peak: int
    flash: int

    @property
    def worst(self) -> list[OperationFigures]:
        """The operations that add most noise by themselves, the worst first."""
        noisy = [layer for layer in self.layers if layer.own.total.noise]
        return sorted(noisy, key=attrgetter("own.total.decibels"))[:WORST]

    @property
    def advice(self) -> list[str]:
        """What helps the operations of `worst`, by where most of their noise comes from."""
        by_weights = [layer.name for layer in self.worst if layer.rounding_fraction < 0.5]
        by_result = [layer.name for layer in self.worst if layer.rounding_fraction >= 0.5]
        found = []
        if by_weights:
            bit = ""
            if self.arithmetic == PORTABLE:
                bit = "calibrate.arithmetic: exact8 gives them one bit more, and "
            elif self.weight_limit < INT8.stop - 1:
                bit = "calibrate.weight_bits: 8 gives them one bit more, and "
            how = "calibrate.reconstruction rounds them for the result, better with more images and steps"
            found.append(f"Most is lost in the weights of {', '.join(by_weights)}: {bit}{how}.")
        if by_result:
            how = "no other weights take that back; QAT (qat.epochs) trains the layers behind them for it"
            found.append(f"Most is lost by rounding and clipping the results of {', '.join(by_result)}: {how}.")
        return found

    @property
    def most_clipped(self) -> OperationFigures:
        """The operation that clips the greatest fraction of its values."""
        return max(self.layers, key=attrgetter("clipped"))

    @property
    def tightest(self) -> OperationFigures:
        """The operation whose accumulators can become largest."""
        return max(self._weighted, key=attrgetter("weights.accumulator"))

    @property
    def weight_count(self) -> int:
        """The number of weights of all operations."""
        return sum(int(weights.histogram.sum()) for layer in self._weighted if (weights := layer.weights))

    @property
    def _weighted(self) -> list[OperationFigures]:
        return [layer for layer in self.layers if layer.weights]


def measure(
    reference: Program,
    programs: Mapping[str, Program],
    covering: Program,
    scores: Mapping[str, Scores | None],
    info: ModelInfo,
    count: int,
    images: Callable[[], Iterable[Tensor]],
    split: str = "validation",
) -> Report:
    """Everything that the page shows.

    Args:
        reference: The float network.
        programs: The programs of the ptq, qat and int model files, by form; without QAT, qat is that of ptq.
        covering: The result of `covering_program`.
        scores: Scores of the forms float, covering, ptq and int; None: not scored.
        info: What the int model file says about the model.
        count: Number of images that `images` gives.
        images: Gives batches of network input, the same ones at each call.
        split: What these images are.
    """
    program, ptq, trained = programs["int"], convert(programs["ptq"]), programs["qat"] is not programs["ptq"]
    noise = accumulated_noise(reference, {"covering": covering, "ptq": ptq, "int": program}, images())
    noise["own_weights"] = accumulated_noise(programs["qat"], {"int": program}, images())["int"]
    own, values = own_noise(reference, ptq, images()), integer_values(program, images())
    logits = {form: of_form[program.output] for form, of_form in noise.items()}
    return Report(
        network=info.name,
        input_shape=program.input_shape,
        color_space=info.color_space,
        images=count,
        split=split,
        weight_limit=program.weight_limit,
        arithmetic=program.arithmetic,
        trained=trained,
        forms={
            "float": FormFigures("float", scores["float"]),
            "covering": FormFigures("covering exponents", scores["covering"], logits["covering"], logits["covering"]),
            "ptq": FormFigures("calibrated", scores["ptq"], logits["ptq"], logits["ptq"]),
            "int": FormFigures(
                f"{'QAT' if trained else 'calibrated'} = integer", scores["int"], logits["int"], logits["own_weights"]
            ),
        },
        layers=[
            OperationFigures(
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


def reference_program(floating: Program, program: Program, images: Callable[[], Iterable[Tensor]]) -> Program:
    """The float network with the operations of `program`, which the quantized ones are measured against.

    Args:
        floating: The folded program of the float network.
        program: The integer program.
        images: Gives the calibration images as batches of network input.
    """
    scaled = with_best_scales(floating, images)
    return lower(scaled) if program.is_portable else scaled


def covering_program(reference: Program, program: Program, images: Callable[[], Iterable[Tensor]]) -> Program:
    """The float network in the arithmetic of `program`, each exponent the finest that covers its whole tensor.

    Args:
        reference: The float network.
        program: The integer program.
        images: Gives the calibration images as batches of network input.
    """
    bits = program.weight_limit.bit_length() + 1
    with warnings.catch_warnings(action="ignore"):  # the calibrate stage has printed them
        return convert(calibrate(reference, images, 0, program.arithmetic, bits))


def _weights(program: Program, op: Op) -> WeightFigures:
    exponents = program.constants[f"{op.name}.weight_exponent"]
    bound = accumulator_bound(program, op, *(program.constants[f"{op.name}.{name}"] for name in ("weight", "bias")))
    return WeightFigures(weight_histogram(program, op), (int(exponents.min()), int(exponents.max())), int(bound.max()))
