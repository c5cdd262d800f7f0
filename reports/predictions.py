"""Images with what a model says of them: the hardest ones of a database, and one by itself."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from evaluation.score import hardest
from imagedb.reader import ImageDatabase
from pixels.views import Box
from reports.contact_sheet import BLACK, WHITE, contact_sheet, cut, scaled

HARDEST, COLUMNS, TILE = 16, 4, 168
LONGEST, BARS, ROW, MARGIN = 320, 260, 44, 12  # pixels, in the drawing of a single image
GREY, BLUE = (232, 232, 232), (38, 103, 174)


def hardest_sheet(database: ImageDatabase, logits: Tensor, labels: Tensor) -> Image.Image:
    """The images with the greatest cross-entropy, each with its class and the one it is taken for.

    Args:
        database: Of all the images.
        logits: float32 [images, classes].
        labels: int64 [images].
    """
    indices = hardest(logits, labels, HARDEST).tolist()
    captions = []
    for index in indices:
        percent = 100 * logits[index].double().softmax(dim=0)
        label, taken = int(labels[index]), int(logits[index].argmax())
        is_class, taken_for = (f"{database.class_names[c]} ({percent[c]:.0f} %)" for c in (label, taken))
        captions.append((f"{index}: {database[index].name}", f"is {is_class}", f"taken for {taken_for}"))
    return contact_sheet(database, indices, min(COLUMNS, len(captions)), TILE, captions)


def labelled(image: Image.Image, box: Box, title: str, classes: Sequence[tuple[str, float]]) -> Image.Image:
    """An image with a frame around what the network sees of it, and beside it its likeliest classes.

    Args:
        image: In RGB.
        box: Left, top, right, bottom of what the network sees, in pixels of the image.
        title: Written above the classes.
        classes: Names and probabilities.
    """
    image, scale = scaled(image, LONGEST)
    left, top, right, bottom = (round(scale * side) for side in box)
    ImageDraw.Draw(image).rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), None, BLUE, 2)
    text, left = ImageFont.load_default(16), image.width + 2 * MARGIN
    height = max(image.height, ROW * (len(classes) + 1))
    sheet = Image.new("RGB", (left + BARS + MARGIN, height + 2 * MARGIN), WHITE)
    sheet.paste(image, (MARGIN, MARGIN + (height - image.height) // 2))
    draw = ImageDraw.Draw(sheet)
    draw.text((left, MARGIN), cut(title, BARS, ImageFont.load_default(18)), BLACK, ImageFont.load_default(18))
    for row, (name, probability) in enumerate(classes, start=1):
        top, percent = MARGIN + ROW * row, f"{100 * probability:.1f} %"
        space = BARS - round(text.getlength(percent)) - MARGIN
        draw.text((left, top), cut(name, space, text), BLACK, text)
        draw.text((left + BARS, top), percent, BLACK, text, anchor="ra")
        draw.rectangle((left, top + 24, left + BARS - 1, top + 31), GREY)
        if filled := round(BARS * probability):
            draw.rectangle((left, top + 24, left + filled - 1, top + 31), BLUE)
    return sheet
