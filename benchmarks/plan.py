"""What limits a training on ImageNet with 1, 8 and 64 GPUs: arithmetic from rates measured here, and others stated.

    python -m benchmarks plan [--rate 6000] [--cores 16] [--disk 2.5] [--link 300] [--network 25]

`make bench` writes the page, docs/scale.md, with published rates of GPUs; this prints it with those of your machines,
such as the images per second that `python -m benchmarks gpu` has measured. Rates of decoding, bytes of records and the
speed of the disk are those of docs/benchmarks.json, unless you give them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import jinja2

from benchmarks.options import options
from benchmarks.record import FILE, Part, load
from benchmarks.results import Result
from pipeline.yaml_file import read_yaml
from storage.errors import InputError

DOCS, PAGE = Path("docs"), "scale.md"
TEMPLATE = Path(__file__).with_name("plan.md.jinja")
RECIPE = Path("recipes/imagenet.yaml")  # whose learning rate is for batches of PER_GPU
IMAGES = 1_281_167
GPUS, PER_NODE, PER_GPU = (1, 8, 64), 8, 256  # GPUs in all, of a machine; images of each GPU's batch
PARAMETERS = 25_557_032  # of ResNet-50, whose speed is published
GRADIENTS = 4 * PARAMETERS  # bytes


@dataclass(frozen=True)
class Rates:
    """Rates of machines with PER_NODE GPUs; the defaults are published, and the page says where.

    Attributes:
        rate: Images/s of a training step on a GPU.
        cores: Of a machine.
        disk: GB/s that a machine reads, None: as measured here.
        link: GB/s between GPUs of a machine, each way.
        network: GB/s between machines for each GPU, each way.
    """

    rate: float = 2470.0
    cores: int = 128
    disk: float | None = None
    link: float = 300.0
    network: float = 25.0


@dataclass(frozen=True)
class Records:
    """A form of the database: images/s that a core makes of it, and bytes of an image."""

    name: str
    speed: float
    bytes: float


def main() -> None:
    given = {name: value for name, value in vars(options("plan")).items() if value is not None}
    for name, value in given.items():
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"--{name} {value} is not allowed, must be above 0")
    parts = load(DOCS / FILE)
    if "data" not in parts:
        raise InputError(f"{DOCS / FILE} has no part data; `make bench ONLY=data` measures it")
    print(page(parts["data"], Rates(**given), own=bool(given)))


def write_plan(folder: Path, parts: Mapping[str, Part]) -> None:
    """Write the page into `folder`, if `benchmarks.data` has measured at full size."""
    if "data" in parts and "--quick" not in parts["data"].origin["command"]:
        (folder / PAGE).write_text(page(parts["data"]))


def page(data: Part, rates: Rates | None = None, own: bool = False) -> str:
    """The text of the page, from the results of `benchmarks.data`; `own` are rates that somebody gave.

    Raises:
        InputError: If they lack loading or packing.
    """
    rates = rates or Rates()
    forms, disk = measured(data.results)
    values = {
        "origin": data.origin,
        "forms": forms,
        "measured_disk": disk,
        "own": own,
        "rates": rates,
        "disk": rates.disk or disk,
        "heads": [f"{count} GPU{'s'[: count > 1]}" for count in GPUS],
        "tables": {each.name: limits(each, replace(rates, disk=rates.disk or disk)) for each in forms},
        "images": IMAGES,
        "gpus": GPUS[-1],
        "machines": GPUS[-1] // PER_NODE,
        "per_node": PER_NODE,
        "per_gpu": PER_GPU,
        "workers": max(rates.cores // PER_NODE, 1),
        "lr": read_yaml(RECIPE)["lr"],
        "parameters": PARAMETERS,
        "gradients": GRADIENTS,
    }
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(TEMPLATE.read_text()).render(values)


def measured(results: Sequence[Result]) -> tuple[list[Records], float]:
    """The forms of our database that were both loaded by one core and packed, and GB/s of a cold disk.

    Raises:
        InputError: If one is missing.
    """
    given = [each for each in results if each.values]
    values = {(each.case.partition(" ")[0], each.contestant, each.column or each.unit): each for each in given}
    try:
        tar = values["packing", "tar", "cold"]
        images = int(tar.case.split()[1])
        forms = [
            Records(
                name,
                values["loading", f"ours, {name}, yuv444, jitter", "0 workers"].median,
                values["packing", f"ours, {name}, 2 workers", "MiB"].median * 2**20 / images,
            )
            for name in ("as it is", "256 px")
        ]
    except KeyError as error:
        missing = ", ".join(error.args[0])
        raise InputError(f"no result of {missing}; `make bench ONLY=data` measures packing and loading") from None
    return forms, median(tar.values) * forms[0].bytes / 1e9


def limits(form: Records, rates: Rates) -> dict[str, list[str]]:
    """A table of what each number of GPUs needs of cores, disk and network, and what limits it, row by row."""
    rows: dict[str, list[str]] = {}
    for count in GPUS:
        machines, wanted = -(-count // PER_NODE), count * rates.rate
        cores = rates.cores * count / PER_NODE
        slowest = rates.link if count <= PER_NODE else rates.network
        exchange = 2 * (count - 1) / count * GRADIENTS / 1e9 / slowest  # seconds
        bounds = {
            "GPUs": wanted,
            "decoding": cores * form.speed,
            "all-reduce": count * PER_GPU / exchange if exchange else math.inf,
        }
        cold = bounds | {"disk": machines * (rates.disk or math.inf) * 1e9 / form.bytes}
        limit = min(bounds, key=bounds.__getitem__)
        cells = {
            "images/s that the GPUs take": f"{wanted:,.0f}",
            "cores that decode them": f"{wanted / form.speed:,.1f} of {cores:,.0f}",
            "GB/s that a machine reads": f"{wanted * form.bytes / 1e9 / machines:.2f}",
            "ms of the all-reduce, beside a step": f"{1e3 * exchange:.1f} of {1e3 * PER_GPU / rates.rate:.0f}",
            "limit": limit,
            "images/s at most": f"{bounds[limit]:,.0f}",
            "seconds of an epoch, at least": f"{IMAGES / bounds[limit]:,.0f}",
            "limit while records come from a cold disk": min(cold, key=cold.__getitem__),
            "images/s at most then": f"{min(cold.values()):,.0f}",
        }
        for name, cell in cells.items():
            rows.setdefault(name, []).append(cell)
    return rows
