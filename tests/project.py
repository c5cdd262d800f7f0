"""The repository of a user with images of three classes, small enough for whole pipelines in tests."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import torch
import yaml
from dvc.repo import Repo

from imagedb.sources.torchvision import TorchvisionSource
from pipeline.cli import run

REPOSITORY = Path(__file__).parents[1]


def environment(folder: Path) -> dict[str, str]:
    """The environment of a user without settings who has activated that of this Python."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_", "RUNS_DIR"))}
    people = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}"
    own = {"PATH": path, "GIT_CONFIG_GLOBAL": os.devnull, "DVC_SITE_CACHE_DIR": str(folder.parent / "dvc")}
    return inherited | people | own | {"DVC_NO_ANALYTICS": "1", "NO_COLOR": "1"}


def shell(folder: Path, command: str, **variables: str) -> str:
    """Run a command that must succeed, and return what it prints."""
    done = subprocess.run(
        command.split(), cwd=folder, env=environment(folder) | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def ran(output: str) -> list[str]:
    """The stages that `dvc repro` has run, according to its output."""
    return re.findall(r"^Running stage '(\S+)'", output, re.MULTILINE)


def clone_of(project: Path, folder: Path) -> Path:
    """A fresh clone with the project's cache of DVC, set up for make with the tests' Python on the path."""
    shell(project, f"git clone --quiet {project} {folder}")
    (folder / ".venv/bin").mkdir(parents=True)
    for name in ("bin/activate", ".installed"):
        (folder / ".venv" / name).touch()
    shell(folder, f"dvc cache dir --local {project / '.dvc/cache'}")
    shell(folder, "dvc checkout --quiet")
    return folder


def commit(folder: Path) -> str:
    """Commit everything, and return the name of its tree."""
    shell(folder, "git add --all")
    shell(folder, "git commit --quiet --message state")
    return shell(folder, "git rev-parse HEAD^{tree}")


def change(folder: Path, **values) -> None:
    """Set parameters in params.yaml, e.g. qat__lr=0.1."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for name, value in values.items():
        *parents, key = name.split("__")
        section = params
        for parent in parents:
            section = section[parent]
        section[key] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_images(root: Path) -> None:
    """root/{train,val}/<class>/*.png: the first 24 and 8 images of three classes."""
    for split, theirs, count in (("train", "train", 24), ("val", "test", 8)):
        source = TorchvisionSource("FashionMNIST", REPOSITORY / "data" / "fashion_mnist", theirs)
        left = {name: count for name in source.class_names if name in ("Trouser", "Sneaker", "Bag")}
        for item in source:
            name = source.class_names[item.label]
            if left.get(name):
                left[name] -= 1
                path = root / split / name / f"{item.name.replace('/', '_')}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(item.image())
            if not any(left.values()):
                break


def make_project(folder: Path, **values) -> Path:
    """A committed copy of the repository with small parameters for three classes and `values`; nothing has run."""
    for name in shell(REPOSITORY, "git ls-files --cached --others --exclude-standard").splitlines():
        if not name.startswith(("data/", "metrics/", "plots/", "tests/", "dvc.lock")) and (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    write_images(folder / "pictures")
    small = {
        "epochs": 2,
        "batch_size": 16,
        "pack__source": "folder",
        "pack__dataset": None,
        "pack__root": "pictures",
        "pack__splits": {"train": "train", "val": "val"},
        "model__num_classes": 3,
        "model__arguments": {"channels": [8, 8, 8, 16, 16], "head_width": 16},
        "calibrate__images": 24,
        "calibrate__bias_correction": 8,
        "calibrate__refinement": 8,
        "calibrate__reconstruction": 8,
        "calibrate__reconstruction_steps": 2,
        "golden__images": 4,
        "report__images": 8,
        "qat__epochs": 1,
        "qat__batch_size": 16,
        "compare__intermediate_images": 8,
        "execution__threads": 1,  # several of these projects run at once
        "machine__workers": 0,
        "gate__quantization_drop": 100,
        "gate__regression": 10,
    }
    change(folder, **small | values)
    shell(folder, "git init --quiet --initial-branch main")
    commit(folder)
    return folder


def commands(folder: Path) -> list[str]:
    """Those of all stages, such as "validate --step int", in an order in which they can run."""
    with Repo(str(folder)) as repo:
        graph = repo.index.graph
        order = TopologicalSorter({stage: set(graph.successors(stage)) for stage in graph})
        return [stage.cmd.removeprefix("python -m stages.") for stage in order.static_order()]


def run_stage(command: str, folder: Path) -> None:
    """Run a stage, such as "validate --step int", in this process, which is left as it was."""
    module, *arguments = command.split()
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRACEBACK", raising=False)
        patch.delenv("RUNS_DIR", raising=False)
        patch.chdir(folder)
        patch.setattr(sys, "argv", [module, *arguments])
        try:
            run(importlib.import_module(f"stages.{module}").main)
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)


def run_all(folder: Path) -> None:
    """What `dvc repro` gives, but all stages run in this process, which imports what they need once."""
    for command in commands(folder):
        run_stage(command, folder)
    shell(folder, "dvc commit --force --quiet")
