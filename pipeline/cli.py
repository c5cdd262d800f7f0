"""What every stage script does at its edge: one clear line for a mistake, and files that are whole or absent."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

MISTAKES = "STAGE_MISTAKES"  # in the environment of processes that pipeline.launch has started: a folder to say them in


def run(main: Callable[[], None]) -> None:
    """Call `main`; a mistake in the input (ValueError, OSError) becomes one line on stderr and exit code 1.

    TRACEBACK=1 in the environment shows where it was raised.
    """
    mistakes = os.environ.get(MISTAKES)
    try:
        main()
    except (ValueError, OSError) as error:
        shared = None if isinstance(error, (ConnectionError, TimeoutError)) else mistakes  # another process is gone
        if shared:
            Path(shared, f"{os.environ['RANK']}.txt").write_text(str(error))
        if os.environ.get("TRACEBACK") == "1":
            raise
        sys.exit(1 if shared else f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        if mistakes and any(Path(mistakes).glob("*.txt")):
            sys.exit(1)  # a process is gone because of its mistake
        raise
