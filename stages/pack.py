"""Pack the pictures of one split into an image database.

python -m stages.pack --split-name train       # everything else from params.yaml
python -m stages.pack --split-name train --dry-run
python -m stages.pack --src-data-dir ~/pets --source folder --target-data-dir db --split-name val --num-workers 4
python -m stages.pack --source coco --src-data-dir ~/coco --target-data-dir db --split-name val --source-split val2017

On several machines, or piece by piece: each shard alone, then all of them together, to the bytes of packing at once.

python -m stages.pack --split-name train --target-data-dir db --shard 3/16
python -m stages.pack --split-name train --target-data-dir db --merge 16
"""

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tqdm import tqdm

from imagedb.encode import Encoding
from imagedb.record import Header, Record
from imagedb.sources.cityscapes import CityscapesSource
from imagedb.sources.coco import CocoSource
from imagedb.sources.folder import FolderSource
from imagedb.sources.imagenet import imagenet_source
from imagedb.sources.listing import ListingSource
from imagedb.sources.packed import DatabaseSource, ReferenceSource
from imagedb.sources.source import WHOLE, Shard, Source
from imagedb.sources.torchvision import TorchvisionSource
from imagedb.sources.voc import VocSource
from imagedb.writer import merge_databases, write_database
from pipeline.cli import run
from pipeline.params import Encode, Pack, Params, load_params
from pipeline.paths import require
from storage.files import write_json

TARGET = Path("artifacts/db")
SOURCES: dict[str, Callable[[str, str], Source]] = {  # of root and split
    "folder": FolderSource,
    "imagenet": imagenet_source,
    "list": ListingSource,
    "voc": VocSource,
    "coco": CocoSource,
    "cityscapes": CityscapesSource,
    "reference": ReferenceSource,
    "database": lambda root, split: DatabaseSource(Path(root, split)),
}
NAMED = 100  # remarkable images are named if there are at most so many of a kind


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--split-name", required=True, choices=["train", "val"])
    parser.add_argument("--src-data-dir", help="root of the source (default: pack.root)")
    parser.add_argument("--target-data-dir", type=Path, default=TARGET, help="default: %(default)s")
    parser.add_argument("--source", choices=["torchvision", *SOURCES], help="default: pack.source")
    parser.add_argument("--source-split", help="the split's name in the source (default: of pack.splits)")
    parser.add_argument("--dataset", help="class name in torchvision.datasets (default: pack.dataset)")
    parser.add_argument("--num-workers", type=int, help="threads, changes no result (default: machine.workers)")
    parser.add_argument("--pack-type", choices=["lmdb", "recordio"], help="default: pack.format")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--shard", type=shard, default=WHOLE, metavar="K/N", help="pack part K of N, counted from 1")
    part.add_argument("--merge", type=int, metavar="N", help="join N shards that have been packed")
    part.add_argument("--dry-run", action="store_true", help="say how much there is to pack, and write nothing")
    return parser.parse_args()


def shard(text: str) -> Shard:
    try:
        return Shard(*map(int, text.split("/")))
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed, must be K/N with 1 <= K <= N") from None


def open_source(args: argparse.Namespace, params: Pack) -> Source:
    kind = args.source or params.source
    root = args.src_data_dir or params.root
    # pack.splits are names in the source of params.yaml; in one of another kind a split is called what it is
    named = getattr(params.splits, args.split_name) if kind == params.source else args.split_name
    split = args.source_split or named
    if kind != "torchvision":
        if args.dataset:
            raise ValueError(f"--dataset {args.dataset} is for --source torchvision, the source is {kind}")
        return SOURCES[kind](root, split)
    dataset = args.dataset or params.dataset
    if dataset is None:
        raise ValueError("pack.dataset is null: name a class of torchvision.datasets there or with --dataset")
    return TorchvisionSource(dataset, root, split)


def encoding(params: Encode) -> Encoding | None:
    return None if params.type == "original" else Encoding(**params.model_dump())


def dry_run(source: Source, path: Path) -> None:
    survey = source.survey()
    free = shutil.disk_usage(next(folder for folder in path.absolute().parents if folder.exists())).free
    size = "bytes not known before reading" if survey.bytes is None else f"{survey.bytes / 1e6:,.1f} MB as they are"
    print(f"{survey.images:,} images in {len(source.class_names):,} classes, {size}; {path} would be written there")
    print(f"{free / 1e6:,.1f} MB are free")


