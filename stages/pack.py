"""Pack the pictures of one split into an image database.

python -m stages.pack --split-name train       # everything else from params.yaml
python -m stages.pack --src-data-dir ~/pets --source folder --target-data-dir db --split-name val --num-workers 4
"""

import argparse
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from imagedb import Record, Source, folder_source, torchvision_source, write_database
from stages.cli import run, write_json
from stages.params import Pack, load_params

TARGET = Path("artifacts/db")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--split-name", required=True, choices=["train", "val"])
    parser.add_argument("--src-data-dir", help="root of the source (default: pack.root)")
    parser.add_argument("--target-data-dir", type=Path, default=TARGET, help="default: %(default)s")
    parser.add_argument("--source", choices=["folder", "torchvision"], help="default: pack.source")
    parser.add_argument("--dataset", help="class name in torchvision.datasets (default: pack.dataset)")
    parser.add_argument("--num-workers", type=int, help="processes, changes no result (default: machine.workers)")
    parser.add_argument("--pack-type", choices=["lmdb"], default="lmdb")
    return parser.parse_args()


def open_source(args: argparse.Namespace, params: Pack) -> Source:
    kind = args.source or params.source
    root = args.src_data_dir or params.root
    # pack.splits are names in the source of params.yaml; in one of another kind a split is called what it is
    split = getattr(params.splits, args.split_name) if kind == params.source else args.split_name
    if kind == "folder":
        if args.dataset:
            raise ValueError(f"--dataset {args.dataset} is for --source torchvision, the source is a folder")
        return folder_source(root, split)
    dataset = args.dataset or params.dataset
    if dataset is None:
        raise ValueError("pack.dataset is null: name a class of torchvision.datasets there or with --dataset")
    return torchvision_source(dataset, root, split)


def main() -> None:
    args = arguments()
    params = load_params()
    workers = params.machine.workers if args.num_workers is None else args.num_workers
    source = open_source(args, params.pack)
    path = args.target_data_dir / f"{args.split_name}.lmdb"

    size, per_class = 0, Counter(dict.fromkeys(range(len(source.class_names)), 0))
    with tqdm(total=len(source), unit="image", disable=None) as bar:

        def count(record: Record) -> None:
            nonlocal size
            size += len(record.image)
            per_class[record.label] += 1
            bar.update()

        header = write_database(source, path, workers, count)

    by_hand = args.target_data_dir != TARGET
    write_json(
        path.with_suffix(".json") if by_hand else Path(f"metrics/pack_{args.split_name}.json"),
        {
            "images": header.count,
            "classes": len(header.class_names),
            "images_per_class": {"min": min(per_class.values()), "max": max(per_class.values())},
            "bytes": size,
            "digest": header.digest,
        },
    )
    print(f"{header.count} images in {path}")


if __name__ == "__main__":
    run(main)
