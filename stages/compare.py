"""Prove that the QAT, integer, ONNX, C and LiteRT forms agree bit for bit, and write the table of all forms.

    python -m stages.compare

Writes metrics/exactness.json (each pair of forms, by mode or kernels), metrics/summary.json (the few numbers to watch),
metrics/summary.md and plots/top1.csv. The logits of int8.tflite have fewer bits than the others: they are compared with
the integer model's rounded to as many. What int8_qdq.onnx does under ONNX Runtime's default options depends on the
processor if weights leave [-64, 64]: then it is printed, but not part of the results. Fails if any two values differ.
"""

import argparse
import json

from evaluation.exactness import Agreement, Compared
from evaluation.score import score
from pipeline.cli import run
from pipeline.comparison import UNSAFE, Comparison
from pipeline.databases import check_model
from pipeline.forms import FORMS, INT, QAT, stored_program
from pipeline.machine import prepare
from pipeline.params import load_params
from pipeline.paths import require
from reports.summary import headline, summary
from storage.errors import InputError
from storage.files import whole_file, write_csv, write_json


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    params = load_params()
    device = prepare(params.execution)
    stored = {form: form.load() for form in (QAT, INT)}
    for form, contents in stored.items():
        check_model(form.path, contents.info, params)
    qat, program = map(stored_program, stored.values())
    scores = {name: json.loads(require(f"metrics/{name}.json", "make validate").read_text()) for name in FORMS}
    ops = json.loads(require("metrics/ops.json", "make count-ops").read_text())

    comparison = Comparison(qat, program, params, device)
    logits, labels = comparison.logits()
    by_logits = Agreement(comparison.forms)
    by_logits.add(logits)
    found = {"logits": by_logits, "tensors": comparison.tensors()}
    if program.is_portable:
        found |= {"litert_logits": comparison.litert_logits(), "litert_tensors": comparison.litert_tensors()}
    if comparison.saturating:
        unsafe = Agreement(["int", UNSAFE])
        unsafe.add(logits)
        on_this_cpu = {**score(logits.pop(UNSAFE), labels), **unsafe.by_pair()}
        print(f"int8_qdq.onnx with ONNX Runtime's default options on this processor: {json.dumps(on_this_cpu)}")

    images = {"logits": len(labels), "tensors": params.compare.intermediate_images}
    exactness = {
        name: Compared(images=images[name.removeprefix("litert_")], pairs=agreement.by_pair())
        for name, agreement in found.items()
    }
    exactness["tensors"]["names"] = comparison.names
    compared = sum(agreement.elements for agreement in found.values())
    mismatches = sum(agreement.mismatches for agreement in found.values())
    write_json("metrics/exactness.json", exactness)
    write_json("metrics/summary.json", headline(scores, ops, compared, mismatches))
    labels_of = {name: form.label for name, form in FORMS.items()}
    write_csv("plots/top1.csv", [("form", "top1"), *((labels_of[name], s["top1"]) for name, s in scores.items() if s)])
    onnx_scores = {name: score(values, labels) for name, values in logits.items() if name.startswith("onnx")}
    with whole_file("metrics/summary.md") as partial:
        partial.write_text(summary(scores, labels_of, onnx_scores, exactness, comparison.saturating))
    if mismatches:
        raise InputError(f"{mismatches} of {compared} values differ, see metrics/exactness.json")
    print(f"{compared:,} values compared, none differs")


if __name__ == "__main__":
    run(main)
