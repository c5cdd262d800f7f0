"""params.yaml, checked: an unknown key, a wrong type or an impossible value stops with the key and what is allowed."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pixels.augmentation import Augmentation, InputFormat
from pixels.section import Ratio, Section
from training.recipe import FineTuning, FloatTraining, QatRecipe, Recipe


class Machine(Section):
    """Where and how the work runs; what `of_results` leaves out changes no result, the rest may."""

    device: Literal["cpu", "cuda"]
    threads: int = Field(ge=1)
    workers: int = Field(ge=0, description="threads that pack, decode and augment")
    decode: Literal["cpu", "cuda"] = Field(description="where training pictures are decoded and augmented")
    precision: Literal["auto", "float32", "tf32", "bf16", "fp16"] = Field(description="of training; auto: by device")
    compile: Literal["auto", "always", "never"] = Field(description="the training step; auto: on cuda")
    algorithms: Literal["auto", "deterministic", "fastest"] = Field(description="auto: fastest on cuda")
    checkpoint_minutes: float = Field(gt=0, description="from one checkpoint to the next within an epoch")
    checkpoints: int = Field(ge=1, description="how many of the last are kept, beside the best")

    @model_validator(mode="after")
    def _cuda_decodes_for_cuda(self) -> Self:
        if self.decode == "cuda" and self.device != "cuda":
            raise ValueError("machine.decode is cuda, but machine.device is cpu")
        return self

    @property
    def of_results(self) -> dict[str, Any]:
        """The parameters that may change a result."""
        return self.model_dump(exclude={"workers", "checkpoint_minutes", "checkpoints"})


class Splits(Section):
    """The name of each split in the source."""

    train: str
    val: str


class Encode(Section):
    """How pictures are stored: as they are, or encoded again; they are made smaller, never larger."""

    type: Literal["original", "resized", "raw"]
    side: Literal["short", "long"]
    size: int | None = Field(ge=1, description="pixels of that side at most; null: any")
    format: Literal["jpeg", "png", "webp"]
    quality: int = Field(ge=1, le=100)

    @model_validator(mode="after")
    def _size_belongs_to_another_type(self) -> Self:
        if (self.size is None and self.type == "resized") or (self.size is not None and self.type == "original"):
            raise ValueError(f"size {self.size or 'null'} does not go with type {self.type}")
        return self


class Pack(Section):
    """Where the pictures come from, and how they are stored."""

    source: Literal["torchvision", "folder", "imagenet", "list", "voc", "coco", "cityscapes", "reference", "database"]
    dataset: str | None = Field(description="class name in torchvision.datasets; null for another source")
    root: str
    splits: Splits
    format: Literal["lmdb", "recordio"]
    encoding: Encode
    on_bad_image: Literal["error", "skip", "keep"]


class Normalization(Section):
    """A network that is fed with (p / 255 - mean) / std."""

    mean: tuple[float, float, float]
    std: tuple[Ratio, Ratio, Ratio]


class Model(Section):
    name: str
    num_classes: int = Field(ge=2)
    arguments: dict[str, Any]
    normalization: Normalization | None = Field(description="the network's own; null: pixels p as (p - 128) / 128")


class Calibrate(Section):
    images: int = Field(ge=1)
    finer_exponents: int = Field(ge=0, le=8, description="exponents tried beyond the one that covers the maximum")
    arithmetic: Literal["portable", "exact8"] = Field(description="portable: the same bits in every runtime")
    weight_bits: Literal[7, 8] = Field(description="of exact8; portable weights have 7 effective bits")
    refinement: int = Field(ge=0, description="training images on which exponents are refined; 0: not at all")
    bias_correction: int = Field(ge=0, description="training images from which biases are corrected; 0: not at all")

    @model_validator(mode="after")
    def _weight_bits_belong_to_exact8(self) -> Self:
        if self.arithmetic == "portable" and self.weight_bits == 7:
            raise ValueError("weight_bits 7 needs arithmetic exact8; portable weights have 7 effective bits anyway")
        return self


class Litert(Section):
    logits: Literal["int8", "int16"] = Field(description="of int8.tflite; int16 has up to 8 bits more")


class Validate(Section):
    batch_size: int = Field(ge=1)


class Compare(Section):
    images: int | None = Field(ge=1, description="validation images whose logits are compared; null: all of them")
    intermediate_images: int = Field(ge=1, description="images whose every intermediate tensor is compared")


class Golden(Section):
    images: int = Field(ge=1, description="validation images of the golden vectors")


class Report(Section):
    images: int = Field(ge=1, description="validation images that the report measures")


class Gate(Section):
    """What `python -m tools.gate` lets pass. Values of the integer forms that differ it never does."""

    quantization_drop: float = Field(description="points of top-1 that the integer model may lie below float")
    regression: float = Field(description="points of top-1 that the integer model may lose against another revision")
    macs_growth: float = Field(description="percent by which the multiply-accumulates may grow")


class Card(Section):
    """What the model card says that nothing else in here knows."""

    license: str | None = Field(description="of the weights, e.g. mit; null: none has been granted")
    data: str = Field(description="the pictures, whose they are, and on which terms they may be used")


class Params(Section):
    """All of params.yaml. `lr`, `epochs`, `batch_size`, `train`, `augment` are float training's; QAT's are in `qat`."""

    seed: int = Field(ge=0, lt=2**32)
    lr: float
    epochs: int
    batch_size: int
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
    machine: Machine

    @model_validator(mode="after")
    def _thresholds_tell_classes_apart(self) -> Self:
        for block, recipe in {"train": self.train, "qat": self.qat}.items():
            threshold, absent = recipe.target_threshold, recipe.label_smoothing / self.model.num_classes
            present = 1 - recipe.label_smoothing + absent
            if threshold is not None and not absent < threshold < present:
                raise ValueError(
                    f"{block}.target_threshold {threshold:g} is not allowed, must be between the smoothed labels of "
                    f"a class that is not there, {absent:g}, and of one that is, {present:g}"
                )
        return self

    @property
    def float_recipe(self) -> Recipe:
        """The recipe of float training."""
        optimization = self.train.model_dump(exclude={"sizes", *FineTuning.model_fields})
        return Recipe(lr=self.lr, epochs=self.epochs, batch_size=self.batch_size, **optimization)


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check the parameter file.

    Raises:
        ValueError: naming each bad key, its value and what is allowed, in one line.
        OSError: if the file cannot be read.
    """
    if not Path(path).exists():
        raise FileNotFoundError(
            f"there is no {path} in {Path.cwd()}; stages are started in the repository's own folder"
        )
    try:
        with Path(path).open(encoding="utf-8") as file:
            values = yaml.load(file, Loader=_UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        raise ValueError(f"{path} is empty; `make recipe` puts a complete one in its place")
    try:
        params = Params.model_validate(values)
        params.float_recipe  # noqa: B018 - checks the values that stand at the top level
        return params
    except ValidationError as error:
        raise ValueError(f"{path}: " + "; ".join(_explain(problem) for problem in error.errors())) from None


class _UniqueKeys(yaml.SafeLoader):
    """The safe loader, which makes plain values alone, of keys that stand there once; by itself it takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.MarkedYAMLError(f"{name} stands there twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _explain(problem: ErrorDetails) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if problem["type"] == "extra_forbidden":
        *parents, key = map(str, problem["loc"])
        allowed = sorted(_section(parents).model_fields)
        near = get_close_matches(key, allowed, n=1)
        hint = f"did you mean {'.'.join([*parents, near[0]])}?" if near else f"allowed: {', '.join(allowed)}"
        return f"{name} is not a parameter; {hint}"
    if problem["type"] == "missing":
        return f"{name} is missing"
    if problem["type"] == "value_error":  # of several values together
        return f"{name}: {message}" if name else message
    message = "a block of parameters" if problem["type"] == "model_type" else message
    return f"{name or 'the file'}: {problem['input']!r} is not allowed, must be {message}"


def _section(path: list[str]) -> type[BaseModel]:
    section: type[BaseModel] = Params
    for name in path:
        annotation = section.model_fields[name].annotation
        section = next((t for t in (annotation, *get_args(annotation)) if isinstance(t, type)), section)
    return section
