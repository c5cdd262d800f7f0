"""Pictures in one file: sources -> packed records (LMDB or RecordIO) -> dataset; schema in imagedb/record.py."""

from imagedb.encode import Encoding
from imagedb.images import decode_image
from imagedb.reader import ImageDatabase
from imagedb.record import Annotation, Header, Object, Record
from imagedb.sources.source import Item, ListSource, Shard, Source
from imagedb.writer import merge_databases, write_database

__all__ = [
    "Annotation",
    "Encoding",
    "Header",
    "ImageDatabase",
    "Item",
    "ListSource",
    "Object",
    "Record",
    "Shard",
    "Source",
    "decode_image",
    "merge_databases",
    "write_database",
]
