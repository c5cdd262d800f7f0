"""A small project in which the whole pipeline has run, made once; tests spoil copies of it (attacks.copy_of)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import StageServer
from project import commands, commit, make_project, shell


@pytest.fixture(scope="session")
def server() -> Iterator[StageServer]:
    server = StageServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, server: StageServer) -> Path:
    """The project: 72 training and 24 validation images of 3 classes, two epochs; committed, `dvc status` is clean."""
    folder = make_project(tmp_path_factory.mktemp("faults") / "finished")
    for command in commands(folder):
        ended = server.run(command, folder, seconds=120)
        assert ended.code == 0, f"{command}: {ended.errors}"
    shell(folder, "dvc commit --force --quiet")
    commit(folder)
    return folder
