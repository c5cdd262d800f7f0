"""One commit gives one dvc.lock: in another folder, environment, locale and time zone, with any number of workers."""

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from attacks import StageServer, start
from project import change, commands, files, shell

pytestmark = pytest.mark.faults

# Variables of people, jobs and machines; None: not set.
PLACES: dict[str, dict[str, str | None]] = {
    "a terminal in Nepal": {
        "TZ": "Asia/Kathmandu", "LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8", "COLUMNS": "40", "LINES": "5",
        "PYTHONHASHSEED": "1", "USER": "Gökçe", "LOGNAME": "Gökçe", "EMAIL": "g@example.org", "TERM": "xterm-256color",
        "FORCE_COLOR": "1", "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3",
        "ATEN_CPU_CAPABILITY": "default", "PYTHONOPTIMIZE": "1",
    },
    "a job without a home": {
        "TZ": "America/St_Johns", "LANG": "C", "LC_ALL": "C", "COLUMNS": "400", "PYTHONHASHSEED": "4242", "HOME": None,
        "USER": None, "LOGNAME": None, "TERM": "dumb", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1",
        "PYTHONDONTWRITEBYTECODE": "1", "MALLOC_PERTURB_": "165", "SOURCE_DATE_EPOCH": "1", "DVCLIVE_RESUME": "1",
        "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "AUTO",
    },
}  # fmt: skip


def clone(finished: Path, folder: Path, seed: int) -> Path:
    """A clone of the project; its images are made again in another order, at times of the past and the future."""
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", finished, folder], check=True)
    shell(folder, "dvc cache dir --local own_cache")
    shuffled = files(folder / "pictures")
    shutil.rmtree(folder / "pictures")
    chance = random.Random(seed)
    for name in chance.sample(sorted(shuffled), len(shuffled)):
        path = folder / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(shuffled[name])
        moment = time.time() + chance.uniform(-1e9, 1e9)
        os.utime(path, (moment, moment))
    (folder / "dvc.lock").unlink()
    for name in ("metrics", "plots"):
        shutil.rmtree(folder / name)
    return folder


def results(project: Path) -> dict[str, bytes]:
    """What DVC has recorded, and what git tracks of the results."""
    found = {name: data for name, data in files(project).items() if name.startswith(("metrics/", "plots/"))}
    return found | {"dvc.lock": (project / "dvc.lock").read_bytes()}


def differing(project: Path, other: Path) -> list[str]:
    one, two = results(project), results(other)
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def run_all(server: StageServer, project: Path) -> None:
    for command in commands(project):
        ended = server.run(command, project, seconds=120)
        assert ended.code == 0, f"{command}: {ended.errors}"
    shell(project, "dvc commit --force --quiet")


@pytest.mark.parametrize(
    ("place", "workers", "umask", "taskset"),
    [("a terminal in Nepal", 4, "077", ("taskset", "-c", "0")), ("a job without a home", 1, "000", ())],
)
def test_one_lock_in_every_place(
    finished: Path, tmp_path: Path, place: str, workers: int, umask: str, taskset: tuple[str, ...]
):
    project = clone(finished, tmp_path / "Ordner mit Leerzeichen und é", seed=workers)
    change(project, machine__workers=workers)
    server = StageServer(*taskset, "sh", "-c", f'umask {umask}; exec "$@"', "sh", **PLACES[place])
    run_all(server, project)
    server.close()
    assert differing(finished, project) == []


def test_one_lock_when_the_clock_goes_back(finished, tmp_path):
    library = tmp_path / "clock.so"
    source = Path(__file__).with_name("old_clock.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    project = clone(finished, tmp_path / "project", seed=9)
    server = StageServer(LD_PRELOAD=str(library))
    run_all(server, project)
    server.close()
    assert differing(finished, project) == []


def test_two_processes_give_the_same_bytes_in_two_places(finished, tmp_path):
    """Not those of one process: docs/training_reference.md says which agree."""
    trained = []
    for seed, (name, variables) in enumerate(PLACES.items()):
        project = clone(finished, tmp_path / name, seed)
        change(project, train__processes=2, machine__workers=seed)
        set_here = {key: value for key, value in variables.items() if value is not None}
        for command in ("pack --split-name train", "pack --split-name val", "train_float"):
            ended = start(f"stages.{command}", project, **set_here)
            assert ended.code == 0, ended.errors
        trained.append(files(project / "artifacts/float") | files(project / "plots"))
    assert trained[0] == trained[1]
