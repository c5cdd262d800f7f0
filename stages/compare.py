"""The proof: QAT, integer, ONNX, C and LiteRT forms against each other, bit for bit, and the table of all forms.

    python -m stages.compare

Writes metrics/exactness.json (each pair of forms and executions), metrics/summary.json (the few numbers to watch),
metrics/summary.md and plots/top1.csv. The logits of int8.tflite have fewer bits than the others: they are compared with
the integer model's in as many. What int8_qdq.onnx does under ONNX Runtime's default options depends on the processor if
weights leave [-64, 64]: then it is shown, but not part of the results. Fails if any two values differ.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from evaluation.exactness import Agreement
from evaluation.score import predict, score
from fixedpoint.c.runtime import CModel
from fixedpoint.litert.runtime import EXECUTIONS as LITERT_EXECUTIONS
from fixedpoint.litert.runtime import LitertModel
from fixedpoint.onnx.runtime import OnnxModel, saturating_weights
from fixedpoint.program import Program
from fixedpoint.program.integer import IntegerEvaluator, integer_input, integer_logits, integer_tensor, rounded_logits
from fixedpoint.quantize.qat import FakeQuantModel
from models.normalization import normalize
from pipeline.cli import run
from pipeline.databases import check_model, plain_batches
from pipeline.forms import Logits, c_logits
from pipeline.machine import prepare
from pipeline.model_files import FILES, MADE_BY, stored_program
from pipeline.params import Params, load_params
from pipeline.paths import require
from reports.summary import FORMS, headline, summary
from storage.files import whole_file, write_csv, write_json
from storage.model_file import load_model

EXECUTIONS = [("qdq", execution) for execution in ("default", "int8", "off")]
EXECUTIONS += [(form, execution) for form in ("qoperator", "integer") for execution in ("default", "off")]
UNSAFE = ("qdq", "default")  # unless no weight saturates there
C_SOURCE = Path("artifacts/c")
LITERT = {execution: f"litert ({execution})" for execution in LITERT_EXECUTIONS}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    params = load_params()
    device = prepare(params.execution)
    stored = {form: load_model(require(FILES[form], MADE_BY[form]), (form,)) for form in ("qat", "int")}
    for form, contents in stored.items():
        check_model(FILES[form], contents.info, params)
    qat, program = map(stored_program, stored.values())
    scores = {form: json.loads(require(f"metrics/{form}.json", "make validate").read_text()) for form in FILES}
    ops = json.loads(require("metrics/ops.json", "make count-ops").read_text())

    saturating = saturating_weights(program)
    exact = [pair for pair in EXECUTIONS if not (saturating and pair == UNSAFE)]
    logits, labels = _logits(qat, program, params, device)
    by_logits = Agreement(["qat", "int", "c", *(_name(*pair) for pair in exact)])
    by_logits.add(logits)
    by_tensor = Agreement(list(by_logits.forms))
    names = [op.name for op in program.ops if op.name not in program.raw]
    for values in _tensors(qat, program, params, device, names, exact):
        by_tensor.add(values)

    by_pair = {"logits": by_logits, "tensors": by_tensor}
    if program.is_portable:
        by_pair |= {
            "litert_logits": _litert_logits(program, params),
            "litert_tensors": _litert_tensors(program, params),
        }

    if saturating:
        unsafe = Agreement(["int", _name(*UNSAFE)])
        unsafe.add(logits)
        on_this_cpu = score(logits.pop(_name(*UNSAFE)), labels) | unsafe.by_pair()
        print(f"int8_qdq.onnx with ONNX Runtime's default options on this processor: {json.dumps(on_this_cpu)}")

    images = {"logits": len(labels), "tensors": params.compare.intermediate_images}
    exactness = {
        name: {"images": images[name.removeprefix("litert_")], "pairs": agreement.by_pair()}
        for name, agreement in by_pair.items()
    }
    exactness["tensors"]["names"] = names
    compared = sum(agreement.elements for agreement in by_pair.values())
    mismatches = sum(agreement.mismatches for agreement in by_pair.values())
    write_json("metrics/exactness.json", exactness)
    write_json("metrics/summary.json", headline(scores, ops, compared, mismatches))
    top1 = [(label, scores[form]["top1"]) for form, label in FORMS.items() if scores[form]]
    write_csv("plots/top1.csv", [("form", "top1"), *top1])
    with whole_file("metrics/summary.md") as partial:
        executions = {form: score(values, labels) for form, values in logits.items() if form.startswith("onnx")}
        partial.write_text(summary(scores, executions, exactness, saturating))
    if mismatches:
        raise ValueError(f"{mismatches} of {compared} values differ, see metrics/exactness.json")
    print(f"{compared:,} values compared, none differs")


def _name(form: str, execution: str) -> str:
    return f"onnx_int8_{form} ({execution})"


def _logits(qat: Program, program: Program, params: Params, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """Logits float32 [images, classes] by form, and the labels."""
    batches = plain_batches(params, images=params.compare.images)
    forms: dict[str, Logits] = {"qat": FakeQuantModel(qat).to(device).eval(), "int": integer_logits(program, device)}
    forms["c"] = c_logits(program, C_SOURCE)
    for form, execution in EXECUTIONS:
        forms[_name(form, execution)] = _onnx(form, execution, params)
    logits, labels = {}, torch.empty(0)
    for form, logits_of in forms.items():
        steps = tqdm(batches, desc=form, unit="batch", leave=False, disable=None)
        logits[form], labels = predict(lambda pixels: logits_of(normalize(pixels.to(device))), steps)  # noqa: B023
    return logits, labels


def _onnx(form: str, execution: str, params: Params) -> Logits:
    model = OnnxModel(f"artifacts/onnx/int8_{form}.onnx", execution, params.execution.threads)
    return lambda x: torch.from_numpy(model(x.cpu().numpy()))


@torch.no_grad()
def _litert_logits(program: Program, params: Params) -> Agreement:
    """The logits of int8.tflite in each execution, and the integer model's in as many bits.

    Several interpreters share a batch, since LiteRT's reference kernels compute on one thread alone.
    """
    integer, parts = IntegerEvaluator(program), params.execution.threads
    models = {name: [_litert(execution) for _ in range(parts)] for execution, name in LITERT.items()}
    first = next(iter(models.values()))[0]
    agreement = Agreement(["int", *models])
    batches = plain_batches(params, images=params.compare.images)
    with ThreadPoolExecutor(parts) as pool:
        for pixels, _ in tqdm(batches, desc="litert", unit="batch", leave=False, disable=None):
            x = integer_input(normalize(pixels))
            split = [part.numpy() for part in x.tensor_split(parts) if len(part)]
            running = {name: pool.map(LitertModel.__call__, each, split) for name, each in models.items()}
            values = {name: torch.from_numpy(np.concatenate([*results])) for name, results in running.items()}
            dtype = next(iter(values.values())).dtype
            values["int"] = rounded_logits(program, integer(x).flatten(1), first.exponent, dtype)
            agreement.add(values)
    return agreement


def _litert_tensors(program: Program, params: Params) -> Agreement:
    """Every int8 tensor that LiteRT keeps, and the integer model's."""
    models = {name: _litert(execution, tensors=True) for execution, name in LITERT.items() if execution != "xnnpack"}
    integer, agreement = IntegerEvaluator(program), Agreement(["int", *models])
    for pixels, _ in plain_batches(params, images=params.compare.intermediate_images):
        x = integer_input(normalize(pixels))
        expected, found = dict(integer.run(x)), {name: model.tensors(x.numpy()) for name, model in models.items()}
        for tensor in next(iter(found.values())):
            values = {name: torch.from_numpy(tensors[tensor].copy()) for name, tensors in found.items()}
            agreement.add({"int": expected[tensor]} | values)
    return agreement


