import dataclasses
import json
import math
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from project import REPOSITORY

from benchmarks import __main__ as command
from benchmarks.page import differing_shares, table, where_time_goes, write_page
from benchmarks.plots import growth
from benchmarks.record import Part, load, moved, origin, save
from benchmarks.results import DIFFER, Result
from storage.errors import InputError

OURS = Result("deploy", "net, 8 px", "ours", "images/s", (110.0, 90.0, 100.0, 100.0, 100.0), column="1 thread")
PEER = Result("deploy", "net, 8 px", "peer", "images/s", (50.0, 50.0, 40.0, 60.0, 55.0), column="1 thread")
SIZES = Result("deploy", "net, 8 px", "peer", "MiB", (2.5,))
ABSENT = Result("deploy", "net, 8 px", "a|b", "images/s", error="ModuleNotFoundError: no module named 'a'")
ORIGIN = {"processor": "P", "flags": "avx2", "versions": "torch 2", "commit": "abc"}


def test_median_spread_and_gain():
    assert (OURS.median, OURS.quartiles, OURS.spread) == (100, (100, 100), 0)
    assert (PEER.median, PEER.quartiles, PEER.spread) == (50, (50, 55), 0.05)
    assert (PEER.gain(OURS), OURS.gain(PEER)) == (0.5, 2)
    slow, fast = (dataclasses.replace(PEER, unit="s", values=(value,)) for value in (4.0, 1.0))
    assert (fast.gain(slow), slow.gain(fast)) == (4, 0.25)


def test_a_table_has_a_row_per_contestant_and_a_column_per_measurement():
    assert list(table([OURS, PEER, SIZES, ABSENT])) == [
        "| | 1 thread, images/s | MiB | notes |",
        "|---|---:|---:|---|",
        "| ours | 100 ±0 % |  |  |",
        "| peer | 50 ±5 % (0.50x) | 2.5 |  |",
        "| a\\|b |  |  | ModuleNotFoundError: no module named 'a' |",
    ]


def test_profiles_follow_their_table(tmp_path):
    told = dataclasses.replace(OURS, profile="0.50 times as good as peer; perf: 90 % `f` of x.so")
    save(tmp_path, "deploy", Part(ORIGIN, [told, PEER]))
    write_page(tmp_path, load(tmp_path / "benchmarks.json"))
    _, _, after = (tmp_path / "benchmarks.md").read_text().partition("| peer |")
    assert "\n\nWhere the time goes:\n\n- **ours, 1 thread**: 0.50 times as good as peer; perf: 90 % `f`" in after
    assert "Where the time goes" not in "\n".join(where_time_goes([OURS, PEER]))


