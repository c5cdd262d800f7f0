"""Draws the images that two forms of a model predict as different classes."""

from PIL import Image
from torch import Tensor

from evaluation.disagreement import disagreeing
from pixels.batches import OrderedBatches
from reports.contact_sheet import contact_sheet
from reports.fonts import legible
from reports.predictions import COLUMNS, HARDEST, TILE


def disagreement_sheet(batches: OrderedBatches, left: Tensor, right: Tensor, labels: Tensor) -> Image.Image:
    """The first images of `disagreeing`, each with its class and both predictions; white if there are none.

    Args:
        batches: The images.
        left, right: Logits float32 [images, classes] of the float and the integer model.
        labels: int64 [images].
    """
    database = batches.pixels.database
    names, records, captions = legible(database.class_names), [], []
    for image in disagreeing(left, right)[:HARDEST].tolist():
        record, name = batches.record(image)
        predicted = [int(logits[image].argmax()) for logits in (left, right)]
        percent = (
            100 * logits[image].double().softmax(dim=0)[c] for logits, c in zip((left, right), predicted, strict=True)
        )
        texts = [f"{names[c]} ({share:.0f} %)" for c, share in zip(predicted, percent, strict=True)]
        records.append(record)
        captions.append(
            (f"{record}: {name}", f"is {names[int(labels[image])]}", f"float: {texts[0]}", f"integer: {texts[1]}")
        )
    if not records:
        return Image.new("RGB", (1, 1), "white")
    return contact_sheet(database, records, min(COLUMNS, len(records)), TILE, captions, batches.pixels.views)
