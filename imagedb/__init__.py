"""Labelled pictures in one file: sources -> packed records (LMDB, msgpack) -> dataset; schema in imagedb/record.py."""

from imagedb.images import decode_image
from imagedb.reader import ImageDatabase
from imagedb.record import Header, Record
from imagedb.sources import Item, Source, folder_source, torchvision_source
from imagedb.writer import write_database

__all__ = [
    "Header",
    "ImageDatabase",
    "Item",
    "Record",
    "Source",
    "decode_image",
    "folder_source",
    "torchvision_source",
    "write_database",
]
