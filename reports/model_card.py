"""The model card: what users of the int8 files must know without this repository.

After M. Mitchell et al., Model Cards for Model Reporting, 2019; its first block is metadata for the Hugging Face Hub.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import yaml

from evaluation.score import Scores
from fixedpoint.c.source import memory_bytes
from fixedpoint.onnx.runtime import saturating_weights
from fixedpoint.program import Program
from reports.summary import Headline, forms_table, qdq_verdict, tie_note
from reports.templates import environment
from storage.model_file import ModelInfo
from storage.printable import printable

LONGEST_TEXT = 2000  # characters


class Packed(TypedDict):
    """What metrics/pack_<split>.json says of a database, in part."""

    images: int
    images_per_class: dict[str, int]
    digest: str


class Shared(TypedDict):
    """What metrics/overlap.json says of validation images that are training images, too."""

    val_in_train: int
    other_labels: int


@dataclass(frozen=True)
class Card:
    """What the card is made from.

    Attributes:
        info: Description of the integer model.
        program: The integer program.
        scores: Scores of each form; empty where the arithmetic has no such form.
        labels: Labels of the forms.
        short: The contents of metrics/summary.json.
        packed: The contents of metrics/pack_<split>.json by split.
        shared: The counts of metrics/overlap.json.
        files: The contents of the shipped files by name.
        resize: Short side before the centre crop; None: images keep their size.
        litert_logits: Type of the logits of int8.tflite.
        data: A sentence on the images in Markdown, without its full stop; None: not stated.
        license: License of the weights; None if none has been granted.
        recipe: The parameters that decided the weights, as in params.yaml.
    """

    info: ModelInfo
    program: Program
    scores: Mapping[str, Scores]
    labels: Mapping[str, str]
    short: Headline
    packed: Mapping[str, Packed]
    shared: Shared
    files: Mapping[str, bytes]
    resize: int | None
    litert_logits: str
    data: str | None
    license: str | None
    recipe: Mapping[str, Any]


def markdown(card: Card) -> str:
    """The text of the card."""
    templates = environment(autoescape=False)
    templates.filters |= {"json": json.dumps, "sha256": _sha256, "text": text, "listed": listed, "yaml": _yaml}
    return templates.get_template("model_card.md").render(
        card=card,
        metadata=_metadata(card),
        memory=memory_bytes(card.program),
        results="\n".join(forms_table(card.scores, card.labels)),
        ties=tie_note(card.scores),
        verdict=qdq_verdict(saturating_weights(card.program)),
    )


def text(words: str) -> str:
    """Foreign text as Markdown, on one line and without markup, links or HTML, for a cell of a table, too."""
    line = re.sub(r"\s*[\r\n]+\s*", " ", words)
    return re.sub(r"[\\|`<&*~$\[\]]|\b_|_\b|:(?=//)", r"\\\g<0>", printable(line, LONGEST_TEXT))


def listed(names: Iterable[str]) -> str:
    """Foreign names as Markdown; one with a comma or a quote is quoted, so that the names do not run together."""
    shown = (printable(name) for name in names)
    return ", ".join(text(json.dumps(name, ensure_ascii=False) if re.search('[,"]', name) else name) for name in shown)


def _metadata(card: Card) -> dict[str, Any]:
    """The block at the top, for the Hugging Face Hub."""
    task = {"type": "image-classification"}
    metrics = [{"type": "accuracy", "value": round(card.short["int_top1"] / 100, 6)}]
    result = {"task": task, "dataset": {"type": "images", "name": "split val", "split": "val"}, "metrics": metrics}
    return {
        "license": card.license or "unknown",
        "pipeline_tag": "image-classification",
        "library_name": "onnx",
        "tags": ["int8", "quantization-aware-training", card.info.name],
        "model-index": [{"name": f"{card.info.name}-int8", "results": [result]}],
    }


def _yaml(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip()


def _sha256(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()
