"""The page of results: one HTML file that needs no other and no network, of one revision or of two side by side."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from markupsafe import Markup

from reports.figures import Interval, Line, chart, intervals
from reports.templates import environment

STYLES = ("a", "b")  # of the first and the second revision
Rows = list[dict[str, Any]]  # of a table, by the names of its columns


@dataclass(frozen=True)
class Results:
    """What the page shows of one revision; what is not known is empty.

    Attributes:
        name: Of the revision.
        headline: The contents of metrics/summary.json, also of older forms.
        scores: The contents of metrics/<form>.json by the form's label.
        top1: Rows of plots/top1.csv.
        curves: Steps and values by stage and by figure.
        confusion: Rows of plots/confusion/int.csv.
        reliability: Rows of plots/reliability.csv.
        disagreement: Rows of plots/disagreement.csv.
        pictures: JPEGs of the images that both models predict differently, and of those that are most wrong.
        sizes: Bytes of the outputs by path.
    """

    name: str
    headline: dict[str, float]
    scores: dict[str, dict]
    top1: Rows
    curves: dict[str, dict[str, list[tuple[float, float]]]]
    confusion: Rows
    reliability: Rows
    disagreement: Rows
    pictures: dict[str, bytes | None]
    sizes: dict[str, int]

    @property
    def calibration_errors(self) -> dict[str, float]:
        """The mean distance of probability and top-1 in points, by form: the expected calibration error."""
        sums: dict[str, list[float]] = {}
        for row in self.reliability:
            distance, count = sums.setdefault(row["form"], [0.0, 0.0])
            here = row["images"] * abs(row["confidence"] - row["top1"])
            sums[row["form"]] = [distance + here, count + row["images"]]
        return {form: distance / count for form, (distance, count) in sums.items()}

    @property
    def disagreeing(self) -> int:
        """The number of images that the float and the integer model predict differently, of the pairs in the file."""
        return sum(row["images"] for row in self.disagreement)


class Experiment(NamedTuple):
    """A row of DVC's table of experiments: numbers as in `Headline`, and the parameters that not all rows share."""

    name: str
    numbers: dict[str, float]
    params: dict[str, str]


class Link(NamedTuple):
    """A file to open, relative to the page: what it is for, and its size in bytes."""

    href: str
    label: str
    size: int


class Latency(NamedTuple):
    """How long a file takes for an image in a runtime, in milliseconds, and the file that says so."""

    label: str
    milliseconds: float
    source: str


def page(
    revisions: Sequence[Results],
    experiments: Sequence[Experiment],
    links: Sequence[Link],
    latencies: Sequence[Latency] = (),
) -> str:
    """The text of the page.

    Args:
        revisions: That of the workspace, and perhaps another one.
        experiments: Those of which numbers are known.
        links: The files that are there.
        latencies: What was measured of a network of this name and size, on one thread.
    """
    templates = environment(autoescape=True)
    templates.filters |= {"by_class": by_class, "picture": picture, "size": size}
    templates.globals |= {"shade": shade}
    return templates.get_template("results_page.html").render(
        revisions=list(zip(STYLES, revisions, strict=False)),
        here=revisions[0],
        other=revisions[1] if len(revisions) > 1 else None,
        curves=[
            (stage, title, drawn)
            for stage in ("float", "qat")
            for figure, title in (("top1", "top-1 (%)"), ("loss", "loss (nats)"))
            if (drawn := _curves(revisions, stage, figure, title))
        ],
        forms=_forms(revisions),
        reliability=_reliability(revisions),
        scatter=_scatter(experiments),
        experiments=experiments,
        links=links,
        latencies=latencies,
    )


def size(count: float) -> str:
    """A number of bytes."""
    for unit, factor in (("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count:,.0f} B"


def picture(jpeg: bytes) -> Markup:
    """A JPEG as the address of an image in the page itself."""
    return Markup("data:image/jpeg;base64,") + base64.b64encode(jpeg).decode()


def by_class(confusion: Rows) -> list[Rows]:
    """The rows of a confusion matrix: those of a class in the file stand together."""
    return [list(rows) for _, rows in groupby(confusion, key=lambda row: row["class"])]


def shade(rows: Rows, row: dict[str, Any]) -> str:
    """How dark a cell of a class in the confusion matrix is: the root of its share of the class, in percent."""
    whole = sum(each["images"] for each in rows)
    return f"{100 * (row['images'] / whole) ** 0.5:.0f}%" if whole else "0%"


def _curves(revisions: Sequence[Results], stage: str, figure: str, title: str) -> Markup | None:
    lines = []
    for style, each in zip(STYLES, revisions, strict=False):
        for images, dash in (("val", ""), ("train", " dashed")):
            if points := each.curves[stage][f"{images}_{figure}"]:
                tips = [f"{each.name}, {images}, epoch {x:g}: {y:.4g}" for x, y in points]
                lines.append(Line(each.name, style + dash, points, tips))
    return chart(lines, "epoch", title) if lines else None


def _forms(revisions: Sequence[Results]) -> Markup | None:
    rows: dict[str, list[Interval]] = {}
    for style, each in zip(STYLES, revisions, strict=False):
        for row in each.top1:
            low, high = (row[key] if key in row else row["top1"] for key in ("low", "high"))
            rows.setdefault(row["form"], []).append(Interval(row["form"], style, row["top1"], low, high))
    title = "top-1 (%); the band is float's, two standard deviations wide on both sides"
    return intervals(list(rows.values()), title) if rows else None


def _reliability(revisions: Sequence[Results]) -> Markup | None:
    lines = []
    for style, each in zip(STYLES, revisions, strict=False):
        for form in dict.fromkeys(row["form"] for row in each.reliability):
            rows = [row for row in each.reliability if row["form"] == form]
            points = [(row["confidence"], row["top1"]) for row in rows]
            tips = [
                f"{each.name}, {form}: {row['images']} images, {row['confidence']} % sure, {row['top1']} % right"
                for row in rows
            ]
            lines.append(Line(form, style + (" dashed" if form == "float" else ""), points, tips))
    title = "probability of the class that is predicted (%)"
    return chart(lines, title, "top-1 (%)", diagonal=True) if lines else None


def _scatter(experiments: Sequence[Experiment]) -> Markup | None:
    known = [each for each in experiments if {"flash", "int_top1"} <= each.numbers.keys()]
    if len({(each.numbers["flash"], each.numbers["int_top1"]) for each in known}) < 2:
        return None
    points = [(each.numbers["flash"] / 2**10, each.numbers["int_top1"]) for each in known]
    tips = [f"{each.name}: {each.numbers['int_top1']:.2f} %, {size(each.numbers['flash'])}" for each in known]
    return chart([Line("experiments", "a dots", points, tips)], "constants (KiB)", "top-1 of the integer model (%)")
