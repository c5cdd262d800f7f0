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
    """What must be installed; `folder`: where, None for anywhere on the path."""

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
    """One way to run a network.

    Attributes:
        runtime: Its name.
        what: What of it runs.
        package: Without which it does not run; None: the project's own.
        unit: Of its logits, a key of `Subject.logits`.
        run: Of a subject, the input int8 [images, channels, height, width] and a number of images: the logits
            [images, classes] of all, and the int8 tensors of so many by name.
        names: Of the tensors that it must give; if there are none, it is not asked for any.
        is_slow: Whether an image takes long.
        is_exact: Whether the results must be those of the integer model. If not, they are shown, and that is all.
        needs_vnni: Whether, on an x86 processor, they are only where it has VNNI.
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
        """Runtime, version, and what of it runs."""
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


def _openvino(what: str, precision: str | None) -> Candidate:
    package, run = Package("openvino", PACKAGES), partial(openvino, precision)
    return Candidate("OpenVINO", what, package, "real", run, is_exact=precision is not None, needs_vnni=True)


def _litert(what: str, dtype: str, kernels: str) -> Candidate:
    """XNNPACK keeps no tensors; a file with other logits has the same ones."""
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
    "openvino-f32": _openvino("QDQ, f32 hint", "f32"),
    "openvino-default": _openvino("QDQ, by default (for information)", None),
    "litert-xnnpack": _litert("XNNPACK", "int8", "xnnpack"),
    "litert-optimized": _litert("optimized kernels", "int8", "optimized"),
    "litert-reference": _litert("reference kernels", "int8", "reference"),
    "litert-int16": _litert("XNNPACK, 16-bit logits", "int16", "xnnpack"),
    "tflm": _tflm("its own kernels", "int8"),
    "tflm-int16": _tflm("its own kernels, 16-bit logits", "int16"),
}
