"""The results in short: metrics/summary.json, the few numbers to watch, and metrics/summary.md, the tables."""

Scores = dict[str, dict[str, float]]

FORMS = {
    "float": "float",
    "ptq": "calibrated (ptq)",
    "qat": "QAT",
    "int": "integer",
    "onnx_float": "ONNX float",
    "onnx_int8": "ONNX int8 (QOperator)",
    "litert": "LiteRT int8",
}


def headline(scores: Scores, ops: dict, compared: int, mismatches: int) -> dict[str, float]:
    """The numbers of metrics/summary.json; top-1 in percent, loss in nats.

    Args:
        scores: Of each form, as `evaluation.score.score` gives them.
        ops: As in metrics/ops.json.
        compared: Values of the integer forms that have been compared with each other.
        mismatches: How many of these differ.
    """
    top1 = {f"{form}_top1": scores[form]["top1"] for form in ("float", "ptq", "qat", "int")}
    return top1 | {
        "int_top1_drop": round(scores["float"]["top1"] - scores["int"]["top1"], 4),
        "int_loss": scores["int"]["loss"],
        "compared": compared,
        "mismatches": mismatches,
        "macs": ops["macs"],
        "params": ops["params"],
    }


def forms_table(scores: Scores) -> list[str]:
    """The lines of the one table of all forms that there are."""
    lines = ["| form | top-1 % | against float | top-5 % | loss |", "|---|---:|---:|---:|---:|"]
    for form, label in FORMS.items():
        s = scores[form]
        if not s:
            continue
        delta = s["top1"] - scores["float"]["top1"]
        lines.append(f"| {label} | {s['top1']:.2f} | {delta:+.2f} | {s['top5']:.2f} | {s['loss']:.4f} |")
    return lines


def summary(scores: Scores, executions: Scores, exactness: dict, saturating: dict[str, int]) -> str:
    """The text of the summary.

    Args:
        scores: Of each form, as `evaluation.score.score` gives them.
        executions: The same of each ONNX file and execution.
        exactness: As in metrics/exactness.json.
        saturating: Weights by layer that make the QDQ file unsafe, of `fixedpoint.onnx.runtime.saturating_weights`.
    """
    images = scores["float"]["images"]
    lines = [
        "# Results",
        "",
        f"{images} validation images.",
        "",
        *forms_table(scores),
        "",
        "## Bit for bit",
        "",
        "| pair | logits | differ | int8 values inside | differ |",
        "|---|---:|---:|---:|---:|",
    ]
    inside = exactness["tensors"]["pairs"]
    for pair, logits in exactness["logits"]["pairs"].items():
        counts = (logits["elements"], logits["mismatches"], inside[pair]["elements"], inside[pair]["mismatches"])
        lines.append(f"| {pair} | " + " | ".join(f"{count:,}" for count in counts) + " |")
    for pair, logits in exactness.get("litert_logits", {"pairs": {}})["pairs"].items():
        tensors = exactness["litert_tensors"]["pairs"].get(pair, {"elements": 0, "mismatches": 0})
        counts = (logits["elements"], logits["mismatches"], tensors["elements"], tensors["mismatches"])
        lines.append(f"| {pair} | " + " | ".join(f"{count:,}" for count in counts) + " |")
    lines += [
        "",
        f"Logits of {exactness['logits']['images']} images; each of {len(exactness['tensors']['names'])} intermediate "
        f"tensors of {exactness['tensors']['images']} images. In parentheses, how ONNX Runtime executed the file: with "
        "default options, with all graph optimizations off, or with `session.qdqisint8allowed=1` (int8); and which of "
        "LiteRT's kernels ran: XNNPACK's, which keep no tensors, its optimized or its reference ones.",
        "",
        *tie_note(scores["litert"]),
        "## ONNX files",
        "",
        "| file (execution) | top-1 % | loss |",
        "|---|---:|---:|",
    ]
    lines += [f"| {form} | {s['top1']:.2f} | {s['loss']:.4f} |" for form, s in executions.items()]
    return "\n".join([*lines, "", qdq_verdict(saturating), ""])


def tie_note(litert: dict[str, float]) -> list[str]:
    """How often the two best logits of int8.tflite are equal, if there is one."""
    if not litert:
        return []
    ties = (
        f"{litert['ties']:.0f} of {litert['images']} images have two best logits that are equal in int8.tflite, whose "
        "logits have one exponent and fewer bits; the lower class counts."
    )
    return [ties, ""]


def qdq_verdict(saturating: dict[str, int]) -> str:
    """Where int8_qdq.onnx is exact; `saturating` as in `summary`."""
    if saturating:
        return (
            "**int8_qdq.onnx is not safe under ONNX Runtime's default options**: "
            f"{sum(saturating.values()):,} weights in {len(saturating)} layers lie outside [-64, 64], so an x86 "
            "processor without VNNI may give other numbers. Run it with `session.qdqisint8allowed=1`, or run "
            "int8_qoperator.onnx, which keeps int8 there. What this processor does is printed by the compare stage."
        )
    return "int8_qdq.onnx is exact under ONNX Runtime's default options on every x86 processor, too."
