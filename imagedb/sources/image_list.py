"""Images that a CSV or JSON file lists with their labels."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from imagedb.sources.source import IndexedSource, SourceImage
from storage.errors import InputError

CLASS_LIST = "classes.txt"
MAX_CLASSES = 1_000_000  # without a class list, so that one mistyped label does not create millions of classes


class ImageListSource(IndexedSource):
    """The images that the file root/split lists, in its order, named by their paths as listed.

    A .csv file has the header path,label; a .jsonl file has one object {"path": ..., "label": ...} per line. Paths are
    absolute or relative to the folder of the list. Labels are all integers (in a .csv, digits only) or all class names.
    Class names are those of `read_class_names`; without them, the sorted names in the list, or "0", "1", and so on.

    Raises:
        FileNotFoundError: if the file does not exist.
        InputError: if the file is not as above or a label has no class; the message has the number of the line.
    """

    def __init__(self, root: str | Path, split: str):
        file = Path(root) / split
        read = {".csv": _read_csv, ".jsonl": _read_jsonl}.get(file.suffix)
        if read is None:
            raise InputError(f"{file} is not allowed as a list of images, must end in .csv or .jsonl")
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist, a list of images is expected there")
        self._folder = file.parent
        rows: list[tuple[str, int | str]] = []
        known = read_class_names(root)
        occurrences, limit = Counter(known), len(known) if known else MAX_CLASSES
        kind = None
        for line, path, label in read(file):
            kind = kind or type(label)
            if type(label) is not kind:
                problem = "unlike the lines before; labels must be all integers or all class names"
            elif isinstance(label, int) and not 0 <= label < limit:
                problem = f"allowed: 0 to {limit - 1}"
            elif isinstance(label, str) and known and occurrences[label] != 1:
                problem = f"which {Path(root) / CLASS_LIST} has {occurrences[label]} times, must be once"
            else:
                rows.append((path, label))
                continue
            raise InputError(f"{file} line {line}: label {label!r}, {problem}")
        if kind is None:
            raise InputError(f"{file} lists no images")
        names = {label for _, label in rows if isinstance(label, str)}
        largest = max((label for _, label in rows if isinstance(label, int)), default=-1)
        self.class_names = known or sorted(names) or [str(label) for label in range(largest + 1)]
        index = {name: label for label, name in enumerate(self.class_names)}
        self._rows = [(path, index[label] if isinstance(label, str) else label) for path, label in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> SourceImage:
        path, label = self._rows[index]
        file = self._folder / path
        return SourceImage(path, label, file.read_bytes, file)


def read_class_names(root: str | Path) -> list[str] | None:
    """The class names by label, the lines of root/classes.txt; None if the file does not exist.

    Raises:
        InputError: if the file or a line is empty, or not UTF-8.
    """
    file = Path(root) / CLASS_LIST
    if not file.is_file():
        return None
    names = [line.strip() for line in _lines(file)]
    if not all(names) or not names:
        raise InputError(f"{file} line {[*names, ''].index('') + 1}: expected a class name")
    return names


def _read_csv(file: Path) -> Iterator[tuple[int, str, int | str]]:
    rows = csv.reader(_lines(file), strict=True)
    try:
        if (header := next(rows, [])) != ["path", "label"]:
            raise InputError(f"{file} line 1: header {','.join(header)!r}, expected path,label")
        for row in rows:
            if not row:
                continue
            if len(row) != 2 or not all(row):
                raise InputError(f"{file} line {rows.line_num}: {','.join(row)!r}, expected a path and a label")
            path, label = row
            yield rows.line_num, path, int(label) if re.fullmatch(r"-?[0-9]+", label) else label
    except csv.Error as error:
        raise InputError(f"{file} line {rows.line_num}: {error}") from None


def _read_jsonl(file: Path) -> Iterator[tuple[int, str, int | str]]:
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            path, label = row["path"], row["label"]
        except (ValueError, TypeError, KeyError):
            row, path, label = None, None, None
        if type(path) is not str or type(label) not in (int, str) or "" in (path, label) or len(row) != 2:
            raise InputError(f'{file} line {number}: expected {{"path": string, "label": integer or string}}')
        yield number, path, label


def _lines(file: Path) -> Iterator[str]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")  # spreadsheets write a byte order mark
            except UnicodeDecodeError:
                raise InputError(f"{file} line {number}: not UTF-8") from None
