"""DVC's table of experiments: their numbers, and the parameters in which they differ."""

import csv
import io
import subprocess
import sys
from collections.abc import Sequence

from pipeline.params import Params
from reports.results_page import Experiment
from reports.summary import Headline
from storage.errors import InputError


def experiments() -> list[Experiment]:
    """The workspace, the current commit and its experiments.

    Raises:
        InputError: With DVC's message, if it gives no table.
    """
    done = subprocess.run([sys.executable, "-m", "dvc", "exp", "show", "--csv"], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise InputError(f"dvc exp show: {lines[0].removeprefix('ERROR: ')}")
    return from_table(list(csv.DictReader(io.StringIO(done.stdout))))


def from_table(rows: Sequence[dict[str, str]]) -> list[Experiment]:
    """The experiments of the rows of `dvc exp show --csv`; of their parameters, those that not all rows share."""
    params = [name for name in rows[0] if name.split(".")[0] in Params.model_fields] if rows else []
    differing = [name for name in params if len({row[name] for row in rows}) > 1]
    return [
        Experiment(
            row["Experiment"] or row["rev"],
            {name: float(row[name]) for name in Headline.__annotations__ if row.get(name)},
            {name: row[name] for name in differing if row[name]},
        )
        for row in rows
    ]
