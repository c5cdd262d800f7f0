"""The runtimes that are compared with the integer model."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from apart import Answer
from installed import OLD_ONNXRUNTIME, PACKAGES, version
from onnx_runtimes import old_onnxruntime, onnxruntime, openvino
from own_forms import c, qat
from subjects import Subject
from tflite_runtimes import litert, names, tflm

from fixedpoint.c.runtime import COMPILER


@dataclass(frozen=True)
class Package:
    """A package that must be installed in `folder`; None: anywhere on the path."""

    name: str
    folder: Path | None = None

    @property
    def version(self) -> str | None:
        return version(self.name, self.folder)


def all_names(subject: Subject) -> list[str]:
    return [*subject.tensors]


def no_names(subject: Subject) -> list[str]:
    return []


@dataclass(frozen=True)
class Candidate:
    """One way to run a network in a runtime.

    Attributes:
        runtime: The runtime's name.
        what: The file, the kernels or the options that run.
        package: The package that it needs; None: the project's own.
        unit: The unit of its logits, a key of `Subject.logits`.
        run: Called with a subject, its input int8 [images, channels, height, width] and a number of images; returns the
            logits [images, classes] of all images, and the int8 tensors by name of that many.
        names: Gives the names of the tensors that `run` must return; without names, it returns none.
        is_slow: Whether an image takes long.
        is_exact: Whether the results must be those of the integer model; otherwise they are only shown.
        needs_vnni: Whether they are exact on an x86 processor only if it has VNNI.
    """

    runtime: str
    what: str
    package: Package | None
    unit: str
    run: Callable[[Subject, np.ndarray, int], Answer]
    names: Callable[[Subject], list[str]] = all_names
    is_slow: bool = False
    is_exact: bool = True
    needs_vnni: bool = False

    @property
    def is_installed(self) -> bool:
        return self.package is None or self.package.version is not None

    @property
    def title(self) -> str:
        """The name that is shown: runtime, version, and what runs."""
        return " ".join(filter(None, [self.runtime, self.package and self.package.version])) + f": {self.what}"


def _onnxruntime(key: str, package: Package, run: Callable[..., Answer]) -> dict[str, Candidate]:
    uses = {
        "qdq-int8": ("QDQ, kept int8", "qdq", "int8"),
        "qdq-off": ("QDQ, as written", "qdq", "off"),
        "qdq-default": ("QDQ, by default", "qdq", "default"),
        "qoperator": ("QOperator", "qoperator", "default"),
        "integer": ("integer", "integer", "default"),
    }
    return {
        f"{key}-{use}": Candidate(
            "ONNX Runtime", what, package, "real", partial(run, *call), needs_vnni=use == "qdq-default"
        )
        for use, (what, *call) in uses.items()
    }


def _openvino(what: str, form: str, precision: str | None) -> Candidate:
    package, run, is_whole = Package("openvino", PACKAGES), partial(openvino, form, precision), form == "integer"
    unit, is_exact = "accumulators" if is_whole else "real", is_whole or precision is not None
    return Candidate("OpenVINO", what, package, unit, run, is_exact=is_exact, needs_vnni=not is_whole)


def _litert(what: str, dtype: str, kernels: str) -> Candidate:
    """Tensors are compared where the kernels keep them; XNNPACK keeps none, and int16 logits do not change them."""
    traced = names if (dtype, kernels) in (("int8", "optimized"), ("int8", "reference")) else no_names
    package, run = Package("ai-edge-litert"), partial(litert, dtype, kernels)
    return Candidate("LiteRT", what, package, dtype, run, traced, is_slow=kernels == "reference")


def _tflm(what: str, dtype: str) -> Candidate:
    package, traced = Package("tflite_micro", PACKAGES), names if dtype == "int8" else no_names
    return Candidate("TFLM", what, package, dtype, partial(tflm, dtype), traced, is_slow=True)


CANDIDATES = {
    "pytorch-qat": Candidate("PyTorch", "QAT model", Package("torch"), "accumulators", qat),
    "c": Candidate("C99", f"{COMPILER} -O3", None, "accumulators", c),
    **_onnxruntime("onnxruntime", Package("onnxruntime"), onnxruntime),
    **_onnxruntime("onnxruntime-old", Package("onnxruntime", OLD_ONNXRUNTIME), old_onnxruntime),
    "openvino-f32": _openvino("QDQ, f32 hint", "qdq", "f32"),
    "openvino-default": _openvino("QDQ, by default (for information)", "qdq", None),
    "openvino-integer": _openvino("integer, f32 hint", "integer", "f32"),
    "openvino-integer-default": _openvino("integer", "integer", None),
    "litert-xnnpack": _litert("XNNPACK", "int8", "xnnpack"),
    "litert-optimized": _litert("optimized kernels", "int8", "optimized"),
    "litert-reference": _litert("reference kernels", "int8", "reference"),
    "litert-int16": _litert("XNNPACK, 16-bit logits", "int16", "xnnpack"),
    "tflm": _tflm("its own kernels", "int8"),
    "tflm-int16": _tflm("its own kernels, 16-bit logits", "int16"),
}
