"""A summary of the results: metrics/summary.json, the few numbers to watch, and metrics/summary.md, the tables."""

from collections.abc import Mapping
from typing import TypedDict

from evaluation.exactness import Compared, Count
from evaluation.score import Scores


class Operations(TypedDict):
    """metrics/ops.json: the network's multiply-accumulates and parameters."""

    macs: int
    params: int


class Headline(TypedDict):
    """metrics/summary.json: top-1 in percent, its drop by quantization in points, loss in nats, values, operations."""

    float_top1: float
    ptq_top1: float
    qat_top1: float
    int_top1: float
    int_top1_drop: float
    int_loss: float
    compared: int
    mismatches: int
    macs: int
    params: int


def headline(scores: Mapping[str, Scores], ops: Operations, compared: int, mismatches: int) -> Headline:
    """The numbers of metrics/summary.json.

    Args:
        scores: Scores of each form.
        ops: The contents of metrics/ops.json.
        compared: Number of values of the integer forms that have been compared.
        mismatches: Number of these that differ.
    """
    return Headline(
        float_top1=scores["float"]["top1"],
        ptq_top1=scores["ptq"]["top1"],
        qat_top1=scores["qat"]["top1"],
        int_top1=scores["int"]["top1"],
        int_top1_drop=round(scores["float"]["top1"] - scores["int"]["top1"], 4),
        int_loss=scores["int"]["loss"],
        compared=compared,
        mismatches=mismatches,
        macs=ops["macs"],
        params=ops["params"],
    )


def forms_table(scores: Mapping[str, Scores], labels: Mapping[str, str]) -> list[str]:
    """The lines of the table of all forms that the arithmetic has.

    Args:
        scores: Scores of each form; empty where the arithmetic has no such form.
        labels: Labels of the forms, in the order of the rows.
    """
    lines = ["| form | top-1 % | against float | top-5 % | loss |", "|---|---:|---:|---:|---:|"]
    for form, label in labels.items():
        s = scores[form]
        if not s:
            continue
        delta = s["top1"] - scores["float"]["top1"]
        lines.append(f"| {label} | {s['top1']:.2f} | {delta:+.2f} | {s['top5']:.2f} | {s['loss']:.4f} |")
    return lines


def summary(
    scores: Mapping[str, Scores],
    labels: Mapping[str, str],
    onnx_scores: Mapping[str, Scores],
    exactness: Mapping[str, Compared],
    saturating: Mapping[str, int],
) -> str:
    """The text of the summary.

    Args:
        scores, labels: As in `forms_table`.
        onnx_scores: Scores of each int8 ONNX file in each mode of ONNX Runtime.
        exactness: The contents of metrics/exactness.json.
        saturating: The result of `fixedpoint.onnx.runtime.saturating_weights`.
    """
    images = scores["float"]["images"]
    lines = [
        "# Results",
        "",
        f"{images} validation images.",
        "",
        *forms_table(scores, labels),
        "",
        "## Bit for bit",
        "",
        "| pair | logits | differ | int8 values inside | differ |",
        "|---|---:|---:|---:|---:|",
    ]
    for kind in ("", "litert_"):
        if f"{kind}logits" in exactness:
            inside = exactness[f"{kind}tensors"]["pairs"]
            for pair, logits in exactness[f"{kind}logits"]["pairs"].items():
                counts = [*logits.values(), *inside.get(pair, Count(elements=0, mismatches=0)).values()]
                lines.append(f"| {pair} | " + " | ".join(f"{count:,}" for count in counts) + " |")
    lines += [
        "",
        f"Logits of {exactness['logits']['images']} images; each of {len(exactness['tensors']['names'])} intermediate "
        f"tensors of {exactness['tensors']['images']} images. In parentheses, how ONNX Runtime executed the file: with "
        "default options, with all graph optimizations off, or with `session.qdqisint8allowed=1` (int8); and which of "
        "LiteRT's kernels ran: XNNPACK's, which keep no tensors, its optimized or its reference ones.",
        "",
        *tie_note(scores),
        "## ONNX files",
        "",
        "| file (execution) | top-1 % | loss |",
        "|---|---:|---:|",
    ]
    lines += [f"| {form} | {s['top1']:.2f} | {s['loss']:.4f} |" for form, s in onnx_scores.items()]
    return "\n".join([*lines, "", qdq_verdict(saturating), ""])


def tie_note(scores: Mapping[str, Scores]) -> list[str]:
    """Lines on how often the two best logits of int8.tflite are equal; none if no form has ties in its scores."""
    lines = []
    for found in scores.values():
        if "ties" in found:
            ties = f"{found['ties']:.0f} of {found['images']} images have two best logits that are equal"
            why = "whose logits have one exponent and fewer bits; the lower class counts."
            lines += [f"{ties} in int8.tflite, {why}", ""]
    return lines


def qdq_verdict(saturating: Mapping[str, int]) -> str:
    """The sentence on where int8_qdq.onnx is exact; `saturating` as in `summary`."""
    if saturating:
        return (
            "**int8_qdq.onnx is not safe under ONNX Runtime's default options**: "
            f"{sum(saturating.values()):,} weights in {len(saturating)} layers lie outside [-64, 64], so an x86 "
            "processor without VNNI may give other numbers. Run it with `session.qdqisint8allowed=1`, or run "
            "int8_qoperator.onnx, which is exact there, too. What this processor does is printed by the compare stage."
        )
    return "int8_qdq.onnx is exact under ONNX Runtime's default options on every x86 processor, too."
