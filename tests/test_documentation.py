"""The documentation: its commands run, its links lead somewhere, both languages say the same."""

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.cli.parser import get_main_parser
from project import REPOSITORY, clone_of, commit, environment, make_project, shell
from pydantic import TypeAdapter

from pipeline.params import Params

PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
RUN = [page for page in PAGES if page.name not in ("CONTRIBUTING.md", "CHANGELOG.md", "README.zh-CN.md")]


def name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """Language and text of the fenced blocks of a page."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [(language, text) for language, text in found if not languages or language in languages]


def headings(page: Path) -> list[str]:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^(#+ .*)$", prose, flags=re.MULTILINE)


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, fragment = target.partition("#")
        if re.match(r"https?://", target):
            continue
        file = page.parent / path if path else page
        if not file.exists() or (fragment and fragment not in map(anchor, headings(file))):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_targets_of_make_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    code = re.findall(r"`([^`\n]+)`", page.read_text()) + [text for _, text in blocks(page, "bash", "text")]
    named = {target for text in code for target in re.findall(r"(?:^|&& )make ([a-z][a-z-]+)", text, re.MULTILINE)}
    assert named - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_parameters_in_experiments_and_yaml_exist(page):
    schema = TypeAdapter(Params).json_schema()

    def known(key: str) -> bool:
        section = schema
        for part in key.split("."):
            if "$ref" in section:
                section = schema["$defs"][section["$ref"].rpartition("/")[2]]
            for option in section.get("anyOf", []):
                section = schema["$defs"][option["$ref"].rpartition("/")[2]] if "$ref" in option else section
            if section.get("additionalProperties") is True:  # model.arguments
                return True
            if part not in section.get("properties", {}):
                return False
            section = section["properties"][part]
        return True

    keys = set(re.findall(r"(?:-S|--set-param) '?(?:\+\+)?([\w.]+)=", page.read_text()))
    for _, text in blocks(page, "yaml"):
        values = yaml.safe_load(text)
        if isinstance(values, dict) and values.keys() <= Params.model_fields.keys():
            keys |= {f"{k}.{sub}" for k, block in values.items() if isinstance(block, dict) for sub in block}
            keys |= values.keys()
    assert [key for key in sorted(keys) if not known(key)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_of_dvc_parse(page, monkeypatch):
    def refuse(self, message):
        raise ValueError(message)

    monkeypatch.setattr(argparse.ArgumentParser, "error", refuse)
    for _, text in blocks(page, "bash", "text"):
        for line in re.findall(r"^dvc ([^#\n|&]+)", text, re.MULTILINE):
            get_main_parser().parse_args(line.replace("'", "").split())


def test_both_readmes_have_the_same_commands_pictures_and_sections():
    english, chinese = REPOSITORY / "README.md", REPOSITORY / "README.zh-CN.md"

    def code(page: Path) -> list[str]:
        """Blocks without comments, which are translated."""
        return [re.sub(r"\s*#.*", "", text) for _, text in blocks(page, "bash", "yaml")]

    assert code(english) == code(chinese)
    assert [line.split()[0] for line in headings(english)] == [line.split()[0] for line in headings(chinese)]
    pictures = [re.findall(r"!\[.*?\]\((.*?)\)", page.read_text()) for page in (english, chinese)]
    assert pictures[0] == pictures[1] != []
    numbers = [re.findall(r"^\|.*\|", page.read_text(), re.MULTILINE) for page in (english, chinese)]
    numbers = [[re.findall(r"[+-]?\d+\.\d+", row) for row in rows] for rows in numbers]
    assert numbers[0] == numbers[1] != []


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A small project with the embedded sample, whose pipeline has run and is committed."""
    own = {"model__arguments": {}, "golden__images": 8, "gate__regression": 100}
    folder = make_project(tmp_path_factory.mktemp("documentation") / "project", **own)
    shutil.copytree(REPOSITORY / "data", folder / "data")
    commit(folder)
    shell(folder, "dvc repro")
    commit(folder)
    return folder


@pytest.mark.experiments
@pytest.mark.parametrize("page", RUN, ids=name)
def test_commands_run(project, tmp_path, page):
    folder = clone_of(project, tmp_path / "clone")
    for language, text in blocks(page, "bash", "python"):
        if text == "make test\n":
            continue  # CI runs it, and this is a test
        shell(folder, "git checkout --quiet --force main")
        command = ["bash", "-e", "-c", text] if language == "bash" else ["python", "-c", text]
        done = subprocess.run(
            command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=1200
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
