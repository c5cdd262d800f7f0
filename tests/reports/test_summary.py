import pytest

from reports.summary import headline, held, said, summary

LABELS = {"float": "float", "ptq": "calibrated (ptq)", "qat": "QAT", "int": "integer", "litert": "LiteRT int8"}

SCORES = {form: {"top1": 90 - index, "top5": 99.5, "loss": 0.25, "images": 1000} for index, form in enumerate(LABELS)}
SCORES["litert"]["ties"] = 7
EXACTNESS = {
    "logits": {
        "images": 1000,
        "pairs": {
            "qat = int": {"elements": 10000, "mismatches": 2},
            "qat = c": {"elements": 10000, "mismatches": 1},
            "int = c": {"elements": 10000, "mismatches": 3},
        },
    },
    "tensors": {
        "images": 8,
        "names": ["a", "b", "c"],
        "pairs": {
            "qat = int": {"elements": 123456, "mismatches": 0},
            "qat = c": {"elements": 123456, "mismatches": 5},
            "int = c": {"elements": 123456, "mismatches": 5},
        },
    },
}
LITERT = {
    "litert_logits": {
        "images": 1000,
        "pairs": {
            "int = litert (a)": {"elements": 10000, "mismatches": 0},
            "int = litert (x)": {"elements": 10000, "mismatches": 0},
            "litert (a) = litert (x)": {"elements": 10000, "mismatches": 0},
        },
    },
    "litert_tensors": {"images": 8, "pairs": {"int = litert (a)": {"elements": 123456, "mismatches": 1}}},
}
ONNX_SCORES = {"onnx_int8_qdq (int8)": {"top1": 87.125, "top5": 99, "loss": 0.5, "images": 1000}}


@pytest.fixture(scope="module")
def text():
    return summary(SCORES, LABELS, ONNX_SCORES, EXACTNESS, {})


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, without rules and alignment."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_row_for_every_form_with_its_difference_to_float(text):
    assert rows(text)[:6] == [
        ["form", "top-1 %", "against float", "top-5 %", "loss"],
        ["float", "90.00", "+0.00", "99.50", "0.2500"],
        ["calibrated (ptq)", "89.00", "-1.00", "99.50", "0.2500"],
        ["QAT", "88.00", "-2.00", "99.50", "0.2500"],
        ["integer", "87.00", "-3.00", "99.50", "0.2500"],
        ["LiteRT int8", "86.00", "-4.00", "99.50", "0.2500"],
    ]
    assert "7 of 1000 images have two best logits that are equal in int8.tflite" in text
    assert "1000 validation images." in text


def test_a_form_that_there_is_not_has_no_row():
    text = summary(SCORES | {"litert": {}}, LABELS, ONNX_SCORES, EXACTNESS, {})
    assert "LiteRT int8" not in text and "tflite" not in text


def test_a_row_for_each_execution_that_was_held_against_the_integer_model():
    text = summary(SCORES, LABELS, ONNX_SCORES, EXACTNESS | LITERT, {})
    assert rows(text)[6:11] == [
        ["execution", "logits, 1000 images", "differ", "int8 values inside, 8 images", "differ"],
        ["qat", "10,000", "2", "123,456", "0"],
        ["c", "10,000", "3", "123,456", "5"],
        ["litert (a)", "10,000", "0", "123,456", "1"],
        ["litert (x)", "10,000", "0", "\u2013", "\u2013"],
    ]
    assert "logits of 1000 images, and each of the 3 int8 tensors inside the network for 8 of them" in text
    assert "133,456 values in each of 4 executions (10,000 in litert (x), which keeps no tensors): 11 differ." in text


def test_where_there_is_no_tflite_file_fewer_executions_are_counted():
    assert said(held(EXACTNESS)) == "133,456 values in each of 2 executions: 10 differ"


def test_every_file_and_mode(text):
    assert rows(text)[-1] == ["onnx_int8_qdq (int8)", "87.12", "0.5000"]


def test_tables_are_well_formed(text):
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        if lines[0].startswith("|"):
            assert len({line.count("|") for line in lines}) == 1
            assert set(lines[1]) <= set("|-:")
    assert text.endswith("\n")


def test_a_file_that_is_not_safe_is_said_to_be(text):
    assert "int8_qdq.onnx is exact" in text
    unsafe = summary(SCORES, LABELS, ONNX_SCORES, EXACTNESS, {"conv1": 1200, "conv2": 34})
    assert "int8_qdq.onnx is not safe" in unsafe
    assert "1,234 weights in 2 layers" in unsafe


def test_the_few_numbers_to_watch():
    found = headline(SCORES, {"macs": 1000, "params": 200, "uncounted": []}, held(EXACTNESS | LITERT), 35040, 440000)
    assert found == {
        "float_top1": 90,
        "ptq_top1": 89,
        "qat_top1": 88,
        "int_top1": 87,
        "int_top1_drop": 3,
        "int_loss": 0.25,
        "executions": 4,
        "compared": 133456,
        "mismatches": 11,
        "macs": 1000,
        "params": 200,
        "ram": 35040,
        "flash": 440000,
    }
