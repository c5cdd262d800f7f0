"""A contact sheet of a database: images with their classes, or with their boxes and masks, in one PNG file.

python -m tools.view artifacts/db/train.lmdb                        36 records, as many of each class
python -m tools.view artifacts/db/train.lmdb -n 12 --label Sandal   the first 12 that are or show one
"""

import argparse
import random
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from pipeline.cli import run
from pipeline.paths import require, runs_folder
from storage.errors import InputError
from storage.files import whole_file


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path, help="a packed database")
    parser.add_argument("-n", type=int, help="how many records at most (default: 36)")
    records = parser.add_mutually_exclusive_group()
    records.add_argument("--start", type=int, metavar="NUMBER", help="this record and those after it")
    records.add_argument("--random", type=int, metavar="SEED", help="drawn at random")
    records.add_argument("--label", metavar="NAME", help="the first ones with this class, or an object of it")
    parser.add_argument("--columns", type=int, default=6, help="default: %(default)s")
    parser.add_argument("--tile", type=int, default=160, help="width of an image in pixels (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="default: runs/view_<name of the database>.png")
    return parser.parse_args()


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

from tqdm import tqdm

from imagedb.reader import ImageDatabase
from pipeline.draw import draw
from reports.contact_sheet import contact_sheet

WIDEST = 2**15  # pixels of a sheet


def main() -> None:
    args = parse_arguments()
    database = ImageDatabase(require(args.database, "python -m stages.pack"))
    count = min(36, len(database)) if args.n is None else args.n
    if not 1 <= count <= len(database):
        raise InputError(f"-n {count} is not allowed, must be 1 to {len(database)}, the records of {args.database}")
    if args.columns * args.tile > WIDEST:
        raise InputError(f"{args.columns} columns of {args.tile} pixels are not allowed, at most {WIDEST} in all")
    indices = choose(database, count, args.start, args.random, args.label)
    sheet = contact_sheet(database, indices, min(args.columns, len(indices)), args.tile)
    output = args.output or runs_folder() / f"view_{args.database.stem}.png"
    with whole_file(output) as partial:
        sheet.save(partial, "PNG")
    print(output)


def choose(database: ImageDatabase, count: int, start: int | None, seed: int | None, name: str | None) -> list[int]:
    """The numbers of at most `count` records; drawn as those of a calibration if no option chooses others.

    Raises:
        InputError: If there is no record `start`, no class `name` or no record of it.
    """
    total = len(database)
    if start is not None:
        if not 0 <= start < total:
            raise InputError(f"--start {start} is not allowed, must be 0 to {total - 1}, a record of {database.path}")
        return list(range(start, min(start + count, total)))
    if seed is not None:
        return sorted(random.Random(seed).sample(range(total), count))
    if name is not None:
        return of_class(database, count, name)
    return draw(database, count).indices


def of_class(database: ImageDatabase, count: int, name: str) -> list[int]:
    """The first `count` records with a class or an object of this name."""
    labels = {label for label, known in enumerate(database.class_names) if known == name}  # two may share a name
    if not labels:
        by_lower = {known.lower(): known for known in database.class_names}
        near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0)
        raise InputError(f"{database.path} has no class {name!r}; the nearest is {by_lower[near[0]]!r}")
    numbers = tqdm(range(len(database)), unit="record", disable=None, leave=False)
    found = list(islice((number for number in numbers if labels & {*database[number].labels}), count))
    if not found:
        raise InputError(f"{database.path} has no record of class {name!r}")
    return found


if __name__ == "__main__":
    run(main)
