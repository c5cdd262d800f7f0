"""Images that a CSV or JSON file lists with their labels."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeAlias

from imagedb.sources.files import check_file, is_file_name, read_file
from imagedb.sources.source import IndexedSource, SourceImage
from storage.errors import InputError, shown
from storage.json_file import parse_json

CLASS_LIST = "classes.txt"
MAX_CLASSES = 1_000_000  # without a class list, so that one mistyped label does not create millions of classes
MAX_LINE = 2**20  # bytes
MAX_DIGITS = 18
# A number in a .csv file; its group is empty if it is not whole. pandas writes 3.0 in a column with a missing value.
NUMBER = re.compile(r"(?:([+-]?[0-9]+)(?:\.0*)?|[+-]?[0-9]+\.[0-9]+)")
TRIMMED = "label with blanks around it, which are left out"
Row: TypeAlias = tuple[int, str, int | str, bool]  # number of the line, path, label, whether blanks were left out


class ImageListSource(IndexedSource):
    """The images that the file root/split lists, in its order, named by their paths as listed.

    A .csv file has the header path,label; a .jsonl file has one object {"path": ..., "label": ...} per line. Paths are
    absolute or relative to the folder of the list. Labels are all whole numbers, such as 3 or 3.0, or all class names;
    in a .jsonl file, text is a name. Blanks around labels are left out, and `notes` has the paths. Class names are
    those of `read_class_names`; without them, the sorted names in the list, or "0", "1", and so on.

    Raises:
        FileNotFoundError: if the file does not exist.
        InputError: if the file is not as above or a label has no class; the message has the number of the line.
    """

    def __init__(self, root: str | Path, split: str):
        file = Path(root) / split
        read = {".csv": _read_csv, ".jsonl": _read_jsonl}.get(file.suffix)
        if read is None:
            raise InputError(f"{file} is not allowed as a list of images, must end in .csv or .jsonl")
        if not file.exists():
            raise FileNotFoundError(f"{file} does not exist, a list of images is expected there")
        self._folder, blanks = file.parent, []
        rows: list[tuple[str, int | str]] = []
        known = read_class_names(root)
        occurrences, limit = Counter(known), len(known) if known else MAX_CLASSES
        kind = None
        for line, path, label, trimmed in read(file):
            if trimmed:
                blanks.append(path)
            kind = kind or type(label)
            if type(label) is not kind:
                problem = "unlike the lines before; labels must be all whole numbers or all class names"
            elif isinstance(label, int) and not 0 <= label < limit:
                problem = f"allowed: 0 to {limit - 1}"
            elif isinstance(label, str) and known and occurrences[label] != 1:
                problem = f"which {Path(root) / CLASS_LIST} has {occurrences[label]} times, must be once"
            else:
                rows.append((path, label))
                continue
            raise InputError(f"{file} line {line}: label {shown(label)}, {problem}")
        if kind is None:
            raise InputError(f"{file} lists no images")
        self.notes = {TRIMMED: blanks} if blanks else {}
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
        return SourceImage(path, label, partial(read_file, file), file)


def read_class_names(root: str | Path) -> list[str] | None:
    """The class names by label, the lines of root/classes.txt; None if the file does not exist.

    Raises:
        InputError: if the file or a line is empty, or not UTF-8.
    """
    file = Path(root) / CLASS_LIST
    if not file.exists():
        return None
    names = [line.strip() for line in _lines(file)]
    if not all(names) or not names:
        raise InputError(f"{file} line {[*names, ''].index('') + 1}: expected a class name")
    return names


def _read_csv(file: Path) -> Iterator[Row]:
    rows = csv.reader(_lines(file), strict=True)
    try:
        header = next(rows, [])
        if [cell.strip() for cell in header] != ["path", "label"]:
            raise InputError(f"{file} line 1: header {shown(','.join(header))}, expected path,label")
        for row in rows:
            if not row:
                continue
            if len(row) != 2 or not row[0] or not (label := row[1].strip()):
                line = shown(",".join(row))
                raise InputError(f"{file} line {rows.line_num}: {line}, expected a path and a label")
            trimmed = label != row[1]
            if (number := NUMBER.fullmatch(label)) is None:
                yield rows.line_num, row[0], label, trimmed
            elif number[1] and len(number[1]) <= MAX_DIGITS:
                yield rows.line_num, row[0], int(number[1]), trimmed
            else:
                raise InputError(f"{file} line {rows.line_num}: label {shown(label)}, must be a whole number or a name")
    except csv.Error as error:
        raise InputError(f"{file} line {rows.line_num}: {error}") from None


def _read_jsonl(file: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        where = f"{file} line {number}"
        row = parse_json(line, where)
        path, found = (row.get("path"), row.get("label")) if isinstance(row, dict) and len(row) == 2 else (None, None)
        label: int | str = ""
        if isinstance(found, str):
            label = found.strip()
        elif type(found) is int or (isinstance(found, float) and found.is_integer()):
            label = int(found)
        if not path or not isinstance(path, str) or label == "":
            raise InputError(f'{where}: expected {{"path": string, "label": whole number or string}}')
        if not is_file_name(path) or (isinstance(label, str) and not is_file_name(label)):
            raise InputError(f"{where}: {shown(row)} has a character that is not allowed in a name")
        yield number, path, label, label != found


def _lines(file: Path) -> Iterator[str]:
    check_file(file)
    with file.open("rb") as lines:
        for number in count(1):
            if not (line := lines.readline(MAX_LINE + 1)):
                return
            if len(line) > MAX_LINE:
                raise InputError(f"{file} line {number}: more than {MAX_LINE} bytes, which are allowed")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")  # spreadsheets write a byte order mark
            except UnicodeDecodeError:
                raise InputError(f"{file} line {number}: not UTF-8") from None
            if "\0" in text:
                raise InputError(f"{file} line {number}: a character NUL, which no text in UTF-8 has")
            yield text
