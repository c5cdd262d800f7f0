"""Validation of one form of the model on the whole validation split: metrics/<step>.json, plots/confusion/<step>.csv.

python -m stages.validate --step int
python -m stages.validate --step qat --checkpoint artifacts/qat/last.safetensors   (prints, writes no file)
"""

import argparse
import json

from torch import Tensor
from tqdm import tqdm

from stages.cli import run, write_csv, write_json
from stages.databases import plain_batches
from stages.forms import load_form
from stages.machine import prepare
from stages.model_files import FILES
from stages.params import load_params
from training.augment import normalize
from training.score import confusion, predict, score

CONFUSED = 50  # classes of a confusion matrix at most: those with the most mistakes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", required=True, choices=FILES)
    parser.add_argument("--checkpoint", help="default: the pipeline's file of that step")
    arguments = parser.parse_args()
    params = load_params()
    device = prepare(params.machine)
    logits_of = load_form(arguments.step, arguments.checkpoint, device, params)
    batches = plain_batches(params)
    steps = tqdm(batches, desc=arguments.step, unit="batch", leave=False, disable=None)
    logits, labels = predict(lambda pixels: logits_of(normalize(pixels.to(device))), steps)
    scores = score(logits, labels)
    print(json.dumps(scores))
    if arguments.checkpoint is None:
        write_json(f"metrics/{arguments.step}.json", scores)
        rows = confusion_rows(confusion(logits, labels), batches.pixels.database.class_names)
        write_csv(f"plots/confusion/{arguments.step}.csv", [("class", "taken_for", "images"), *rows])


def confusion_rows(counts: Tensor, names: list[str]) -> list[tuple[str, str, int]]:
    """Class, class it is taken for, images; of many classes, those with the most mistakes."""
    wrong = counts - counts.diag().diag()
    mistakes = wrong.sum(dim=0) + wrong.sum(dim=1)
    kept = mistakes.argsort(descending=True, stable=True)[:CONFUSED].sort().values.tolist()
    return [(names[i], names[j], int(counts[i, j])) for i in kept for j in kept]


if __name__ == "__main__":
    run(main)
