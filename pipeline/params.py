"""Checked params.yaml: an error names the unknown key, the wrong type or the impossible value, and what is allowed."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pipeline.yaml_file import one_line, read_yaml
from pixels.augmentation import Augmentation, InputFormat
from pixels.section import Section, Strength
from storage.errors import InputError
from training.recipe import FineTuning, FloatTraining, QatRecipe, Recipe, Steps

MOST = 20  # mistakes that one line names


class Splits(Section):
    train: str = Field(description="the source's name of the training split")
    val: str = Field(description="the source's name of the validation split")


class Encode(Section):
    """How images are stored: unchanged, or encoded again; they may become smaller, never larger."""

    type: Literal["original", "resized", "raw"] = Field(
        description="unchanged bytes, encoded again at `size`, or bare pixels"
    )
    side: Literal["short", "long"] = Field(description="the side that `size` limits")
    size: int | None = Field(ge=1, description="greatest length of that side in pixels; null: no limit")
    format: Literal["jpeg", "png", "webp"] = Field(description="of resized")
    quality: int = Field(ge=1, le=100, description="of jpeg and webp")

    @model_validator(mode="after")
    def _size_belongs_to_another_type(self) -> Self:
        if (self.size is None and self.type == "resized") or (self.size is not None and self.type == "original"):
            raise InputError(f"size {self.size or 'null'} does not go with type {self.type}")
        return self


class Pack(Section):
    """Where the images come from, and how they are stored."""

    source: Literal[
        "torchvision", "folder", "imagenet", "list", "voc", "coco", "cityscapes", "reference", "database"
    ] = Field(description="docs/data.md")
    dataset: str | None = Field(description="class in torchvision.datasets; null for other sources")
    root: str = Field(description="folder or file of the source")
    splits: Splits
    format: Literal["lmdb", "recordio"] = Field(description="of the databases; recordio is MXNet's")
    encoding: Encode
    on_bad_image: Literal["error", "skip", "keep"] = Field(
        description="keep: truncated JPEG files alone; metrics/pack_*.json names all bad images"
    )
    overlap: Literal["report", "refuse"] = Field(
        description="validation images that are in train, too; metrics/overlap.json names them"
    )


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


class Gate(Section):
    """What `python -m tools.gate` lets pass. A mismatch between integer forms always fails the gate."""

    quantization_drop: float = Field(description="points of top-1 that the integer model may lie below float")
    regression: float = Field(description="points of top-1 that the integer model may lose against another revision")
    macs_growth: float = Field(description="percent by which the multiply-accumulates may grow")


class Card(Section):
    """What the model card says and only people know."""

    license: str | None = Field(description="of the weights, e.g. mit; null: none has been granted")
    data: str = Field(description="whose the images are, and on which terms they may be used")


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
    def _thresholds_tell_classes_apart(self) -> Self:
        for block, recipe in {"train": self.train, "qat": self.qat}.items():
            threshold, classes = recipe.target_threshold, self.model.num_classes
            absent = recipe.label_smoothing / (classes or 2)  # null: for any number of classes
            present = 1 - recipe.label_smoothing + (absent if classes else 0)
            if threshold is not None and not absent < threshold < present:
                raise InputError(
                    f"{block}.target_threshold {threshold:g} is not allowed, must be between the smoothed labels of "
                    f"an absent class, {absent:g}, and of a present one, {present:g}"
                )
        return self

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
    try:
        params = Params.model_validate(values)
        params.float_recipe  # noqa: B018 - checks `train` together with the top level
        return params
    except ValidationError as error:
        problems = error.errors(include_url=False)
        shown = [_explain(problem) for problem in problems[:MOST]] + (["…"] if len(problems) > MOST else [])
        raise InputError(f"{path}: {'; '.join(shown)}") from None


def _explain(problem: ErrorDetails) -> str:
    name = one_line(".".join(str(part) for part in problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if problem["type"] in ("extra_forbidden", "invalid_key"):
        *parents, key = map(str, problem["loc"])
        allowed = sorted(_section(parents).model_fields)
        near = get_close_matches(key, allowed, n=1)
        hint = f"did you mean {'.'.join([*parents, near[0]])}?" if near else f"allowed: {', '.join(allowed)}"
        return f"{name} is not a parameter; {hint}"
    if problem["type"] == "missing":
        return f"{name} is missing"
    if problem["type"] == "value_error":  # an error of several values together
        return f"{name}: {message}" if name else message
    message = "a block of parameters" if problem["type"] == "model_type" else message
    return f"{name or 'the file'}: {one_line(repr(problem['input']))} is not allowed, must be {message}"


def _section(path: list[str]) -> type[BaseModel]:
    section: type[BaseModel] = Params
    for name in path:
        annotation = section.model_fields[name].annotation
        section = next((t for t in (annotation, *get_args(annotation)) if isinstance(t, type)), section)
    return section
