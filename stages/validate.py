"""Validation of one form of the model on the whole validation split.

python -m stages.validate --step int
python -m stages.validate --step qat --checkpoint artifacts/qat/last.safetensors      (prints, writes no file)
python -m stages.validate --step float --checkpoint runs/float-…/best.pt --output DIR

Prints the scores and the worst classes. Writes metrics/<step>.json, the accuracy of each class to plots/classes, the
confusion matrix to plots/confusion and the images with the greatest loss to plots/worst; or all four files to DIR.
"""

import argparse
import json
from pathlib import Path

from pipeline.cli import run
from pipeline.forms import FORMS
from pipeline.params import load_params
from storage.files import write_csv, write_json


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", required=True, choices=FORMS)
    parser.add_argument("--checkpoint", help="a model file, or a checkpoint in runs (default: the pipeline's file)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write metrics.json, *.csv and worst.jpg there")
    return parser.parse_args()


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

from PIL import Image
from tqdm import tqdm

from evaluation.classes import CLASS_HEADER, CONFUSION_HEADER, class_rows, confusion_rows, shown_names, worst_classes
from evaluation.score import confusion, predict, score, tied
from pipeline.classifiers import load_classifier
from pipeline.databases import plain_batches
from pipeline.machine import prepare
from pipeline.results import FileScores
from reports.jpeg import write_jpeg
from reports.predictions import hardest_sheet


def main() -> None:
    arguments = parse_arguments()
    params, form = load_params(), FORMS[arguments.step]
    files = output_files(form.name, arguments.output)
    if form.absence and not arguments.checkpoint:
        write_nothing(files)
        print(form.absence)
        return
    classifier = load_classifier(form, arguments.checkpoint, prepare(params.execution), params)
    batches = plain_batches(params)
    database = batches.pixels.database
    classifier.check_classes(database)
    logits, labels = predict(classifier, tqdm(batches, desc=form.name, unit="batch", leave=False, disable=None))
    scores, counts = score(logits, labels), confusion(logits, labels)
    if form.has_ties:
        scores["ties"] = tied(logits)
    names = shown_names(database.class_names)
    classes = class_rows(counts, names)
    print(json.dumps(scores))
    if form.is_integer:
        print("the form is not proved by its score: `make validate` holds it against the others, bit by bit")
    print(worst_classes(classes))
    if arguments.checkpoint and not arguments.output:
        return
    write_json(files["metrics"], FileScores(**scores, sha256=classifier.digest))
    write_csv(files["classes"], [CLASS_HEADER, *classes])
    write_csv(files["confusion"], [CONFUSION_HEADER, *confusion_rows(counts, names)])
    write_jpeg(files["worst"], hardest_sheet(database, logits, labels, batches.pixels.views))


def write_nothing(files: dict[str, Path]) -> None:
    """Write empty files for a form that the arithmetic does not have: DVC expects them."""
    write_json(files["metrics"], {})
    write_csv(files["classes"], [CLASS_HEADER])
    write_csv(files["confusion"], [CONFUSION_HEADER])
    write_jpeg(files["worst"], Image.new("RGB", (1, 1), "white"))


def output_files(step: str, folder: Path | None) -> dict[str, Path]:
    """The file of each result: in the pipeline's own place, or in `folder`."""
    kinds = {"metrics": ".json", "classes": ".csv", "confusion": ".csv", "worst": ".jpg"}
    if folder:
        return {kind: folder / f"{kind}{suffix}" for kind, suffix in kinds.items()}
    return {kind: Path("plots" * (kind != "metrics"), kind, f"{step}{suffix}") for kind, suffix in kinds.items()}


if __name__ == "__main__":
    run(main)
