"""The page of the quantization report: one HTML file that needs nothing else, from numbers to text."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from operator import itemgetter
from pathlib import Path
from string import Template

from torch import Tensor

from fixedpoint.analysis.statistics import INT8, Noise, OwnNoise, Values, head_room
from reports.charts import chart, histogram

TEMPLATE = Path(__file__).with_suffix(".html")
WORST = 5
FULL_BAR = {"decibels": 50, "bits": 8}


@dataclass(frozen=True)
class Form:
    """A form of the model.

    Attributes:
        label: What it is called.
        scores: As `evaluation.score.score` gives them; empty where nobody has scored it.
        noise: Of its logits against the float network's.
        own_weights: Of its logits against those of its weights in float.
    """

    label: str
    scores: dict[str, float]
    noise: Noise = field(default_factory=Noise)
    own_weights: Noise = field(default_factory=Noise)


@dataclass(frozen=True)
class Weights:
    """The weights of a conv or linear.

    Attributes:
        histogram: How often each int8 value occurs, int64 [256].
        exponents: Least and greatest.
        accumulator: Bound of the magnitude of the accumulators.
    """

    histogram: Tensor
    exponents: tuple[int, int]
    accumulator: int

    def share(self, magnitudes: Iterable[int]) -> float:
        """Of the weights that have one of these magnitudes."""
        counts = self.histogram.tolist()
        return sum(counts[q - INT8[0]] for m in magnitudes for q in {m, -m} if q in INT8) / sum(counts)


@dataclass(frozen=True)
class Layer:
    """An operation of the integer model and the tensor that it computes.

    Attributes:
        exponent: Of the result; None of raw accumulators.
        bounds: Least and greatest integer of the result; None of raw accumulators.
        own: Noise that it adds by itself, calibrated.
        calibrated, integer: Noise up to here against the float network.
        own_weights: Noise up to here of the integer model against its weights in float.
        weights: None where there are none.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    exponent: int | None
    bounds: tuple[int, int] | None
    values: Values
    own: OwnNoise
    calibrated: Noise
    integer: Noise
    own_weights: Noise
    weights: Weights | None

    @property
    def clipped(self) -> float:
        """Share of its values."""
        return self.values.clipped / self.values.elements


@dataclass(frozen=True)
class Report:
    """What the page shows.

    Attributes:
        network: Its name.
        input_shape: Channels, height, width.
        color_space: Of the input.
        images: How many the statistics are of.
        weight_limit: Greatest magnitude of a weight.
        arithmetic: Of the integer model.
        forms: By name: float, covering, ptq, int.
        layers: In order of computation.
        saturating: Weights by layer that make the QDQ file unsafe, of `fixedpoint.onnx.runtime.saturating_weights`.
        peak: Bytes of memory that the C program needs for activations.
        flash: Bytes of its constants.
    """

    network: str
    input_shape: tuple[int, int, int]
    color_space: str
    images: int
    weight_limit: int
    arithmetic: str
    forms: dict[str, Form]
    layers: list[Layer]
    saturating: dict[str, int]
    peak: int
    flash: int

    @property
    def worst(self) -> list[Layer]:
        """The operations that add most noise by themselves, the worst first."""
        noisy = [layer for layer in self.layers if layer.own.total.noise]
        return sorted(noisy, key=lambda layer: layer.own.total.decibels)[:WORST]


def page(report: Report) -> str:
    """The whole file."""
    shape = " &times; ".join(map(str, report.input_shape))
    weights = sum(int(layer.weights.histogram.sum()) for layer in report.layers if layer.weights is not None)
    bits = report.weight_limit.bit_length() + 1
    return Template(TEMPLATE.read_text()).substitute(
        network=escape(report.network),
        subtitle=f"Input {shape} {escape(report.color_space)}, {len(report.layers)} operations, {weights:,} weights of "
        f"{bits} bits, {report.arithmetic} arithmetic; statistics of {report.images:,} validation images",
        tiles="".join(_tiles(report)),
        verdict=_verdict(report.saturating),
        steps=_steps(report.forms),
        worst=_worst(report),
        chart=_chart(report.layers),
        table=_table(report),
    )


def decibels(noise: Noise) -> str:
    """With one decimal; inf without noise."""
    return f"{noise.decibels:.1f}"


def percent(share: float) -> str:
    """Three decimals, so that one value in a hundred thousand shows; 0 only if there is none."""
    return "0" if share == 0 else f"{share * 100:.3f}" if share >= 5e-6 else "<0.001"


def size(count: int) -> str:
    """A number of bytes."""
    if count < 2**10:
        return f"{count} B"
    return f"{count / 2**10:.1f} KiB" if count < 2**20 else f"{count / 2**20:.1f} MiB"


