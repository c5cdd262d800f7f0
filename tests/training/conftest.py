import io

import numpy as np
import pytest
import torch
from PIL import Image

from imagedb import ImageDatabase, Item, Source, write_database


class Flat(Source):
    """Picture number i: 8 x 8 pixels of the colour (i, i, i), of class i % 3."""

    class_names = ("a", "b", "c")

    def __len__(self):
        return 26

    def __getitem__(self, index):
        buffer = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), range(len(self))[index], np.uint8)).save(buffer, "PNG")
        return Item(str(index), index % 3, buffer.getvalue())


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Networks this small gain nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("training") / "train.lmdb"
    write_database(Flat(), path)
    return ImageDatabase(path)
