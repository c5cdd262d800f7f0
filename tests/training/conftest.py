import numpy as np
import pytest
import torch
from pictures import encode

from imagedb import ImageDatabase, Item, ListSource, write_database


class Flat(ListSource):
    """Picture number i: 8 x 8 pixels of the colour (i, i, i), of class i % 3."""

    class_names = ("a", "b", "c")

    def __len__(self):
        return 26

    def __getitem__(self, index):
        return Item(str(index), index % 3, encode(np.full((8, 8, 3), index, np.uint8)))


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