def test_the_page_in_git_is_that_of_the_results_in_git(tmp_path):
    docs = REPOSITORY / "docs"
    if not (docs / "benchmarks.json").exists():
        pytest.skip("nothing has been measured yet")
    write_page(tmp_path, load(docs / "benchmarks.json"))
    plots = {path.name for path in (docs / "benchmarks").iterdir()}
    assert plots == {path.name for path in (tmp_path / "benchmarks").iterdir()}
    for name in ("benchmarks.md", *(f"benchmarks/{plot}" for plot in plots)):
        assert (docs / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_shares_of_logits_that_differ_are_drawn_for_the_int8_files(tmp_path):
    shares = {"ours": (0.0, 0.0), "peer": (12.5, 40.0), "float.onnx": (0.0, 0.0)}
    results = [
        Result("deploy", f"net {number}", name, DIFFER, (value,), column="1 image")
        for name, values in shares.items()
        for number, value in enumerate(values)
    ]
    assert differing_shares(results) == ({"ours": 0, "peer": 40}, {"ours": "0 %", "peer": "12.5 to 40 %"})
    assert differing_shares([OURS]) is None
    save(tmp_path, "deploy", Part(ORIGIN, results))
    write_page(tmp_path, load(tmp_path / "benchmarks.json"))
    text = ElementTree.parse(tmp_path / "benchmarks" / "deploy-logits-that-differ.svg").getroot()
    assert [each.text for each in text if each.tag.endswith("text")] == ["ours", "0 %", "peer", "12.5 to 40 %"]


def test_growth_with_size():
    points = [(n, 3 * n**1.5) for n in (10, 100, 1000)]
    assert growth(points) == pytest.approx(1.5)
    assert math.isnan(growth(points[:1]))
    results = [Result("scale", "packing", "ours", "s", (y,), x) for x, y in points]
    assert list(table(results))[::2] == [
        "| | 10, s | 100, s | 1,000, s | grows with size to the power of | notes |",
        "| ours | 94.9 | 3,000 | 94,868 | 1.50 |  |",
    ]


def test_parts_of_several_runs_make_one_page(tmp_path):
    save(tmp_path, "deploy", Part(ORIGIN, [OURS, PEER, ABSENT]))
    sizes = [Result("scale", "packing", "ours", "s", (y,), x) for x, y in ((1, 1.0), (10, 9.0))]
    parts = save(tmp_path, "scale", Part(ORIGIN | {"commit": "def"}, sizes))
    assert parts == load(tmp_path / "benchmarks.json")
    write_page(tmp_path, parts)
    page = (tmp_path / "benchmarks.md").read_text()
    assert "different commits" in page and "- commit: abc" in page and "- commit: def" in page
    for name in ("deploy-net-8-px", "scale-packing"):
        assert f"(benchmarks/{name}.svg)" in page
    drawing = ElementTree.parse(tmp_path / "benchmarks/deploy-net-8-px.svg")
    widths = [float(each.get("width")) for each in drawing.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(widths) == 2 and widths[0] == pytest.approx(2 * widths[1], abs=0.1)
    parts = save(tmp_path, "scale", Part(ORIGIN, sizes))
    write_page(tmp_path, parts)
    assert "different commits" not in (tmp_path / "benchmarks.md").read_text()


def test_what_moved_beyond_its_spread():
    faster = dataclasses.replace(PEER, values=tuple(2 * value for value in PEER.values))
    noisy = dataclasses.replace(OURS, values=(80.0, 95.0, 97.0, 102.0, 104.0))
    failed = dataclasses.replace(SIZES, values=(), error="gone wrong")
    before, after = Part(ORIGIN, [OURS, PEER, SIZES, ABSENT]), Part(ORIGIN | {"flags": "avx"}, [noisy, faster, failed])
    assert list(moved({"deploy": before}, {"deploy": after})) == [
        "deploy: flags was avx2, is avx",
        "deploy, net, 8 px, 1 thread, peer, images/s: 50 -> 100, 2.00 times as good",
        "deploy, net, 8 px, peer, MiB: was measured, is gone wrong",
        "deploy, net, 8 px, a|b, images/s: is gone",
    ]
    assert list(moved({"deploy": before}, {"deploy": before, "scale": after})) == []


@pytest.mark.parametrize("text", ["", "[]", '{"parts": 3}', '{"parts": {"a": {"origin": {}, "results": [{"b": 1}]}}}'])
def test_a_file_of_another_kind_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r"x\.json is not a file of results"):
        load(tmp_path / "x.json")


def test_origin_names_machine_packages_and_commit():
    found = origin("make bench", 90)
    assert "torch 2." in found["versions"] and "pip " not in found["versions"]
    assert found["minutes"] == "1.5" and " cores" in found["processor"] and len(found["commit"].split()[0]) == 12


def test_the_command_keeps_the_results_and_says_what_moved(tmp_path, monkeypatch, capsys):
    slow = dataclasses.replace(OURS, values=(10.0,) * 5)
    save(tmp_path / "old", "deploy", Part(origin("", 0), [slow]))
    monkeypatch.setattr(command.importlib, "import_module", lambda name: SimpleNamespace(main=lambda: [OURS, PEER]))
    arguments = [
        "--into",
        str(tmp_path / "new"),
        "--against",
        str(tmp_path / "old/benchmarks.json"),
        "deploy",
        "--rounds",
        "1",
    ]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    command.main()
    assert sys.argv == ["python -m benchmarks deploy", "--rounds", "1"]
    stored = json.loads((tmp_path / "new/benchmarks.json").read_text())["parts"]["deploy"]
    assert stored["origin"]["command"] == "python -m benchmarks deploy --rounds 1" and len(stored["results"]) == 2
    printed = capsys.readouterr().out
    assert "ours, images/s: 10 -> 100, 10.00 times as good\n" in printed and "peer, images/s: is new\n" in printed
