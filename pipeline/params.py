"""params.yaml, checked: an unknown key, a wrong type or an impossible value stops with the key and what is allowed."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pixels.augmentation import Augmentation, InputFormat
from pixels.section import Ratio, Section
from training.recipe import FineTuning, FloatTraining, QatRecipe, Recipe, Steps


class Splits(Section):
    train: str = Field(description="name in the source of the training pictures")
    val: str = Field(description="name in the source of the validation pictures")


class Encode(Section):
    """How pictures are stored: as they are, or encoded again; they are made smaller, never larger."""

    type: Literal["original", "resized", "raw"] = Field(
        description="bytes untouched, encoded again at `size`, or bare pixels"
    )
    side: Literal["short", "long"] = Field(description="the side that `size` is of")
    size: int | None = Field(ge=1, description="pixels of that side at most; null: any")
    format: Literal["jpeg", "png", "webp"] = Field(description="of resized")
    quality: int = Field(ge=1, le=100, description="of jpeg and webp")

    @model_validator(mode="after")
    def _size_belongs_to_another_type(self) -> Self:
        if (self.size is None and self.type == "resized") or (self.size is not None and self.type == "original"):
            raise ValueError(f"size {self.size or 'null'} does not go with type {self.type}")
        return self


class Pack(Section):
    """Where the pictures come from, and how they are stored."""

    source: Literal[
        "torchvision", "folder", "imagenet", "list", "voc", "coco", "cityscapes", "reference", "database"
    ] = Field(description="docs/data.md")
    dataset: str | None = Field(description="class in torchvision.datasets; null for other sources")
    root: str = Field(description="folder or file of the source")
    splits: Splits
    format: Literal["lmdb", "recordio"] = Field(description="of the databases; recordio is MXNet's")
    encoding: Encode
    on_bad_image: Literal["error", "skip", "keep"] = Field(
        description="keep: a JPEG file that is cut short; each is named in metrics/pack_*.json"
    )


class Normalization(Section):
    """A network that is fed with (p / 255 - mean) / std."""

    mean: tuple[float, float, float] = Field(description="of red, green and blue, from 0 to 1")
    std: tuple[Ratio, Ratio, Ratio] = Field(description="of red, green and blue, from 0 to 1")


class Model(Section):
    name: str = Field(description="a network of models/, of timm, or torchvision/NAME, docs/networks.md")
    num_classes: int = Field(ge=2, description="classes of the pictures")
    arguments: dict[str, Any] = Field(description="of the network's function, e.g. {channels: [16, 24, 32, 64, 128]}")
    normalization: Normalization | None = Field(
        description="e.g. {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}; null: (p - 128) / 128"
    )


class Calibrate(Section):
    images: int = Field(ge=1, description="training pictures, evenly spaced, as validation transforms them")
    finer_exponents: int = Field(ge=0, le=8, description="exponents tried beyond the one that covers the maximum")
    arithmetic: Literal["portable", "exact8"] = Field(
        description="the same bits in every runtime, or a bit more in weights and any operation"
    )
    weight_bits: Literal[7, 8] = Field(
        description="of exact8; 7: int8_qdq.onnx is exact under ONNX Runtime's defaults on every x86 processor"
    )
    refinement: int = Field(ge=0, description="training pictures on whose logits exponents are tried; 0: none")
    bias_correction: int = Field(ge=0, description="training pictures from which biases are corrected; 0: none")

    @model_validator(mode="after")
    def _weight_bits_belong_to_exact8(self) -> Self:
        if self.arithmetic == "portable" and self.weight_bits == 7:
            raise ValueError("weight_bits 7 needs arithmetic exact8; portable weights have 7 effective bits anyway")
        return self


class Litert(Section):
    logits: Literal["int8", "int16"] = Field(
        description="of int8.tflite; int16 has up to 8 bits more, so that of many classes fewer tie"
    )


class Validate(Section):
    batch_size: int = Field(ge=1, description="pictures that are scored at once")


class Compare(Section):
    images: int | None = Field(ge=1, description="validation pictures whose logits are compared; null: all")
    intermediate_images: int = Field(ge=1, description="validation pictures whose every tensor is compared")


class Golden(Section):
    images: int = Field(ge=1, description="validation pictures of the golden vectors")


class Report(Section):
    images: int = Field(ge=1, description="validation pictures that the quantization report measures")


class Gate(Section):
    """What `python -m tools.gate` lets pass. Values of the integer forms that differ it never does."""

    quantization_drop: float = Field(description="points of top-1 that the integer model may lie below float")
    regression: float = Field(description="points of top-1 that the integer model may lose against another revision")
    macs_growth: float = Field(description="percent by which the multiply-accumulates may grow")


class Card(Section):
    """What the model card says that nothing else in here knows."""

    license: str | None = Field(description="of the weights, e.g. mit; null: none has been granted")
    data: str = Field(description="whose the pictures are, and on which terms they may be used")


class Execute(Section):
    """How a step runs, which decides its speed and the last bits of its results."""

    device: Literal["cpu", "cuda"] = Field(description="where networks are trained and scored")
    threads: int = Field(
        ge=1, description="of PyTorch in each process; another number changes the last bits of training"
    )
    algorithms: Literal["auto", "deterministic", "fastest"] = Field(
        description="auto: deterministic (the same bytes) on cpu, fastest on cuda"
    )
    precision: Literal["auto", "float32", "tf32", "bf16", "fp16"] = Field(
        description="of training; auto: bf16 on cuda, float32 on cpu"
    )
    compile: Literal["auto", "always", "never"] = Field(description="the training step by torch.compile; auto: on cuda")
    decode: Literal["cpu", "cuda"] = Field(description="where training pictures are decoded and augmented")

    @model_validator(mode="after")
    def _cuda_decodes_for_cuda(self) -> Self:
        if self.decode == "cuda" and self.device != "cuda":
            raise ValueError("execution.decode is cuda, but execution.device is cpu")
        return self


class Machine(Section):
    """What suits a machine and changes no result."""

    workers: int = Field(ge=0, description="threads in each process that pack, decode and augment")
    checkpoint_minutes: float = Field(gt=0, description="from one checkpoint of training to the next within an epoch")
    checkpoints: int = Field(ge=1, description="how many of the last are kept in runs/, beside the best")


class Params(Steps):
    """All of params.yaml: what decides results, `execution`, and `machine`.

    `lr`, `epochs`, `batch_size`, `train`, `augment` are float training's; QAT's are in `qat`.
    """

    seed: int = Field(ge=0, lt=2**32, description="of weights, order of pictures, augmentation, mixing and dropout")
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
    values = read_yaml(path)
    if values is None:
        raise ValueError(f"{path} is empty; `make recipe` puts a complete one in its place")
    return check_params(values, path)


def read_yaml(path: str | Path) -> Any:
    """The plain values of a YAML file, in which no key stands twice; None if it is empty.

    Raises:
        ValueError: if it is no such file.
        OSError: if it cannot be read.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            return yaml.load(file, Loader=_UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None


def check_params(values: Any, path: str | Path) -> Params:
    """The parameters of the values of a file.

    Raises:
        ValueError: naming the file, and each bad key, its value and what is allowed, in one line.
    """
    try:
        params = Params.model_validate(values)
        params.float_recipe  # noqa: B018 - checks what stands at the top level together with `train`
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
