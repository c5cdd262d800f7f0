"""Names of classes: which are allowed, and how names differ that look the same."""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from storage.errors import InputError

FORBIDDEN = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories of control characters, half characters and line ends
INVISIBLE = "Cf"


def _without_invisible(name: str) -> str:
    return "".join(each for each in name if unicodedata.category(each) != INVISIBLE)


# What the eye passes over, and names without it.
DIFFERENCES: dict[str, Callable[[str], str]] = {
    "how Unicode composes letters (NFC, NFD)": lambda name: unicodedata.normalize("NFC", name),
    "blanks": lambda name: " ".join(name.split()),
    "invisible characters": _without_invisible,
    "variants of letters (NFKC)": lambda name: unicodedata.normalize("NFKC", name),
    "capital letters": str.casefold,
}


def check_class_names(names: Iterable[str]) -> None:
    """Make sure that names can stand in a line of a table and in a file.

    Raises:
        InputError: if one is empty, or has a control character, a line end or half a character.
    """
    for name in names:
        if not name or any(unicodedata.category(each) in FORBIDDEN for each in name):
            raise InputError(f"class name {name!a} is not allowed, must be text of one line in Unicode")


def look_alike(names: Iterable[str]) -> str | None:
    """Two different names that look the same, with escapes, and what they differ in; None if there are none."""
    groups = defaultdict(set)
    for name in names:
        key = name
        for simplified in DIFFERENCES.values():
            key = simplified(key)
        groups[key].add(name)
    for group in groups.values():
        if len(group) > 1:
            one, other, *_ = sorted(group)
            reasons = (reason for reason, simplified in DIFFERENCES.items() if simplified(one) == simplified(other))
            return f"{one!a} and {other!a} look alike and differ in {next(reasons, 'several ways')}"
    return None


def difference(one: Sequence[str], other: Sequence[str]) -> str:
    """How two different lists of class names differ."""
    alone = sorted(set(one) ^ set(other))
    if alone:
        named = ", ".join(name if name.isprintable() else ascii(name) for name in alone[:5])
        return look_alike(alone) or f"only one has {named}"
    return "in another order" if len(one) == len(other) else f"{len(one)} and {len(other)}, some of them twice"
