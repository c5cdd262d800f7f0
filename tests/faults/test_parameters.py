"""Attacks on params.yaml: whatever stands there is read as DVC reads it, or is one line, in bounded time."""

import datetime
import math
import random
import re
import signal
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import parse_yaml as parse_dvc

from pipeline.params import Params, load_params
from pipeline.yaml_file import parse_yaml
from storage.errors import InputError

pytestmark = pytest.mark.faults
SAMPLE = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")
SECONDS = 5  # of the longest reading
# Scalars on which YAML 1.1, YAML 1.2 and their readers differ, or which only some of them know.
SCALARS = re.findall(
    r"\S+",
    """
1e-05 1E5 1e+5 1e400 -1e400 1e-400 .5 5. +5 -0 -0.0 00 010 -010 08 0o10 0o8 0x1F 0xG 0b11 0b2 1_000 _1 1__0 1_ 0.1e1_0
yes no on off y n Y N true True TRUE tRue ~ null Null NULL nULL .inf -.Inf +.INF .nan .NaN 12:30:45 1:2 190:20:30.15
2001-01-01 2001-99-99 2001-12-14t21:59:43.10-05:00 2001-12-14T25:00:00Z = << <<: * *x & &x !x !!str !!int !!float !!bool
!!null !!binary !!timestamp !!set !!omap !!pairs !!python/none !<tag:yaml.org,2002:int> | > ? - -- --- ... % @ ` # " '
'a "a {} [] {a} [a, {a:}] {a:1} 99999999999999999999 0xffffffffffffffffffff
\\0 "\\0" "\\x1b" "\\ud800" "\\U0001F600" é 类 1,000 1.2.3 1e 1e- e5 0.0 1.0 16.0
""",
)
FLOWS = [
    "{a: 1}",
    "{1: 2}",
    "{null: 1}",
    "{[1]: 2}",
    "{a: 1, a: 2}",
    "{true: 1}",
    "[1, [2.5, {x: ~}]]",
    "\x85",
    "\ufeff",
]
KINDS = [*SCALARS, *FLOWS, "", " ", "9" * 5000, "x" * 70_000, "[" * 200, "{a: " * 200, "- " * 200]


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    """Fails a reading that takes long."""

    def late(number: int, frame: Any) -> None:
        raise TimeoutError(f"a file of parameters took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def plain(value: Any) -> bool:
    """Whether a value is one that parameters may have: what DVC reads beyond these is refused."""
    match value:
        case dict():
            return all(isinstance(k, str | int) and not isinstance(k, bool) and plain(v) for k, v in value.items())
        case list():
            return all(map(plain, value))
        case float():
            return math.isfinite(value) and str(value) != "-0.0"
        case int():
            return abs(value) < 2**63
        case None | str():
            return True
    assert isinstance(value, bytes | set | tuple | datetime.date | datetime.datetime), value
    return False


def equal(one: Any, other: Any) -> bool:
    """Equality of values and of their types, in all that they hold."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


def attack(text: str, path: Path) -> str:
    """Read a text here and by DVC's reader; returns what came of it."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        values = parse_yaml(text, path)
    except InputError as error:
        assert str(error).isprintable() and len(str(error)) < 600, str(error)
        refused = str(error)
    else:
        refused = None
        assert equal(values or {}, parse_dvc(text, str(path))), text
        assert plain(values)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(load_params(path), Params)
    except InputError as error:
        assert str(error).isprintable() and len(str(error)) < 12_000, str(error)
        return "refused as text" if refused else "refused as parameters"
    assert refused is None or "\r" in text, "what `parse_yaml` refuses no file of parameters may hold"
    return "accepted"


def with_value(draw: random.Random, lines: list[str]) -> str:
    """The sample with another value for a key."""
    number = draw.choice([n for n, line in enumerate(lines) if ": " in line and not line.startswith("#")])
    value = draw.choice(KINDS) if draw.random() < 0.8 else f"{draw.choice(KINDS)} {draw.choice(KINDS)}"
    return "\n".join([*lines[:number], f"{lines[number].partition(': ')[0]}: {value}", *lines[number + 1 :]])


def with_edits(draw: random.Random, lines: list[str]) -> str:
    """The sample with a few characters replaced, put in or taken out, or with lines moved."""
    text = "\n".join(lines)
    for _ in range(draw.randint(1, 4)):
        place, length = draw.randrange(len(text)), draw.choice((0, 0, 1, 1, 2, 30))
        signs = draw.choice((string.printable, "{}[]:,-?&*!|>'\"%@`#\n\t <", "\x00\x07\x1b\x85\ufeff\u2028\U0001f600é"))
        new = "".join(draw.choices(signs, k=draw.choice((0, 1, 1, 3))))
        text = text[:place] + new + text[place + length :]
    return text


def with_lines(draw: random.Random, lines: list[str]) -> str:
    """The sample with lines repeated, moved, indented otherwise, and with anchors, aliases and merges."""
    lines = list(lines)
    for _ in range(draw.randint(1, 3)):
        line = lines.pop(draw.randrange(len(lines)))
        extra = draw.choice(
            ("&a", "*a", "<<: *a", "<<: [*a, *b]", "? [a]", "&b {flip: 1, <<: *a}", "- *b", "---", "...")
        )
        new = draw.choice(
            (line, f"  {line}", line.lstrip(), f"{line.partition('  #')[0]} {extra}", extra, f"  {extra}")
        )
        for _ in range(draw.choice((1, 1, 2))):
            lines.insert(draw.randrange(len(lines)), new)
    return "\n".join(lines)


@pytest.mark.parametrize(("change", "tries"), [(with_value, 700), (with_edits, 700), (with_lines, 700)])
def test_mutated_files_are_read_as_dvc_reads_them_or_refused_in_one_line(tmp_path, change, tries):
    draw, lines = random.Random(2026), [line for line in SAMPLE.splitlines() if line and not line.startswith("#")]
    came = Counter(attack(change(draw, lines), tmp_path / "params.yaml") for _ in range(tries))
    print(f"{change.__name__}: {tries} tried, {dict(came)}")
    assert came.total() == tries and min(came["refused as text"], came["refused as parameters"]) > tries / 20


def test_every_scalar_at_every_place_of_a_small_file(tmp_path):
    """As a value, a key, in a list and in a block: what is accepted, DVC reads alike."""
    tried = 0
    for kind in KINDS:
        for text in (f"a: {kind}", f"{kind}: a", f"a: [{kind}, b]", f"a:\n  b: {kind}\n  c: {kind}", f"- {kind}", kind):
            attack(text, tmp_path / "params.yaml")
            tried += 1
    print(f"{tried} tried")
    assert tried == 6 * len(KINDS)
