"""The quantization report as a short table, for a terminal."""

from fixedpoint.analysis.statistics import head_room
from reports.quantization import FormFigures, OperationFigures, Report
from reports.quantization_page import decibels, percent


def table(report: Report) -> str:
    """A line for each operation and for each form."""
    width = max(len(name) for name in ("operation", *(layer.name for layer in report.layers)))
    heading = f"{'operation':{width}}  kind       e       values clipped %  by itself  calibrated   integer  bits"
    forms = (_form(form, key != "float") for key, form in report.forms.items())
    return "\n".join([heading, *(_operation(layer, width) for layer in report.layers), *forms, *report.advice])


def _operation(layer: OperationFigures, width: int) -> str:
    own, calibrated, integer = (decibels(noise) for noise in (layer.own.total, layer.calibrated, layer.integer))
    span = f"{layer.values.least}..{layer.values.greatest}" if layer.bounds else "int32"
    room = f"{head_room(layer.weights.accumulator):.1f}" if layer.weights else ""
    return (
        f"{layer.name:{width}}  {layer.kind:8} {'' if layer.exponent is None else layer.exponent:>3} {span:>12} "
        f"{percent(layer.clipped):>9} {own:>7} dB {calibrated:>8} dB {integer:>6} dB {room:>5}"
    )


def _form(form: FormFigures, has_noise: bool) -> str:
    top1 = f"{form.scores['top1']:.2f} %" if form.scores else "not scored"
    to = {"float": form.noise, "own weights": form.own_weights} if has_noise else {}
    noise = "".join(f", logits to {name} {decibels(noise)} dB" for name, noise in to.items())
    return f"{form.label}: top-1 {top1}{noise}"
