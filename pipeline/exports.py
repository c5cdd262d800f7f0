"""What is exported of an integer model, to the byte: on some images, an edited file may compute the same."""

from pathlib import Path

from fixedpoint.c.source import c_source
from fixedpoint.litert.writer import litert_model
from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.qdq import QdqWriter
from fixedpoint.onnx.qoperator import QOperatorWriter
from fixedpoint.program import Program
from pipeline.forms import LITERT, ONNX, C, metadata
from storage.model_file import ModelInfo

WRITERS = {"qdq": QdqWriter, "qoperator": QOperatorWriter, "integer": IntegerWriter}


def integer_exports(program: Program, info: ModelInfo, litert_logits: str) -> dict[Path, bytes]:
    """The contents of the files that are exported from an integer model and compared with it.

    Args:
        litert_logits: Type of the logits of int8.tflite.
    """
    about = metadata(info)
    files = {
        ONNX / f"int8_{name}.onnx": writer.export(program, about).SerializeToString(deterministic=True)
        for name, writer in WRITERS.items()
    }
    files |= {C / name: text.encode() for name, text in c_source(program, about).items()}
    if program.is_portable:
        files[LITERT.path] = litert_model(program, about, litert_logits)
    return files
