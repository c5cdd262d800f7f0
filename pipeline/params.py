"""Checked params.yaml: an error names the unknown key, the wrong type or the impossible value, and what is allowed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pipeline.mistakes import explained
from pipeline.pack_params import Pack
from pipeline.yaml_file import read_yaml
from pixels.augmentation import Augmentation, InputFormat
from pixels.section import Section, Strength
from storage.errors import InputError
from training.recipe import FineTuning, FloatTraining, Optimization, QatRecipe, Recipe, Steps

Deviation = Annotated[float, Field(ge=0.001, le=1)]


def _of_fractions(value: object) -> object:
    numbers = value if isinstance(value, list | tuple) else []
    if large := [each for each in numbers if isinstance(each, int | float) and 1 < each <= 255]:
        raise InputError(
            f"{large[0]:g} is not allowed, pixels are from 0 to 1 here: {large[0]:g} / 255 = {large[0] / 255:.4g}"
        )
    return value


class Normalization(Section):
    """The input of a network that takes (p / 255 - mean) / std."""

    mean: Annotated[tuple[Strength, Strength, Strength], BeforeValidator(_of_fractions)] = Field(
        description="of red, green and blue, from 0 to 1"
    )
    std: Annotated[tuple[Deviation, Deviation, Deviation], BeforeValidator(_of_fractions)] = Field(
        description="of red, green and blue, from 0.001 to 1"
    )


class Model(Section):
    name: str = Field(
        description="a network of models/, of timm, torchvision/NAME, or FILE.py:FUNCTION, docs/networks.md"
    )
    num_classes: int | None = Field(ge=2, le=2**20, description="number of classes; null: those of the database")
    arguments: dict[str, Any] = Field(description="of the network's function, e.g. {channels: [16, 24, 32, 64, 128]}")
    normalization: Normalization | None = Field(
        description="e.g. {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}; null: (p - 128) / 128"
    )


class Calibrate(Section):
    images: int = Field(ge=1, description="training images, as many of each class, as validation transforms them")
    finer_exponents: int = Field(
        ge=0, le=8, description="exponents that are tried beyond the one that covers the maximum"
    )
    arithmetic: Literal["portable", "exact8"] = Field(
        description="the same bits in every runtime, or one weight bit more and any operation"
    )
    weight_bits: Literal[7, 8] = Field(
        description="of exact8; 7: int8_qdq.onnx is exact under ONNX Runtime's defaults on every x86 processor"
    )
    refinement: int = Field(ge=0, description="training images on whose logits exponents are tried; 0: none")
    bias_correction: int = Field(ge=0, description="training images from which biases are corrected; 0: none")
    reconstruction: int = Field(
        ge=0, description="training images on which the rounding of weights is learned, block by block; 0: none"
    )
    reconstruction_steps: int = Field(ge=1, description="steps for each block")

    @model_validator(mode="after")
    def _weight_bits_belong_to_exact8(self) -> Self:
        if self.arithmetic == "portable" and self.weight_bits == 7:
            raise InputError("weight_bits 7 needs arithmetic exact8; portable weights have 7 effective bits anyway")
        return self


class Litert(Section):
    logits: Literal["int8", "int16"] = Field(
        description="of int8.tflite; int16 has up to 8 bits more, so that fewer of many classes tie"
    )


class Validate(Section):
    batch_size: int = Field(ge=1, description="images that are scored at once")


class Compare(Section):
    images: int | None = Field(ge=1, description="validation images whose logits are compared; null: all")
    intermediate_images: int = Field(ge=1, description="validation images of which all tensors are compared")


class Golden(Section):
    images: int = Field(ge=1, description="validation images of the golden vectors")


class Report(Section):
    images: int = Field(ge=1, description="validation images that the quantization report measures")


class Bounds(Section):
    """Between which values a number must be."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.min is None and self.max is None:
            raise InputError("min, max or both are needed")
        return self


def _of_a_file(name: str) -> str:
    if not re.fullmatch(r".+\.json:[^:]+", name):
        raise InputError(f"{name} is not allowed, must be FILE.json:KEY, such as metrics/int.json:top5")
    return name


class Gate(Section):
    """What `python -m tools.gate` lets pass. A mismatch between integer forms always fails the gate."""

    quantization_drop: float = Field(description="points of top-1 that the integer model may lie below float")
    regression: float = Field(description="points of top-1 that the integer model may lose against another revision")
    macs_growth: float = Field(description="percent by which the multiply-accumulates may grow")
    metrics: dict[Annotated[str, AfterValidator(_of_a_file)], Bounds] = Field(
        description="bounds of numbers in other files, e.g. {metrics/int.json:top5: {min: 99}}"
    )


class Card(Section):
    """What the model card says and only people know."""

    license: str | None = Field(description="of the weights, e.g. mit; null: none has been granted")
    data: str | None = Field(description="whose the images are, and on which terms; null: not stated")
    digest: str | None = Field(
        pattern="^[0-9a-f]{8,64}$",
        description="start of the digest in metrics/pack_train.json of the images that `data` is about",
    )


