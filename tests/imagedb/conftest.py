import io

import numpy as np
import pytest
from PIL import Image

from imagedb.sources.folder import FolderSource
from imagedb.writer import write_database


def encode(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def png():
    """One encoded image, 5 x 4 pixels, RGB."""
    return encode(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))


@pytest.fixture(scope="session")
def image_root(tmp_path_factory):
    """root/train/{ant,bee,cat}: 70 PNG and JPEG images of noise."""
    root = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for index in range(70):
        folder = root / "train" / ("cat", "ant", "bee")[index % 3]
        folder.mkdir(parents=True, exist_ok=True)
        kind, suffix = (("PNG", "png"), ("JPEG", "JPEG"))[index % 2]
        (folder / f"{index:02d}.{suffix}").write_bytes(encode(noise.integers(0, 256, (40, 30, 3), np.uint8), kind))
    return root


@pytest.fixture(scope="session")
def database(image_root, tmp_path_factory):
    """The packed images of `image_root`; tests must not change it."""
    path = tmp_path_factory.mktemp("packed") / "train.lmdb"
    write_database(FolderSource(image_root, "train"), path)
    return path
