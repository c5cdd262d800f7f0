"""Disks that are full, limited or read-only: one line names the file, nothing is half-written, the same bytes later."""

import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from attacks import Ended, copy_of
from full_disk import FullDisk
from project import commands, files

pytestmark = pytest.mark.faults

CALLS = 3  # of each stage that fail, out of all that change a file
LEFT = (0, 40, 400)  # KB that are left on a small disk
CURVES = ("plots/float/", "plots/qat/")  # DVCLive writes them as training goes on; the next start begins them again
BY_OTHERS = (".git/", ".dvc/tmp/")  # notes of git and DVC, which both do without


def outs(project: Path, command: str) -> list[str]:
    """The files and folders that a command writes, according to dvc.lock."""
    stages = yaml.safe_load((project / "dvc.lock").read_text())["stages"].values()
    return [out["path"] for stage in stages if stage["cmd"].endswith(f"stages.{command}") for out in stage["outs"]]


def contents(project: Path, paths: list[str]) -> dict[str, bytes]:
    """All files of `paths`, which are files and folders."""
    every = files(project)
    return {
        name: data for name, data in every.items() if name in paths or name.startswith(tuple(f"{p}/" for p in paths))
    }


def remove(project: Path, paths: list[str]) -> None:
    for path in map(project.joinpath, paths):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def few_forms(project: Path) -> list[str]:
    """The commands of all stages, but of validation only those of two forms: the others write in the same way."""
    return [c for c in commands(project) if not c.startswith("validate") or c.endswith((" float", " litert"))]


def check_failed(ended: Ended, project: Path, command: str, whole: dict[str, bytes]) -> str:
    """Make sure that a stage failed with one line and left nothing half-written; returns the line."""
    check_whole(project, command, whole)
    return ended.line


def check_whole(project: Path, command: str, whole: dict[str, bytes]) -> None:
    """Make sure that what a stage has left is absent or whole."""
    left = [name for name in files(project) if re.search(r"partial|\.tmp$|\.old$", name)]
    assert [name for name in left if not name.startswith(BY_OTHERS)] == []
    for name, data in contents(project, outs(project, command)).items():
        assert name.startswith(CURVES) or data == whole[name], f"{name} is half-written"


def names(line: str, path: Path, project: Path) -> bool:
    """Whether a line names the file `path`, its folder, or one above it, in the project."""
    words = [project / word.strip("':,") for word in line.split()]
    visible = Path(str(path).replace("/.", "/").replace(".partial", ""))
    allowed = [visible, *visible.parents[: len(visible.relative_to(project).parts) - 1]]
    return any(word in allowed or (word.parent == visible.parent and "." in word.name) for word in words)


def test_each_call_that_changes_a_file_fails_once(finished, tmp_path):
    chance, tried = random.Random(0), 0
    disk = FullDisk(tmp_path / "disk")
    project = copy_of(finished, disk.folder / "project")
    for command in few_forms(project):
        written = outs(project, command)
        whole = contents(finished, written)
        remove(project, [*written, "runs"])
        assert disk.run(command, project, 0)[0].code == 0
        first = {call: number for number, call in reversed(list(enumerate(disk.calls(), 1)))}
        for call, number in chance.sample(sorted(first.items()), min(CALLS, len(first))):
            remove(project, [*written, "runs"])
            ended, path = disk.run(command, project, number)
            where = f"{command}: call {number}, {call}"
            if path and not str(path.relative_to(project)).startswith(BY_OTHERS) and ended.code != 0:
                line = check_failed(ended, project, command, whole)
                assert names(line, path, project), f"{where}: {line}"
                assert disk.run(command, project, 0)[0].code == 0, where
            tried += path is not None
            assert contents(project, written) == whole, where
    disk.server.close()
    print(f"{tried} calls failed")
    assert tried > 45


def test_files_above_a_limit(finished, server, tmp_path):
    chance, tried = random.Random(1), 0
    project = copy_of(finished, tmp_path / "project")
    for command in few_forms(project):
        written = outs(project, command)
        whole = contents(finished, written)
        largest = max(map(len, whole.values()))
        for limit in (chance.randrange(4096, largest), largest - 1) if largest > 4096 else ():
            remove(project, [*written, "runs"])
            ended = server.run(command, project, limits={"RLIMIT_FSIZE": limit})
            line = check_failed(ended, project, command, whole)
            assert re.search("File too large|mdb_txn_commit: Input/output error|DVC_SITE_CACHE_DIR", line), (
                f"{command}, {limit} bytes: {line}"
            )
            tried += 1
            assert server.run(command, project).code == 0
            assert contents(project, written) == whole, f"{command}, {limit} bytes"
    print(f"{tried} limits")
    assert tried > 24


@contextmanager
def mounted(point: Path, *arguments: str) -> Iterator[Path]:
    """A file system at `point`; the test is skipped where mounting is not permitted."""
    point.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, point], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mount is not permitted here: {done.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)


@pytest.mark.parametrize(
    "command", ["pack --split-name train", "train_float", "golden", "export_litert", "validate --step int", "compare"]
)
def test_a_small_disk(finished, server, tmp_path, command):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64m", "none") as disk:
        project = copy_of(finished, disk / "project")
        written = outs(project, command)
        whole = contents(finished, written)
        (disk / "tmp").mkdir()
        failed = 0
        for left in LEFT:
            remove(project, [*written, "runs"])
            with (disk / "filler").open("wb") as filler:
                filler.truncate(0)
                free = shutil.disk_usage(disk).free
                filler.write(bytes(max(0, free - left * 1000)))
            ended = server.run(command, project, TMPDIR=str(disk / "tmp"))
            (disk / "filler").unlink()
            if ended.code != 0:
                failed += 1
                line = check_failed(ended, project, command, whole)
                assert re.search("No space left|cannot write", line), line
                assert server.run(command, project, TMPDIR=str(disk / "tmp")).code == 0
            assert contents(project, written) == whole, f"{left} KB left"
        assert failed


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        ("pack --split-name val", "artifacts"),
        ("pack --split-name val", "metrics"),
        ("train_float", "artifacts"),
        ("train_float", "plots"),
        ("train_float", "runs"),
        ("golden", "artifacts"),
        ("export_c", "artifacts"),
        ("export_litert", "artifacts"),
        ("validate --step int", "plots"),
        ("compare", "metrics"),
        ("model_card", "artifacts"),
    ],
)
def test_a_read_only_folder(finished, server, tmp_path, command, folder):
    project = copy_of(finished, tmp_path / "project")
    whole = contents(finished, outs(project, command))
    with mounted(project / folder, "--bind", "-o", "ro", str(project / folder)):
        ended = server.run(command, project)
        line = ended.line
        assert re.search("Read-only file system|Permission denied", line), line
        assert f"{folder}/" in line or line.endswith(f"'{folder}'"), line
        assert contents(project, outs(project, command)) == whole


def test_output_that_nobody_takes(finished):
    def run(ends: str, *arguments: str) -> Ended:
        script = f"python -m stages.count_ops --model vargconvnet --input-shape 1,3,64,64 {ends}"
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {script}"], cwd=finished, capture_output=True, text=True
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    assert run("| true") == Ended(141, "", "")
    assert run(">&-") == Ended(0, "", "")
    assert run("<&- >&- 2>&-") == Ended(0, "", "")
    assert "No space left on device" in run(">/dev/full").line
