"""Prove that the QAT, integer, ONNX, C and LiteRT forms agree bit for bit, and write the table of all forms.

    python -m stages.compare

Writes metrics/exactness.json (each pair of forms, by mode or kernels, and the digests of their files),
metrics/summary.json (the few numbers to watch), metrics/summary.md, and the plots of `pipeline.comparison_plots`. If
any two values differ, or a file is not to the byte what is exported of the integer model, it fails, and of these leaves
exactness.json alone, with "proved": false and the first difference of each form. The logits of int8.tflite have fewer
bits than the others: they are compared with the integer model's rounded to as many. What int8_qdq.onnx does under ONNX
Runtime's default options depends on the processor if weights leave [-64, 64]: then it is printed, but not part of the
results.
"""

import json
from pathlib import Path

from pipeline.cli import no_arguments, run
from pipeline.forms import FORMS, INT, QAT, stored_program
from pipeline.params import load_params
from storage.errors import InputError
from storage.files import sha256, whole_file, write_json

if __name__ == "__main__":
    no_arguments(__doc__)  # --help and mistakes, before the imports that take seconds

from evaluation.exactness import Agreement, Compared
from evaluation.score import score
from fixedpoint.c.memory_plan import plan
from fixedpoint.c.source import flash_bytes
from pipeline import comparison_plots
from pipeline.comparison import UNSAFE, Comparison, files_of_all
from pipeline.databases import check_model, plain_batches
from pipeline.exports import integer_exports
from pipeline.machine import prepare
from pipeline.results import PROOF, Proof, read_metrics, read_scores
from reports.summary import Operations, headline, held, said, summary

SUMMARY, TABLES = Path("metrics/summary.json"), Path("metrics/summary.md")


def main() -> None:
    for result in (PROOF, SUMMARY, TABLES, *comparison_plots.ALL):  # those of another comparison
        result.unlink(missing_ok=True)
    params = load_params()
    device = prepare(params.execution)
    stored = {form: form.load() for form in (QAT, INT)}
    for form, contents in stored.items():
        check_model(form.path, contents.info, params)
    qat, program = map(stored_program, stored.values())
    digests = {str(file): sha256(file) for file in files_of_all(program.is_portable)}

    images = plain_batches(params, images=params.compare.images)
    traced = plain_batches(params, images=params.compare.intermediate_images)
    comparison = Comparison(QAT.name, qat, program, images, traced, device, params.execution.threads)
    logits, labels = comparison.logits()
    found = comparison.agreements(logits)
    if comparison.saturating:
        unsafe = Agreement(["int", UNSAFE], "int")
        unsafe.add(logits, "logits")
        on_this_cpu = {**score(logits.pop(UNSAFE), labels), **unsafe.by_pair()}
        print(f"int8_qdq.onnx with ONNX Runtime's default options on this processor: {json.dumps(on_this_cpu)}")

    counts = {"logits": len(labels), "tensors": len(traced.indices)}
    exactness = {
        name: Compared(images=counts[name.removeprefix("litert_")], pairs=agreement.by_pair())
        for name, agreement in found.items()
    }
    exactness["tensors"]["names"] = comparison.names
    executions = held(exactness)
    mismatches = sum(agreement.mismatches for agreement in found.values())
    differences = comparison.first_differences(found)
    expected = integer_exports(program, stored[INT].info, params.litert.logits)
    edited = [str(file) for file, content in expected.items() if file.read_bytes() != content]
    proof = Proof(proved=not mismatches and not edited, files=digests)
    if mismatches:
        write_json(PROOF, {**proof, "differences": [each.to_json() for each in differences], **exactness})
        more = f"; {len(differences) - 1} more forms differ" if len(differences) > 1 else ""
        raise InputError(f"{differences[0]}{more}; {said(executions)}, see {PROOF}")
    write_json(PROOF, {**proof, **exactness})
    if edited:
        raise InputError(f"{edited[0]} is not what is exported of {INT.path}, although no compared value differs")
    scores = {name: read_scores(form) for name, form in FORMS.items()}
    ops = read_metrics("ops", "count-ops", Operations)
    write_json(SUMMARY, headline(scores, ops, executions, plan(program).peak, flash_bytes(program)))
    floating = comparison_plots.float_logits(images, params.execution.threads)
    comparison_plots.write_plots(scores, images, (floating, logits["int"]), labels)
    labels_of = {name: form.label for name, form in FORMS.items()}
    onnx_scores = {name: score(values, labels) for name, values in logits.items() if name.startswith("onnx")}
    with whole_file(TABLES) as partial:
        partial.write_text(summary(scores, labels_of, onnx_scores, exactness, comparison.saturating), encoding="utf-8")
    print(said(executions))


if __name__ == "__main__":
    run(main)
