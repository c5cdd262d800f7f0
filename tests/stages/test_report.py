"""The quantization report: of a small pipeline, and its page from numbers made up."""

import dataclasses
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fixedpoint.analysis.statistics import Noise, OwnNoise, Values
from fixedpoint.program import Program
from fixedpoint.program.integer import IntegerEvaluator, integer_input
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from imagedb.sources.folder import FolderSource
from imagedb.writer import write_database
from models.normalization import normalize
from models.registry import create_model
from pipeline.cli import run
from pipeline.databases import plain_batches
from pipeline.model_files import FILES, float_program, stored_program
from pipeline.params import load_params
from reports.charts import chart, histogram
from reports.quantization_page import Form, Layer, Report, Weights, page, percent, size
from stages import report
from storage.model_file import ModelInfo, load_model, save_model

ARGUMENTS = {"channels": [8, 8, 8, 16, 16], "head_width": 16}
INFO = ModelInfo("vargconvnet_32", ARGUMENTS, 3, 32, "yuv444", ["a", "b", "c"])
SCORES = {"top1": 91.25, "top5": 100.0, "loss": 0.25, "images": 24}


def write_pictures() -> None:
    noise = np.random.default_rng(0)
    for split in ("train", "val"):
        for index in range(24):
            path = Path("pictures") / split / "abc"[index % 3] / f"{index:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
        Path("artifacts/db").mkdir(parents=True, exist_ok=True)
        write_database(FolderSource("pictures", split), f"artifacts/db/{split}.lmdb")


def write_models() -> None:
    """A random network; QAT has moved its weights by a thousandth."""
    torch.manual_seed(0)
    save_model(FILES["float"], "float", create_model(INFO.name, 3, 32, ARGUMENTS).state_dict(), INFO)
    images = [normalize(pixels) for pixels, _ in plain_batches(load_params(), "train")]
    ptq = calibrate(float_program(load_model(FILES["float"], ("float",))), lambda: images)
    moved = {name: value * 1.001 for name, value in ptq.constants.items() if name.endswith(".weight")}
    qat = ptq.with_constants(**moved)
    for form, program in {"ptq": ptq, "qat": qat, "int": convert(qat)}.items():
        save_model(FILES[form], form, program.constants, INFO, program.to_json())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """The current folder, with everything that the stage reads but metrics; the process is left as it was."""
    folder = tmp_path_factory.mktemp("report")
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    values["model"] |= {"name": INFO.name, "num_classes": 3, "arguments": ARGUMENTS}
    values["input"] |= {"size": 32, "color_space": "yuv444", "resize": None}
    values["calibrate"]["images"] = 24
    values["execution"]["threads"], values["machine"]["workers"] = 1, 0
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_pictures()
        write_models()
        yield folder
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def stage(workspace, monkeypatch, capsys):
    """Runs the stage and gives what it prints."""

    def run_stage(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["report", *arguments])
        run(report.main)
        return capsys.readouterr().out

    return run_stage


def stored(form: str) -> Program:
    return stored_program(load_model(FILES[form], (form,)))


class Reader(HTMLParser):
    """Collects the cells of each table row in ASCII, and fails where tags are not closed in order."""

    VOID = frozenset({"meta", "br", "wbr"})
    ASCII = str.maketrans({"\u2212": "-", "\u00d7": "x", "\u2026": "..", "\u221e": "inf", "\u2002": " "})

    def __init__(self, text: str):
        super().__init__()
        self.open, self.rows = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & {*self.open}:
            self.rows[-1][-1] += data.translate(self.ASCII)


def test_a_row_for_every_operation_on_the_page_and_on_the_screen(stage):
    printed = stage("--images", "9")
    rows = Reader(report.PAGE.read_text()).rows
    program = stored("int")
    operations = [row for row in rows if row[0].isdecimal()]
    assert [row[1] for row in operations] == [f"{o.name}{o.kind} {' x '.join(map(str, o.shape))}" for o in program.ops]
    lines = printed.splitlines()[1:]
    for op, line, row in zip(program.ops, lines, operations, strict=False):
        assert line.split()[:2] == [op.name, op.kind]
        for column in (5, 6, 7):
            assert f" {row[column]} dB" in line
    assert "statistics of 9 validation images" in report.PAGE.read_text()


