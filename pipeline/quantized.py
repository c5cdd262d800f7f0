"""The files of a network that is quantized as it is, in a folder laid out as artifacts/, with a proof and a report."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import Tensor, nn

from evaluation.exactness import Compared
from evaluation.score import Scores, predict, score
from fixedpoint.analysis.golden import golden_tensors, write_golden
from fixedpoint.c.runtime import COMPILER
from fixedpoint.program.integer import signed_pixels
from fixedpoint.quantizer import Quantized
from models.normalization import normalize
from pipeline.c_check import c_check
from pipeline.comparison import FILES_OF, Comparison, Images
from pipeline.forms import ARTIFACTS, FLOAT, GOLDEN, INT, LITERT, LITERT_FOLDER, ONNX, PTQ, C
from pipeline.litert_check import litert_check
from pipeline.logits import float_logits
from pipeline.params import Params
from pipeline.paths import runs_folder
from pixels.batches import NO_LABEL
from reports.quantization import covering_program, measure, reference_program
from reports.quantization_page import page
from reports.summary import held, said
from storage.errors import InputError
from storage.files import sha256, whole_file, write_json
from storage.model_file import ModelInfo, save_model

REPORT, PROOF = ARTIFACTS / "report.html", ARTIFACTS / "exactness.json"
SELFCHECK, LITERT_SELFCHECK = C / "selfcheck.c", LITERT_FOLDER / "selfcheck"
Part = Callable[[int | None], Images]  # the first so many images, or all


class Checked(NamedTuple):
    """What came of a comparison: sentences, and the scores of the forms if the images have labels."""

    sentences: list[str]
    scores: dict[str, Scores | None]


def place(path: Path, folder: Path) -> Path:
    """The place in `folder` of what the pipeline has in artifacts."""
    return folder / path.relative_to(ARTIFACTS)


def write_forms(quantized: Quantized, network: nn.Module, info: ModelInfo, folder: Path, params: Params) -> None:
    """Write the model files of the float, calibrated and integer form, and everything that is exported of them.

    Raises:
        OSError: If a file cannot be written.
    """
    save_model(place(FLOAT.path, folder), FLOAT.name, network.state_dict(), info)
    for form, program in {PTQ: quantized.calibrated, INT: quantized.program}.items():
        save_model(place(form.path, folder), form.name, program.constants, info, program.to_json())
    quantized.save_onnx(place(ONNX, folder))
    quantized.save_c(place(C, folder))
    if quantized.program.is_portable:
        quantized.save_tflite(place(LITERT.path, folder), params.litert.logits)
    else:
        shutil.rmtree(place(LITERT_FOLDER, folder), ignore_errors=True)  # of another arithmetic


def write_vectors(quantized: Quantized, images: Images, folder: Path, params: Params) -> None:
    """Write the golden vectors of `images`, and the self-checks of C and LiteRT, which hold some of them.

    Raises:
        OSError: If a file cannot be written.
    """
    pixels, labels = (torch.cat(each) for each in zip(*images, strict=True))
    numbers = [images.record(image)[0] for image in range(len(pixels))]
    program, x = quantized.program, signed_pixels(pixels)
    write_golden(place(GOLDEN, folder), program, golden_tensors(program, x), numbers, labels.tolist())
    checks = {SELFCHECK: c_check(program, x.numpy()).encode()}
    if program.is_portable:
        model = place(LITERT.path, folder).read_bytes()
        files = litert_check(program, model, params.litert.logits, x.numpy())
        checks |= {LITERT_SELFCHECK / name: content for name, content in files.items()}
    for path, content in checks.items():
        with whole_file(place(path, folder)) as partial:
            partial.write_bytes(content)


def run_selfcheck(folder: Path) -> str:
    """Compile and run c/selfcheck.c, and say what it prints.

    Raises:
        InputError: If it does not compile, or its logits are others.
    """
    file = place(SELFCHECK, folder)
    with TemporaryDirectory(prefix="selfcheck_", dir=runs_folder()) as made:
        program = Path(made, "selfcheck").absolute()
        build = [COMPILER, "-std=c99", "-O3", "network.c", file.name, "-o", str(program)]
        for command in (build, [str(program)]):
            done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, errors="replace")
            if done.returncode:
                raise InputError(f"{file}: {' '.join((done.stdout + done.stderr).split())[:500]}")
    return f"{file}, compiled and run: {done.stdout.strip()}"


def prove(
    quantized: Quantized, network: nn.Module, part: Part, params: Params, device: torch.device, folder: Path
) -> Checked:
    """Compare every form in `folder` with the integer model, value by value, and write what was found.

    Raises:
        InputError: If a value differs; names the file and the first one.
    """
    files = {form: [place(file, folder) for file in each] for form, each in FILES_OF.items()}
    images, traced = part(params.compare.images), part(params.compare.intermediate_images)
    threads = params.execution.threads
    comparison = Comparison(PTQ.name, quantized.calibrated, quantized.program, images, traced, device, threads, files)
    logits, labels = comparison.logits()
    found = comparison.agreements(logits)
    inner = sum(len(pixels) for pixels, _ in traced)
    exactness = {
        name: Compared(images=inner if name.endswith("tensors") else len(labels), pairs=agreement.by_pair())
        for name, agreement in found.items()
    }
    differences = comparison.first_differences(found)
    written = sorted({file for each in files.values() for file in each if file.exists()})
    digests = {str(file): sha256(file) for file in written}
    write_json(place(PROOF, folder), {"proved": not differences, "files": digests, **exactness})
    if differences:
        raise InputError(f"{differences[0]}, see {place(PROOF, folder)}")

    network = network.to(device).to(memory_format=torch.channels_last)
    logits[FLOAT.name], _ = predict(float_logits(network, device), images)
    alike = int((logits[FLOAT.name].argmax(1) == logits[INT.name].argmax(1)).sum())
    sentences = [f"the integer model predicts as the float network on {alike:,} of {len(labels):,} images"]
    scores: dict[str, Scores | None] = dict.fromkeys((FLOAT.name, PTQ.name, INT.name))
    if NO_LABEL not in labels:
        scores = {form: score(logits[form], labels) for form in scores}
        sentences.append(", ".join(f"{form}: top-1 {each['top1']:.2f} %" for form, each in scores.items() if each))
    return Checked([*sentences, *table(exactness), run_selfcheck(folder), f"proof: {said(held(exactness))}"], scores)


def table(exactness: Mapping[str, Compared]) -> Iterator[str]:
    """Lines on what each execution of a file was held against."""
    executions, logits, inside = held(exactness), exactness["logits"]["images"], exactness["tensors"]["images"]
    width = max(map(len, executions))
    yield f"held against the integer model in PyTorch: logits of {logits:,} images, int8 values inside of {inside:,}"
    for name, each in executions.items():
        yield f"  {name:{width}}  {each.values:>13,} values, {each.mismatches:,} differ"


def write_report(
    quantized: Quantized,
    scores: Mapping[str, Scores | None],
    known: Images,
    images: Images,
    info: ModelInfo,
    folder: Path,
) -> None:
    """Write the page of what quantization costs, layer by layer.

    Args:
        scores: Those of the float, calibrated and integer form; None: not scored.
        known: The images that calibrated.
        images: Those of the statistics.

    Raises:
        OSError: If it cannot be written.
    """
    reference = reference_program(quantized.floating, quantized.program, lambda: _inputs(known))
    covering = covering_program(reference, quantized.program, lambda: _inputs(known))
    programs = {"ptq": quantized.calibrated, "qat": quantized.calibrated, "int": quantized.program}
    count = sum(len(pixels) for pixels, _ in images)
    found = measure(
        reference, programs, covering, {"covering": None, **scores}, info, count, lambda: _inputs(images), "given"
    )
    with whole_file(place(REPORT, folder)) as partial:
        partial.write_text(page(found), encoding="utf-8")


def _inputs(images: Images) -> Iterator[Tensor]:
    return (normalize(pixels) for pixels, _ in images)
