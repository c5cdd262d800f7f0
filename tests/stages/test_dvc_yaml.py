"""dvc.yaml lists the parameters that each stage reads and the files that it opens."""

import importlib
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from PIL import Image

from pipeline import code, databases, fitting, params
from pixels.section import Section
from stages import train_float, train_qat
from storage.model_file import load_model, save_model

REPOSITORY = Path(__file__).parents[2]
# The packages that stages import, tools and benchmarks are none of them.
CODE = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")} - {"tools", "benchmarks"}
ORDER = [
    "code",
    "pack",
    "overlap",
    "count_ops",
    "train_float",
    "calibrate",
    "train_qat",
    "convert_int",
    "export_onnx",
    "golden",
    "export_c",
    "export_litert",
    "validate",
    "compare",
    "report",
    "model_card",
]


@pytest.fixture(scope="module")
def stages():
    """The stages by name, as DVC resolves them."""
    with Repo(str(REPOSITORY)) as repo:
        return {stage.name: stage for stage in repo.index.stages}


def paths(entries) -> set[str]:
    return {Path(entry.fs_path).relative_to(REPOSITORY).as_posix() for entry in entries}


def dependencies(stage) -> set[str]:
    return paths(entry for entry in stage.deps if not isinstance(entry, ParamsDependency))


def script(stage) -> str:
    python, option, module, *_ = stage.cmd.split()
    assert (python, option) == ("python", "-m")
    return module.replace(".", "/") + ".py"


def test_every_stage_runs_a_script_that_exists(stages):
    assert len(stages) == 23
    for stage in stages.values():
        assert (REPOSITORY / script(stage)).is_file()


def test_every_dependency_exists_or_is_made(stages):
    made = [path for stage in stages.values() for path in paths(stage.outs)]
    assert len(made) == len(set(made))
    for name, stage in stages.items():
        others = {path for path in dependencies(stage) if not {path, *map(str, Path(path).parents)} & {*made}}
        missing = {path for path in others if not (REPOSITORY / path).exists()}
        assert not missing, name


def test_what_is_dear_to_compute_is_kept_in_the_run_cache_of_dvc(stages):
    """DVC keeps a stage there if its outputs in git are metrics or plots, which not all can be read as."""
    left_out = {
        name.split("@")[0]
        for name, stage in stages.items()
        if any(not (out.use_cache or out.is_metric or out.is_plot) for out in stage.outs)
    }
    assert left_out == {"pack", "overlap", "compare"}


def test_every_stage_depends_on_its_code_and_on_no_other(stages):
    for name, stage in stages.items():
        listed = {path for path in dependencies(stage) if path.startswith("artifacts/code")}
        assert listed == ({f"artifacts/code/{Path(script(stage)).stem}.txt"} if name != "code" else set()), name
        sources = {path for path in dependencies(stage) if (REPOSITORY / path.split("/")[0] / "__init__.py").exists()}
        assert sources == (CODE if name == "code" else set()), name
    assert dependencies(stages["code"]) == CODE | {"nets", "pyproject.toml", "requirements/environment.txt"}


# What a stage reads to refuse or to warn before hours of work; it changes nothing of what the stage gives.
FORESEEN = {
    "pack": ("input.size", "input.resize", "augment.crop", "qat.augment.crop"),
    "train_float": ("calibrate", "compare", "golden", "report", "qat.epochs", "qat.batch_size", "qat.augment.crop"),
}


class Recorder:
    """Parameters that record which of them are read, by their full names."""

    def __init__(self, section: Section, read: set[str], prefix: str = ""):
        self._section, self._read, self._prefix = section, read, prefix

    def __getattr__(self, name: str):
        if isinstance(derived := getattr(type(self._section), name, None), property):
            return derived.fget(self)
        value = getattr(self._section, name)
        if isinstance(value, Section):
            return Recorder(value, self._read, f"{self._prefix}{name}.")
        self._read.add(self._prefix + name)
        return value

    def model_dump(self, **options) -> dict:
        values = self._section.model_dump(**options)
        if self._prefix:  # of all parameters, it names the folder of a checkpoint and is no result
            self._read |= {self._prefix + name for name in values}
        return values


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """The current folder, with a small pipeline's parameters and images; the process is left as it was."""
    folder = tmp_path_factory.mktemp("workspace")
    noise = np.random.default_rng(0)
    for split in ("train", "val"):
        for index in range(24):
            path = folder / "images" / split / "abc"[index % 3] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    values |= {"epochs": 1, "batch_size": 8}
    values["execution"]["threads"], values["machine"]["workers"] = 1, 0
    values["train"]["warmup_epochs"] = 0
    values["pack"] |= {
        "source": "folder",
        "dataset": None,
        "root": "images",
        "splits": {"train": "train", "val": "val"},
    }
    arguments = {"channels": [8, 8, 8, 16, 16], "head_width": 16}
    values["model"] |= {"name": "vargconvnet_32", "num_classes": 3, "arguments": arguments}
    values["input"]["size"] = 32
    values["calibrate"]["images"] = 24
    values["qat"] |= {"epochs": 1, "batch_size": 8, "warmup_epochs": 0}
    values["calibrate"] |= {"bias_correction": 8, "refinement": 8, "reconstruction": 8, "reconstruction_steps": 2}
    values["compare"]["intermediate_images"] = 8
    values["golden"]["images"] = values["report"]["images"] = 8
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("RUNS_DIR", raising=False)
        yield folder
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


