"""The plots of the compare stage: top-1 by form, and where the float and the integer model disagree."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from evaluation.classes import shown_names
from evaluation.disagreement import (
    DISAGREEMENT_HEADER,
    RELIABILITY_HEADER,
    disagreement_rows,
    reliability,
)
from evaluation.score import Scores, predict
from fixedpoint.onnx.runtime import OnnxModel
from fixedpoint.program.integer import signed_pixels
from pipeline.forms import FORMS
from pixels.batches import OrderedBatches
from reports.disagreement import disagreement_sheet
from reports.jpeg import write_jpeg
from storage.files import write_csv

PLOTS = Path("plots")
TOP1, RELIABILITY, DISAGREEMENT, SHEET = (
    PLOTS / name for name in ("top1.csv", "reliability.csv", "disagreement.csv", "disagreement.jpg")
)
ALL = (TOP1, RELIABILITY, DISAGREEMENT, SHEET)


def float_logits(batches: OrderedBatches, threads: int) -> Tensor:
    """Logits float32 [images, classes] of the float ONNX file, which takes no import of the network."""
    model = OnnxModel(FORMS["onnx_float"].require(), threads=threads)
    steps = tqdm(batches, desc="float", unit="batch", leave=False, disable=None)
    return predict(lambda pixels: torch.from_numpy(model(signed_pixels(pixels).numpy())), steps)[0]


def write_plots(
    scores: Mapping[str, Scores], batches: OrderedBatches, logits: tuple[Tensor, Tensor], labels: Tensor
) -> None:
    """Write the files of ALL.

    Args:
        scores: Scores of each form, by its name; empty where the arithmetic has no such form.
        batches: The images that have been compared.
        logits: Those of the float and of the integer model, float32 [images, classes].
        labels: int64 [images].
    """
    top1, images = scores["float"]["top1"] / 100, scores["float"]["images"]
    band = 200 * math.sqrt(top1 * (1 - top1) / images)  # two standard deviations of a share of so many images
    low, high = (round(min(max(100 * top1 + side, 0), 100), 4) for side in (-band, band))
    rows = [(FORMS[name].label, each["top1"], low, high) for name, each in scores.items() if each]
    write_csv(TOP1, [("form", "top1", "low", "high"), *rows])
    of_form = {
        FORMS[name].label: reliability(each, labels) for name, each in zip(("float", "int"), logits, strict=True)
    }
    write_csv(RELIABILITY, [RELIABILITY_HEADER, *((form, *row) for form, rows in of_form.items() for row in rows)])
    names = shown_names(batches.pixels.database.class_names)
    write_csv(DISAGREEMENT, [DISAGREEMENT_HEADER, *disagreement_rows(*logits, labels, names)])
    write_jpeg(SHEET, disagreement_sheet(batches, *logits, labels))
