"""Validation of one form of the model on the whole validation split.

python -m stages.validate --step int
python -m stages.validate --step qat --checkpoint artifacts/qat/last.safetensors      (prints, writes no file)
python -m stages.validate --step float --checkpoint runs/float-…/best.pt --output DIR

Prints the scores and the worst classes. Writes metrics/<step>.json, the accuracy of each class to plots/classes, the
confusion matrix to plots/confusion and the pictures with the greatest loss to plots/worst; or all four files to DIR.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from evaluation.score import confusion, predict, score, tied
from models.normalization import normalize
from pipeline.cli import run
from pipeline.databases import plain_batches
from pipeline.forms import load_form
from pipeline.machine import prepare
from pipeline.model_files import FILES, NO_LITERT
from pipeline.params import load_params
from reports.pictures import hardest_sheet
from storage.files import whole_file, write_csv, write_json

CONFUSED = 50  # classes of a confusion matrix at most: those with the most mistakes
PRINTED = 10  # of the worst classes

CLASS_HEADER = ("class", "images", "top1", "taken_for", "taken_for_images")
CONFUSION_HEADER = ("class", "taken_for", "images")

ClassRow = tuple[str, int, float | None, str | None, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", required=True, choices=FILES)
    parser.add_argument("--checkpoint", help="a model file, or a checkpoint in runs (default: the pipeline's file)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write metrics.json, *.csv and worst.jpg there")
    arguments = parser.parse_args()
    params = load_params()
    device = prepare(params.execution)
    if arguments.step == "litert" and not arguments.checkpoint and NO_LITERT.exists():
        write_nothing(output_files(arguments.step, arguments.output))
        print(NO_LITERT.read_text().strip())
        return
    form = load_form(arguments.step, arguments.checkpoint, device, params)
    batches = plain_batches(params)
    database = batches.pixels.database
    form.check_classes(database)
    steps = tqdm(batches, desc=arguments.step, unit="batch", leave=False, disable=None)
    logits, labels = predict(lambda pixels: form(normalize(pixels.to(device))), steps)
    scores, counts = score(logits, labels), confusion(logits, labels)
    if arguments.step == "litert":
        scores["ties"] = tied(logits)
    classes = class_rows(counts, database.class_names)
    print(json.dumps(scores))
    print(worst_classes(classes))
    if arguments.checkpoint and not arguments.output:
        return
    files = output_files(arguments.step, arguments.output)
    write_json(files["metrics"], scores)
    write_csv(files["classes"], [CLASS_HEADER, *classes])
    write_csv(files["confusion"], [CONFUSION_HEADER, *confusion_rows(counts, database.class_names)])
    with whole_file(files["worst"]) as partial:
        # no PNG: what deflate makes of the same pixels may differ between processors
        hardest_sheet(database, logits, labels).save(partial, "JPEG", quality=90, subsampling=0)


def write_nothing(files: dict[str, Path]) -> None:
    """The files of a form that there is not: DVC expects them."""
    write_json(files["metrics"], {})
    write_csv(files["classes"], [CLASS_HEADER])
    write_csv(files["confusion"], [CONFUSION_HEADER])
    with whole_file(files["worst"]) as partial:
        Image.new("RGB", (1, 1), "white").save(partial, "JPEG")


def output_files(step: str, folder: Path | None) -> dict[str, Path]:
    """Where each result is written: to the pipeline's own places, or to a folder."""
    kinds = {"metrics": ".json", "classes": ".csv", "confusion": ".csv", "worst": ".jpg"}
    if folder:
        return {kind: folder / f"{kind}{suffix}" for kind, suffix in kinds.items()}
    return {kind: Path("plots" * (kind != "metrics"), kind, f"{step}{suffix}") for kind, suffix in kinds.items()}


def class_rows(counts: Tensor, names: list[str]) -> list[ClassRow]:
    """Class, its images, top-1 in percent, the class it is most often taken for, how many images; None where none."""
    wrong = counts - counts.diag().diag()
    columns = counts.sum(dim=1), counts.diag(), wrong.argmax(dim=1), wrong.amax(dim=1)
    return [
        (name, images, round(100 * right / images, 4) if images else None, names[other] if taken else None, taken)
        for name, images, right, other, taken in zip(names, *(column.tolist() for column in columns), strict=True)
    ]


def worst_classes(rows: Sequence[ClassRow]) -> str:
    """The classes with the lowest top-1 as a table for people."""
    known = [(top1, name, images, other, taken) for name, images, top1, other, taken in rows if top1 is not None]
    worst = sorted(known, key=lambda row: row[0])[:PRINTED]
    width = max(len(name) for _, name, *_ in worst)
    lines = [
        f"{name:{width}}  {images:6}  {top1:7.2f}  {f'{other} ({taken})' if other else ''}".rstrip()
        for top1, name, images, other, taken in worst
    ]
    return "\n".join([f"{'class':{width}}  images  top-1 %  most often taken for", *lines])


def confusion_rows(counts: Tensor, names: list[str]) -> list[tuple[str, str, int]]:
    """Class, class it is taken for, images; of many classes, those with the most mistakes."""
    wrong = counts - counts.diag().diag()
    mistakes = wrong.sum(dim=0) + wrong.sum(dim=1)
    kept = mistakes.argsort(descending=True, stable=True)[:CONFUSED].sort().values.tolist()
    return [(names[i], names[j], int(counts[i, j])) for i in kept for j in kept]


if __name__ == "__main__":
    run(main)
