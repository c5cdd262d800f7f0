"""Mistakes of users, each by its own command: one line names the key or the file and what to do; nothing changes."""

import importlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from mistakes import ALL
from project import environment, files, make_project, run_stage, shell

from pipeline.cli import run

pytestmark = pytest.mark.experiments
# Packages are imported from the repository itself.
CODE = ("benchmarks", "docs", "evaluation", "fixedpoint", "imagedb", "models", "reports", "stages", "tools", "training")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A small project whose images are packed, set up for make."""
    folder = make_project(tmp_path_factory.mktemp("mistakes") / "project")
    for split in ("train", "val"):
        run_stage(f"pack --split-name {split}", folder)
    shell(folder, "git gc --quiet")  # one file to copy in the place of hundreds
    for name in ("bin/activate", ".installed", ".native"):
        (folder / ".venv" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / ".venv" / name).touch()
    return folder


@pytest.fixture
def folder(project, tmp_path, monkeypatch) -> Path:
    """The current folder, a copy of the project; the process is left as it was."""
    copy = tmp_path / "copy"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns(*CODE))
    monkeypatch.chdir(copy)
    monkeypatch.delenv("RUNS_DIR", raising=False)
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    path, modules = [*sys.path], {*sys.modules}
    yield copy
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    sys.path[:] = path
    for name in {*sys.modules} - modules:
        if name.startswith("own_"):
            del sys.modules[name]


def called(command: str, folder: Path, monkeypatch) -> tuple[int, str]:
    """The exit code of a command, and what it says on stderr; scripts run in this process."""
    name, *arguments = shlex.split(command)
    if name in ("make", "dvc"):
        done = subprocess.run([name, *arguments], cwd=folder, env=environment(folder), capture_output=True, text=True)
        said = done.stdout * (name == "make") + done.stderr  # recipes of make use echo
        return done.returncode, re.sub(r"^make: \*\*\* \[.*\n", "", said, flags=re.MULTILINE)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with redirect_stderr(io.StringIO()) as said, redirect_stdout(io.StringIO()):
        try:
            run(importlib.import_module(name).main)
        except SystemExit as stopped:
            if isinstance(stopped.code, str):  # as Python ends
                return 1, f"{said.getvalue()}{stopped.code}\n"
            return int(stopped.code or 0), said.getvalue()
        return 0, said.getvalue()


def kept(folder: Path) -> dict[str, bytes]:
    """All files but those of git, DVC and Python themselves."""
    own = re.compile(r"\.git/|\.dvc/|(.*/)?__pycache__/")
    return {name: content for name, content in files(folder).items() if not own.match(name)}


@pytest.mark.parametrize("mistake", ALL, ids=lambda each: f"{each.command.split()[0]}: {each.name}")
def test_one_line_says_what_to_do_and_nothing_changes(folder, monkeypatch, mistake):
    mistake.edit()
    before = kept(folder)
    code, said = called(mistake.command, folder, monkeypatch)
    assert code != 0 and "Traceback" not in said
    assert kept(folder) == before
    lines = [line for line in said.splitlines() if line.strip()]
    if "error: argument" in said:  # of argparse, below the usage
        lines = lines[-1:]
    if mistake.command.startswith("dvc"):  # in its own words, which docs/troubleshooting.md explains
        assert re.search(mistake.line, said)
        return
    assert len(lines) == 1, said
    (line,) = lines
    assert re.match(r"error: |[\w.]+: error: argument |Makefile:\d+: \*\*\* ", line), line
    assert re.search(mistake.line, line), line


def test_there_are_forty_and_each_is_another():
    assert len({(each.command, each.name) for each in ALL}) == len(ALL) >= 40
