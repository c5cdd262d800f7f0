"""Contact sheets: the images of records side by side, with their names, labels and annotations."""

import colorsys
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from imagedb.images import decode_image
from imagedb.reader import ImageDatabase
from imagedb.record import Object, Record
from pixels.draws import Draws
from pixels.views import Box, Views
from reports.fonts import Font, font_for, legible
from storage.errors import InputError
from storage.printable import printable

FONT_SIZE, LINE = 12, 16  # pixels: size of text, and from one line to the next
GAP = 8  # pixels between tiles
BLACK, WHITE, BLUE = (0, 0, 0), (255, 255, 255), (38, 103, 174)


def contact_sheet(
    database: ImageDatabase,
    indices: Sequence[int],
    columns: int,
    tile: int,
    captions: Sequence[Sequence[str]] | None = None,
    views: Views | None = None,
) -> Image.Image:
    """Draw records in rows, each with its number and name below, and "class name (label)" if it has a label.

    An annotated record has its boxes in one colour per class, with class names where they hide no other name, and its
    "class" mask or its objects' masks over the image. The values of a "class" mask are labels; in a file with a palette
    they are labels + 1, as in VOC. Images are shrunk to the tile, or enlarged by a whole factor; text is cut to it.

    Args:
        indices: The numbers of the records, at least one.
        columns: Tiles per row.
        tile: Width of a tile, and greatest height of an image, in pixels.
        captions: Lines below each image, in place of the default ones.
        views: Give the part of each image that the network sees, which has a frame unless it is the whole image.

    Raises:
        InputError: If `columns` or `tile` is too small, or a record is damaged.
    """
    if columns < 1 or tile < LINE:
        raise InputError(f"{columns} columns of {tile} pixels are not allowed, must be at least 1 of {LINE}")
    names = legible(database.class_names)
    texts = captions or [_caption(database[index], index, names) for index in indices]
    font = font_for([*names, *(line for lines in texts for line in lines)], FONT_SIZE) or font_for(names, FONT_SIZE)
    assert font is not None
    tiles = [
        _tile(database, index, tile, font, names, lines, views) for index, lines in zip(indices, texts, strict=True)
    ]
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    bottoms = np.cumsum([max(each.height for each in row) + GAP for row in rows]).tolist()
    sheet = Image.new("RGB", (columns * (tile + GAP) + GAP, bottoms[-1] + GAP), WHITE)
    for row, bottom in zip(rows, bottoms, strict=True):
        for column, each in enumerate(row):
            sheet.paste(each, (GAP + column * (tile + GAP), bottom - each.height))
    return sheet


def class_color(label: int) -> tuple[int, int, int]:
    """The colour of a class, RGB 0 to 255; neighbouring labels have very different hues."""
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618034 % 1, (0.95, 0.6)[label % 2], 1)
    return round(255 * red), round(255 * green), round(255 * blue)


def scaled(image: Image.Image, longest: int) -> tuple[Image.Image, float]:
    """Fit an image into `longest` x `longest` pixels, enlarged by a whole factor only; return it and the factor."""
    scale = longest // max(image.size) or longest / max(image.size)
    width, height = (max(1, round(scale * side)) for side in image.size)
    resampling = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    return image.resize((width, height), resampling), scale


def cut(text: str, width: int, font: Font) -> str:
    """The text in one line, cut to `width` pixels."""
    text = printable(" ".join(text.split()), width)  # no character is narrower than a pixel
    if font.getlength(text) > width:
        while text and font.getlength(f"{text}…") > width:
            text = text[:-1]
        text += "…"
    return text


def _caption(record: Record, index: int, names: Sequence[str]) -> list[str]:
    label = [] if record.label is None else [f"{names[record.label]} ({record.label})"]
    return [f"{index}: {record.name}", *label]


def _tile(
    database: ImageDatabase,
    index: int,
    width: int,
    font: Font,
    names: list[str],
    texts: Sequence[str],
    views: Views | None,
) -> Image.Image:
    record = database[index]
    try:
        image = _annotated_image(record, names, width, font, views)
    except ValueError as error:
        raise InputError(f"record {index} ({record.name}): {error}") from None
    tile = Image.new("RGB", (width, image.height + LINE * len(texts)), WHITE)
    tile.paste(image)
    for line, text in enumerate(texts):
        ImageDraw.Draw(tile).text((0, image.height + LINE * line), cut(text, width, font), BLACK, font)
    return tile


def _annotated_image(
    record: Record, class_names: list[str], longest: int, font: Font, views: Views | None
) -> Image.Image:
    """The record's image with its annotation and the frame of its view, at most `longest` wide and high."""
    whole = decode_image(record.image, tolerant=True)
    image, scale = scaled(whole, longest)
    if record.annotation is not None:
        objects = sorted(record.annotation.objects, key=_area, reverse=True)  # small ones over large ones
        image = _blend(image, record.annotation.masks.get("class"), objects, len(class_names))
        _draw_boxes(image, scale, objects, class_names, font)
    if views and (box := views(*whole.size, Draws(0)).box) != (0, 0, *whole.size):
        draw_frame(image, scale, box)
    return image


def draw_frame(image: Image.Image, scale: float, box: Box) -> None:
    """Draw a frame around a part of an image that has been scaled; `box` is in pixels of the image before that."""
    left, top, right, bottom = (round(scale * side) for side in box)
    ImageDraw.Draw(image).rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), None, BLUE, 2)


def _area(thing: Object) -> float:
    left, top, right, bottom = thing.box
    return (right - left) * (bottom - top)


def _blend(image: Image.Image, mask: bytes | None, objects: list[Object], classes: int) -> Image.Image:
    """The image, half covered by the colours of the "class" mask and of the objects' own masks."""
    labels = np.full((image.height, image.width), -1)
    if mask:
        values = _resized(mask, image.size)
        labels[:] = np.asarray(values)
        labels -= values.mode == "P"
    for thing in objects:
        if thing.mask:
            labels[np.asarray(_resized(thing.mask, image.size), bool)] = thing.label
    colored = (labels >= 0) & (labels < classes)
    colors = np.array([class_color(label) for label in range(classes)], np.uint16)
    pixels = np.array(image)
    pixels[colored] = (pixels[colored] + colors[labels[colored]]) // 2
    return Image.fromarray(pixels)


def _resized(mask: bytes, size: tuple[int, int]) -> Image.Image:
    try:
        return Image.open(io.BytesIO(mask), formats=["PNG"]).resize(size, Image.Resampling.NEAREST)
    except OSError:
        raise InputError("a mask is not a whole PNG file") from None


def _draw_boxes(image: Image.Image, scale: float, objects: list[Object], class_names: list[str], font: Font) -> None:
    draw = ImageDraw.Draw(image)
    boxes = [tuple(round(scale * side) for side in thing.box) for thing in objects]
    for thing, (left, top, right, bottom) in zip(objects, boxes, strict=True):
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=class_color(thing.label))
    free = np.ones((image.height, image.width), bool)
    for thing, (left, top, _, _) in zip(objects, boxes, strict=True):
        text, color = cut(class_names[thing.label], image.width - 4, font), class_color(thing.label)
        width = round(font.getlength(text)) + 4
        x = max(0, min(left, image.width - width))
        y = top - LINE if top >= LINE else max(0, top)
        place = np.s_[y : y + LINE, x : x + width]
        if free[place].all():
            free[place] = False
            draw.rectangle((x, y, x + width - 1, y + LINE - 1), color)
            bright = np.dot(color, (0.3, 0.6, 0.1)) > 110
            draw.text((x + 2, y), text, BLACK if bright else WHITE, font)
