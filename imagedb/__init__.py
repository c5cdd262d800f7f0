"""Pictures in one file: sources -> packed records (LMDB or RecordIO) -> dataset; schema in imagedb/record.py."""
