"""Make sure that nothing has rotted or was edited: image databases, DVC's cache, and the results of dvc.lock.

    python -m tools.verify                                  # all of these
    python -m tools.verify artifacts/db/train.lmdb --num-workers 8

Of a database, every record is read and decoded, and the digest compared. Files that DVC tracks are compared with their
MD5: DVC itself trusts its cache, and compares a file again only if its size or its time has changed.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from imagedb.reader import ImageDatabase
from pipeline.cli import run
from pipeline.params import load_params
from pipeline.paths import require
from pipeline.splits import database_path
from pipeline.tracked import LOCK, Tracked, cached, is_whole, outputs
from storage.errors import InputError
from storage.printable import printable


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("databases", nargs="*", type=Path, help="default: those of params.yaml, and what DVC tracks")
    parser.add_argument("--num-workers", type=int, help="threads (default: machine.workers)")
    arguments = parser.parse_args()
    params = load_params()
    workers = params.machine.workers if arguments.num_workers is None else arguments.num_workers
    if not arguments.databases and LOCK.exists():
        verify_tracked()
    for path in arguments.databases or [database_path(params, split) for split in ("train", "val")]:
        database = ImageDatabase(require(path, "python -m stages.pack"))
        with tqdm(total=len(database), unit="image", disable=None) as bar:
            database.verify(workers, lambda record: bar.update())
        print(f"{path}: {len(database)} records are whole, digest {database.header.digest}")


def verify_tracked() -> None:
    """Compare DVC's cache and the results with their digests.

    Raises:
        InputError: If one differs; all are printed before.
    """
    cache = cache_folder()
    objects = damaged("DVC's cache", list(cached(cache)), "`dvc pull` or `make repro`")
    if objects:
        raise InputError(f"{objects} files in DVC's cache are damaged")
    results = [file for file in outputs(cache) if file.path.is_file()]
    if files := damaged(str(LOCK), results, "`dvc checkout` or `make repro`"):
        raise InputError(f"{files} results are damaged, or were edited")


def cache_folder() -> Path:
    """The folder of DVC's cache, which .dvc/config may have moved.

    Raises:
        InputError: If DVC does not say.
    """
    found = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True)
    if found.returncode:
        raise InputError(f"dvc cache dir: {found.stderr.strip().splitlines()[0].removeprefix('ERROR: ')}")
    return Path(found.stdout.strip())


def damaged(name: str, files: Sequence[Tracked], made_by: str) -> int:
    """Print which files do not have their digest, and return how many.

    Args:
        name: What stands for all of them.
        made_by: The commands that make one again.
    """
    sizes = sum(file.path.stat().st_size for file in files)
    with tqdm(total=sizes, desc=name, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        wrong = [file.path for file in files if not is_whole(file, bar.update)]
    for path in wrong:
        print(f"{printable(str(path), None)} is damaged: remove it, and {made_by} makes it again")
    if not wrong:
        print(f"{name}: {len(files)} files are whole, {sizes:,} bytes")
    return len(wrong)


if __name__ == "__main__":
    run(main)
