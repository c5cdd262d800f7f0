"""The page of `dvc plots`: it needs no network, and what dvc.yaml draws has a template."""

import configparser
import json
import re
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[1]
TEMPLATES = {path.stem: path.read_text() for path in (REPOSITORY / ".dvc/plots").iterdir()}


def drawn() -> dict[str, dict]:
    """The plots of dvc.yaml that are drawn, by their titles."""
    plots = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["plots"]
    return {title: values for each in plots if isinstance(each, dict) for title, values in each.items()}


def test_the_page_holds_what_draws_and_loads_nothing():
    config = configparser.ConfigParser()
    config.read_string("\n".join(line.strip() for line in (REPOSITORY / ".dvc/config").read_text().splitlines()))
    page = (REPOSITORY / ".dvc" / config["plots"]["html_template"]).read_text()
    assert page.count("{plot_divs}") == page.count("{refresh_tag}") == 1 and "{scripts}" not in page
    assert "window.vegaEmbed=" in page and "University of Washington" in page
    assert re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page) == []


def test_every_template_is_used_and_draws_revisions_in_colours():
    assert {values["template"] for values in drawn().values()} == TEMPLATES.keys()
    for name, text in TEMPLATES.items():
        json.loads(text)
        by_revision = '"color": {"field": "rev"' in text
        assert by_revision or ("facet" in text and '"field": "rev"' in text), name


def test_float_training_and_qat_have_panels_of_their_own():
    for title, values in drawn().items():
        stages = {path.split("/")[1] for path in values["y"] if path.endswith(".tsv")}
        assert len(stages) <= 1 and ("qat" in stages) == ("QAT" in title)