def pack(args: argparse.Namespace, params: Params, path: Path) -> None:
    source = open_source(args, params.pack)
    if args.dry_run:
        dry_run(source, path)
        return
    total, unit = source.expected(args.shard)
    write = partial(
        write_database,
        source,
        path,
        encoding=encoding(params.pack.encoding),
        on_bad_image=params.pack.on_bad_image,
        shard=args.shard,
        workers=params.machine.workers if args.num_workers is None else args.num_workers,
    )
    packed, counts = counted(write, len(source.class_names), total, unit)
    notes = {kind: note(len(names), names) for kind, names in packed.notes.items()}
    report(args, path, packed.header, counts, packed.bad, notes)


def merge(args: argparse.Namespace, path: Path) -> None:
    if args.merge < 2:
        raise ValueError(f"--merge {args.merge} is not allowed, must be 2 or more")
    paths = [shard_path(path, Shard(k, args.merge)) for k in range(1, args.merge + 1)]
    reports = []
    for k, shard in enumerate(paths, 1):
        made_by = f"python -m stages.pack ... --shard {k}/{args.merge}"
        reports.append(json.loads(require(shard.with_suffix(".json"), made_by).read_text()))
    total = sum(found["images"] for found in reports)
    header, counts = counted(partial(merge_databases, paths, path), reports[0]["classes"], total, "image")
    bad = {name: what for found in reports for name, what in found["bad_images"].items()}
    notes = {}
    for kind in sorted({kind for found in reports for kind in found["notes"]}):
        parts = [found["notes"].get(kind, note(0, [])) for found in reports]
        notes[kind] = note(sum(part["images"] for part in parts), [n for part in parts for n in part["names"]])
    report(args, path, header, counts, bad, notes)


def note(images: int, names: list[str]) -> dict:
    return {"images": images, "names": names if images <= NAMED else []}


class Counts:
    """What the records hold."""

    def __init__(self, classes: int):
        self.bytes = 0
        self.per_class = Counter(dict.fromkeys(range(classes), 0))

    def add(self, record: Record) -> None:
        self.bytes += len(record.image)
        self.per_class.update(record.labels)


def counted(write: Callable, classes: int, total: int, unit: str) -> tuple:
    """What `write` gives, and the counts of what it wrote, behind a progress bar."""
    counts = Counts(classes)
    with tqdm(total=total, unit=unit, unit_scale=unit == "B", disable=None) as bar:

        def progress(record: Record) -> None:
            counts.add(record)
            bar.update(len(record.image) if unit == "B" else 1)

        result = write(progress=progress)
        bar.update(total - bar.n)  # bytes of an archive that are no pictures; pictures that are left out
        return result, counts


def report(args: argparse.Namespace, path: Path, header: Header, counts: Counts, bad: dict, notes: dict) -> None:
    """Write the metrics: in metrics/ if this is the whole of a split in its place, else beside the database."""
    whole = args.target_data_dir == TARGET and header.shard == (1, 1)
    write_json(
        Path(f"metrics/pack_{args.split_name}.json") if whole else path.with_suffix(".json"),
        {
            "images": header.count,
            "classes": len(header.class_names),
            f"{'objects' if header.annotated else 'images'}_per_class": {
                "min": min(counts.per_class.values()),
                "max": max(counts.per_class.values()),
            },
            "bytes": counts.bytes,
            "digest": header.digest,
            "bad_images": bad,
            "notes": notes,
        },
    )
    print(f"{header.count} images in {path}" + (f"; {len(bad)} bad ones, named in the metrics" if bad else ""))


def shard_path(path: Path, shard: Shard) -> Path:
    """train-03-of-16.lmdb for train.lmdb; the path itself for the whole."""
    if shard == WHOLE:
        return path
    return path.with_stem(f"{path.stem}-{shard.number:0{len(str(shard.count))}}-of-{shard.count}")


def main() -> None:
    args = arguments()
    params = load_params()
    path = args.target_data_dir / f"{args.split_name}.{args.pack_type or params.pack.format}"
    if args.merge is not None:
        merge(args, path)
    else:
        pack(args, params, shard_path(path, args.shard))


if __name__ == "__main__":
    run(main)
