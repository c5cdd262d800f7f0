"""Compares the integer forms of a model with each other, value by value."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from evaluation.exactness import Agreement, Difference
from evaluation.score import predict
from fixedpoint.c.runtime import FILES, CModel
from fixedpoint.errors import QuantizationError
from fixedpoint.litert.runtime import KERNELS, LitertModel
from fixedpoint.onnx.runtime import OnnxModel, saturating_weights
from fixedpoint.program import Program, power_of_two
from fixedpoint.program.integer import (
    IntegerEvaluator,
    integer_logits,
    integer_tensor,
    rounded_logits,
    signed_pixels,
)
from fixedpoint.quantize.qat import FakeQuantModel
from models.normalization import normalize
from pipeline.databases import plain_batches
from pipeline.forms import FORMS, INT, LITERT, ONNX, QAT, C
from pipeline.logits import Logits, qat_logits
from pipeline.params import Params
from pipeline.paths import require, runs_folder
from storage.errors import InputError

T = TypeVar("T")
PATIENCE = 100  # times that the C form may take longer than the integer model in PyTorch

# Each int8 ONNX file and mode of ONNX Runtime that are compared, by the name of both.
ONNX_VARIANTS = {
    f"onnx_int8_{form} ({mode})": (form, mode)
    for form, modes in {"qdq": ("default", "int8", "off"), "qoperator": ("default", "off")}.items()
    for mode in modes
} | {f"onnx_int8_integer ({mode})": ("integer", mode) for mode in ("default", "off")}
UNSAFE = "onnx_int8_qdq (default)"  # unless no weight saturates there
LITERT_VARIANTS = {f"litert ({kernels})": kernels for kernels in KERNELS}
C_FILES = [C / name for name in FILES]
# The files of each form; where there are several, the first holds what is computed.
FILES_OF = (
    {"qat": [QAT.path], "int": [INT.path], "c": C_FILES}
    | {name: [ONNX / f"int8_{form}.onnx"] for name, (form, _) in ONNX_VARIANTS.items()}
    | {name: [LITERT.path] for name in LITERT_VARIANTS}
)


def files_of_all(has_litert: bool) -> list[Path]:
    """The files of all forms: those that are compared, and those that are scored alone."""
    files = {file for form, each in FILES_OF.items() if has_litert or form not in LITERT_VARIANTS for file in each}
    return sorted(files | {form.path for form in FORMS.values() if not form.absence})


class Located(NamedTuple):
    """A difference with the form's file, and with the number and the name of the image's record."""

    file: str
    record: int
    name: str
    difference: Difference

    def __str__(self) -> str:
        return f"{self.file}: {self.difference}, for record {self.record} ({self.name!r})"

    def to_json(self) -> dict[str, object]:
        """Its entry in metrics/exactness.json."""
        found = {key: value for key, value in self.difference._asdict().items() if key != "image"}
        return {"file": self.file, "record": self.record, "name": self.name} | found


class Comparison:
    """A QAT and an integer program of one model, and the files that were exported from the latter.

    Args:
        qat: The QAT program.
        program: The integer program.
        params: All parameters.
        device: Where PyTorch computes.

    Attributes:
        saturating: Number of weights by layer that make the QDQ file unsafe under ONNX Runtime's default options.
        forms: Names of the forms that must agree: all but UNSAFE if there are such weights.
        names: Names of the intermediate tensors that are compared.
    """

    def __init__(self, qat: Program, program: Program, params: Params, device: torch.device):
        self.qat, self.program, self.params, self.device = qat, program, params, device
        self.saturating = saturating_weights(program)
        exact = [name for name in ONNX_VARIANTS if not (self.saturating and name == UNSAFE)]
        self.forms = ["qat", "int", "c", *exact]
        self.names = [op.name for op in program.ops if op.name not in program.raw]

    def logits(self) -> tuple[dict[str, Tensor], Tensor]:
        """Logits float32 [images, classes] by form, UNSAFE included, and the labels."""
        batches = plain_batches(self.params, images=self.params.compare.images)
        forms: dict[str, Logits] = {
            "qat": qat_logits(self.qat, self.device),
            "int": integer_logits(self.program, self.device),
            "c": self._c_logits(),
        }
        forms |= {name: self._onnx_logits(name) for name in ONNX_VARIANTS}
        logits, labels = {}, torch.empty(0)
        for name, logits_of in forms.items():
            steps = tqdm(batches, desc=name, unit="batch", leave=False, disable=None)
            logits[name], labels = predict(logits_of, steps)
        return logits, labels

    @torch.no_grad()
    def tensors(self) -> Agreement:
        """The agreement of all forms in every int8 tensor."""
        agreement, start = Agreement(self.forms, "int"), 0
        models = {name: self._onnx(name, self.names) for name in ONNX_VARIANTS if name in self.forms}
        fake = FakeQuantModel(self.qat).to(self.device).eval()
        integer, c = IntegerEvaluator(self.program).to(self.device), self._c(trace=True)
        for pixels, _ in plain_batches(self.params, images=self.params.compare.intermediate_images):
            x, moved = signed_pixels(pixels).numpy(), pixels.to(self.device)
            found: dict[str, Mapping[str, Tensor | np.ndarray]] = {
                "qat": {
                    name: integer_tensor(self.qat, name, value).cpu()
                    for name, value in fake.run(normalize(moved))
                    if name in self.names
                },
                "int": {name: value.cpu() for name, value in integer.run(signed_pixels(moved)) if name in self.names},
                "c": _named(c.tensors, x),
            }
            found |= {name: model.tensors(x) for name, model in models.items()}
            for name in self.names:
                values = {form: torch.as_tensor(of[name]).int() for form, of in found.items() if name in of}
                agreement.add(values, name, start)
            start += len(x)
        return agreement

    @torch.no_grad()
    def litert_logits(self) -> Agreement:
        """The agreement of int8.tflite's logits under all kernels with the integer model's, rounded to as many bits.

        Several interpreters share a batch, since LiteRT's reference kernels use one thread only.
        """
        integer, parts = IntegerEvaluator(self.program), self.params.execution.threads
        models = {name: [_litert(kernels) for _ in range(parts)] for name, kernels in LITERT_VARIANTS.items()}
        first = next(iter(models.values()))[0]
        agreement, start = Agreement(["int", *models], "int"), 0
        batches = plain_batches(self.params, images=self.params.compare.images)
        with ThreadPoolExecutor(parts) as pool:
            for pixels, _ in tqdm(batches, desc="litert", unit="batch", leave=False, disable=None):
                x = signed_pixels(pixels)
                split = [part.numpy() for part in x.tensor_split(parts) if len(part)]
                running = {name: pool.map(LitertModel.__call__, each, split) for name, each in models.items()}
                values = {name: torch.from_numpy(np.concatenate([*results])) for name, results in running.items()}
                dtype = next(iter(values.values())).dtype
                values["int"] = rounded_logits(self.program, integer(x).flatten(1), first.exponent, dtype)
                agreement.add(values, "logits", start)
                start += len(x)
        return agreement

    def litert_tensors(self) -> Agreement:
        """The agreement of every int8 tensor that LiteRT keeps with the integer model's."""
        models = {
            name: _litert(kernels, tensors=True) for name, kernels in LITERT_VARIANTS.items() if kernels != "xnnpack"
        }
        integer, agreement, start = IntegerEvaluator(self.program), Agreement(["int", *models], "int"), 0
        for pixels, _ in plain_batches(self.params, images=self.params.compare.intermediate_images):
            x = signed_pixels(pixels)
            expected, found = dict(integer.run(x)), {name: model.tensors(x.numpy()) for name, model in models.items()}
            for tensor in next(iter(found.values())):
                values = {name: torch.from_numpy(tensors[tensor].copy()) for name, tensors in found.items()}
                if tensor in expected:
                    values["int"] = expected[tensor]
                agreement.add(values, tensor, start)
            start += len(x)
        return agreement

    def first_differences(self, found: Mapping[str, Agreement]) -> list[Located]:
        """Where each form that is not equal to the integer model differs first; inner tensors come before logits.

        Args:
            found: Agreements by name; those whose names end in "tensors" compared fewer images.
        """
        located: dict[str, Located] = {}
        for name in sorted(found, key=lambda name: name.endswith("logits")):
            inner = name.endswith("tensors")
            images = self.params.compare.intermediate_images if inner else self.params.compare.images
            batches = plain_batches(self.params, images=images)
            for form, difference in found[name].differences.items():
                record = int(batches.indices[difference.image])
                where = Located(str(FILES_OF[form][0]), record, batches.pixels.database[record].name, difference)
                located.setdefault(form, where)
        if {*self.forms} - {"int"} <= located.keys():  # then it is the integer model that differs from all
            first = next(iter(located.values()))
            value, expected = first.difference.expected, first.difference.value
            difference = first.difference._replace(form="int", value=value, expected=expected)
            return [first._replace(file=str(INT.path), difference=difference)]
        return [*located.values()]

    def _c_logits(self) -> Logits:
        model, scale = self._c(), power_of_two(-self.program.logit_exponent)
        return lambda pixels: torch.tensor(_named(model, signed_pixels(pixels).numpy())) * scale

    def _c(self, trace: bool = False) -> CModel:
        """The C form; of damaged source, the program might not end."""
        x = signed_pixels(next(iter(plain_batches(self.params, images=self.params.compare.images)))[0])
        start = time.monotonic()
        IntegerEvaluator(self.program)(x)
        seconds = PATIENCE * (1 + time.monotonic() - start)
        return _named(CModel, require(C, "make export-c"), trace, folder=runs_folder() / "compare", seconds=seconds)

    def _onnx_logits(self, name: str) -> Logits:
        model = self._onnx(name)
        return lambda pixels: torch.from_numpy(model(signed_pixels(pixels).numpy()))

    def _onnx(self, name: str, outputs: Sequence[str] = ()) -> OnnxModel:
        form, mode = ONNX_VARIANTS[name]
        return OnnxModel(ONNX / f"int8_{form}.onnx", mode, self.params.execution.threads, outputs)


def _named(function: Callable[..., T], *arguments: object, **named: object) -> T:
    """What `function` of the C form returns; where it fails by its sources, the error names their folder."""
    try:
        return function(*arguments, **named)
    except (QuantizationError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise InputError(f"{C}: {error}") from None


def _litert(kernels: str, tensors: bool = False) -> LitertModel:
    return LitertModel(LITERT.require(), kernels, tensors=tensors)
