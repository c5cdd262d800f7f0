"""Quantize a network that was trained elsewhere: a checkpoint and images in; all forms, a report and a proof out.

python -m tools.quantize resnet18 best.ckpt photos                             a network of timm, torchvision/NAME, or
python -m tools.quantize nets/mine.py:build last.pt photos --size 96 --normalization none              one of your own
python -m tools.quantize resnet18 best.ckpt                              the packed databases, in the place of a folder

The images need no labels: some hundred like those that the network was trained on. How they are prepared is taken from
what timm or torchvision publish for the network, unless an option says otherwise; each value is printed. How exponents
are found is `calibrate` in params.yaml. The files have the places in --output that the pipeline's have in artifacts.
"""

import argparse
import sys
import warnings
from pathlib import Path
from typing import get_args

from pipeline.cli import run
from pipeline.params import Calibrate, load_params
from pixels.augmentation import InputFormat

ALLOWED = {name: get_args(InputFormat.model_fields[name].annotation) for name in ("resample", "color_space")}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="as model.name")
    parser.add_argument("checkpoint", type=Path, help="safetensors, or a file of PyTorch; no code in it is run")
    parser.add_argument("folder", type=Path, nargs="?", help="of images, at any depth (default: the databases)")
    parser.add_argument("--images", type=int, help="how many calibrate (default: calibrate.images)")
    parser.add_argument("--size", type=int, help="height and width of the network's input")
    parser.add_argument("--resize", type=int, help="short side before the centre crop to --size")
    parser.add_argument("--resample", choices=ALLOWED["resample"], help="filter of the resizing")
    parser.add_argument("--color-space", choices=ALLOWED["color_space"], help="default: rgb")
    parser.add_argument("--normalization", metavar="MEAN/STD", help="as .485,.456,.406/.229,.224,.225; none: as ours")
    parser.add_argument("--arguments", metavar="YAML", default="{}", help="as model.arguments")
    parser.add_argument("--class-names", type=Path, metavar="FILE", help="a name a line (default: numbers)")
    parser.add_argument("--reconstruction", type=int, metavar="N", help="0: faster (default: calibrate.reconstruction)")
    arithmetic = get_args(Calibrate.model_fields["arithmetic"].annotation)
    parser.add_argument("--arithmetic", choices=arithmetic, help="default: calibrate.arithmetic")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", default="artifacts/quantized", help="default: %(default)s"
    )
    return parser.parse_args()


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

from collections.abc import Sequence
from functools import partial

import torch

from fixedpoint.quantizer import quantize
from imagedb.class_names import check_class_names
from models.trained import load_trained
from pipeline.comparison import Images
from pipeline.databases import open_database, plain_batches
from pipeline.forms import metadata
from pipeline.image_files import ImageFiles
from pipeline.machine import prepare
from pipeline.quantized import Part, prove, write_forms, write_report, write_vectors
from pipeline.trained_input import trained_input
from storage.errors import InputError
from storage.model_file import ModelInfo


def main() -> None:
    given = parse_arguments()
    if given.output.exists() and not given.output.is_dir():
        raise InputError(f"--output {given.output} is no folder; name one, which need not exist")
    params, said = trained_input(load_params(), given)
    device = prepare(params.execution)
    print(*said, sep="\n")
    model, size, count = params.model, params.input.size, params.calibrate.images
    normalization = model.normalization.model_dump(mode="json") if model.normalization else None
    network, classes, taken = load_trained(model.name, given.checkpoint, size, model.arguments, normalization)
    print(f"{taken}; {classes} classes")
    params = params.model_copy(update={"model": model.model_copy(update={"num_classes": classes})})

    names = [str(number) for number in range(classes)]
    known: Images
    part: Part
    if given.folder:
        known = files = ImageFiles(given.folder, count, params.input, params.validation.batch_size)
        part = files.first
        print(f"calibrated on {len(files.files)} of {files.found} images below {given.folder}")
    else:
        known, part = plain_batches(params, "train", count), partial(plain_batches, params, "val")
        database = open_database(params, "val", labelled=False)
        names = database.class_names
        check_count(names, classes, database.path)
    if given.class_names:
        names = read_class_names(given.class_names)
        check_count(names, classes, given.class_names)
    info = ModelInfo(
        name=model.name,
        arguments=model.arguments,
        num_classes=classes,
        image_size=size,
        color_space=params.input.color_space,
        class_names=names,
        normalization=normalization,
        resample=params.input.resample,
    )
    pixels, options = torch.cat([each for each, _ in known]), params.calibrate.model_dump(exclude={"images"})
    if params.calibrate.reconstruction:
        print("block reconstruction takes most of the time (--reconstruction 0 leaves it out)")
    with warnings.catch_warnings(record=True) as losses:
        quantized = quantize(network, pixels, class_names=names, metadata=metadata(info), **options)
    for loss in losses:
        print(f"warning: {loss.message}", file=sys.stderr)
    write_forms(quantized, network, info, given.output, params)
    write_vectors(quantized, part(params.golden.images), given.output, params)
    checked = prove(quantized, network, part, params, device, given.output)
    write_report(quantized, checked.scores, known, part(params.report.images), info, given.output)
    print(*checked.sentences, f"everything is in {given.output}", sep="\n")


def read_class_names(path: Path) -> list[str]:
    """The lines of a file.

    Raises:
        InputError: If one cannot be a class name; names the file.
        OSError: If it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"--class-names {path} is no file: it has a name a line")
    try:
        names = path.read_text(encoding="utf-8").splitlines()
        check_class_names(names)
    except UnicodeDecodeError as error:
        raise InputError(f"--class-names {path} is not UTF-8, in which it must be saved: {error}") from None
    except InputError as error:
        raise InputError(f"--class-names {path}: {error}") from None
    return names


def check_count(names: Sequence[str], classes: int, where: Path) -> None:
    """Raise InputError if there is not a name for each class of the network."""
    if len(names) != classes:
        raise InputError(f"{where} has {len(names)} classes, must have {classes}, as the checkpoint")


if __name__ == "__main__":
    run(main)
