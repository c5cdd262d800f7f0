"""A summary of the results: metrics/summary.json, the few numbers to watch, and metrics/summary.md, the tables."""

from collections.abc import Mapping
from typing import NamedTuple, TypedDict

from evaluation.exactness import Compared, Count
from evaluation.score import Scores

REFERENCE = "int"  # the form that the others are held against


class Operations(TypedDict):
    """metrics/ops.json: the network's multiply-accumulates and parameters."""

    macs: int
    params: int


class Held(NamedTuple):
    """What of one execution was held against the integer model: logits, and int8 values inside if it gives them."""

    logits: Count
    inside: Count

    @property
    def values(self) -> int:
        """The number of values."""
        return self.logits["elements"] + self.inside["elements"]

    @property
    def mismatches(self) -> int:
        """The number of these that differ."""
        return self.logits["mismatches"] + self.inside["mismatches"]


class Headline(TypedDict):
    """metrics/summary.json: top-1 in percent, its drop by quantization in points, loss in nats, and counts.

    Of these, `compared` values in each of `executions` were held against the integer model, and `mismatches` differ;
    `ram` and `flash` are bytes of the C form.
    """

    float_top1: float
    ptq_top1: float
    qat_top1: float
    int_top1: float
    int_top1_drop: float
    int_loss: float
    executions: int
    compared: int
    mismatches: int
    macs: int
    params: int
    ram: int
    flash: int


def held(exactness: Mapping[str, Compared]) -> dict[str, Held]:
    """What of each execution was held against the integer model, from the contents of metrics/exactness.json."""
    found = {}
    for kind in ("", "litert_"):
        if f"{kind}logits" in exactness:
            inside = exactness[f"{kind}tensors"]["pairs"]
            for pair, logits in exactness[f"{kind}logits"]["pairs"].items():
                forms = pair.split(" = ")
                if REFERENCE in forms:
                    (name,) = {*forms} - {REFERENCE}
                    found[name] = Held(logits, inside.get(pair, Count(elements=0, mismatches=0)))
    return found


def said(executions: Mapping[str, Held]) -> str:
    """How many values were held against the integer model in how many executions, in words."""
    most = max(each.values for each in executions.values())
    fewer = "".join(
        f" ({each.values:,} in {name}, which keeps no tensors)"
        for name, each in executions.items()
        if not each.inside["elements"]
    )
    differ = sum(each.mismatches for each in executions.values())
    return f"{most:,} values in each of {len(executions)} executions{fewer}: {differ:,} differ"


def headline(
    scores: Mapping[str, Scores], ops: Operations, executions: Mapping[str, Held], ram: int, flash: int
) -> Headline:
    """The numbers of metrics/summary.json.

    Args:
        scores: Scores of each form.
        ops: The contents of metrics/ops.json.
        executions: The result of `held`.
        ram: Bytes of the C form's activations.
        flash: Bytes of its constants.
    """
    return Headline(
        float_top1=scores["float"]["top1"],
        ptq_top1=scores["ptq"]["top1"],
        qat_top1=scores["qat"]["top1"],
        int_top1=scores["int"]["top1"],
        int_top1_drop=round(scores["float"]["top1"] - scores["int"]["top1"], 4),
        int_loss=scores["int"]["loss"],
        executions=len(executions),
        compared=max(each.values for each in executions.values()),
        mismatches=sum(each.mismatches for each in executions.values()),
        macs=ops["macs"],
        params=ops["params"],
        ram=ram,
        flash=flash,
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
    executions, whole, inner = held(exactness), exactness["logits"]["images"], exactness["tensors"]["images"]
    lines = [
        "# Results",
        "",
        f"{scores['float']['images']} validation images.",
        "",
        *forms_table(scores, labels),
        "",
        "## Bit for bit",
        "",
        f"Held against the integer model in PyTorch: {said(executions)}. These are the logits of {whole} images, and "
        f"each of the {len(exactness['tensors']['names'])} int8 tensors inside the network for {inner} of them.",
        "",
        f"| execution | logits, {whole} images | differ | int8 values inside, {inner} images | differ |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, each in executions.items():
        counts = [*each.logits.values(), *(each.inside.values() if each.inside["elements"] else ("\u2013", "\u2013"))]
        lines.append(f"| {name} | " + " | ".join(f"{n:,}" if isinstance(n, int) else str(n) for n in counts) + " |")
    lines += [
        "",
        "In parentheses, how ONNX Runtime executed the file: with default options, with all graph optimizations off, "
        "or with `session.qdqisint8allowed=1` (int8); and which of LiteRT's kernels ran: XNNPACK's, which keep no "
        "tensors, its optimized or its reference ones. LiteRT's logits have fewer bits: they are held against the "
        "integer model's, rounded to as many.",
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
