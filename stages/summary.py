"""metrics/summary.md: the one table of all forms, in Markdown."""

Scores = dict[str, dict[str, float]]

FORMS = {
    "float": "float",
    "ptq": "calibrated (ptq)",
    "qat": "QAT",
    "int": "integer",
    "onnx_float": "ONNX float",
    "onnx_int8": "ONNX int8 (QOperator)",
}


def summary(scores: Scores, executions: Scores, exactness: dict, saturating: dict[str, int]) -> str:
    """The text of the summary.

    Args:
        scores: Of each form, as `training.score.score` gives them.
        executions: The same of each ONNX file and execution.
        exactness: As in metrics/exactness.json.
        saturating: Weights by layer that make the QDQ file unsafe, as `fixedpoint.runtime.saturating_weights` counts.
    """
    images = scores["float"]["images"]
    lines = [
        "# Results",
        "",
        f"{images} validation images.",
        "",
        "| form | top-1 % | against float | top-5 % | loss |",
        "|---|---:|---:|---:|---:|",
    ]
    for form, label in FORMS.items():
        s = scores[form]
        delta = s["top1"] - scores["float"]["top1"]
        lines.append(f"| {label} | {s['top1']:.2f} | {delta:+.2f} | {s['top5']:.2f} | {s['loss']:.4f} |")
    lines += [
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
    lines += [
        "",
        f"Logits of {exactness['logits']['images']} images; each of {len(exactness['tensors']['names'])} intermediate "
        f"tensors of {exactness['tensors']['images']} images. In parentheses, how ONNX Runtime executed the file: with "
        "default options, with all graph optimizations off, or with `session.qdqisint8allowed=1` (int8).",
        "",
        "## ONNX files",
        "",
        "| file (execution) | top-1 % | loss |",
        "|---|---:|---:|",
    ]
    lines += [f"| {form} | {s['top1']:.2f} | {s['loss']:.4f} |" for form, s in executions.items()]
    if saturating:
        verdict = (
            "**int8_qdq.onnx is not safe under ONNX Runtime's default options**: "
            f"{sum(saturating.values()):,} weights in {len(saturating)} layers lie outside [-64, 64], so an x86 "
            "processor without VNNI may give other numbers. Run it with `session.qdqisint8allowed=1`, or run "
            "int8_qoperator.onnx, which keeps int8 there. What this processor does is printed by the compare stage."
        )
    else:
        verdict = "int8_qdq.onnx is exact under ONNX Runtime's default options on every x86 processor, too."
    return "\n".join([*lines, "", verdict, ""])