OPENED: list[set[Path]] = []  # what is open for reading, of the stage that runs


def note_opened(event: str, arguments: tuple) -> None:
    if OPENED and event == "open" and isinstance(arguments[0], str) and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
        OPENED[-1].add(Path(arguments[0]).absolute())


sys.addaudithook(note_opened)


@pytest.fixture(scope="module")
def run(workspace, stages) -> dict[str, tuple[set[str], set[Path]]]:
    """The parameters that each stage reads, and the files that it opens, while the whole pipeline runs in this process.

    Files that LMDB, safetensors, ONNX Runtime and LiteRT open by themselves are not seen.
    """
    found = {name: (set(), set()) for name in sorted(stages, key=lambda name: ORDER.index(name.split("@")[0]))}
    for name, (seen, opened) in found.items():
        _, _, module, *arguments = stages[name].cmd.split()
        stage = importlib.import_module(module)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", [module, *arguments])
            patch.setattr(stage, "load_params", lambda seen=seen: Recorder(params.load_params(), seen), raising=False)
            OPENED.append(opened)
            stage.main()
            OPENED.clear()
    return found


@pytest.fixture(scope="module")
def read(run) -> dict[str, set[str]]:
    return {name: seen for name, (seen, _) in run.items()}


def listed(stage) -> set[str]:
    return {name for entry in stage.deps if isinstance(entry, ParamsDependency) for name in entry.params}


