"""Compares the integer forms of a model with each other, value by value."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

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
from pipeline.forms import FORMS, INT, LITERT, ONNX, PTQ, QAT, C
from pipeline.logits import Logits, qat_logits
from pipeline.paths import require, runs_folder
from pixels.batches import Batch
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
    {"ptq": [PTQ.path], "qat": [QAT.path], "int": [INT.path], "c": C_FILES}
    | {name: [ONNX / f"int8_{form}.onnx"] for name, (form, _) in ONNX_VARIANTS.items()}
    | {name: [LITERT.path] for name in LITERT_VARIANTS}
)


def files_of_all(has_litert: bool) -> list[Path]:
    """The files of all forms: those that are compared, and those that are scored alone."""
    files = {file for form, each in FILES_OF.items() if has_litert or form not in LITERT_VARIANTS for file in each}
    return sorted(files | {form.path for form in FORMS.values() if not form.absence})


class Images(Protocol):
    """Images on which forms are compared, the same ones each time."""

    def __iter__(self) -> Iterator[Batch]: ...

    def record(self, image: int) -> tuple[int, str]:
        """The number and the name of the record of image number `image`."""


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
    """A trained or calibrated and an integer program of one model, and the files that were exported from the latter.

    Args:
        source: The form of the first program, "qat" or "ptq".
        trained: The first program, with float weights.
        program: The integer program.
        images: Those whose logits are compared.
        traced: Those of which all tensors are compared.
        device: Where PyTorch computes.
        threads: Number of threads of each runtime.
        files: The files of each form, as in FILES_OF.

    Attributes:
        saturating: Number of weights by layer that make the QDQ file unsafe under ONNX Runtime's default options.
        forms: Names of the forms that must agree: all but UNSAFE if there are such weights.
        names: Names of the intermediate tensors that are compared.
    """

    def __init__(
        self,
        source: str,
        trained: Program,
        program: Program,
        images: Images,
        traced: Images,
        device: torch.device,
        threads: int,
        files: Mapping[str, list[Path]] = FILES_OF,
    ):
        self.source, self.trained, self.program, self.images, self.traced = source, trained, program, images, traced
        self.device, self.threads, self.files = device, threads, files
        self.saturating = saturating_weights(program)
        exact = [name for name in ONNX_VARIANTS if not (self.saturating and name == UNSAFE)]
        self.forms = [source, "int", "c", *exact]
        self.names = [op.name for op in program.ops if op.name not in program.raw]

    def agreements(self, logits: Mapping[str, Tensor]) -> dict[str, Agreement]:
        """The agreement of all forms in their logits, those of `logits`, and in all other tensors."""
        by_logits = Agreement(self.forms, "int")
        by_logits.add(logits, "logits")
        found = {"logits": by_logits, "tensors": self.tensors()}
        if self.program.is_portable:
            found |= {"litert_logits": self.litert_logits(), "litert_tensors": self.litert_tensors()}
        return found

    def logits(self) -> tuple[dict[str, Tensor], Tensor]:
        """Logits float32 [images, classes] by form, UNSAFE included, and the labels."""
        forms: dict[str, Logits] = {
            self.source: qat_logits(self.trained, self.device),
            "int": integer_logits(self.program, self.device),
            "c": self._c_logits(),
        }
        forms |= {name: self._onnx_logits(name) for name in ONNX_VARIANTS}
        logits, labels = {}, torch.empty(0)
        for name, logits_of in forms.items():
            steps = tqdm(self.images, desc=name, unit="batch", leave=False, disable=None)
            logits[name], labels = predict(logits_of, steps)
        return logits, labels

    @torch.no_grad()
    def tensors(self) -> Agreement:
        """The agreement of all forms in every int8 tensor."""
        agreement, start = Agreement(self.forms, "int"), 0
        models = {name: self._onnx(name, self.names) for name in ONNX_VARIANTS if name in self.forms}
        fake = FakeQuantModel(self.trained).to(self.device).eval()
        integer, c = IntegerEvaluator(self.program).to(self.device), self._c(trace=True)
        for pixels, _ in self.traced:
            x, moved = signed_pixels(pixels).numpy(), pixels.to(self.device)
            found: dict[str, Mapping[str, Tensor | np.ndarray]] = {
                self.source: {
                    name: integer_tensor(self.trained, name, value).cpu()
                    for name, value in fake.run(normalize(moved))
                    if name in self.names
                },
                "int": {name: value.cpu() for name, value in integer.run(signed_pixels(moved)) if name in self.names},
                "c": self._of_c(c.tensors, x),
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
        integer, parts = IntegerEvaluator(self.program), self.threads
        models = {name: [self._litert(name) for _ in range(parts)] for name in LITERT_VARIANTS}
        first = next(iter(models.values()))[0]
        agreement, start = Agreement(["int", *models], "int"), 0
        with ThreadPoolExecutor(parts) as pool:
            for pixels, _ in tqdm(self.images, desc="litert", unit="batch", leave=False, disable=None):
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
            name: self._litert(name, tensors=True) for name, kernels in LITERT_VARIANTS.items() if kernels != "xnnpack"
        }
        integer, agreement, start = IntegerEvaluator(self.program), Agreement(["int", *models], "int"), 0
        for pixels, _ in self.traced:
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
            images = self.traced if name.endswith("tensors") else self.images
            for form, difference in found[name].differences.items():
                where = Located(str(self.files[form][0]), *images.record(difference.image), difference)
                located.setdefault(form, where)
        if {*self.forms} - {"int"} <= located.keys():  # then it is the integer model that differs from all
            first = next(iter(located.values()))
            value, expected = first.difference.expected, first.difference.value
            difference = first.difference._replace(form="int", value=value, expected=expected)
            return [first._replace(file=str(self.files["int"][0]), difference=difference)]
        return [*located.values()]

    def _c_logits(self) -> Logits:
        model, scale = self._c(), power_of_two(-self.program.logit_exponent)
        return lambda pixels: torch.tensor(self._of_c(model, signed_pixels(pixels).numpy())) * scale

    def _c(self, trace: bool = False) -> CModel:
        """The C form; of damaged source, the program might not end."""
        x = signed_pixels(next(iter(self.images))[0])
        start = time.monotonic()
        IntegerEvaluator(self.program)(x)
        seconds = PATIENCE * (1 + time.monotonic() - start)
        sources = require(self.files["c"][0].parent, "make export-c")
        return self._of_c(CModel, sources, trace, folder=runs_folder() / "compare", seconds=seconds)

    def _of_c(self, function: Callable[..., T], *arguments: object, **named: object) -> T:
        """What `function` of the C form returns; where it fails by its sources, the error names their folder."""
        try:
            return function(*arguments, **named)
        except (QuantizationError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise InputError(f"{self.files['c'][0].parent}: {error}") from None

    def _onnx_logits(self, name: str) -> Logits:
        model = self._onnx(name)
        return lambda pixels: torch.from_numpy(model(signed_pixels(pixels).numpy()))

    def _onnx(self, name: str, outputs: Sequence[str] = ()) -> OnnxModel:
        return OnnxModel(self.files[name][0], ONNX_VARIANTS[name][1], self.threads, outputs)

    def _litert(self, name: str, tensors: bool = False) -> LitertModel:
        return LitertModel(LITERT.require(self.files[name][0]), LITERT_VARIANTS[name], tensors=tensors)
