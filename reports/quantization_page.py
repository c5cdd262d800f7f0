"""The page of the quantization report: one HTML file that needs no other file."""

from markupsafe import Markup, escape

from fixedpoint.analysis.statistics import Noise, head_room
from reports.charts import chart, histogram
from reports.quantization import OperationFigures, Report
from reports.templates import environment, number


def page(report: Report) -> str:
    """The text of the page."""
    templates = environment(autoescape=True)
    templates.filters |= {
        "breakable": breakable,
        "decibels": lambda noise: number(decibels(noise)),
        "percent": percent,
        "signed": signed,
        "size": size,
    }
    templates.globals |= {"bar": bar, "head_room": head_room, "histogram": histogram}
    return templates.get_template("quantization_page.html").render(
        report=report,
        float=report.forms["float"],
        covering=report.forms["covering"],
        calibrated=report.forms["ptq"],
        integer=report.forms["int"],
        chart=_chart(report.layers),
    )


def decibels(noise: Noise) -> str:
    """The signal-to-noise ratio with one decimal; inf without noise."""
    return f"{noise.decibels:.1f}"


def percent(fraction: float) -> str:
    """A fraction in percent with three decimals, so that one value in a hundred thousand shows; 0 only for none."""
    return "0" if fraction == 0 else f"{fraction * 100:.3f}" if fraction >= 5e-6 else "<0.001"


def size(count: int) -> str:
    """A number of bytes."""
    if count < 2**10:
        return f"{count} B"
    return f"{count / 2**10:.1f} KiB" if count < 2**20 else f"{count / 2**20:.1f} MiB"


def signed(value: float, digits: int) -> Markup:
    """A difference as HTML, with its sign; what rounds to zero is +0."""
    return number(f"{round(value, digits) + 0.0:+.{digits}f}")


def breakable(name: str) -> Markup:
    """A dotted name as HTML, where a line may break after each dot."""
    return Markup(str(escape(name)).replace(".", ".<wbr>"))


def bar(value: float, full: float) -> str:
    """The length of the bar of a value, as a percentage of that of `full`."""
    return f"{min(max(value / full, 0), 1):.0%}"


def _chart(layers: list[OperationFigures]) -> Markup:
    lines: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    dots, titles = [], []
    for position, layer in enumerate(layers, 1):
        up_to_here = {"calibrated": layer.calibrated, "integer": layer.integer, "to own weights": layer.own_weights}
        for line, noise in zip(lines.values(), up_to_here.values(), strict=True):
            line.append(noise.decibels)
        dots.append(layer.own.total.decibels)
        numbers = (
            f"{label} {decibels(noise)}" for label, noise in {"by itself": layer.own.total, **up_to_here}.items()
        )
        titles.append(f"{position} {layer.name}: {', '.join(numbers)} dB")
    return chart(lines, dots, titles)
