"""Keeps what was measured, part by part, and says what moved since another run.

`benchmarks.json` holds for each part its results, and where they are from: machine, versions, commit, command, seconds.
"""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path

from benchmarks.results import Result
from storage.errors import InputError
from storage.files import write_json

FILE = "benchmarks.json"
INSTRUCTIONS = r"\b(?:fma|f16c|ssse3|sse4_[12]|avx\w*|amx\w*|neon|asimd\w*|sve\w*|i8mm|bf16)\b"  # that decide speeds


@dataclass(frozen=True)
class Part:
    """The results of a part, and where they are from.

    Attributes:
        origin: What to know of the run, by title: machine, flags, versions, commit, command, minutes.
    """

    origin: dict[str, str]
    results: list[Result]


def origin(command: str, seconds: float) -> dict[str, str]:
    """What this run was measured with: the packages are those of pyproject.toml that this process has imported."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"^model name\s*:\s*(.*)", info, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    named = Path("pyproject.toml").read_text().lower()
    found = packages_distributions()
    loaded = {package for module in sys.modules.keys() & found.keys() for package in found[module]}
    packages = sorted(package for package in loaded if f'"{package.lower()}==' in named)
    return {
        "processor": f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB of memory",
        "flags": " ".join(sorted(set(re.findall(INSTRUCTIONS, info)))),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{package} {version(package)}" for package in packages),
        "commit": _git("rev-parse", "--short=12", "HEAD")
        + (" with changes" if _git("status", "--porcelain", "--untracked-files=no", "--", ":!docs") else ""),
        "command": command,
        "minutes": f"{seconds / 60:.1f}",
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def save(folder: Path, name: str, part: Part) -> dict[str, Part]:
    """Put a part in the place of the one that `folder` holds under its name, and return all parts."""
    parts = (load(folder / FILE) if (folder / FILE).exists() else {}) | {name: part}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, {"parts": {key: asdict(each) for key, each in sorted(parts.items())}})
    return parts


def load(path: str | Path) -> dict[str, Part]:
    """The parts of a file that `save` wrote.

    Raises:
        OSError: If there is no such file.
        InputError: If it is another kind of file.
    """
    try:
        parts = json.loads(Path(path).read_bytes())["parts"]
        return {name: _part(each) for name, each in parts.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{path} is not a file of results; `make bench` writes benchmarks.json") from None


def _part(stored: dict) -> Part:
    results = [Result(**each | {"values": (*each["values"],)}) for each in stored["results"]]
    return Part(dict(stored["origin"]), results)


def moved(before: dict[str, Part], after: dict[str, Part]) -> Iterator[str]:
    """A line for each measurement whose middle halves of the rounds do not overlap, and what came or went."""
    for name in before.keys() & after.keys():
        for title in ("processor", "flags", "versions"):
            was, now = (parts[name].origin.get(title) for parts in (before, after))
            if was != now:
                yield f"{name}: {title} was {was}, is {now}"
        old, new = ({each.key: each for each in parts[name].results} for parts in (before, after))
        for key in [*old, *(key for key in new if key not in old)]:
            line = _moved(old.get(key), new.get(key))
            if line:
                yield ", ".join(str(word) for word in key if word not in ("", None)) + f": {line}"


def _moved(old: Result | None, new: Result | None) -> str:
    if old is None or new is None:
        return "is new" if new else "is gone"
    if not old.values or not new.values:
        return "" if old.error == new.error else f"was {old.error or 'measured'}, is {new.error or 'measured'}"
    if old.quartiles[0] <= new.quartiles[1] and new.quartiles[0] <= old.quartiles[1]:
        return ""
    return f"{old.median:.4g} -> {new.median:.4g}, {new.gain(old):.2f} times as good"
