"""The model card: artifacts/MODEL_CARD.md, what somebody must know who gets the int8 files without this repository.

python -m stages.model_card

After M. Mitchell et al., Model Cards for Model Reporting, 2019; the metadata on top are those of the Hugging Face Hub.
"""

import argparse
import hashlib
import json

import yaml

from fixedpoint.c.memory_plan import plan
from fixedpoint.c.source import flash_bytes
from fixedpoint.onnx.runtime import saturating_weights
from fixedpoint.program import Program
from pipeline.cli import run
from pipeline.model_files import FILES, MADE_BY, stored_program
from pipeline.params import Params, load_params
from pipeline.paths import require
from reports.summary import forms_table, qdq_verdict, tie_note
from storage.files import whole_file
from storage.model_file import ModelInfo, load_model

CARD = "artifacts/MODEL_CARD.md"
SHIPPED = {  # and the target that makes it
    "artifacts/onnx/int8_qoperator.onnx": "export-onnx",
    "artifacts/onnx/int8_qdq.onnx": "export-onnx",
    "artifacts/onnx/int8_integer.onnx": "export-onnx",
    "artifacts/onnx/float.onnx": "export-onnx",
    "artifacts/c/network.c": "export-c",
    "artifacts/c/network.h": "export-c",
    "artifacts/int/model.safetensors": "convert-int",
}
LITERT = str(FILES["litert"])
ROUNDING = {
    "portable": "and no rounding that depends on the runtime (portable arithmetic). Its integer, ONNX, C and LiteRT "
    "forms give the same bits:",
    "exact8": "every rounding half to even (exact8 arithmetic). Its integer, ONNX and C forms give the same bits:",
}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    params = load_params()
    stored = load_model(require(FILES["int"], MADE_BY["int"]), ("int",))
    program = stored_program(stored)
    shipped = SHIPPED | ({LITERT: "export-litert"} if program.is_portable else {})
    files = {name: require(name, f"make {target}").read_bytes() for name, target in shipped.items()}
    with whole_file(CARD) as partial:
        partial.write_text(card(params, stored.info, program, metrics(), files), encoding="utf-8")
    print(f"wrote {CARD}")


def metrics() -> dict[str, dict]:
    """metrics/<name>.json by name."""
    made_by = {"pack_train": "pack", "pack_val": "pack"} | dict.fromkeys([*FILES, "summary"], "validate")
    return {name: json.loads(require(f"metrics/{name}.json", f"make {by}").read_text()) for name, by in made_by.items()}


def card(params: Params, info: ModelInfo, program: Program, figures: dict[str, dict], files: dict[str, bytes]) -> str:
    """The text of the card.

    Args:
        params: All parameters.
        info: Of the integer model.
        program: The integer program.
        figures: metrics/<name>.json by name.
        files: The contents of the files that are shipped, by name.
    """
    scores, short, license = {form: figures[form] for form in FILES}, figures["summary"], params.card.license
    size = info.image_size
    lines = [
        "---",
        yaml.safe_dump(metadata(info, license, short["int_top1"]), sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        f"# {info.name}, int8",
        "",
        f"An image classifier of {info.num_classes} classes in integer arithmetic: int8 weights and activations, "
        f"power-of-two scales, int32 accumulators, {ROUNDING[program.arithmetic]} "
        f"{short['compared']:,} values compared, {short['mismatches']:,} differ.",
        "",
        "## Network",
        "",
        "| | |",
        "|---|---|",
        f"| network | {info.name}, arguments {json.dumps(info.arguments)} |",
        f"| parameters, multiply-accumulates | {short['params']:,}, {short['macs']:,} |",
        f"| input | {size} x {size} {info.color_space} pixels p of 8 bits: int8 p - 128 or float32 (p - 128) / 128 |",
        f"| preparation | {preparation(params)} |",
        f"| output | {info.num_classes} logits: {output(program, params)} |",
        f"| memory of the C form | {plan(program).peak:,} bytes of RAM, {flash_bytes(program):,} bytes of constants |",
        f"| classes | {', '.join(info.class_names)} |",
        "",
        "## Data",
        "",
        f"{params.card.data}.",
        "",
        "| split | images | of a class | digest |",
        "|---|---:|---:|---|",
    ]
    for split in ("train", "val"):
        packed = figures[f"pack_{split}"]
        per_class = " to ".join(f"{n:,}" for n in sorted(set(packed["images_per_class"].values())))
        lines.append(f"| {split} | {packed['images']:,} | {per_class} | `{packed['digest']}` |")
    lines += [
        "",
        "## Results",
        "",
        f"On the {scores['int']['images']:,} images of the split val, one centred view each:",
        "",
        *forms_table(scores),
        "",
        *tie_note(scores["litert"]),
        "## Files",
        "",
        "| file | bytes | SHA-256 |",
        "|---|---:|---|",
        *(f"| {name} | {len(data):,} | `{hashlib.sha256(data).hexdigest()}` |" for name, data in files.items()),
        "",
        qdq_verdict(saturating_weights(program)),
        "",
        "## Licence",
        "",
        f"Of the weights: {license}." if license else "None has been granted for the weights.",
        "",
        "## Limits",
        "",
        "- Every picture gets one of the classes above, also one that shows none of them; the logits are no measure of "
        "that.",
        "- The weights kept are those of the epoch that was best on the split val, so the figures above are a little "
        "better than those of pictures never seen.",
        "- Measured on pictures like those it was trained on: not under other light, other cameras, noise or attacks, "
        "and not for groups of people.",
        "- Another preparation of the pictures than the one above (colour space, range, resizing) costs accuracy "
        "without any error message.",
        "",
        "## Recipe",
        "",
        "```yaml",
        yaml.safe_dump(recipe(params), sort_keys=False).rstrip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def metadata(info: ModelInfo, license: str | None, top1: float) -> dict:
    """The block on top, for the Hugging Face Hub; `top1` in percent."""
    task = {"type": "image-classification"}
    metrics = [{"type": "accuracy", "value": round(top1 / 100, 6)}]
    result = {"task": task, "dataset": {"type": "images", "name": "split val", "split": "val"}, "metrics": metrics}
    return {
        "license": license or "unknown",
        "pipeline_tag": "image-classification",
        "library_name": "onnx",
        "tags": ["int8", "quantization-aware-training", info.name],
        "model-index": [{"name": f"{info.name}-int8", "results": [result]}],
    }


def recipe(params: Params) -> dict:
    """What decided the weights, beside the data, as it stands in params.yaml."""
    blocks = {"train": params.train, "augment": params.augment, "calibrate": params.calibrate, "qat": params.qat}
    numbers = {"seed": params.seed, "lr": params.lr, "epochs": params.epochs, "batch_size": params.batch_size}
    return numbers | {name: block.model_dump(mode="json") for name, block in blocks.items()}


def output(program: Program, params: Params) -> str:
    small = f", or {params.litert.logits} of one exponent in int8.tflite" if program.is_portable else ""
    return f"int32 accumulators, or float32{small}"


def preparation(params: Params) -> str:
    size, resize = params.input.size, params.input.resize
    scaled = f"short side to {resize}, " if resize else ""
    return f"{scaled}the centre {size} x {size} pixels, black where there are none, to {params.input.color_space}"


if __name__ == "__main__":
    run(main)
