"""What the benchmarks have measured of the files of a network: the time of one image on one thread."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from reports.results_page import Latency
from storage.errors import InputError
from storage.json_file import read_json

FILES = (Path("runs/bench/benchmarks.json"), Path("docs/benchmarks.json"))  # of here, and of the repository
OURS = ("float.onnx", "int8", "network.c")  # beginnings of the names of what the pipeline exports
COLUMN, UNIT = "1 image, 1 thread", "images/s"


def latencies(network: str, size: int, files: Sequence[Path] = FILES) -> list[Latency]:
    """The files of a network with the milliseconds of an image; of the first file of results that has some.

    Args:
        network: Its name.
        size: Height and width of the images in pixels.
        files: Files that `make bench ONLY=deploy` has written; one that does not exist is passed over.

    Raises:
        InputError: If a file is damaged.
    """
    for path in files:
        if path.exists():
            try:
                results = read_json(path)["parts"].get("deploy", {"results": []})["results"]
                if found := [_latency(each, path) for each in results if _is_ours(each, f"{network}, {size} px")]:
                    return found
            except (KeyError, TypeError, AttributeError, ZeroDivisionError):
                raise InputError(f"{path} is damaged; `make bench` writes it") from None
    return []


def _is_ours(result: dict[str, Any], case: str) -> bool:
    keys = (result["case"], result["column"], result["unit"])
    return keys == (case, COLUMN, UNIT) and bool(result["values"]) and result["contestant"].startswith(OURS)


def _latency(result: dict[str, Any], path: Path) -> Latency:
    return Latency(result["contestant"], 1000 / median(result["values"]), str(path))
