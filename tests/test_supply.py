"""What comes from outside is pinned by digest or commit, declared, and of a known licence."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_structure import PACKAGES

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
GROUPS = PROJECT["dependency-groups"]
DECLARED = {"environment": [*PROJECT["project"]["dependencies"], *GROUPS["build"], *GROUPS["dev"]]} | {
    group: pins for group, pins in GROUPS.items() if group != "dev"
}


def pins(file: str) -> dict[str, Requirement]:
    """The requirements of requirements/<file>.txt by name; each must have the digest of a file."""
    found = {}
    for line in re.sub(r" *\\\n *", " ", (REPOSITORY / "requirements" / f"{file}.txt").read_text()).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            assert re.fullmatch(r"\S+==[^\s;]+( ; [^\\#-]+?)?( --hash=sha256:[0-9a-f]{64})+", line), line
            requirement = Requirement(line.partition(" --hash")[0])
            found[canonicalize_name(requirement.name)] = requirement
    return found


@pytest.mark.parametrize("file", DECLARED)
def test_what_is_declared_is_pinned_with_digests(file):
    found = pins(file)
    declared = {canonicalize_name(each.name): each.specifier for each in map(Requirement, DECLARED[file])}
    assert {name: found[name].specifier for name in declared} == declared
    assert file == "environment" or found.keys() == declared.keys()


def test_each_file_of_pins_is_that_of_a_group():
    assert {path.stem for path in (REPOSITORY / "requirements").iterdir()} == DECLARED.keys()


def test_the_environment_is_what_the_pins_say():
    here = {name: each for name, each in pins("environment").items() if not each.marker or each.marker.evaluate()}
    assert {name: f"=={version(name)}" for name in here} == {name: str(each.specifier) for name, each in here.items()}


def test_setup_refuses_a_package_whose_digest_is_not_the_pinned(tmp_path):
    """In a folder with the Makefile, an environment that is this Python, and a package on disk."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/build.txt").write_text(f"strange==1.0 --hash=sha256:{'0' * 64}\n")
    (tmp_path / "requirements/environment.txt").touch()
    (tmp_path / "strange-1.0-py3-none-any.whl").touch()
    (tmp_path / "python").write_text(
        f'#!/bin/sh\n[ "$2" != venv ] || {{ mkdir -p .venv/bin; ln -s {sys.executable} .venv/bin; }}\n'
    )
    (tmp_path / "python").chmod(0o755)
    own = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_TARGET": str(tmp_path / "target")}
    own |= {"PIP_CONFIG_FILE": os.devnull}
    command = ["make", "-f", REPOSITORY / "Makefile", ".venv/.installed", "PYTHON=./python"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 2
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / ".venv/.installed").exists()


def test_every_licence_is_known():
    """pyproject.toml lists those that are; `make licences` prints the table."""
    done = subprocess.run([sys.executable, "-m", "piplicenses"], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(rf"^ torch +{re.escape(version('torch'))} +Apache-2\.0 AND ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("path", list((REPOSITORY / ".github/workflows").iterdir()), ids=lambda path: path.name)
def test_workflows_use_actions_by_commit_and_may_only_read(path):
    uses = re.findall(r"^ *-? *uses: (.*)", path.read_text(), re.MULTILINE)
    strange = [each for each in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", each)]
    assert uses
    assert strange == []
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert [job for job, its in workflow["jobs"].items() if "permissions" in its] == []


def test_the_order_of_imports_does_not_depend_on_folders_of_results(tmp_path):
    assert sorted(PROJECT["tool"]["ruff"]["lint"]["isort"]["known-first-party"]) == sorted(PACKAGES)
    (tmp_path / "pyproject.toml").write_text((REPOSITORY / "pyproject.toml").read_text())
    (tmp_path / "module.py").write_text("import artifacts\nimport runs\nimport torch\n\nimport storage\n")

    def order() -> str:
        command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "I", "module.py"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout

    assert order() == "All checks passed!\n"
    for folder in ("artifacts", "runs", "torch"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    assert order() == "All checks passed!\n"
