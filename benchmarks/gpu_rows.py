"""A row of the table of `benchmarks.gpu`."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One claim: what was measured, and the goal `sign limit`, None where there is none."""

    claim: str
    value: float = math.nan
    unit: str = ""
    sign: str = "<="
    limit: float | None = None
    error: str = ""

    @property
    def measured(self) -> str:
        return (
            ""
            if self.error
            else f"{self.value:,.{0 if abs(self.value) >= 100 or self.value % 1 == 0 else 3}f} {self.unit}".strip()
        )

    @property
    def goal(self) -> str:
        return "" if self.limit is None else f"{self.sign} {self.limit:,g} {self.unit}".strip()

    @property
    def verdict(self) -> str:
        """holds, refuted, no goal, or why nothing was measured."""
        if self.error:
            return f"not measured: {self.error}"
        if self.limit is None:
            return "no goal"
        return "holds" if (self.value <= self.limit if self.sign == "<=" else self.value >= self.limit) else "refuted"
