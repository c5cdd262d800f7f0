import io
import time

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from imagedb.record import Annotation, Object, Record
from pixels.augmentation import InputFormat
from pixels.views import center_views
from reports.contact_sheet import BLUE, FONT_SIZE, class_color, contact_sheet, cut

GREY, RED = (100, 100, 100), (255, 0, 0)
TILE, GAP, LINE = 40, 8, 16


def encode(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def image(width, height, color=GREY):
    return encode(Image.new("RGB", (width, height), color))


def mask(rows, palette=False):
    image = Image.fromarray(np.array(rows, np.uint8))
    if palette:
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette([7] * 768)
    return encode(image)


class Database(list):
    """Records with the part of ImageDatabase that a sheet uses."""

    class_names = ("ant", "bee", "cat")


def pixels(record, tile=TILE):
    """A sheet of one record."""
    return np.asarray(contact_sheet(Database([record]), [0], 1, tile)).astype(int)


def annotated(objects=(), masks=None, size=(TILE, 30)):
    return Record(image(*size), None, "name", Annotation(tuple(objects), masks or {}))


def half(label):
    """Grey, half covered by the colour of a class."""
    return [(100 + channel) // 2 for channel in class_color(label)]


@pytest.fixture
def texts(monkeypatch):
    """What is written on sheets, in order."""
    written = []
    draw = ImageDraw.ImageDraw.text

    def text(self, xy, text, *arguments, **keywords):
        written.append(text)
        draw(self, xy, text, *arguments, **keywords)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return written


def test_images_stand_in_rows_above_number_name_and_class(texts):
    records = [Record(image(4, 2, RED), 1, "a", None), Record(image(2, 4, RED), 0, "b", None)]
    sheet = contact_sheet(Database([*records, Record(image(4, 4), 2, "c", None)]), [0, 1, 2], 2, 100)
    assert texts == ["0: a", "bee (1)", "1: b", "ant (0)", "2: c", "cat (2)"]
    assert sheet.size == (GAP + 2 * (100 + GAP), GAP + 2 * (100 + 2 * LINE + GAP))
    red = (np.asarray(sheet) == RED).all(2)
    # 25 times as large; the texts of a row are level, so that a low image begins lower
    expected = np.zeros_like(red)
    expected[GAP + 50 : GAP + 100, GAP : GAP + 100] = True
    expected[GAP : GAP + 100, GAP + 100 + GAP : GAP + 100 + GAP + 50] = True
    np.testing.assert_array_equal(red, expected)


def test_text_is_black_below_the_image_and_cut_to_the_tile(texts):
    sheet = pixels(Record(image(TILE, TILE), 1, "a name that is too long", None))
    assert texts[0].startswith("0: a")
    assert texts[0].endswith("…")
    assert len(texts[0]) < 10
    text = sheet[GAP + TILE : GAP + TILE + LINE]
    assert text.min() < 50
    assert (text[:, GAP + TILE :] == 255).all()
    assert (sheet[:, :GAP] == 255).all()


def test_text_is_one_line(texts):
    pixels(Record(image(1, 1), 1, "a\nb", None))
    assert texts == ["0: a b", "bee (1)"]


def test_large_images_are_shrunk_to_the_tile_and_small_ones_enlarged_by_whole_factors():
    assert (pixels(annotated(size=(400, 200)))[GAP : GAP + 20, GAP : GAP + TILE] == GREY).all()
    heights = {4000: TILE, 30: 30, 13: 39}
    assert {high: pixels(annotated(size=(1, high))).shape[0] - GAP - LINE - GAP for high in heights} == heights


def test_records_are_those_of_the_numbers(texts):
    database = Database(Record(image(1, 1), 0, name, None) for name in "abcd")
    contact_sheet(database, [3, 1], 2, TILE)
    assert texts[::2] == ["3: d", "1: b"]


def test_boxes_are_drawn_in_the_color_of_the_class_with_its_name_above(texts):
    sheet = pixels(annotated([Object(2, (50, 40, 60, 48)), Object(1, (-3, 4, 2, 6))], size=(100, 60)), tile=100)
    assert texts == ["cat", "bee", "0: name"]
    drawn = sheet[GAP + 40 : GAP + 60, GAP : GAP + 100]
    expected = np.full_like(drawn, 100)
    expected[0:8, 50:60] = class_color(2)
    expected[1:7, 51:59] = 100
    np.testing.assert_array_equal(drawn, expected)


def test_names_do_not_hide_names(texts):
    objects = [Object(0, (0, 0, 9, 9)), Object(1, (0, 1, 30, 30)), Object(2, (0, 50, 9, 59))]
    pixels(annotated(objects, size=(100, 60)), tile=100)
    assert texts == ["bee", "cat", "0: name"], "the name of the larger of two"


@pytest.mark.parametrize(
    ("values", "palette", "labels"),
    [
        ([[0, 1], [2, 3]], False, [[0, 1], [2, None]]),
        ([[0, 1], [3, 255]], True, [[None, 0], [2, None]]),
    ],
)
def test_class_mask_is_blended_over_the_image(values, palette, labels):
    record = annotated(masks={"class": mask(values, palette), "instance": mask([[1, 1], [1, 1]])}, size=(2, 2))
    sheet = pixels(record)[GAP : GAP + TILE, GAP : GAP + TILE]
    for (y, x), label in np.ndenumerate(np.array(labels, object)):
        color = GREY if label is None else half(label)
        assert (sheet[20 * y : 20 * y + 20, 20 * x : 20 * x + 20] == color).all()


def test_masks_of_objects_are_blended_the_small_over_the_large(texts):
    whole = encode(Image.new("1", (40, 40), 1))
    corner = Image.new("1", (40, 40))
    corner.paste(1, (30, 30, 40, 40))
    objects = [Object(0, (30, 30, 40, 40), mask=encode(corner)), Object(1, (0, 0, 40, 40), mask=whole)]
    sheet = pixels(annotated(objects, size=(40, 40)))[GAP : GAP + TILE, GAP : GAP + TILE]
    assert (sheet[31:39, 31:39] == half(0)).all()
    assert (sheet[31:39, 2:28] == half(1)).all()


def test_neighbouring_classes_have_unlike_colors():
    colors = np.array([class_color(label) for label in range(100)])
    assert abs(np.diff(colors, axis=0)).max(1).min() > 100
    assert len(np.unique(colors, axis=0)) == 100


def test_truncated_jpeg_that_was_kept_is_shown():
    data = encode(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)), "JPEG")
    assert pixels(Record(data[:-300], 0, "cut", None))[GAP : GAP + 10].std() > 30


