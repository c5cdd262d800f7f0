"""Draws images with their predictions: the hardest ones of a database, or a single image."""

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from evaluation.score import hardest
from imagedb.reader import ImageDatabase
from pixels.views import Box, Views
from reports.contact_sheet import BLACK, BLUE, WHITE, contact_sheet, cut, draw_frame, scaled
from reports.fonts import font_for, legible

HARDEST, COLUMNS, TILE = 16, 4, 168
LONGEST, BARS, ROW, MARGIN = 320, 260, 44, 12  # pixels, in the drawing of a single image
GREY = (232, 232, 232)


def hardest_sheet(database: ImageDatabase, logits: Tensor, labels: Tensor, views: Views) -> Image.Image:
    """The images with the greatest cross-entropy, each with its class and the one it is predicted as.

    Args:
        database: The database of all the images.
        logits: float32 [images, classes].
        labels: int64 [images].
        views: Give the part of each image that the network sees, which is framed.
    """
    indices = hardest(logits, labels, HARDEST).tolist()
    names, captions = legible(database.class_names), []
    for index in indices:
        percent = 100 * logits[index].double().softmax(dim=0)
        label, predicted = int(labels[index]), int(logits[index].argmax())
        own, other = (f"{names[c]} ({percent[c]:.0f} %)" for c in (label, predicted))
        captions.append((f"{index}: {database[index].name}", f"is {own}", f"predicted as {other}"))
    return contact_sheet(database, indices, min(COLUMNS, len(captions)), TILE, captions, views)


def labelled(image: Image.Image, box: Box, title: str, classes: Sequence[tuple[str, float]]) -> Image.Image:
    """Draw an image with a frame around the part that the network sees, and its likeliest classes beside it.

    Args:
        image: The image, in RGB.
        box: Left, top, right, bottom of the part that the network sees, in pixels of the image.
        title: The line above the classes.
        classes: Their names, as `legible` gives them, and probabilities.
    """
    image, scale = scaled(image, LONGEST)
    draw_frame(image, scale, box)
    names = [name for name, _ in classes]
    text, large = (font_for([title, *names], size) or font_for(names, size) for size in (16, 18))
    assert text is not None and large is not None  # `legible` names
    left = image.width + 2 * MARGIN
    height = max(image.height, ROW * (len(classes) + 1))
    sheet = Image.new("RGB", (left + BARS + MARGIN, height + 2 * MARGIN), WHITE)
    sheet.paste(image, (MARGIN, MARGIN + (height - image.height) // 2))
    draw = ImageDraw.Draw(sheet)
    draw.text((left, MARGIN), cut(title, BARS, large), BLACK, large)
    for row, (name, probability) in enumerate(classes, start=1):
        top, percent = MARGIN + ROW * row, f"{100 * probability:.1f} %"
        space = BARS - round(text.getlength(percent)) - MARGIN
        draw.text((left, top), cut(name, space, text), BLACK, text)
        draw.text((left + BARS, top), percent, BLACK, text, anchor="ra")
        draw.rectangle((left, top + 24, left + BARS - 1, top + 31), GREY)
        if filled := round(BARS * probability):
            draw.rectangle((left, top + 24, left + filled - 1, top + 31), BLUE)
    return sheet