class Execute(Section):
    """How a step is computed, which decides its speed and the last bits of results."""

    device: Literal["cpu", "cuda"] = Field(description="where networks are trained and scored")
    threads: int = Field(
        ge=1, le=1024, description="PyTorch's threads in each process; another number changes the last bits of training"
    )
    algorithms: Literal["auto", "deterministic", "fastest"] = Field(
        description="auto: deterministic (the same bytes) on cpu, fastest on cuda"
    )
    precision: Literal["auto", "float32", "tf32", "bf16", "fp16"] = Field(
        description="of training; auto: bf16 on cuda, float32 on cpu"
    )
    compile: Literal["auto", "always", "never"] = Field(description="the training step by torch.compile; auto: on cuda")
    decode: Literal["cpu", "cuda"] = Field(description="where training images are decoded and augmented")

    @model_validator(mode="after")
    def _cuda_decodes_for_cuda(self) -> Self:
        if self.decode == "cuda" and self.device != "cuda":
            raise InputError("execution.decode is cuda, but execution.device is cpu")
        return self


class Machine(Section):
    """What suits this machine; it changes no result."""

    workers: int = Field(ge=0, le=1024, description="threads in each process that pack, decode and augment")
    checkpoint_minutes: float = Field(
        gt=0, description="time from one checkpoint of training to the next within an epoch"
    )
    checkpoints: int = Field(ge=1, description="how many of the latest checkpoints stay in runs/, beside the best")


class Params(Steps):
    """All of params.yaml: what decides results, `execution`, and `machine`.

    `lr`, `epochs`, `batch_size`, `train` and `augment` belong to float training; those of QAT are in `qat`.
    """

    seed: int = Field(ge=0, lt=2**32, description="of weights, order of images, augmentation, mixing and dropout")
    train: FloatTraining
    augment: Augmentation
    input: InputFormat
    pack: Pack
    model: Model
    calibrate: Calibrate
    qat: QatRecipe
    litert: Litert
    validation: Validate
    compare: Compare
    golden: Golden
    report: Report
    gate: Gate
    card: Card
    execution: Execute
    machine: Machine

    @model_validator(mode="after")
    def _blocks_fit_together(self) -> Self:
        if problems := [*self._thresholds(), *self._paddings(), *self._start()]:
            raise InputError("; ".join(problems))
        return self

    def _thresholds(self) -> Iterator[str]:
        """Thresholds that do not tell classes apart."""
        for block, recipe in {"train": self.train, "qat": self.qat}.items():
            threshold, classes = recipe.target_threshold, self.model.num_classes
            absent = recipe.label_smoothing / (classes or 2)  # null: for any number of classes
            present = 1 - recipe.label_smoothing + (absent if classes else 0)
            if threshold is not None and not absent < threshold < present:
                yield (
                    f"{block}.target_threshold {threshold:g} is not allowed, must be between the smoothed labels of "
                    f"an absent class, {absent:g}, and of a present one, {present:g}"
                )

    def _paddings(self) -> Iterator[str]:
        """Padded crops that could lie outside the image."""
        for block, augment in {"augment": self.augment, "qat.augment": self.qat.augment}.items():
            if augment.crop == "padded" and augment.crop_padding >= self.input.size:
                yield (
                    f"{block}.crop_padding {augment.crop_padding} is not allowed, must be below input.size, which is "
                    f"{self.input.size}"
                )

    def _start(self) -> Iterator[str]:
        """Weights that would be gone when training starts."""
        start = self.train.init_from
        if start and Path(start.file).absolute().is_relative_to(Path("artifacts").absolute()):
            yield (
                f"train.init_from.file {start.file} is not allowed, must lie outside artifacts, whose files are "
                "removed before they are made again: copy it, e.g. to runs"
            )

    @property
    def float_recipe(self) -> Recipe:
        """The recipe of float training."""
        optimization = self.train.model_dump(exclude={"sizes", *FineTuning.model_fields})
        return Recipe(lr=self.lr, epochs=self.epochs, batch_size=self.batch_size, **optimization)


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check a parameter file.

    Raises:
        InputError: if it is invalid; one line names each bad key, its value and what is allowed.
        OSError: if the file cannot be read.
    """
    if not Path(path).exists():
        raise FileNotFoundError(
            f"there is no {path} in {Path.cwd()}; stages are started in the repository's own folder"
        )
    values = read_yaml(path)
    if values is None:
        raise InputError(f"{path} is empty; `make recipe` puts a complete one in its place")
    return check_params(values, path)


def check_params(values: Any, path: str | Path) -> Params:
    """Check the values of a parameter file.

    Raises:
        InputError: if they are invalid; one line names the file, each bad key, its value and what is allowed.
    """
    problems = []
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False)
    problems += _of_float_recipe(values)
    if problems:
        raise InputError(f"{path}: {explained(problems, Params)}")
    return params


def _of_float_recipe(values: Any) -> list[ErrorDetails]:
    """What is wrong with `train` and the top level together, whatever else is wrong."""
    try:
        own = {name: values[name] for name in Steps.model_fields}
        Recipe.model_validate(own | {name: values["train"][name] for name in Optimization.model_fields})
    except (KeyError, TypeError):  # a block or a value is missing
        pass
    except ValidationError as error:
        return [problem for problem in error.errors(include_url=False) if not problem["loc"]]  # others are named above
    return []
