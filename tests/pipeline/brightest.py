"""The classifier "which of red, green and blue is brightest" for 8x8 images in every form, without any training."""

import io
from dataclasses import asdict
from pathlib import Path

import torch
import yaml
from PIL import Image

from fixedpoint.litert.writer import litert_model
from fixedpoint.onnx.float import FloatWriter
from fixedpoint.onnx.qoperator import QOperatorWriter
from fixedpoint.program import INPUT, PORTABLE, Conv, Flatten, Program
from fixedpoint.quantize.qat import FakeQuantModel
from imagedb.sources.source import IndexedSource, SourceImage
from imagedb.writer import write_database
from pipeline.forms import FORMS, INT, LITERT, QAT, metadata
from storage.model_file import ModelInfo

REPOSITORY = Path(__file__).parents[2]
CLASSES = ["red", "green", "blue"]
INFO = ModelInfo("brightest", {}, 3, 8, "rgb", CLASSES)


def program(dtype: torch.dtype = torch.int8) -> Program:
    """Logit c is the sum over channel c of the pixels p as (p - 128) / 256: a weight is 1 or 0, times 2**-1."""
    whole = dtype == torch.int8
    weight = torch.zeros(3, 3, 8, 8, dtype=dtype)
    for channel in range(3):
        weight[channel, channel] = 1 if whole else 0.5
    constants = {
        "conv.weight": weight,
        "conv.bias": torch.zeros(3, dtype=torch.int32 if whole else dtype),
        "conv.weight_exponent": torch.ones(3, dtype=torch.int32),
    }
    ops = (Conv("conv", (INPUT,), (3, 1, 1), (1, 1), (0, 0), (1, 1), 1), Flatten("classes", ("conv",), (3,)))
    return Program((3, 8, 8), ops, constants, {INPUT: 7})


def portable_program() -> Program:
    """The same in portable arithmetic; of images in one colour, the int8 logits are those of `logits`, too."""
    made = program()
    constants = {
        "conv.weight": made.constants["conv.weight"] * 2,
        "conv.bias": torch.ones(3, dtype=torch.int32),
        "conv.weight_exponent": torch.full((3,), 2, dtype=torch.int32),
    }
    return Program(made.input_shape, made.ops, constants, made.exponents, 126, PORTABLE, 2)


def write_forms() -> None:
    """The model files of the int, qat, ONNX and LiteRT forms, in the places of the pipeline."""
    INT.save(program(), INFO)
    QAT.save(program(torch.float32), INFO)
    FORMS["onnx_float"].path.parent.mkdir(parents=True)
    for form, writer, made in (
        ("onnx_float", FloatWriter, program(torch.float32)),
        ("onnx_int8", QOperatorWriter, program()),
    ):
        FORMS[form].path.write_bytes(writer.export(made, metadata(INFO)).SerializeToString())
    LITERT.path.parent.mkdir(parents=True)
    LITERT.path.write_bytes(litert_model(portable_program(), metadata(INFO)))


def write_params(classes: int = 3) -> None:
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    values["input"] |= {"size": 8, "color_space": "rgb", "resize": None, "resample": "bilinear"}
    values["model"] |= {"num_classes": classes}
    values["pack"] |= {"format": "lmdb"}
    values["validation"] |= {"batch_size": 4}
    values["execution"] |= {"device": "cpu", "threads": 1}
    values["machine"]["workers"] = 0
    Path("params.yaml").write_text(yaml.safe_dump(values))


def image(*color: int) -> Image.Image:
    return Image.new("RGB", (8, 8), color)


def checkpoint(form: str = "qat", **changes: object) -> dict:
    """A checkpoint of training in which red counts twice; `changes` are made to its description of a model file."""
    made = program(torch.float32)
    scored = {name: value.clone() for name, value in FakeQuantModel(made).state_dict().items()}
    scored["parameters_of.conv/weight"][0] *= 2
    described = {"form": form, "info": asdict(INFO), "program": made.to_json(), "constants": made.constants}
    return {"step": 7, "scored": scored, "about": {"model_file": described | changes}}


class Images(IndexedSource):
    """PNG files of the given colours, each with its label."""

    class_names = CLASSES

    def __init__(self, colors: list[tuple[tuple[int, int, int], int]]):
        self.colors = colors

    def __len__(self) -> int:
        return len(self.colors)

    def __getitem__(self, index: int) -> SourceImage:
        color, label = self.colors[index]
        buffer = io.BytesIO()
        image(*color).save(buffer, "PNG")
        return SourceImage(f"{index}.png", label, buffer.getvalue())


def write_images(colors: list[tuple[tuple[int, int, int], int]]) -> None:
    """The validation database."""
    Path("artifacts/db").mkdir(parents=True)
    write_database(Images(colors), Path("artifacts/db/val.lmdb"))


def logits(color: tuple[int, int, int]) -> list[float]:
    """The logits of an image in one colour, computed by hand."""
    return [(value - 128) * 64 / 256 for value in color]
