"""Write the quantization report, artifacts/int/report.html: what each step and each operation costs and gains.

    python -m stages.report [--images 256]

It is one page without other files; its table of operations is printed, too.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.cli import run
from pipeline.forms import FLOAT, INT, PTQ, QAT, Form, stored_program
from pipeline.params import Params, load_params
from storage.errors import InputError
from storage.files import whole_file


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, help="number of images for the statistics (default: report.images)")
    return parser.parse_args()


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

from torch import Tensor
from tqdm import tqdm

from evaluation.score import Scores, predict, score
from fixedpoint.program.integer import integer_logits
from models.normalization import normalize
from pipeline.databases import Split, check_model, open_database, plain_batches
from pipeline.draw import draw
from pipeline.float_model import float_program
from pipeline.machine import prepare
from pipeline.origins import check_origins
from pipeline.results import read_scores
from reports.quantization import covering_program, measure, reference_program
from reports.quantization_page import page
from reports.quantization_table import table

PAGE = Path("artifacts/int/report.html")


def main() -> None:
    images = parse_arguments().images
    params = load_params()
    images = params.report.images if images is None else images
    if images < 1:
        raise InputError(f"--images {images} is not allowed, must be at least 1")
    device = prepare(params.execution)
    stored = {file.name: file.load() for file in (FLOAT, PTQ, QAT, INT)}
    for file in (FLOAT, PTQ, QAT, INT):
        check_model(file.path, stored[file.name].info, params)
    programs = {form: stored_program(stored[form]) for form in ("ptq", "qat", "int")}
    known = params.calibrate.images
    floating = float_program(stored["float"])
    reference = reference_program(floating, programs["int"], lambda: inputs(params, "train", known))
    check_origins(reference, programs)
    covering = covering_program(reference, programs["int"], lambda: inputs(params, "train", known))
    scores = {form.name: stored_scores(form) for form in (FLOAT, PTQ, INT)}
    scores["covering"] = score(*predict(integer_logits(covering, device), batches(params)))
    info = stored["int"].info
    drawn = draw(open_database(params, "val"), images)
    count = len(drawn.indices)
    report = measure(reference, programs, covering, scores, info, count, lambda: inputs(params, "val", images))
    with whole_file(PAGE) as partial:
        partial.write_text(page(report), encoding="utf-8")
    print(table(report))
    print(f"wrote {PAGE}, measured on {drawn}")


def batches(params: Params, split: Split = "val", images: int | None = None) -> Iterable[tuple[Tensor, Tensor]]:
    """As `plain_batches`, with a progress bar."""
    return tqdm(plain_batches(params, split, images), unit="batch", leave=False, disable=None)


def inputs(params: Params, split: Split, images: int) -> Iterator[Tensor]:
    """Drawn images of a split in batches of network input."""
    return (normalize(pixels) for pixels, _ in batches(params, split, images))


def stored_scores(form: Form) -> Scores | None:
    """The scores that the validate stage has written of the form's file; None if there are none."""
    return read_scores(form) if Path(f"metrics/{form.name}.json").exists() else None


if __name__ == "__main__":
    run(main)
