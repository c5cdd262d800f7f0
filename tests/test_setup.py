"""What a new user meets before anything runs: no git repository, another Python, no packages, no C compiler."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
OTHER_PYTHON = "is no Python 3.11 to 3.13 that has this repository's packages; run `make setup`, then"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A repository of which make needs no more."""
    folder = tmp_path / "Müller's copy"
    shutil.copytree(REPOSITORY / "requirements", folder / "requirements")
    shutil.copy(REPOSITORY / "Makefile", folder)
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder


def make(folder: Path, *arguments: str) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    return done.returncode, (done.stdout or done.stderr or "\n").splitlines()[0]


def other_python(folder: Path) -> Path:
    """A Python 3.14, as far as the check can see: it runs the check's code with that version."""
    path = folder / "python3.14"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 14, 0); $2"\n')
    path.chmod(0o755)
    return path


def test_a_downloaded_archive_is_no_git_repository(folder):
    shutil.rmtree(folder / ".git")
    assert make(folder, "repro") == (
        2,
        "error: no git repository, which DVC needs: git init && git add --all && git commit -m start",
    )
    assert not (folder / ".venv").exists()


def test_a_folder_of_another_repository_and_a_worktree_are_in_git(folder):
    shutil.rmtree(folder / ".git")
    git = ["git", "-C", folder.parent, "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    assert make(folder, "repository")[0] == 0
    subprocess.run([*git, "add", folder / "Makefile"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "start"], check=True)
    subprocess.run([*git, "worktree", "add", "--quiet", folder / "tree"], check=True)
    assert (folder / "tree/.git").is_file()
    assert make(folder / "tree" / folder.name, "repository")[0] == 0


def test_what_git_says_is_passed_on(folder):
    (folder / ".git/config").write_text("[core\n")
    code, message = make(folder, "repository")
    assert (code, message[:31]) == (2, "error: fatal: bad config line 1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sweep", "LR=0.02", "0.05"), "there is no target 0.05; "),
        (("tets",), "there is no target tets; "),
        (("diff", "AGANST=main"), "there is no variable AGANST, must be one of PYTHON "),
    ],
)
def test_what_is_misspelt_stops_before_anything_runs(folder, arguments, message):
    code, line = make(folder, *arguments)
    assert code == 2
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["LR=0.02 0.05"], "error: LR=0.02 0.05 is not allowed, must be numbers with commas between them"),
        (["LR=0.02,"], "error: LR=0.02, is not allowed, must be numbers"),
        (["LR=0.02,0.05", "JOBS=two"], "error: JOBS=two is not allowed, must be 1 or more"),
    ],
)
def test_a_sweep_of_what_is_no_list_of_numbers_queues_nothing(folder, arguments, message):
    (folder / "pixels").mkdir()
    (folder / ".venv").mkdir()
    for name in ("pixels/native.c", "pixels/build_native.py", ".venv/.installed", ".venv/.native"):
        (folder / name).touch()
    code, line = make(folder, "sweep", *arguments)
    assert (code, line[: len(message)]) == (2, message)


def test_variables_of_the_environment_may_be_given_to_make(folder):
    assert make(folder, "help", "RUNS_DIR=/runs", "IMAGE=a.png my cat.png")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "left"),
    [
        (("clean",), 0, {".dvc/cache/x", ".dvc/tmp/x", "runs/float-1/x"}),
        (("clean-all",), 2, {".dvc/cache/x", ".dvc/tmp/x", "artifacts/x", "runs/float-1/x", "runs/peers/x"}),
        (("clean-all", "YES=1"), 0, set()),
    ],
)
def test_clean_keeps_trainings_and_experiments(folder, arguments, code, left):
    """Without a terminal, clean-all cannot ask, and removes nothing."""
    for name in (".dvc/cache/x", ".dvc/tmp/x", "artifacts/x", "runs/float-1/x", "runs/peers/x"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    assert make(folder, *arguments)[0] == code
    own = (".git", "requirements", "Makefile")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith(own)} == left


def test_setup_with_another_python(folder):
    for python in (other_python(folder), folder / "python3.99"):
        code, message = make(folder, "setup", f"PYTHON={python}")
        assert (code, message.split(";")[0]) == (2, f"error: {python} is not there or not Python 3.11, 3.12 or 3.13")
        assert not (folder / ".venv").exists()


def test_setup_compiles_what_has_changed_and_only_that(folder):
    for package in ("pixels", "imagedb", "storage"):
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
        ["-c", "import sys; sys.version_info = (3, 14, 0); import stages"],
    ],
)
def test_a_stage_without_the_environment(command):
    done = subprocess.run([sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"error: {sys.executable} {OTHER_PYTHON}")


def pip(folder: Path, lines: list[str], status: int) -> tuple[int, list[str]]:
    """`make .venv/.installed` with a pip that prints these lines for the packages of the environment, and ends so."""
    path = folder / ".pip"
    path.write_text(f"#!/bin/sh\ncase $* in *environment.txt) cat .lines; exit {status};; esac\n")
    (folder / ".lines").write_text("".join(f"{line}\n" for line in lines))
    python = folder / ".python"
    python.write_text('#!/bin/sh\n[ "$2" != venv ] || { mkdir -p .venv/bin; cp .pip .venv/bin/python; }\n')
    for each in (path, python):
        each.chmod(0o755)
    command = ["make", ".venv/.installed", "PYTHON=./.python"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout.splitlines()[1:]


def test_setup_shows_its_progress(folder):
    lines = [f"Collecting package{n}==1.0 (from -r requirements/environment.txt (line {n}))" for n in range(1, 46)]
    every = sum("==" in line for line in (folder / "requirements/environment.txt").open())
    status, printed = pip(folder, [*lines, "Using cached a.whl", "Installing collected packages: a, b"], 0)
    assert status == 0 and (folder / ".venv/.installed").exists()
    assert [line.split(":")[0] for line in printed] == [f"{n} of at most {every}" for n in (20, 40, 45)]
    assert printed[0].endswith(": Collecting package20==1.0") and printed[2].endswith(": Installing them")
    assert max(map(len, printed)) < 80


def test_a_setup_that_fails_leaves_nothing_that_looks_installed(folder):
    assert pip(folder, ["Collecting a==1"], 1)[0] == 2
    assert not (folder / ".venv/.installed").exists()
