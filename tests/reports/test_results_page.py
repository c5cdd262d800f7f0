import re

from html_pages import of_class, rows, text, tree

from reports.results_page import Experiment, Latency, Link, Results, page, size

HEADLINE = {"float_top1": 91.65, "int_top1": 91.6, "int_top1_drop": 0.05, "macs": 13339904, "params": 440654}
HEADLINE |= {"executions": 11, "compared": 7450144, "mismatches": 0, "ram": 35040, "flash": 450000}
CURVE = {name: [(1.0, 2.0), (2.0, 1.0)] for name in ("train_top1", "val_top1", "train_loss", "val_loss", "lr")}


def results(name: str, **changes) -> Results:
    values = {
        "headline": HEADLINE,
        "scores": {"float": {"top1": 91.65, "loss": 0.3, "images": 2000}},
        "top1": [{"form": "float", "top1": 91.65, "low": 90.4, "high": 92.9}],
        "curves": {"float": CURVE, "qat": CURVE},
        "confusion": [
            {"class": own, "taken_for": other, "images": images}
            for own, other, images in (("a", "a", 9), ("a", "<b>", 16), ("<b>", "a", 0), ("<b>", "<b>", 4))
        ],
        "reliability": [
            {"form": "integer", "confidence": 60, "top1": 50, "images": 30},
            {"form": "integer", "confidence": 95, "top1": 97, "images": 10},
        ],
        "disagreement": [
            {"float": "a", "integer": "<b>", "images": 3, "float_right": 2, "integer_right": 1},
            {"float": "<b>", "integer": "a", "images": 1, "float_right": 0, "integer_right": 0},
        ],
        "pictures": {"disagreement": b"jpeg", "worst": None},
        "sizes": {"artifacts/onnx/float.onnx": 2048},
    }
    return Results(name=name, **values | changes)


def old(name: str) -> Results:
    """Of a revision that wrote less."""
    headline = {key: value for key, value in HEADLINE.items() if key not in ("executions", "ram", "flash")}
    empty = {"reliability": [], "disagreement": [], "confusion": [], "pictures": {"disagreement": None, "worst": None}}
    top1 = [{"form": "float", "top1": 90.00}]
    return results(name, headline=headline | {"int_top1": 90.0}, top1=top1, **empty)


def part(html, heading: str):
    """The section with this heading; some have two."""
    (found,) = (each for each in html.iter("section") if heading in map(text, each.iter("h2")))
    return found


LINKS = [Link("onnx/float.onnx", "float.onnx", 4096)]


def test_one_revision():
    html = tree(page([results("workspace")], [], LINKS))
    tiles = {text(each.find("span")): text(each.find("b")) for each in of_class(html, "tile")}
    assert tiles["Integer model, top-1"] == "91.60 %" and tiles["Lost by quantization"] == "0.05 points"
    assert (tiles["RAM, as C"], tiles["Constants, as C"]) == ("34.2 KiB", "439.5 KiB")
    (verdict,) = of_class(html, "verdict")
    assert (
        text(verdict).strip().startswith("7,450,144 values in each of 11 executions, 0 differ from the integer model.")
    )
    disagree = part(html, "Where the float and the integer model disagree")
    assert "4 of 2000 images" in text(disagree)
    assert rows(next(disagree.iter("table"))) == [["a", "<b>", "3", "2", "1"], ["<b>", "a", "1", "0", "0"]]
    assert next(disagree.iter("img")).get("src") == "data:image/jpeg;base64,anBlZw=="
    confusion = rows(next(part(html, "Confusion of the integer model").iter("table")))
    assert confusion == [["a", "9", "16"], ["<b>", "", "4"]]
    error = "expected calibration error integer 8.00 points"
    assert error in " ".join(text(part(html, "Reliability")).split()), "(30 x 10 + 10 x 2) / 40"


def test_a_cell_of_the_confusion_is_as_dark_as_the_root_of_its_share():
    html = page([results("workspace")], [], LINKS)
    assert re.findall(r'style="--s:(\d+)%"', html) == ["60", "80", "0", "100"]


def test_two_revisions_stand_side_by_side_also_with_one_that_wrote_less():
    html = tree(page([results("workspace"), old("main")], [], LINKS))
    tiles = {text(each.find("span")): text(each.find("small")) for each in of_class(html, "tile")}
    assert tiles["Integer model, top-1"] == "main: 90.00 %" and tiles["RAM, as C"] == ""
    curves = part(html, "Curves")
    lines = [each.get("class") for each in next(curves.iter("svg")).iter("polyline")]
    assert lines == ["line a", "line a dashed", "line b", "line b dashed"]
    assert len([*curves.iter("svg")]) == 4
    files = [each for each in html.iter("table") if "float.onnx" in text(each)]
    assert rows(files[0]) == [["float.onnx", "4.0 KiB", "2.0 KiB"]]
    assert "not known" in text(part(html, "Where the float and the integer model disagree"))


def test_models_that_disagree_on_no_image():
    html = tree(page([results("workspace", disagreement=[])], [], LINKS))
    assert "on no image" in text(part(html, "Where the float and the integer model disagree"))


def test_a_mismatch_is_no_success():
    (verdict,) = of_class(tree(page([results("w", headline=HEADLINE | {"mismatches": 5})], [], LINKS)), "verdict")
    assert "bad" in verdict.get("class") and "5 differ" in text(verdict)


def test_experiments_with_what_is_known_of_them():
    small = Experiment("small", HEADLINE | {"int_top1": 80.0, "flash": 1000}, {"lr": "0.02"})
    experiments = [Experiment("main", HEADLINE, {}), small, Experiment("gone", {}, {})]
    html = tree(page([results("workspace")], experiments, LINKS))
    table = part(html, "Experiments")
    assert rows(next(table.iter("table"))) == [
        ["main", "91.60", "91.65", "439.5 KiB", "34.2 KiB", "13.3", ""],
        ["small", "80.00", "91.65", "1,000 B", "34.2 KiB", "13.3", "lr 0.02"],
        ["gone", "", "", "", "", "", ""],
    ]
    assert len(of_class(next(table.iter("svg")), "dots")) == 2


def test_latencies_and_where_they_are_from():
    measured = [Latency("int8.tflite, LiteRT", 1.25, "docs/benchmarks.json")]
    table = part(tree(page([results("workspace")], [], LINKS, measured)), "Latency")
    assert rows([*table.iter("table")][1]) == [["int8.tflite, LiteRT", "1.25"]]
    assert "../docs/benchmarks.json" in [each.get("href") for each in table.iter("a")]
    assert "make bench" in text(part(tree(page([results("workspace")], [], LINKS)), "Experiments"))


def test_the_page_needs_no_network_and_no_script():
    html = page([results("workspace"), old("main")], [], LINKS)
    assert "http" not in html and "<script" not in html and "url(" not in html


def test_sizes():
    assert [size(count) for count in (1023, 1024, 2**20 * 1.5)] == ["1,023 B", "1.0 KiB", "1.5 MiB"]
