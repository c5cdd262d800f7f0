"""What a new user meets before anything runs: no git repository, another Python, no packages, no C compiler."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
OTHER_PYTHON = "is not the Python 3.11 that has this repository's packages; run `make setup`, then"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A repository of which make needs no more."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / ".git").mkdir()
    return tmp_path


def make(folder: Path, *arguments: str) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()[0]


def other_python(folder: Path) -> Path:
    """A Python 3.12, as far as the check can see: it runs the check's code with that version."""
    path = folder / "python3.12"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 12, 0); $2"\n')
    path.chmod(0o755)
    return path


def test_a_downloaded_archive_is_no_git_repository(folder):
    (folder / ".git").rmdir()
    assert make(folder, "repro") == (
        2,
        "error: no git repository, which DVC needs: git init && git add --all && git commit -m start",
    )
    assert not (folder / ".venv").exists()


def test_setup_with_another_python(folder):
    for python in (other_python(folder), folder / "python3.99"):
        code, message = make(folder, "setup", f"PYTHON={python}")
        assert (code, message.split(";")[0]) == (2, f"error: {python} is not there or not Python 3.11")
        assert not (folder / ".venv").exists()


def test_setup_compiles_what_has_changed_and_only_that(folder):
    for package in ("pixels", "imagedb"):
        shutil.copytree(REPOSITORY / package, folder / package)
    (folder / ".venv").mkdir()
    (folder / ".venv/.installed").touch()  # the packages are those of this Python
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def setup() -> tuple[int, str]:
        done = subprocess.run(["make", "setup"], cwd=folder, env=os.environ | path, capture_output=True, text=True)
        return done.returncode, done.stderr

    assert setup() == (0, "")
    built = (folder / ".venv/.native").stat().st_mtime_ns
    assert setup() == (0, "")
    assert (folder / ".venv/.native").stat().st_mtime_ns == built
    source = folder / "pixels/native.c"
    source.write_text("#include <no_such_header.h>\n" + source.read_text())
    code, message = setup()
    assert code == 2
    assert message.startswith("error: pixels/native.c cannot be compiled: ")
    assert "no_such_header.h: No such file or directory; install a C compiler and the headers" in message
    assert [line.split("[")[0] for line in message.splitlines()[1:]] == ["make: *** "]


@pytest.mark.parametrize(
    "command",
    [
        ["-S", "-m", "stages.train_float"],  # without site-packages
        ["-c", "import sys; sys.version_info = (3, 12, 0); import stages"],
    ],
)
def test_a_stage_without_the_environment(command):
    done = subprocess.run([sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"error: {sys.executable} {OTHER_PYTHON}")
