"""The quantization report: what each step and each operation costs and gains, artifacts/int/report.html.

    python -m stages.report [--images 256]

One page for a browser that needs nothing from elsewhere; its table of operations is printed, too.
"""

import argparse
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from evaluation.score import predict, score
from fixedpoint.analysis.statistics import (
    accumulated_noise,
    head_room,
    integer_values,
    own_noise,
    result_bounds,
    weight_histogram,
)
from fixedpoint.c.memory_plan import plan
from fixedpoint.c.source import flash_bytes
from fixedpoint.onnx.runtime import saturating_weights
from fixedpoint.program import Op, Program
from fixedpoint.program.bounds import accumulator_bound
from fixedpoint.program.integer import integer_logits
from fixedpoint.program.portable import lower
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from models.normalization import normalize
from pipeline.cli import run
from pipeline.databases import check_model, plain_batches
from pipeline.machine import prepare
from pipeline.model_files import FILES, MADE_BY, float_program, stored_program
from pipeline.params import Params, load_params
from pipeline.paths import require
from reports.quantization_page import Form, Layer, Report, Weights, decibels, page, percent
from storage.files import whole_file
from storage.model_file import ModelInfo, load_model

PAGE = Path("artifacts/int/report.html")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, help="that statistics are of (default: report.images)")
    images = parser.parse_args().images
    params = load_params()
    images = params.report.images if images is None else images
    if images < 1:
        raise ValueError(f"--images {images} is not allowed, must be at least 1")
    device = prepare(params.execution)
    stored = {form: load_model(require(FILES[form], MADE_BY[form]), (form,)) for form in ("float", "ptq", "qat", "int")}
    for form, contents in stored.items():
        check_model(FILES[form], contents.info, params)
    programs = {form: stored_program(stored[form]) for form in ("ptq", "qat", "int")}
    reference = float_program(stored["float"])
    if programs["int"].is_portable:
        reference = lower(reference)
    for form, program in programs.items():
        if program.ops != reference.ops:
            raise ValueError(f"{FILES[form]} was not made from {FILES['float']}: its operations are others")
    for name, value in convert(programs["qat"]).constants.items():
        if not value.equal(programs["int"].constants[name]):
            raise ValueError(f"{FILES['int']} was not made from {FILES['qat']}: {name} is another")
    report = measure(reference, programs, params, images, stored["int"].info, device)
    with whole_file(PAGE) as partial:
        partial.write_text(page(report))
    print_table(report)
    print(f"wrote {PAGE}")


def measure(
    reference: Program,
    programs: dict[str, Program],
    params: Params,
    count: int,
    info: ModelInfo,
    device: torch.device,
) -> Report:
    """Everything that the page shows.

    Args:
        reference: The float network.
        programs: Those of the ptq, qat and int model files.
        params: Of the pipeline.
        count: Validation images that statistics are of.
        info: Of the int model file.
        device: On which to score what the validate stage does not.
    """

    def images() -> Iterator[Tensor]:
        batches = plain_batches(params, images=count)
        return (normalize(pixels) for pixels, _ in tqdm(batches, unit="batch", leave=False, disable=None))

    program, ptq = programs["int"], convert(programs["ptq"])
    covering = covering_program(reference, program, params)
    noise = accumulated_noise(reference, {"covering": covering, "ptq": ptq, "int": program}, images())
    noise["own_weights"] = accumulated_noise(programs["qat"], {"int": program}, images())["int"]
    own, values = own_noise(reference, ptq, images()), integer_values(program, images())
    logits = {form: of_form[program.output] for form, of_form in noise.items()}
    covering_scores = scores(covering, params, device)
    return Report(
        network=info.name,
        input_shape=program.input_shape,
        color_space=info.color_space,
        images=count,
        weight_limit=program.weight_limit,
        arithmetic=program.arithmetic,
        forms={
            "float": Form("float", stored_scores("float")),
            "covering": Form("covering exponents", covering_scores, logits["covering"], logits["covering"]),
            "ptq": Form("calibrated", stored_scores("ptq"), logits["ptq"], logits["ptq"]),
            "int": Form("QAT = integer", stored_scores("int"), logits["int"], logits["own_weights"]),
        },
        layers=[
            Layer(
                name=op.name,
                kind=op.kind,
                shape=op.shape,
                exponent=program.exponents.get(op.name),
                bounds=result_bounds(program, op) if op.name in program.exponents else None,
                values=values[op.name],
                own=own[op.name],
                calibrated=noise["ptq"][op.name],
                integer=noise["int"][op.name],
                own_weights=noise["own_weights"][op.name],
                weights=weights(program, op) if op.weighted else None,
            )
            for op in program.ops
        ],
        saturating=saturating_weights(program),
        peak=plan(program).peak,
        flash=flash_bytes(program),
    )


def covering_program(reference: Program, program: Program, params: Params) -> Program:
    """The float network in the arithmetic of `program`, with the exponents that cover its tensors and no finer ones."""
    batches = plain_batches(params, "train", params.calibrate.images)
    bits = program.weight_limit.bit_length() + 1
    with warnings.catch_warnings(action="ignore"):  # the calibrate stage has shown them
        calibrated = calibrate(
            reference, lambda: (normalize(pixels) for pixels, _ in batches), 0, program.arithmetic, bits
        )
    return convert(calibrated)


def scores(program: Program, params: Params, device: torch.device) -> dict[str, float]:
    """Of an integer program on all validation images."""
    logits_of = integer_logits(program, device)
    batches = tqdm(plain_batches(params), unit="batch", leave=False, disable=None)
    return score(*predict(lambda pixels: logits_of(normalize(pixels.to(device))), batches))


def stored_scores(form: str) -> dict[str, float]:
    """Those that the validate stage has written, if it has."""
    path = Path(f"metrics/{form}.json")
    return json.loads(path.read_text()) if path.exists() else {}


def weights(program: Program, op: Op) -> Weights:
    """The weights of a conv or linear."""
    exponents = program.constants[f"{op.name}.weight_exponent"]
    bound = accumulator_bound(program, op, *(program.constants[f"{op.name}.{name}"] for name in ("weight", "bias")))
    return Weights(weight_histogram(program, op), (int(exponents.min()), int(exponents.max())), int(bound.max()))


def print_table(report: Report) -> None:
    width = max(len(layer.name) for layer in report.layers)
    print(f"{'operation':{width}}  kind       e       values clipped %  by itself  calibrated   integer  bits")
    for layer in report.layers:
        own, calibrated, integer = (decibels(n) for n in (layer.own.total, layer.calibrated, layer.integer))
        span = f"{layer.values.least}..{layer.values.greatest}" if layer.bounds else "int32"
        room = f"{head_room(layer.weights.accumulator):.1f}" if layer.weights else ""
        print(
            f"{layer.name:{width}}  {layer.kind:8} {'' if layer.exponent is None else layer.exponent:>3} {span:>12} "
            f"{percent(layer.clipped):>9} {own:>7} dB {calibrated:>8} dB {integer:>6} dB {room:>5}"
        )
    for key, form in report.forms.items():
        top1 = f"{form.scores['top1']:.2f} %" if form.scores else "not scored"
        to = {} if key == "float" else {"float": form.noise, "own weights": form.own_weights}
        noise = "".join(f", logits to {name} {decibels(noise)} dB" for name, noise in to.items())
        print(f"{form.label}: top-1 {top1}{noise}")


if __name__ == "__main__":
    run(main)
