"""Where the packed databases are; nothing here needs PyTorch."""

from pathlib import Path
from typing import Literal

from pipeline.params import Params

Split = Literal["train", "val"]


def database_path(params: Params, split: Split) -> Path:
    """Where the database of a split is."""
    return Path(f"artifacts/db/{split}.{params.pack.format}")
