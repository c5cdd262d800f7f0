"""The networks and the results of a run, which are written at its end."""

from pathlib import Path

import pytest
from candidates import CANDIDATES
from installed import processor
from results_page import PICTURE, Results
from subjects import ALL, make_subject

from pipeline.paths import runs_folder

PAGE = Path(__file__).parents[2] / "docs" / "runtimes.md"


@pytest.fixture(scope="session")
def results():
    found = Results()
    yield found
    rows = [candidate.title for candidate in CANDIDATES.values()]
    found.write(runs_folder() / "runtimes.json", PAGE, rows, ALL)


@pytest.fixture(scope="session")
def subject(request, results, tmp_path_factory):
    """The network that is the parameter."""
    made = make_subject(request.param, tmp_path_factory.mktemp(request.param.name))
    described = {
        PICTURE: f"{made.network.size} px",
        "pictures whose logits are compared": f"{len(made.x):,}",
        "in slow runtimes": f"{made.network.slow:,}",
        "pictures of which every tensor is": made.network.traced,
        "processor": processor(),
    }
    for column, value in described.items():
        results.add("networks", made.network.name, column, value)
    return made
