"""The forms of a model: one table of their names, files, the commands that make them, and the classes that run them.

A new form is a row of FORMS and a class in `pipeline.classifiers.CLASSIFIERS`; `--step`, scores and tables then have
it. This module imports nothing that runs a form, so that a stage depends only on the libraries of forms that it runs;
nor PyTorch, before a model file is read or written, so that `--help` does not take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.paths import require

if TYPE_CHECKING:
    from fixedpoint.program import Program
    from storage.model_file import ModelInfo, StoredModel


@dataclass(frozen=True)
class Form:
    """A form of the model.

    Attributes:
        name: Its name in `--step`, metrics, plots and model files.
        path: Its file in the pipeline.
        target: The target of make that makes the file.
        label: Its name in tables.
        loader: Name of the class in `pipeline.classifiers` that runs it.
        is_integer: Whether its tensors are integers.
        has_ties: Whether its logits have so few bits that images with a tie of the best two are counted.
        note: A file that gives the reason where the arithmetic has no such form, and so no file `path`.
    """

    name: str
    path: Path
    target: str
    label: str
    loader: str
    is_integer: bool = False
    has_ties: bool = False
    note: Path | None = None

    @property
    def absence(self) -> str | None:
        """Why the pipeline has no such form; None if it has."""
        if self.note is None or not self.note.exists():
            return None
        return self.note.read_text(encoding="utf-8", errors="replace").strip()

    def require(self, path: str | Path | None = None) -> Path:
        """The form's file, or `path` in its place.

        Raises:
            FileNotFoundError: If it does not exist; names it and the command that makes it.
        """
        return require(path or self.path, f"make {self.target}")

    def load(self, path: str | Path | None = None) -> StoredModel:
        """The contents of the form's file, or of `path` in its place; for forms that are stored as model files.

        Raises:
            FileNotFoundError: If it does not exist; names the command that makes it.
            InputError: If it is not a model file, or holds another form.
        """
        from storage.model_file import load_model

        return load_model(self.require(path), (self.name,))

    def save(self, program: Program, info: ModelInfo, name: str = "model") -> None:
        """Write a program of this form to its file, or to a file `name` beside it."""
        from storage.model_file import save_model

        save_model(self.path.with_stem(name), self.name, program.constants, info, program.to_json())


ARTIFACTS = Path("artifacts")
ONNX, C, GOLDEN, LITERT_FOLDER = (ARTIFACTS / name for name in ("onnx", "c", "golden", "litert"))
NO_LITERT = LITERT_FOLDER / "none.txt"  # where the arithmetic is exact8
STORED = "model.safetensors"

FORMS = {
    form.name: form
    for form in (
        Form("float", ARTIFACTS / "float" / STORED, "train-float", "float", "FloatNetwork"),
        Form("ptq", ARTIFACTS / "ptq" / STORED, "calibrate", "calibrated (ptq)", "FakeQuantized"),
        Form("qat", ARTIFACTS / "qat" / STORED, "train-qat", "QAT", "FakeQuantized"),
        Form("int", ARTIFACTS / "int" / STORED, "convert-int", "integer", "Integer", is_integer=True),
        Form("onnx_float", ONNX / "float.onnx", "export-onnx", "ONNX float", "Onnx"),
        Form(
            "onnx_int8", ONNX / "int8_qoperator.onnx", "export-onnx", "ONNX int8 (QOperator)", "Onnx", is_integer=True
        ),
        Form(
            "litert",
            LITERT_FOLDER / "int8.tflite",
            "export-litert",
            "LiteRT int8",
            "LiteRt",
            is_integer=True,
            has_ties=True,
            note=NO_LITERT,
        ),
    )
}
FLOAT, PTQ, QAT, INT, LITERT = (FORMS[name] for name in ("float", "ptq", "qat", "int", "litert"))


def stored_program(stored: StoredModel) -> Program:
    """The program of a ptq, qat or int model file; that of an int one is proved to be exact.

    Raises:
        QuantizationError: If the file holds no program, or one that is not allowed or not exact.
    """
    from fixedpoint.program import Program
    from fixedpoint.program.portable import prove

    program = Program.from_json(stored.program, stored.tensors)
    if stored.form == INT.name:
        prove(program)
    return program


def metadata(info: ModelInfo) -> dict:
    """What the metadata of an exported file say about the network and its images."""
    return {
        "network": info.name,
        "class_names": info.class_names,
        "color_space": info.color_space,
        "image_size": info.image_size,
        "resample": info.resample,
    }
