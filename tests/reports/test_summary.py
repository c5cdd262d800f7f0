import pytest

from reports.summary import headline, summary

LABELS = {"float": "float", "ptq": "calibrated (ptq)", "qat": "QAT", "int": "integer", "litert": "LiteRT int8"}

SCORES = {form: {"top1": 90 - index, "top5": 99.5, "loss": 0.25, "images": 1000} for index, form in enumerate(LABELS)}
SCORES["litert"]["ties"] = 7
EXACTNESS = {
    "logits": {"images": 1000, "pairs": {"qat = int": {"elements": 10000, "mismatches": 2}}},
    "tensors": {"images": 8, "names": ["a", "b", "c"], "pairs": {"qat = int": {"elements": 123456, "mismatches": 0}}},
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


def test_what_litert_gives_is_counted_where_there_is_a_file():
    litert = {
        "images": 1000,
        "pairs": {f"int = litert ({name})": {"elements": 10000, "mismatches": 0} for name in "ax"},
    }
    tensors = {"images": 8, "pairs": {"int = litert (a)": {"elements": 99999, "mismatches": 1}}}
    text = summary(SCORES, LABELS, ONNX_SCORES, EXACTNESS | {"litert_logits": litert, "litert_tensors": tensors}, {})
    assert ["int = litert (a)", "10,000", "0", "99,999", "1"] in rows(text)
    assert ["int = litert (x)", "10,000", "0", "0", "0"] in rows(text)


def test_counts_of_every_pair(text):
    assert ["qat = int", "10,000", "2", "123,456", "0"] in rows(text)
    assert "Logits of 1000 images; each of 3 intermediate tensors of 8 images." in text


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
    assert headline(SCORES, {"macs": 1000, "params": 200, "uncounted": []}, 12345, 1) == {
        "float_top1": 90,
        "ptq_top1": 89,
        "qat_top1": 88,
        "int_top1": 87,
        "int_top1_drop": 3,
        "int_loss": 0.25,
        "compared": 12345,
        "mismatches": 1,
        "macs": 1000,
        "params": 200,
    }
