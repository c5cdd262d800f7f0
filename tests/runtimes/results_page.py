"""The results of a run: JSON with every count, and the tables of docs/runtimes.md.

A run replaces the cells that it has computed, and all controls; others stay as they were.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from storage.files import whole_file, write_json

TABLES = {"runtimes": "runtime", "networks": "network", "controls": "what is changed", "ethos-u": "accelerator"}
PER_NETWORK = ("runtimes", "ethos-u")  # the columns are networks
END = "<!-- end -->"
PICTURE = "picture"  # a column of networks: what changes the meaning of all other cells

Table = dict[str, dict[str, Any]]  # by row and column


class Results:
    """Values by table, row and column: counts as `Comparison.as_json` gives them, or text."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {name: {} for name in TABLES}

    def add(self, table: str, row: str, column: str, value: object) -> None:
        self.tables[table].setdefault(row, {})[column] = value

    def write(self, file: Path, page: Path, rows: Iterable[str], columns: Iterable[str]) -> None:
        """Bring the JSON file and the tables between the marks of the page up to date.

        Args:
            file: The JSON file, which may be missing.
            page: The page with the marks.
            rows: The rows of the table of runtimes, in order; those of runtimes with another version are removed.
            columns: The networks, in order.
        """
        rows, columns = list(rows), list(columns)
        before = json.loads(file.read_text()) if file.exists() else {}
        write_json(file, self._merged(before, rows, columns))
        text = page.read_text()
        shown = self._merged({name: parse(_block(text, name)) for name in TABLES}, rows, columns)
        for name, corner in TABLES.items():
            text = _replaced(text, name, markdown(corner, shown[name]))
        with whole_file(page) as partial:
            partial.write_text(text)

    def _merged(self, before: Mapping[str, Table], rows: list[str], columns: list[str]) -> dict[str, Table]:
        merged = {name: {row: dict(cells) for row, cells in before.get(name, {}).items()} for name in TABLES}
        for network, cells in self.tables["networks"].items():
            if merged["networks"].get(network, {}).get(PICTURE) != cells[PICTURE]:
                for name in PER_NETWORK:
                    for others in merged[name].values():
                        others.pop(network, None)
        if self.tables["controls"]:
            merged["controls"] = {}
        for name, table in self.tables.items():
            for row, cells in table.items():
                merged[name].setdefault(row, {}).update(cells)
        order = {"runtimes": rows, "networks": columns}
        for name, kept in order.items():
            merged[name] = {row: merged[name][row] for row in kept if row in merged[name]}
        for name in PER_NETWORK:
            for row, cells in merged[name].items():
                merged[name][row] = {column: cells[column] for column in columns if column in cells}
        return merged


def markdown(corner: str, table: Table) -> str:
    """A table, in which what has no value is a dash."""
    columns = dict.fromkeys(column for cells in table.values() for column in cells)
    lines = [[corner, *columns], ["---"] * (len(columns) + 1)]
    lines += [[row, *(cell(cells.get(column, "-")) for column in columns)] for row, cells in table.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def parse(text: str) -> Table:
    """The inverse of `markdown`, with cells as text."""
    lines = [[part.strip() for part in line.strip("| ").split("|")] for line in text.strip().splitlines()]
    if len(lines) < 3:
        return {}
    (_, *columns), _, *rows = lines
    return {row: {c: v for c, v in zip(columns, cells, strict=True) if v != "-"} for row, *cells in rows}


def cell(value: object) -> str:
    """A value as text: the number of differences is exact, that of comparisons has three digits."""
    if not isinstance(value, Mapping):
        return str(value)
    compared = value["compared"]
    for unit, name in ((10**6, " M"), (10**3, " k")):
        if compared >= 10 * unit or (unit == 10**6 and compared >= unit):
            return f"{value['different']:,} of {compared / unit:.3g}{name}"
    return f"{value['different']:,} of {compared:,}"


def _block(text: str, name: str) -> str:
    """The text between the marks of a table.

    Raises:
        ValueError: If there are no marks.
    """
    _, start, rest = text.partition(f"<!-- {name} -->")
    block, end, _ = rest.partition(END)
    if not start or not end:
        raise ValueError(f"docs/runtimes.md has no marks <!-- {name} --> and {END}")
    return block


def _replaced(text: str, name: str, table: str) -> str:
    start = f"<!-- {name} -->"
    return text.replace(f"{start}{_block(text, name)}{END}", f"{start}\n{table}\n{END}")
