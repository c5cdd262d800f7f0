"""Make sure that image databases are whole: every record is read and decoded, and the digest compared.

python -m tools.verify                                  # both splits of params.yaml
python -m tools.verify artifacts/db/train.lmdb --num-workers 8
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from imagedb.reader import ImageDatabase
from pipeline.cli import run
from pipeline.databases import database_path
from pipeline.params import load_params
from pipeline.paths import require


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("databases", nargs="*", type=Path, help="default: those of params.yaml")
    parser.add_argument("--num-workers", type=int, help="threads (default: machine.workers)")
    arguments = parser.parse_args()
    params = load_params()
    workers = params.machine.workers if arguments.num_workers is None else arguments.num_workers
    for path in arguments.databases or [database_path(params, split) for split in ("train", "val")]:
        database = ImageDatabase(require(path, "python -m stages.pack"))
        with tqdm(total=len(database), unit="image", disable=None) as bar:
            database.verify(workers, lambda record: bar.update())
        print(f"{path}: {len(database)} records are whole, digest {database.header.digest}")


if __name__ == "__main__":
    run(main)
