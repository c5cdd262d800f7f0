"""Pack the images of one split into an image database.

python -m stages.pack --split-name train [--dry-run]      # everything else from params.yaml
python -m stages.pack --src-data-dir ~/pets --source folder --target-data-dir db --split-name val --num-workers 4
python -m stages.pack --source coco --src-data-dir ~/coco --target-data-dir db --split-name val --source-split val2017

On several machines, or in parts: pack each shard, then merge them, to the same bytes as packing all at once.

python -m stages.pack --split-name train --target-data-dir db --shard 3/16
python -m stages.pack --split-name train --target-data-dir db --merge 16
"""

import argparse
import shutil
from pathlib import Path
from typing import get_args

from imagedb.reader import ImageDatabase
from imagedb.sources.source import WHOLE, Shard, Source
from pipeline.cli import run
from pipeline.framing import warn_of_views
from pipeline.pack_params import Pack
from pipeline.packing import merge, pack
from pipeline.params import Params, load_params
from pipeline.sources import open_source
from storage.errors import InputError
from storage.files import write_json

TARGET = Path("artifacts/db")


def main() -> None:
    args = arguments()
    params = load_params()
    path = args.target_data_dir / f"{args.split_name}.{args.pack_type or params.pack.format}"
    if args.dry_run:
        return dry_run(source(args, params.pack), path)
    if args.merge is not None:
        return report(args, path, merge(path, args.merge), params)
    path, workers = args.shard.file(path), params.machine.workers if args.num_workers is None else args.num_workers
    report(args, path, pack(source(args, params.pack), path, params.pack, args.shard, workers), params)


def arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
    kinds = get_args(Pack.model_fields["source"].annotation)
    parser.add_argument("--split-name", required=True, choices=["train", "val"])
    parser.add_argument("--src-data-dir", help="root of the source (default: pack.root)")
    parser.add_argument("--target-data-dir", type=Path, default=TARGET, help="default: %(default)s")
    parser.add_argument("--source", choices=kinds, help="default: pack.source")
    parser.add_argument("--source-split", help="the split's name in the source (default: of pack.splits)")
    parser.add_argument("--dataset", help="class name in torchvision.datasets (default: pack.dataset)")
    parser.add_argument("--num-workers", type=int, help="threads, changes no result (default: machine.workers)")
    parser.add_argument("--pack-type", choices=["lmdb", "recordio"], help="default: pack.format")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--shard", type=shard, default=WHOLE, metavar="K/N", help="pack part K of N, counted from 1")
    part.add_argument("--merge", type=int, metavar="N", help="join N shards that have been packed")
    part.add_argument("--dry-run", action="store_true", help="print how much there is to pack, and write nothing")
    return parser.parse_args()


def shard(text: str) -> Shard:
    try:
        return Shard(*map(int, text.split("/")))
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed, must be K/N with 1 <= K <= N") from None


def source(args: argparse.Namespace, params: Pack) -> Source:
    kind = args.source or params.source
    # pack.splits are names in the source of params.yaml; in a source of another kind, a split has its usual name
    named = getattr(params.splits, args.split_name) if kind == params.source else args.split_name
    if args.dataset and kind != "torchvision":
        raise InputError(f"--dataset {args.dataset} is for --source torchvision, the source is {kind}")
    root, split = args.src_data_dir or params.root, args.source_split or named
    return open_source(kind, root, split, args.dataset or params.dataset)


def dry_run(found: Source, path: Path) -> None:
    survey = found.survey()
    free = shutil.disk_usage(next(folder for folder in path.absolute().parents if folder.exists())).free
    size = "bytes not known before reading" if survey.bytes is None else f"{survey.bytes / 1e6:,.1f} MB as they are"
    print(f"{survey.images:,} images in {len(found.class_names):,} classes, {size}; {path} would be written there")
    print(f"{free / 1e6:,.1f} MB are free")


def report(args: argparse.Namespace, path: Path, metrics: dict, params: Params) -> None:
    """Write the metrics: to metrics/ for a whole split in artifacts/db, otherwise beside the database."""
    whole = args.target_data_dir == TARGET and args.shard == WHOLE
    write_json(Path(f"metrics/pack_{args.split_name}.json") if whole else path.with_suffix(".json"), metrics)
    bad = len(metrics["bad_images"])
    print(f"{metrics['images']} images in {path}" + (f"; {bad} bad ones, named in the metrics" if bad else ""))
    if whole:
        warn_of_views(ImageDatabase(path), params)


if __name__ == "__main__":
    run(main)