def test_mistakes_are_one_line():
    database = Database([Record(b"?", 0, "bad", None)])
    with pytest.raises(ValueError, match=r"^record 0 \(bad\): not an image, allowed: JPEG, "):
        contact_sheet(database, [0], 1, TILE)
    with pytest.raises(ValueError, match=r"^0 columns of 40 pixels are not allowed, must be at least 1 of 16$"):
        contact_sheet(database, [0], 0, TILE)
    with pytest.raises(ValueError, match=r"^1 columns of 15 pixels are not allowed, must be at least 1 of 16$"):
        contact_sheet(database, [0], 1, 15)
    for damaged in (annotated(masks={"class": b"?"}), annotated([Object(0, (0, 0, 1, 1), mask=image(9, 9)[:-30])])):
        with pytest.raises(ValueError, match=r"^record 0 \(name\): a mask is not a whole PNG file$"):
            contact_sheet(Database([damaged]), [0], 1, TILE)


def test_a_caption_of_any_length_is_cut_at_once():
    font = ImageFont.load_default(FONT_SIZE)
    start = time.process_time()
    for text in ("x" * 10_000, "\x1b" * 10_000):
        assert font.getlength(cut(text, 160, font)) <= 160
    assert time.process_time() - start < 2
    assert cut("\x1b[2J\u202e", 160, font) == r"\x1b[2J\u202e"


def test_a_frame_shows_the_part_that_the_network_sees():
    """40 x 20 pixels, of which the centre 20 x 20 is seen; the whole image has no frame."""
    wide, seen = Record(image(40, 20), 0, "wide", None), Record(image(20, 20), 0, "square", None)
    views = center_views(InputFormat(size=20, color_space="rgb", resize=None, resample="bilinear"))
    sheet = contact_sheet(Database([wide, seen]), [0, 1], 2, TILE, None, views)
    pixels = np.asarray(sheet)
    blue = (pixels == BLUE).all(2)[:, GAP : GAP + TILE]
    rows, columns = (np.flatnonzero(blue.any(axis)) for axis in (1, 0))
    top = rows[0]
    assert (pixels[top, GAP] == GREY).all()  # beside the frame
    assert (columns[0], columns[-1], rows[-1] - top) == (10, 29, 19)
    assert blue[top : top + 20, 10:30].sum() == 20 * 20 - 16 * 16
    assert not (pixels == BLUE).all(2)[:, GAP + TILE + GAP :].any()
