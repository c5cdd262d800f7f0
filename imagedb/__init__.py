"""Images in one file: sources -> packed records (LMDB or RecordIO) -> reader; the schema is in imagedb/record.py."""
