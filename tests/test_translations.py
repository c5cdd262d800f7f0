"""The Chinese pages of docs/ say what the English ones say."""

import re
from collections import Counter
from pathlib import Path

from test_documentation import REPOSITORY, blocks, headings

DOCS = REPOSITORY / "docs"


def code(*pages: Path) -> list[str]:
    """The blocks of the pages, without comments, which are translated."""
    return [re.sub(r"\s*#.*", "", text) for page in pages for _, text in blocks(page)]


def targets(page: Path) -> Counter[str]:
    """Where the links lead, but for the language, and for the headings of the page itself."""
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    return Counter("#" if each.startswith("#") else each.replace(".zh-CN", "") for each in found)


def numbers(page: Path) -> list[list[str]]:
    """The numbers in each row of the tables, in order of their size, since words have another order."""
    rows = re.findall(r"^\|.*\|$", page.read_text(), re.MULTILINE)
    return [sorted(re.findall(r"\d+(?:[.,]\d+)*", re.sub(r"\]\(.*?\)", "", row))) for row in rows]


def test_deployment():
    english, chinese = DOCS / "deployment.md", DOCS / "deployment.zh-CN.md"
    assert code(chinese) == code(english) != []
    levels = [[line.split()[0] for line in headings(page)] for page in (english, chinese)]
    assert levels[0] == levels[1]
    assert targets(chinese) == targets(english) + Counter(["deployment.md"])
    assert numbers(chinese) == numbers(english)


def test_quickstart_has_its_commands_from_english_pages():
    theirs = code(DOCS / "data.md", DOCS / "networks.md", DOCS / "quantize.md")
    ours = code(DOCS / "quickstart.zh-CN.md")
    assert len(ours) == 7 and [text for text in ours if text not in theirs] == []
