"""Where checkpoints and speeds are kept."""

from pathlib import Path

import pytest

from pipeline.paths import runs_folder


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "runs"),
        ({"RUNS_DIR": "/disk/runs"}, "/disk/runs"),
        ({"RUNS_DIR": ""}, "runs"),
        ({"DVC_ROOT": "/home/me/repository"}, "/home/me/repository/runs"),  # in DVC's copy of it for an experiment
        ({"RUNS_DIR": "/disk/runs", "DVC_ROOT": "/home/me/repository"}, "/disk/runs"),
    ],
)
def test_the_folder_of_runs_is_that_of_the_user_or_of_the_repository(monkeypatch, variables, expected):
    for name in ("RUNS_DIR", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert runs_folder() == Path(expected)