def test_the_noise_of_the_logits_is_that_of_the_network_itself(stage):
    stage("--images", "24")
    rows = {row[0]: row for row in Reader(report.PAGE.read_text()).rows}
    x = torch.cat([normalize(pixels) for pixels, _ in plain_batches(load_params())])
    network = create_model(INFO.name, 3, 32, ARGUMENTS).eval()
    network.load_state_dict(load_model(FILES["float"], ("float",)).tensors)
    with torch.no_grad():
        expected = network(x).double()
    for label, program in {"calibrated": convert(stored("ptq")), "QAT = integer": stored("int")}.items():
        logits = IntegerEvaluator(program)(integer_input(x)).double() * 2.0 ** -program.logit_exponent.double()
        ratio = 10 * math.log10(float((expected**2).sum() / ((expected - logits) ** 2).sum()))
        assert abs(float(rows[label][4]) - ratio) < 0.06, label
    assert float(rows["QAT = integer"][5]) > float(rows["QAT = integer"][4]), "its weights are others on purpose"
    assert rows["calibrated"][4] == rows["calibrated"][5]


def test_the_same_bytes_twice_and_nothing_from_elsewhere(stage):
    stage("--images", "5")
    first = report.PAGE.read_bytes()
    stage("--images", "5")
    assert report.PAGE.read_bytes() == first
    assert not re.search(rb"https?:|src=|href=|@import|url\(", first)


def test_scores_where_there_are_some(stage):
    assert "float: top-1 not scored" in stage("--images", "5")
    Path("metrics").mkdir()
    for form, top1 in {"float": 91.25, "ptq": 87.0, "int": 89.5}.items():
        Path(f"metrics/{form}.json").write_text(json.dumps(SCORES | {"top1": top1}))
    printed = stage("--images", "5")
    assert "float: top-1 91.25 %" in printed and "QAT = integer: top-1 89.50 %" in printed
    text = report.PAGE.read_text()
    assert "<b>QAT</b>: top-1 +2.50 points, loss +0.0000" in text
    rows = {row[0]: row for row in Reader(text).rows}
    assert [rows[label][2] for label in ("float", "calibrated", "QAT = integer")] == ["", "-4.25", "-1.75"]


@pytest.mark.parametrize(
    ("count", "message"),
    [
        ("25", "artifacts/db/val.lmdb holds 24 images, fewer than the 25 that are asked for"),
        ("0", "--images 0 is not allowed, must be at least 1"),
    ],
)
def test_images_that_there_are_not(stage, count, message):
    with pytest.raises(SystemExit, match=f"error: {message}"):
        stage("--images", count)


def test_an_integer_model_of_other_weights_is_refused(stage):
    whole = FILES["int"].read_bytes()
    program = convert(stored("ptq"))
    save_model(FILES["int"], "int", program.constants, INFO, program.to_json())
    try:
        with pytest.raises(SystemExit, match=r"int/model\.safetensors was not made from .*qat/model\.safetensors: "):
            stage()
    finally:
        FILES["int"].write_bytes(whole)


def layer(name: str, noise: float, result: float = 0.0, clipped: int = 0, **changes) -> Layer:
    """Of signal 1000, of whose noise `result` is from rounding."""
    histogram = torch.zeros(256, dtype=torch.int64)
    histogram[128] = 1000
    return Layer(
        name=name,
        kind="conv",
        shape=(4, 5, 6),
        exponent=-3,
        bounds=(0, 127),
        values=Values(histogram, least=0, greatest=126, elements=40_000, clipped=clipped, accumulator=2**20),
        own=OwnNoise(Noise(1000, noise), Noise(1000, result)),
        calibrated=Noise(1000, 10),
        integer=Noise(1000, 1),
        own_weights=Noise(1000, 0.5),
        weights=Weights(torch.ones(256, dtype=torch.int64), (5, 9), 2**22),
    )


LAYERS = [layer("quiet", 1, 0.9), layer("loud<b>", 100, 20, clipped=10), layer("silent", 0), layer("same", 10, 10)]
FORMS = {
    "float": Form("float", SCORES),
    "covering": Form("covering", SCORES | {"top1": 89.0}, Noise(100, 10), Noise(100, 10)),
    "ptq": Form("calibrated", SCORES | {"top1": 90.0, "loss": 0.2}, Noise(100, 1), Noise(100, 1)),
    "int": Form("integer", SCORES | {"top1": 91.0}, Noise(100, 10), Noise(100, 1)),
}
REPORT = Report("net", (3, 8, 8), "rgb", 10, 127, "exact8", FORMS, LAYERS, {"loud": 1200, "same": 34}, 900, 3 * 2**19)


