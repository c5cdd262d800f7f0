"""Tests compute as the stages do: the same instruction set, one thread."""

import gc  # noqa: I001 - pipeline comes first
import os
import signal

import pipeline  # noqa: F401 - pins the instruction set, before torch is imported
import numpy as np
import pytest
import torch
from sample_images import encode

from imagedb.reader import ImageDatabase
from imagedb.sources.source import SourceImage, IndexedSource
from imagedb.writer import write_database

gc.disable()  # what imports and the collection of tests make is no garbage
torch.set_num_threads(1)
for _name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # of `make test`: the makes that tests start are not parts of it
    os.environ.pop(_name, None)
# A shell that starts the tests in the background ignores these, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


class Flat(IndexedSource):
    """Image number i: 8 x 8 pixels of the colour (i, i, i), of class i % 3."""

    class_names = ("a", "b", "c")

    def __len__(self):
        return 26

    def __getitem__(self, index):
        return SourceImage(str(index), index % 3, encode(np.full((8, 8, 3), index, np.uint8)))


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("training") / "train.lmdb"
    write_database(Flat(), path)
    return ImageDatabase(path)
