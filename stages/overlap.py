"""Look for validation images that are also training images, and write metrics/overlap.json.

python -m stages.overlap
"""

import argparse

from imagedb.overlap import overlap
from imagedb.reader import ImageDatabase
from pipeline.cli import run
from pipeline.params import load_params
from pipeline.paths import require
from pipeline.splits import database_path
from storage.errors import InputError
from storage.files import write_json

METRICS = "metrics/overlap.json"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    params = load_params()
    train, val = (ImageDatabase(require(database_path(params, split), "make pack")) for split in ("train", "val"))
    found = overlap(train, val)
    shared = found["val_in_train"]
    count = f"{shared} of {len(val)} validation images are training images, too"
    if shared:
        first = found["pairs"][0]
        count += f", {found['other_labels']} of them with another label; such as {first['val']}, there {first['train']}"
    if params.pack.overlap == "refuse" and shared:
        raise InputError(f"{count}; pack.overlap refuses that")
    write_json(METRICS, found)
    print(count)


if __name__ == "__main__":
    run(main)