def covers(name: str, key: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def test_every_stage_lists_the_parameters_it_reads(stages, read):
    missing = {}
    for name, stage in stages.items():
        absent = {key for key in read[name] if not any(covers(entry, key) for entry in listed(stage))}
        absent -= {key for key in absent if covers("machine", key)}  # it changes no result
        foreseen = FORESEEN.get(name.split("@")[0], ())
        absent -= {key for key in absent if any(covers(entry, key) for entry in foreseen)}
        if absent:
            missing[name] = sorted(absent)
    assert not missing, missing


def test_every_stage_lists_the_files_it_opens(stages, run, workspace):
    for name, (_, opened) in run.items():
        own = {path.relative_to(workspace) for path in opened if path.is_relative_to(workspace)}
        files = {path for path in own if path != Path("params.yaml") and path.parts[0] != "runs"}
        known = {Path(path) for path in dependencies(stages[name]) | paths(stages[name].outs)}
        if name.startswith("pack"):
            known.add(Path("images"))  # pack.root here
        unlisted = {path for path in files if not {path, *path.parents} & known and (workspace / path).is_file()}
        assert unlisted == set(), name


def test_the_code_that_a_stage_depends_on_has_every_file_of_the_repository_that_it_opens(run, monkeypatch):
    monkeypatch.setattr(code, "UNCOUNTED", set())  # what it leaves out on purpose is read, too
    for name, (_, opened) in run.items():
        if name != "code":  # which reads all code
            own = {path.relative_to(REPOSITORY) for path in opened if path.is_relative_to(REPOSITORY)}
            files = {path.as_posix() for path in own if (REPOSITORY / path.parts[0] / "__init__.py").exists()}
            listed = {
                line.split("  ")[1] for line in code.dependencies(name.split("@")[0], "vargconvnet_32").splitlines()
            }
            assert {path for path in files if not path.endswith(".pyc")} - listed == set(), name


def test_no_stage_lists_what_is_local_to_a_machine(stages):
    assert {name for name, stage in stages.items() if any(covers("machine", entry) for entry in listed(stage))} == set()


def test_no_stage_lists_parameters_it_does_not_read(stages, read):
    for name, stage in stages.items():
        unused = {entry for entry in listed(stage) if not any(covers(entry, key) for key in read[name])}
        assert not unused, name


def test_the_table_of_what_reruns_what_in_the_documentation(stages):
    page = (REPOSITORY / "docs" / "experiments.md").read_text()
    rows = re.findall(r"^\| (`.*`) \| ([a-z_, ]+) \|$", page, re.MULTILINE)
    assert len(rows) > 10
    for keys, names in rows:
        promised = set() if names == "none" else set(names.split(", "))
        for key in re.findall(r"`([\w.]+)`", keys):
            readers = {
                name.split("@")[0] for name, stage in stages.items() if any(covers(e, key) for e in listed(stage))
            }
            assert readers == promised, key


class Checkpointed(Exception):
    pass


def checkpoint_folder(monkeypatch, stage=train_float, arguments=(), **changes) -> str:
    """Where a training stage would keep its checkpoints, with some parameters changed."""

    def fit(step, batches, validate, checkpoints, *others):
        raise Checkpointed(checkpoints.folder)

    values = yaml.safe_load(Path("params.yaml").read_text())
    for name, value in changes.items():
        *parents, key = name.split("__")
        section = values
        for parent in parents:
            section = section[parent]
        section[key] = value
    monkeypatch.setattr("sys.argv", [stage.__name__, *arguments])
    monkeypatch.setattr(fitting, "fit", fit)
    monkeypatch.setattr(stage, "refuse_unquantizable", lambda *given: None, raising=False)  # it takes seconds
    monkeypatch.setattr(stage, "load_params", lambda: params.Params.model_validate(values))
    with pytest.raises(Checkpointed) as raised:
        stage.main()
    return str(raised.value)


QAT = {"qat__distill": 0.5, "qat__temperature": 1}


@pytest.fixture(scope="module")
def usual(read) -> dict:
    """The folder of each training with the parameters as they are."""
    with pytest.MonkeyPatch.context() as patch:
        return {"float": checkpoint_folder(patch), "qat": checkpoint_folder(patch, train_qat, **QAT)}


@pytest.mark.parametrize(
    "changes",
    [
        *({"seed": 1}, {"lr": 0.2}, {"epochs": 2}, {"batch_size": 4}),
        *({"train__momentum": 0}, {"train__weight_decay": 0}, {"train__warmup_epochs": 0.5}),
        *({"train__optimizer": "adamw"}, {"train__schedule": "constant"}, {"train__ema_decay": 0.9}),
        *({"train__clip_grad": 1}, {"train__label_smoothing": 0}, {"train__mixup": 0.2}, {"train__accumulate": 2}),
        *({"train__loss": "binary_cross_entropy"}, {"train__freeze": ["stem"]}, {"train__sizes": {1: 16, 2: 32}}),
        *(
            {"augment__flip": 0.1},
            {"augment__erase": 0.1},
            {"input__color_space": "rgb"},
            {"execution__compile": "always"},
        ),
        *({"model__arguments": {}}, {"validation__batch_size": 7}, {"execution__threads": 2}),
    ],
)
def test_training_with_other_parameters_does_not_go_on_from_this_checkpoint(usual, monkeypatch, changes):
    assert checkpoint_folder(monkeypatch, **changes) != usual["float"]


@pytest.mark.parametrize(
    "changes",
    [
        *({"seed": 1}, {"qat__lr": 0.2}, {"qat__ema_decay": 0.9}, {"qat__augment__flip": 0.1}),
        *({"qat__distill": 0}, {"qat__temperature": 2}),
    ],
)
def test_qat_with_other_parameters_does_not_go_on_from_this_checkpoint(usual, monkeypatch, changes):
    assert checkpoint_folder(monkeypatch, train_qat, **QAT | changes) != usual["qat"]


def test_float_trainings_parameters_do_not_matter_to_a_checkpoint_of_qat(usual, monkeypatch):
    changes = {"lr": 0.2, "augment__flip": 0.1, "train__optimizer": "adamw"}
    assert checkpoint_folder(monkeypatch, train_qat, **QAT | changes) == usual["qat"]


@pytest.mark.parametrize("distill", [0, 0.5])
def test_qat_with_another_teacher_does_not_go_on_from_this_checkpoint(read, monkeypatch, tmp_path, distill):
    stored = load_model("artifacts/float/model.safetensors", ("float",))
    tensors = {name: value + (value.dtype.is_floating_point and 0.01) for name, value in stored.tensors.items()}
    save_model(tmp_path / "teacher", "float", tensors, stored.info)
    other = checkpoint_folder(monkeypatch, train_qat, ["--teacher", str(tmp_path / "teacher")], qat__distill=distill)
    assert (other != checkpoint_folder(monkeypatch, train_qat, qat__distill=distill)) == (distill > 0)


def test_training_on_other_images_does_not_go_on_from_this_checkpoint(usual, monkeypatch):
    path = databases.database_path
    monkeypatch.setattr(databases, "database_path", lambda params, split: path(params, "val"))
    assert checkpoint_folder(monkeypatch) != usual["float"]


def test_training_with_other_code_does_not_go_on_from_this_checkpoint(usual, monkeypatch):
    monkeypatch.setattr(fitting, "dependencies", lambda *given: code.dependencies(*given) + "2.15.0  torch")
    assert checkpoint_folder(monkeypatch) != usual["float"]


@pytest.mark.parametrize("name", params.Machine.model_fields)
def test_what_changes_no_result_does_not_matter_to_a_checkpoint(usual, monkeypatch, name):
    assert checkpoint_folder(monkeypatch, **{f"machine__{name}": 2}) == usual["float"]