def plain(html: str) -> str:
    return re.sub(r"<[^>]*>", "", html)


def test_operations_that_lose_most_in_order_and_with_their_cause():
    items = [plain(item) for item in re.findall(r"<li>(.*?)</li>", page(REPORT).split("Where it loses most")[1])]
    assert items[:3] == [
        "loud&lt;b&gt; (conv): 10.0 dB by itself; 80 % of that noise from its weights and biases, "
        "0.025 % of its values clipped.",
        "same (conv): 20.0 dB by itself; 100 % of that noise from rounding and clipping its result.",
        "quiet (conv): 30.0 dB by itself; 90 % of that noise from rounding and clipping its result.",
    ]
    assert not any("silent" in item for item in items)


def test_what_each_step_gained():
    text = page(REPORT)
    assert (
        "<b>Calibration</b>: top-1 +1.00 points, loss &minus;0.0500, 10.0 dB less rounding noise in the logits." in text
    )
    assert "<b>QAT</b>: top-1 +1.00 points, loss +0.0500, 0.0 dB less rounding noise in the logits." in text
    assert "Scores of 24 images: one image is 4.2 points." in text


def test_cells_of_an_operation():
    row = Reader(page(REPORT)).rows[-3]
    assert row == [
        *("2", "loud<b>conv 4 x 5 x 6", "-3weights 5..9", "0..126 of 0..127", "0.025"),
        *("10.0", "20.0", "30.0", "33.0", "2.0seen 4.0", "49.6   0.8"),
    ]  # of one weight of each value, 127 of 256 are beyond 64 and 2 are 127 or -127


def test_operations_without_weights_or_exponent():
    changed = dataclasses.replace(LAYERS[2], weights=None, exponent=None, bounds=None)
    row = Reader(page(dataclasses.replace(REPORT, layers=[LAYERS[0], changed]))).rows[-1]
    assert row[2:6] == ["int32", "0..126", "", "inf"] and row[-2:] == ["", ""]


def test_the_verdict_on_the_qdq_file():
    unsafe, safe = page(REPORT), page(dataclasses.replace(REPORT, saturating={}))
    assert "int8_qdq.onnx is not safe" in unsafe and "1,234 weights in 2 layers" in unsafe
    assert "int8_qdq.onnx is exact" in safe and "not safe" not in safe


def test_key_figures():
    tiles = plain(page(REPORT).split('class="tiles"')[1].split("verdict")[0])
    for figure in (
        "91.00 %",
        "&minus;0.25 against float",
        "20.0 dB",
        "10.0 dB",
        "0.025 %",
        "2.0 bits",
        "900 B",
        "1.5 MiB",
    ):
        assert figure in tiles


def test_a_histogram_is_as_high_as_the_cube_root_of_a_count():
    counts = torch.zeros(256, dtype=torch.int64)
    counts[[0, 128, 129, 255]] = torch.tensor([125, 600, 400, 1])  # -128, 0 and 1, 127
    picture = histogram(counts, (-128, 127), 64)
    assert re.findall(r'class="(\w+)" d="(.*?)"', picture) == [
        ("in", "M32 20v-20h1v20z"),
        ("out", "M0 20v-10h1v10zM63 20v-2h1v2z"),
    ]
    assert 'class="room" x="0" width="64"' in picture
    assert 'class="room" x="32" width="24.25"' in histogram(counts, (0, 96))


def test_a_chart_leaves_out_what_is_not_finite():
    picture = chart({"a": [20.0, math.inf, 30.0], "b": [25.0] * 3}, [-math.inf, 20.0, 30.0], ["x<y", "", ""])
    lines = dict(re.findall(r'class="line (\w)" points="(.*?)"', picture))
    top, bottom = 8.0, 278.0  # of 30 and 20
    assert [point.split(",")[1] for point in lines["a"].split()] == [f"{bottom}", f"{top}"]
    assert [point.split(",")[1] for point in lines["b"].split()] == [f"{(top + bottom) / 2}"] * 3
    assert re.findall(r'cx="(.*?)" cy="(.*?)"', picture) == [("517.0", f"{bottom}"), ("839.0", f"{top}")]
    assert "<title>x&lt;y</title>" in picture


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2**20, "1.0 MiB")])
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(("share", "text"), [(0, "0"), (1e-6, "<0.001"), (1e-5, "0.001"), (0.5, "50.000")])
def test_percentages_of_few_values(share, text):
    assert percent(share) == text
