"""The proof: QAT, integer, ONNX and C forms against each other, bit for bit, and the table of all forms.

    python -m stages.compare

Writes metrics/exactness.json (each pair of forms and ONNX Runtime executions), metrics/summary.json (the few numbers to
watch), metrics/summary.md and plots/top1.csv. What int8_qdq.onnx does under ONNX Runtime's default options depends on
the processor if weights have 8 bits: then it is shown, but not part of the results. Fails if any two values differ.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fixedpoint.c_runtime import CModel
from fixedpoint.exactness import Agreement
from fixedpoint.integer import IntegerEvaluator, integer_input, integer_logits, integer_tensor
from fixedpoint.program import Program
from fixedpoint.qat import FakeQuantModel
from fixedpoint.runtime import OnnxModel, saturating_weights
from models.storage import load_model
from stages.cli import require, run, whole_file, write_csv, write_json
from stages.databases import check_model, plain_batches
from stages.forms import Logits, c_logits
from stages.machine import prepare
from stages.model_files import FILES, MADE_BY, stored_program
from stages.params import Params, load_params
from stages.summary import FORMS, headline, summary
from training.augment import normalize
from training.score import predict, score

EXECUTIONS = [("qdq", execution) for execution in ("default", "int8", "off")]
EXECUTIONS += [(form, execution) for form in ("qoperator", "integer") for execution in ("default", "off")]
UNSAFE = ("qdq", "default")  # unless no weight saturates there
C_SOURCE = Path("artifacts/c")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    params = load_params()
    device = prepare(params.machine)
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

    if saturating:
        unsafe = Agreement(["int", _name(*UNSAFE)])
        unsafe.add(logits)
        on_this_cpu = score(logits.pop(_name(*UNSAFE)), labels) | unsafe.by_pair()
        print(f"int8_qdq.onnx with ONNX Runtime's default options on this processor: {json.dumps(on_this_cpu)}")

    exactness = {
        "logits": {"images": len(labels), "pairs": by_logits.by_pair()},
        "tensors": {"images": params.compare.intermediate_images, "names": names, "pairs": by_tensor.by_pair()},
    }
    compared = by_logits.elements + by_tensor.elements
    mismatches = by_logits.mismatches + by_tensor.mismatches
    write_json("metrics/exactness.json", exactness)
    write_json("metrics/summary.json", headline(scores, ops, compared, mismatches))
    write_csv("plots/top1.csv", [("form", "top1"), *((label, scores[form]["top1"]) for form, label in FORMS.items())])
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
    model = OnnxModel(f"artifacts/onnx/int8_{form}.onnx", execution, params.machine.threads)
    return lambda x: torch.from_numpy(model(x.cpu().numpy()))


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
        _name(form, execution): OnnxModel(f"artifacts/onnx/int8_{form}.onnx", execution, params.machine.threads, names)
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
