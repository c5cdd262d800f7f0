"""Small images of every kind that is read, and seeded damage to them."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image
from sample_images import encode, photo


def whole_images() -> dict[str, bytes]:
    """Encoded images by a name for their kind."""
    rgb = Image.fromarray(photo(37, 26))
    grey, palette = rgb.convert("L"), rgb.quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = {
        f"JPEG {subsampling}{kind}": encode(rgb, "JPEG", subsampling=subsampling, **options)
        for subsampling in (0, 1, 2)
        for kind, options in {
            "": {},
            " progressive": {"progressive": True},
            " restarts": {"restart_marker_rows": 1},
        }.items()
    }
    found |= {"JPEG grey": encode(grey, "JPEG"), "JPEG CMYK": encode(rgb.convert("CMYK"), "JPEG", exif=exif)}
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        found[f"PNG {mode}"] = encode(rgb.convert(mode), "PNG", exif=exif)
    found["PNG 16"] = encode(Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 99), "PNG")
    frames = {"save_all": True, "append_images": [rgb.rotate(90)]}
    found |= {"PNG animated": encode(rgb, "PNG", **frames), "GIF animated": encode(palette, "GIF", **frames)}
    found |= {"WEBP animated": encode(rgb, "WEBP", **frames), "GIF": encode(palette, "GIF")}
    found |= {
        "WEBP": encode(rgb, "WEBP", exif=exif),
        "WEBP lossless": encode(rgb.convert("RGBA"), "WEBP", lossless=True),
    }
    for compression in (None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        found[f"TIFF {compression}"] = encode(rgb, "TIFF", compression=compression)
    found["TIFF group4"] = encode(rgb.convert("1"), "TIFF", compression="group4")
    found |= {"BMP": encode(rgb, "BMP"), "BMP palette": encode(palette, "BMP"), "PPM": encode(rgb, "PPM")}
    found["PPM text"] = b"P3 9 7 255\n" + b" ".join(b"%d" % n for n in range(189))
    return found


def mutants(kind: str, data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """`count` damaged forms of an image; every second PNG file gets the right checksums again."""
    random = np.random.default_rng([seed, *kind.encode()])
    for number in range(count):
        damaged = _damaged(data, random)
        yield _with_checksums(damaged) if kind.startswith("PNG") and number % 2 else damaged


def _damaged(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        # half of all damage is in the first tenth, where headers are
        most = len(changed) if random.integers(2) else max(2, len(changed) // 10)
        at, length = int(random.integers(most)), int(random.integers(1, 30))
        match random.integers(7):
            case 0:
                changed[at : at + 1] = bytes([int(random.integers(256))])
            case 1:
                changed[at : at + 1] = bytes([changed[at] ^ 1 << int(random.integers(8))] if at < len(changed) else [])
            case 2:
                changed[at : at + length] = random.bytes(length)
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at : at + length] * int(random.integers(1, 9))
            case 5:
                value = int(random.choice([0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))
                width, order = random.choice([1, 2, 4]), random.choice(["<", ">"])
                changed[at : at + width] = (
                    struct.pack(f"{order}Q", value)[-width:] if order == ">" else value.to_bytes(8, "little")[:width]
                )
            case 6:
                del changed[at:]
        if not changed:
            return b""
    return bytes(changed)


def _with_checksums(data: bytes) -> bytes:
    """A PNG file as far as it has chunks, each with its right checksum."""
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        parts += [len(body[4:]).to_bytes(4, "big"), body, zlib.crc32(body).to_bytes(4, "big")]
        at += 12 + length
    return b"".join(parts)