def _litert(execution: str, tensors: bool = False) -> LitertModel:
    return LitertModel(require(FILES["litert"], MADE_BY["litert"]), execution, tensors=tensors)


@torch.no_grad()
def _tensors(
    qat: Program,
    program: Program,
    params: Params,
    device: torch.device,
    names: list[str],
    executions: list[tuple[str, str]],
) -> Iterator[dict[str, Tensor]]:
    """Every int8 tensor by form, one tensor of one batch of images at a time."""
    models = {
        _name(form, execution): OnnxModel(
            f"artifacts/onnx/int8_{form}.onnx", execution, params.execution.threads, names
        )
        for form, execution in executions
    }
    fake, integer = FakeQuantModel(qat).to(device).eval(), IntegerEvaluator(program).to(device)
    c = CModel(C_SOURCE, trace=True)
    for pixels, _ in plain_batches(params, images=params.compare.intermediate_images):
        x = normalize(pixels)
        values: dict[str, Mapping[str, Tensor | np.ndarray]] = {
            "qat": {n: integer_tensor(qat, n, v).cpu() for n, v in fake.run(x.to(device)) if n in names},
            "int": {n: v.cpu() for n, v in integer.run(integer_input(x.to(device))) if n in names},
        }
        values |= {form: model.tensors(x.numpy()) for form, model in models.items()}
        values["c"] = c.tensors(integer_input(x).numpy())
        for name in names:
            yield {form: torch.as_tensor(tensors[name]).flatten(1).int() for form, tensors in values.items()}


if __name__ == "__main__":
    run(main)