def _text(number: str) -> str:
    """A number as HTML."""
    return escape(number).replace("-", "&minus;").replace("inf", "&infin;")


def _span(least: int, greatest: int) -> str:
    return _text(str(least)) + "&hellip;" + _text(str(greatest))


def _signed(value: float, digits: int) -> str:
    return _text(f"{round(value, digits) + 0.0:+.{digits}f}")


def _tiles(report: Report) -> list[str]:
    scores, reference = report.forms["int"].scores, report.forms["float"].scores
    bounds = {layer.name: layer.weights.accumulator for layer in report.layers if layer.weights}
    tightest, bound = max(bounds.items(), key=itemgetter(1))
    clipped = max(report.layers, key=lambda layer: layer.clipped)
    tiles = []
    if scores and reference:
        difference = _signed(scores["top1"] - reference["top1"], 2)
        tiles.append(_tile("Integer, top-1", f"{scores['top1']:.2f} %", f"{difference} against float"))
    rounding = f"{_text(decibels(report.forms['int'].own_weights))} dB"
    tiles.append(_tile("Logits, rounding alone", rounding, "against its own weights in float"))
    if report.worst:
        worst = report.worst[0]
        tiles.append(_tile("Noisiest operation", f"{_text(decibels(worst.own.total))} dB", _code(worst.name)))
    most = _code(clipped.name) if clipped.clipped else "no value of any tensor"
    tiles.append(_tile("Clipped at most", f"{_text(percent(clipped.clipped))} %", most))
    tiles.append(_tile("Head-room at least", f"{head_room(bound):.1f} bits", _code(tightest)))
    tiles.append(_tile("Memory in C", size(report.peak), f"activations; {size(report.flash)} constants"))
    return tiles


def _verdict(saturating: dict[str, int]) -> str:
    """Whether the QDQ file is safe in ONNX Runtime."""
    if not saturating:
        return (
            '<p class="verdict good"><b>&#x2713; int8_qdq.onnx is exact under the default options of ONNX Runtime.</b> '
            "No weight lies outside [&minus;64, 64], so no x86 processor saturates.</p>"
        )
    return (
        '<p class="verdict bad"><b>&#x2715; int8_qdq.onnx is not safe under the default options of ONNX Runtime.</b> '
        f"{sum(saturating.values()):,} weights in {len(saturating)} layers lie outside [&minus;64, 64], so an x86 "
        "processor without VNNI may give other numbers. Set <code>session.qdqisint8allowed</code> to <code>1</code>, "
        "or run int8_qoperator.onnx.</p>"
    )


def _tile(label: str, value: str, note: str) -> str:
    return f'<div class="tile"><span>{label}</span><b>{value}</b><small>{note}</small></div>'


def _code(name: str) -> str:
    return f"<code>{escape(name).replace('.', '.<wbr>')}</code>"


