"""The entry point of every script, which turns a mistake of the user into one line."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

MISTAKES = "STAGE_MISTAKES"  # environment variable of pipeline.launch: the folder in which its processes write mistakes


def run(main: Callable[[], None]) -> None:
    """Call `main`; a mistake in the input (ValueError, OSError) becomes one line on stderr and exit code 1.

    TRACEBACK=1 in the environment shows where it was raised.
    """
    mistakes = os.environ.get(MISTAKES)
    try:
        main()
    except (ValueError, OSError) as error:
        shared = None if isinstance(error, (ConnectionError, TimeoutError)) else mistakes  # another process has ended
        if shared:
            Path(shared, f"{os.environ['RANK']}.txt").write_text(str(error))
        if os.environ.get("TRACEBACK") == "1":
            raise
        sys.exit(1 if shared else f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        if mistakes and any(Path(mistakes).glob("*.txt")):
            sys.exit(1)  # another process has written the mistake that ended it
        raise
