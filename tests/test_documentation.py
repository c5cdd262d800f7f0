"""The documentation: its commands run, its links lead somewhere, both languages say the same."""

import argparse
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.cli.parser import get_main_parser
from project import REPOSITORY, clone_of, commit, environment, make_project, run_all, shell
from pydantic import TypeAdapter

from pipeline.params import Params

# What a command of the documentation prints, by its beginning; the longest that fits counts.
PRINTS = {
    "dvc checkout": "",
    "dvc exp apply": r"Changes for experiment 'warmer' have been applied",
    "dvc exp branch": r"Git branch 'try-warmer' has been created from experiment 'warmer'",
    "dvc exp diff": r"metrics/summary\.json[^\n]*\n.*params\.yaml +lr +0\.1 +0\.05",
    "dvc exp remove": r"Removed experiments: '?warmer",
    "dvc exp run": r"Ran experiment\(s\): \S+",
    "dvc exp run --queue": r"(Queued experiment '\S+' for future execution.*){4}",
    "dvc metrics diff": "",  # nothing, if the small network has come to the same numbers
    "dvc metrics show": r"metrics/summary\.json( +[\d.-]+){5}",
    "dvc plots": r"runs/plots/index\.html",
    "dvc pull": r"\d+ files? (fetched|added)",
    "dvc push": r"\d+ files? pushed",
    "dvc queue start": r"Started '2' new experiments task queue workers",
    "dvc queue status": r"Task +Name +Created +Status\n([^\n]+ (Queued|Running)\n){4}",
    "dvc remote": r"Setting 'store' as a default remote",
    "dvc repro": r"Data and pipelines are up to date",
    "dvc status": r"Data and pipelines are up to date",
    "dvc status train_float": r"up to date",
    "make diff": r"\| Path +\| Metric",
    "make experiments": r"Experiment +Created",
    "make gate": r"\| values that differ between integer forms \| 0 \| 0 \| ok \|",
    "make inspect": r"conv2d +\d+ +conv\n.*In portable arithmetic it can be quantized\.\nIn C: [\d,]+ bytes of ",
    "make new": r"\d+ images in 3 classes in pictures.*params\.yaml is written; make repro",
    "make quantize": r"float network on \d+ of \d+ images\n.*  c +[\d,]+ values, 0 differ\n"
    r".*: PASS: \d.*\nproof: [\d,]+ values in each of \d+ executions.*: 0 differ",
    "make page": r"wrote artifacts/index\.html",
    "make recipe": r"^pack\.(source|dataset|root): \S+ -> |^model\.name: ",
    "make repro": r"Data and pipelines are up to date",
    "make sweep": r"Experiment +Created",
    "python -c": "",
    "python -m stages.count_ops": r"total +4,529,081,856 +9,434,328",
    "python -m stages.export_c": r"bytes of activations \(RAM\), [\d,]+ bytes of constants \(flash\)",
    "python -m stages.export_litert": r"/tmp/litert: [\d,]+ bytes, int8 logits",
    "python -m stages.export_onnx": r"wrote /tmp/net\.onnx",
    "python -m stages.golden": r"\d+ tensors of 8 images of \d+ classes, .* each in /tmp/golden",
    "python -m stages.golden --check": r"[1-9][\d,]* values in \d+ of \d+ tensors compared, none differs",
    "python -m stages.overlap": r"\d+ of \d+ validation images are training images",
    "python -m stages.pack": r"2000 images in /tmp/db/val\.lmdb",
    "python -m stages.pack --split-name train --dry-run": r"[\d,]+ images in \d+ classes, .*MB are free",
    "python -m stages.report": r"operation +kind.*QAT = integer: top-1 [\d.]+ %",
    "python -m stages.train_float": r"epoch +train loss .*\n +\d+/\d+ +[\d.]+ .*\nbest: epoch \d+",
    "python -m stages.validate": r'\{"top1": [\d.]+, "top5": [\d.]+, "loss": [\d.]+, "images": \d+',
    "python -m tools.inspect": r"conv2d +\d+ +conv\n.* arithmetic it can be quantized\.\nIn C: [\d,]+ bytes of ",
    "python -m tools.predict": r"\d+\.\d+ %  \w+",
    "python -m tools.verify": r"\.lmdb: [1-9]\d* records are whole, digest \w{64}",
    "python -m tools.view": r"sheet\.png",
    "python -m tools.watch": r"^done, \d+ epochs$.*^best top-1 [\d.]+ % in epoch \d+$.*top-1 %, validation +loss",
    "timeout": "",  # killed or stopped; what follows resumes
    "/tmp/selfcheck": r"PASS",
}
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
TRANSLATED = [page for page in PAGES if page.with_suffix(".zh-CN.md") in PAGES]
TRANSLATIONS = [page.with_suffix(".zh-CN.md") for page in TRANSLATED]
# Translations have their commands from the originals.
RUN = [each for each in PAGES if not re.fullmatch(r"CONTRIBUTING\.md|CHANGELOG\.md|.*\.zh-CN\.md", each.name)]


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


@pytest.mark.parametrize(("page", "translation"), [*zip(TRANSLATED, TRANSLATIONS, strict=True)], ids=name)
def test_a_translation_has_the_same_commands(page, translation):
    def code(page: Path) -> list[str]:
        """Blocks without comments, which are translated."""
        return [re.sub(r"\s*#.*", "", text) for _, text in blocks(page, "bash", "python", "yaml")]

    assert code(page) == code(translation) != []


def test_both_readmes_have_the_same_pictures_and_sections():
    english, chinese = REPOSITORY / "README.md", REPOSITORY / "README.zh-CN.md"
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
    run_all(folder)
    commit(folder)
    return folder


def promised(text: str) -> dict[str, str]:
    """What the commands of a block print."""
    found = {}
    for line in re.findall(r"^[^\S\n]*((?:dvc|make|python|timeout|/tmp/selfcheck)\b[^\n#]*)", text, re.MULTILINE):
        found[line.strip()] = PRINTS[max((start for start in PRINTS if line.startswith(start)), key=len)]
    return found


@pytest.mark.parametrize("page", RUN, ids=name)
def test_every_command_has_something_to_print(page):
    for _, text in blocks(page, "bash"):
        if text != "make test\n":
            promised(text)


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
        printed = done.stdout + done.stderr
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        promises = promised(text).items()
        missing = [line for line, pattern in promises if not re.search(pattern, printed, re.DOTALL | re.MULTILINE)]
        assert language != "bash" or missing == [], printed[-3000:]
