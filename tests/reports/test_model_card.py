"""The model card: its tables, its metadata and its recipe, read back."""

import hashlib
import re
from dataclasses import replace

import portable_programs
import programs
import pytest
import yaml

from reports.model_card import Card, markdown, text
from storage.model_file import ModelInfo

SCORES = {
    "float": {"top1": 90.0, "top5": 99.0, "loss": 0.5, "images": 1234},
    "int": {"top1": 89.5, "top5": 98.5, "loss": 0.625, "images": 1234},
    "litert": {},
}
RECIPE = {"seed": 3, "train": {"init_from": {"file": "é.safetensors"}, "freeze": []}, "qat": {"lr": 0.01}}
CARD = Card(
    info=ModelInfo("net_x", {"widths": [8, 16]}, 3, 24, "rgb", ["ant", "bee, or wasp", "a|b`c\n<i>"]),
    program=programs.network(),
    scores=SCORES,
    labels={"float": "the float one", "int": "the integer one", "litert": "LiteRT"},
    short={"int_top1": 89.5, "executions": 11, "compared": 1234567, "mismatches": 0, "params": 4321, "macs": 7654321},
    packed={
        "train": {"images": 5000, "images_per_class": {"min": 1000, "max": 2000}, "digest": "d" * 64},
        "val": {"images": 300, "images_per_class": {"min": 100, "max": 100}, "digest": "e" * 64},
    },
    shared={"val_in_train": 1002, "other_labels": 3},
    files={"artifacts/a": b"x" * 2000, "artifacts/b": b""},
    resize=None,
    litert_logits="int8",
    data="Images of mine, see `README`",
    license=None,
    recipe=RECIPE,
)


def sections(card: Card) -> dict[str, str]:
    """The text below each heading, and before them."""
    _, above, body = re.split(r"^---\n", markdown(card), maxsplit=2, flags=re.MULTILINE)
    first, *rest = re.split(r"^## (.*)\n\n", body, flags=re.MULTILINE)
    return {"metadata": above, "": first} | dict(zip(rest[::2], rest[1::2], strict=True))


def table(text: str) -> list[list[str]]:
    """The cells of a table's rows, without its head; a pipe after a backslash does not separate cells."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_network_and_preparation():
    network = dict(table(sections(CARD)["Network"]))
    assert network["network"] == 'net_x, arguments {"widths": \\[8, 16\\]}'
    assert network["parameters, multiply-accumulates"] == "4,321, 7,654,321"
    assert network["input"].startswith("24 x 24 rgb pixels p of 8 bits")
    assert network["preparation"] == "the centre 24 x 24 pixels, black where there are none, to rgb"
    assert network["output"] == "3 logits: int32 accumulators, or float32"
    assert network["classes"] == r'ant, "bee, or wasp", a\|b\`c\\n\<i>'
    info = replace(CARD.info, resample="bicubic")
    resized = dict(table(sections(replace(CARD, resize=30, info=info))["Network"]))["preparation"]
    assert resized == "short side to 30 (bicubic), the centre 24 x 24 pixels, black where there are none, to rgb"


def test_portable_arithmetic_has_a_tflite_file():
    card = sections(replace(CARD, program=portable_programs.network(), litert_logits="int16"))
    assert dict(table(card["Network"]))["output"].endswith(", or int16 of one exponent in int8.tflite")
    held = "give the same bits: 1,234,567 values in each of 11 executions, 0 differ."
    assert f"ONNX, C and LiteRT forms {held}" in card[""]
    assert f"ONNX and C forms {held}" in sections(CARD)[""]


def test_data_results_and_files():
    card = sections(CARD)
    assert card["Data"].startswith("Images of mine, see `README`.\n")
    unknown = sections(replace(CARD, data=None))["Data"]
    assert unknown.startswith("Whose the images are, and on which terms they may be used, is not stated.\n")
    shared = "1,002 images of the split val are in train, too (the same RGB pixels), 3 of them with another label.\n"
    assert shared in card["Data"]
    assert table(card["Data"]) == [
        ["train", "5,000", "1,000 to 2,000", f"`{'d' * 64}`"],
        ["val", "300", "100", f"`{'e' * 64}`"],
    ]
    assert "On the 1,234 images" in card["Results"]
    assert table(card["Results"]) == [
        ["the float one", "90.00", "+0.00", "99.00", "0.5000"],
        ["the integer one", "89.50", "-0.50", "98.50", "0.6250"],
    ]
    assert table(card["Files"]) == [
        ["artifacts/a", "2,000", f"`{hashlib.sha256(b'x' * 2000).hexdigest()}`"],
        ["artifacts/b", "0", f"`{hashlib.sha256(b'').hexdigest()}`"],
    ]


def test_ties_are_told_where_there_are_some():
    scores = SCORES | {"litert": SCORES["int"] | {"ties": 5}}
    assert "5 of 1234 images have two best logits that are equal" in sections(replace(CARD, scores=scores))["Results"]
    assert "equal" not in sections(CARD)["Results"]


def test_recipe_and_metadata_are_yaml():
    card = sections(CARD)
    assert yaml.safe_load(card["Recipe"].removeprefix("```yaml\n").removesuffix("```\n")) == RECIPE
    (network,) = (values := yaml.safe_load(card["metadata"])).pop("model-index")
    assert network["name"] == "net_x-int8"
    assert [result["metrics"] for result in network["results"]] == [[{"type": "accuracy", "value": 0.895}]]
    assert values == {
        "license": "unknown",
        "pipeline_tag": "image-classification",
        "library_name": "onnx",
        "tags": ["int8", "quantization-aware-training", "net_x"],
    }


def test_licence():
    assert sections(CARD)["Licence"] == "None has been granted for the weights.\n\n"
    granted = sections(replace(CARD, license="mit"))
    assert granted["Licence"] == "Of the weights: mit.\n\n"
    assert yaml.safe_load(granted["metadata"])["license"] == "mit"


@pytest.mark.parametrize("card", [CARD, replace(CARD, license="mit", resize=9, program=portable_programs.network())])
def test_one_empty_line_at_most_and_no_space_at_the_end_of_a_line(card):
    assert not re.search(r"\n\n\n| $", markdown(card), re.MULTILINE)
    assert markdown(card).endswith("```\n")


@pytest.mark.parametrize(
    ("words", "escaped"),
    [
        ("T-shirt/top", "T-shirt/top"),
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),
        ("`x` \r\n y", r"\`x\` y"),
        ("<b>", r"\<b>"),
        ("&lt;b&gt;", r"\&lt;b\&gt;"),
        ("**x** _y_ snake_case ~~z~~ $1$", r"\*\*x\*\* \_y\_ snake_case \~\~z\~\~ \$1\$"),
        ("![x](http://y)", r"!\[x\](http\://y)"),
        ("\x1b[2J\u202e", r"\\x1b\[2J\\u202e"),
        ("x" * 3000, "x" * 2000 + "…"),
    ],
)
def test_words_of_others_stay_in_their_cell(words, escaped):
    assert text(words) == escaped
