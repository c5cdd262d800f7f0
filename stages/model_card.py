"""Write the model card, artifacts/MODEL_CARD.md: what users of the int8 files must know without this repository.

python -m stages.model_card

It speaks of the files that compare has proved equal to the bit, and of no others: if compare has failed, or a file is
another one by now, there is no card.
"""

from pathlib import Path

from pipeline.cli import no_arguments, run
from pipeline.forms import FORMS, INT, LITERT, ONNX, C, stored_program
from pipeline.params import Card as Texts
from pipeline.params import Params, load_params
from pipeline.paths import require
from storage.files import whole_file

if __name__ == "__main__":
    no_arguments(__doc__)  # --help and mistakes, before the imports that take seconds

from pipeline.results import check_proved, read_metrics, read_scores
from reports.model_card import Card, Packed, Shared, markdown
from reports.summary import Headline

CARD = "artifacts/MODEL_CARD.md"
SHIPPED = {  # file: the target of make that makes it
    ONNX / "int8_qoperator.onnx": "export-onnx",
    ONNX / "int8_qdq.onnx": "export-onnx",
    ONNX / "int8_integer.onnx": "export-onnx",
    ONNX / "float.onnx": "export-onnx",
    C / "network.c": "export-c",
    C / "network.h": "export-c",
    INT.path: INT.target,
}


def main() -> None:
    Path(CARD).unlink(missing_ok=True)
    params = load_params()
    stored = INT.load()
    program = stored_program(stored)
    made_by = SHIPPED | ({LITERT.path: LITERT.target} if program.is_portable else {})
    shipped = [require(file, f"make {target}") for file, target in made_by.items()]
    check_proved(shipped)
    packed = {split: read_metrics(f"pack_{split}", "pack", Packed) for split in ("train", "val")}
    card = Card(
        info=stored.info,
        program=program,
        scores={name: read_scores(form) for name, form in FORMS.items()},
        labels={name: form.label for name, form in FORMS.items()},
        short=read_metrics("summary", "validate", Headline),
        packed=packed,
        shared=read_metrics("overlap", "overlap", Shared),
        files={str(file): file.read_bytes() for file in shipped},
        resize=params.input.resize,
        litert_logits=params.litert.logits,
        data=stated(params.card, packed["train"]["digest"]),
        license=params.card.license,
        recipe=recipe(params),
    )
    with whole_file(CARD) as partial:
        partial.write_text(markdown(card), encoding="utf-8")
    print(f"wrote {CARD}")


def stated(card: Texts, digest: str) -> str | None:
    """What `card` states of the training images with this digest; prints how to state it where it does not."""
    if card.data and card.digest and digest.startswith(card.digest):
        return card.data
    why = "card.digest is not that of these images" if card.data else "card.data is null"
    print(f"the card does not state whose the images are: {why}; set card.data, and card.digest to '{digest[:12]}'")
    return None


def recipe(params: Params) -> dict:
    """The parameters that decided the weights, as in params.yaml."""
    blocks = {"train": params.train, "augment": params.augment, "calibrate": params.calibrate, "qat": params.qat}
    numbers = {"seed": params.seed, "lr": params.lr, "epochs": params.epochs, "batch_size": params.batch_size}
    return numbers | {name: block.model_dump(mode="json") for name, block in blocks.items()}


if __name__ == "__main__":
    run(main)
