"""What a subject of the benchmarks has measured: a list of `Result`, which `main` of the subject returns.

The first contestant of a case is the one that the others are compared with.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

FASTER = ("images/s", "records/s", "MiB/s", "GB/s")  # units of which more is better; of all others less is
DIFFER = "% of logits differ"  # the unit of shares of logits that differ from what a file simulates


@dataclass(frozen=True)
class Result:
    """What one contestant took or gave in one case.

    Attributes:
        part: The subject: data, train, quantize, deploy or scale.
        case: What is measured, the title of a table: `resnet18, 224 px`.
        contestant: Who does it.
        unit: Of `values`: images/s, s, MiB, %.
        values: One a round; none where the contestant failed.
        at: The size at which it was measured, for a plot of growth over sizes of the same case.
        note: What a reader must know: with which share of other outputs, for example.
        error: Why there are no values, in one line.
        column: Of the table, if the case has several: `1 image, 1 thread`.
        profile: Where the time goes, if that is told.
    """

    part: str
    case: str
    contestant: str
    unit: str
    values: tuple[float, ...] = ()
    at: float | None = None
    note: str = ""
    error: str = ""
    column: str = ""
    profile: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, str, float | None]:
        """What names the same measurement in another run."""
        return self.part, self.case, self.column, self.contestant, self.unit, self.at

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The values between which the middle half of the rounds lies."""
        ordered, count = sorted(self.values), len(self.values)
        return ordered[count // 4], ordered[count - 1 - count // 4]

    @property
    def spread(self) -> float:
        """Half of the distance between the quartiles, as a share of the median."""
        low, high = self.quartiles
        return (high - low) / 2 / abs(self.median) if self.median else 0.0

    def gain(self, other: "Result") -> float:
        """How many times as good as `other` this one is: above 1 it is faster, or smaller."""
        better, worse = (self.median, other.median) if self.unit in FASTER else (other.median, self.median)
        return better / worse if worse else float("inf" if better else 1)


def timed(
    part: str, case: str, unit: str, values: Mapping[str, Sequence[float]], column: str = "", at: float | None = None
) -> list[Result]:
    """The results of contestants in one case, from the values of all rounds by contestant."""
    return [Result(part, case, name, unit, tuple(each), at, column=column) for name, each in values.items()]


def cases(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Results by case, in the order in which they came."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.case, []).append(result)
    return found