def _steps(forms: dict[str, Form]) -> str:
    rows = []
    for name, form in forms.items():
        cells = ["&ndash;", "", "&ndash;"]
        if form.scores:
            cells = [f"{form.scores['top1']:.2f}", "", f"{form.scores['loss']:.4f}"]
            if name != "float" and forms["float"].scores:
                cells[1] = _signed(form.scores["top1"] - forms["float"].scores["top1"], 2)
        cells += ["" if name == "float" else _text(decibels(noise)) for noise in (form.noise, form.own_weights)]
        rows.append(f"<tr><td>{escape(form.label)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    images = forms["covering"].scores["images"]
    return (
        '<div class="scroll"><table><thead><tr><th>form</th><th>top-1 %</th><th>against<br>float</th><th>loss</th>'
        "<th>logits to<br>float, dB</th><th>to own<br>weights, dB</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f"<p>{_gain('Calibration', forms['covering'], forms['ptq'])}<br>{_gain('QAT', forms['ptq'], forms['int'])}</p>"
        f'<p class="muted">Scores of {images:,} images: one image is {100 / images:.2g} points.</p>'
    )


def _gain(step: str, before: Form, after: Form) -> str:
    """A sentence on what a step changed."""
    gained = after.own_weights.decibels - before.own_weights.decibels
    change = f"{abs(gained):.1f} dB {'more' if gained < 0 else 'less'} rounding noise in the logits"
    if before.scores and after.scores:
        top1, loss = (_signed(after.scores[key] - before.scores[key], n) for key, n in (("top1", 2), ("loss", 4)))
        change = f"top-1 {top1} points, loss {loss}, {change}"
    return f"<b>{step}</b>: {change}."


def _worst(report: Report) -> str:
    items = []
    for layer in report.worst:
        share = min(layer.own.result.noise / layer.own.total.noise, 1)
        cause = "rounding and clipping its result" if share >= 0.5 else "its weights and biases"
        facts = [f"{max(share, 1 - share) * 100:.0f} % of that noise from {cause}"]
        if layer.clipped:
            facts.append(f"{percent(layer.clipped)} % of its values clipped")
        items.append(
            f"<li>{_code(layer.name)} ({layer.kind}): <b>{_text(decibels(layer.own.total))} dB</b> by itself; "
            f"{escape(', '.join(facts))}.</li>"
        )
    if not items:
        return "<p>No operation adds noise.</p>"
    return f"<ol>{''.join(items)}</ol>"


def _chart(layers: list[Layer]) -> str:
    lines: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    dots, titles = [], []
    for number, layer in enumerate(layers, 1):
        up_to_here = {"calibrated": layer.calibrated, "integer": layer.integer, "to own weights": layer.own_weights}
        for line, noise in zip(lines.values(), up_to_here.values(), strict=True):
            line.append(noise.decibels)
        dots.append(layer.own.total.decibels)
        numbers = (
            f"{label} {decibels(noise)}" for label, noise in {"by itself": layer.own.total, **up_to_here}.items()
        )
        titles.append(f"{number} {layer.name}: {', '.join(numbers)} dB")
    return chart(lines, dots, titles)


# Headings, and whether a first click sorts upwards: where the least is of interest.
COLUMNS = {
    "#": True,
    "operation": True,
    "exponent": True,
    "values": False,
    "clipped, %": False,
    "by itself,<br>dB": True,
    "calibrated,<br>dB": True,
    "integer,<br>dB": True,
    "to own<br>weights, dB": True,
    "head-room,<br>bits": True,
    "weights, %<br>&gt; 64, at end": False,
}


def _table(report: Report) -> str:
    heads = "".join(
        f'<th scope="col"{" data-up" if up else ""}><span role="button" tabindex="0">{label}</span></th>'
        for label, up in COLUMNS.items()
    )
    worst = {layer.name for layer in report.worst}
    rows = "".join(_row(i, layer, layer.name in worst, report.weight_limit) for i, layer in enumerate(report.layers, 1))
    return f'<table class="layers"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _row(number: int, layer: Layer, worst: bool, weight_limit: int) -> str:
    values, weights, shape = layer.values, layer.weights, " &times; ".join(map(str, layer.shape))
    exponent = "int32" if layer.exponent is None else _text(str(layer.exponent))
    if weights:
        exponent += f"<small>weights {_span(*weights.exponents)}</small>"
    picture, span = "", _span(values.least, values.greatest)
    if layer.bounds:
        picture, span = histogram(values.histogram, layer.bounds), f"{span} of {_span(*layer.bounds)}"
    cells = [
        _cell(number, str(number)),
        _cell(layer.name, f"<code>{escape(layer.name)}</code><small>{layer.kind} {shape}</small>"),
        _cell(layer.exponent, exponent),
        _cell(values.greatest - values.least, f"{picture}<small>{span}</small>"),
        _cell(f"{layer.clipped:.8f}", "" if layer.exponent is None else _text(percent(layer.clipped))),
        _meter(layer.own.total.decibels, "decibels", "worst" if worst else ""),
        *(_meter(noise.decibels, "decibels") for noise in (layer.calibrated, layer.integer, layer.own_weights)),
    ]
    if weights:
        outside, at_the_end = weights.share(range(65, 129)), weights.share([weight_limit])
        note = f"<small>{outside * 100:.1f} &ensp; {at_the_end * 100:.1f}</small>"
        picture = histogram(weights.histogram, (-weight_limit, weight_limit), 64)
        seen = f"<small>seen {head_room(values.accumulator):.1f}</small>"
        cells.append(_meter(head_room(weights.accumulator), "bits", note=seen))
        cells.append(_cell(f"{outside:.8f}", picture + note))
    else:
        cells += [_cell("", ""), _cell("", "")]
    return f"<tr>{''.join(cells)}</tr>"


def _cell(value: object, html: str) -> str:
    """A cell that sorts by `value`."""
    return f'<td data-value="{"" if value is None else escape(str(value))}">{html}</td>'


def _meter(value: float, unit: str, style: str = "", note: str = "") -> str:
    """A cell with a number and a bar as long as it."""
    width = min(max(value / FULL_BAR[unit], 0), 1)
    number = f"{value:.1f}"
    bar = f'<span class="meter {style}" style="--w:{width:.0%}">{_text(number)}</span>'
    return _cell(number.replace("inf", "Infinity"), bar + note)
