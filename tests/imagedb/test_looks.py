"""What images look like before they are packed."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from imagedb import looks
from imagedb.looks import Look, copies, look
from imagedb.sources.source import IndexedSource, SourceImage


def encoded(pixels: np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


TURNED = Image.Exif()
TURNED[0x0112] = 6
RANDOM = np.random.default_rng(0)
COLOR = RANDOM.integers(0, 256, (40, 60, 3), np.uint8)
GREY = np.repeat(RANDOM.integers(0, 256, (30, 30, 1), np.uint8), 3, axis=2)


class Items(IndexedSource):
    class_names = ("a", "b")

    def __init__(self, images: dict[str, bytes]):
        self.items = [*images.items()]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> SourceImage:
        name, data = self.items[index]
        return SourceImage(name, index % 2, lambda: data)


IMAGES = {
    "a.jpg": encoded(COLOR, "JPEG", quality=95),
    "b.PNG": encoded(GREY, "PNG"),
    "c.jpeg": encoded(GREY, "JPEG"),
    "d.jpg": encoded(GREY[..., 0], "JPEG"),
    "e.webp": encoded(COLOR, "WEBP")[:-9],
    "f.jpg": encoded(COLOR, "JPEG")[:500],
    "turned.jpg": encoded(
        COLOR, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    ),
}


@pytest.mark.parametrize("workers", [0, 2])
def test_each_image_as_it_is(workers):
    seen: list[None] = []
    a, b, c, d, e, f, turned = look(Items(IMAGES), workers, lambda: seen.append(None))
    assert len(seen) == len(IMAGES)
    assert [each.name for each in (a, b, c, d, e, f)] == [*IMAGES][:6] and (a.label, b.label) == (0, 1)
    assert (a.size, a.grey, a.format, a.problem) == ((60, 40), False, "JPEG", None)
    assert (b.size, b.grey, b.format) == ((30, 30), True, "PNG")
    assert (c.grey, c.notes, d.grey, d.notes) == (True, (), True, ("grey",))
    assert e.size is None and e.problem and f.size is None and "truncated" in f.problem
    assert a.digest == hashlib.sha256(IMAGES["a.jpg"]).digest() and e.digest == b""
    assert turned.notes == ("EXIF orientation",)


def test_of_many_images_some_are_decoded_and_all_have_a_digest(monkeypatch):
    monkeypatch.setattr(looks, "DECODED", 3)
    found = look(Items(IMAGES), 0, lambda: None)
    assert [each.name for each in found if each.size] == ["a.jpg", "d.jpg", "turned.jpg"]
    assert all(each.digest and each.problem is None for each in found)


def test_copies_are_found_by_their_bytes():
    train = [Look("a", 0, b"1"), Look("b", 1, b"2"), Look("c", 0, b"1"), Look("damaged", 0)]
    val = [Look("d", 0, b"3"), Look("e", 1, b"1"), Look("broken", 0)]
    assert copies(val, train) == [(val[1], train[0])]
