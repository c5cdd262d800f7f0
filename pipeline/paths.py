"""Where files are, and which command makes one that is missing."""

import os
from pathlib import Path


def runs_folder() -> Path:
    """The folder of what neither git nor DVC tracks: checkpoints to resume from, speeds; RUNS_DIR moves it.

    DVC_ROOT is the repository when DVC runs an experiment of the queue in a temporary copy of it.
    """
    return Path(os.environ.get("RUNS_DIR") or Path(os.environ.get("DVC_ROOT", ""), "runs"))


def require(path: str | Path, made_by: str) -> Path:
    """`path` if it exists.

    Raises:
        FileNotFoundError: If not; names the file and the command that makes it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; `{made_by}` makes it")
    return path
