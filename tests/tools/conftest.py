import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pipeline.cli import run

REPOSITORY = Path(__file__).parents[2]
Call = Callable[..., tuple[list[str], str | None]]


@pytest.fixture
def shipped_folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with the recipes and params.yaml as they are shipped."""
    shutil.copytree(REPOSITORY / "recipes", tmp_path / "recipes")
    shutil.copy(REPOSITORY / "recipes" / "fashion_mnist.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def caller(monkeypatch, capsys) -> Callable[[ModuleType], Call]:
    """Makes of a tool what runs it: it gives the lines that are printed, and the mistake that ends it or None."""

    def caller(tool: ModuleType) -> Call:
        def call(*arguments: str) -> tuple[list[str], str | None]:
            monkeypatch.setattr(sys, "argv", [tool.__name__.rpartition(".")[2], *arguments])
            mistake = None
            try:
                run(tool.main)
            except SystemExit as stopped:
                mistake = stopped.code
            return capsys.readouterr().out.splitlines(), mistake

        return call

    return caller
