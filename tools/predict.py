"""Classify image files: prints the five likeliest classes of each, and draws them beside it.

python -m tools.predict cat.jpg dog.png                 by the integer model; draws runs/predictions/cat.png, dog.png
python -m tools.predict cat.jpg --step float --checkpoint runs/float-…/best.pt --output DIR

An image is cropped and resized as in validation; its drawing has a frame around the part that the network sees. Of two
images with the same name, the second one's drawing is <name>_2.png.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.cli import run
from pipeline.forms import FORMS
from pipeline.params import load_params
from pipeline.paths import runs_folder
from storage.files import whole_file
from storage.printable import printable


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="+", type=Path, help="an image file")
    parser.add_argument("--step", default="int", choices=FORMS, help="form of the model (default: %(default)s)")
    parser.add_argument("--checkpoint", help="a model file, or a checkpoint in runs (default: the pipeline's file)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of the drawings (default: runs/predictions)")
    return parser.parse_args()


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

import torch

from evaluation.score import ranked
from imagedb.images import decode_image
from pipeline.classifiers import load_classifier
from pipeline.image_files import read_pixels
from pipeline.machine import prepare
from pixels.draws import Draws
from pixels.views import center_views
from reports.fonts import legible
from reports.predictions import labelled

LIKELIEST = 5
LONGEST = 255  # bytes of a name


def main() -> None:
    arguments = parse_arguments()
    params = load_params()
    device = prepare(params.execution)
    pixels = torch.stack([read_pixels(path, params.input) for path in arguments.image])
    classifier = load_classifier(FORMS[arguments.step], arguments.checkpoint, device, params)
    with torch.no_grad():
        batches = pixels.split(params.validation.batch_size)
        logits = torch.cat([classifier(batch).float().cpu() for batch in batches])
    names = classifier.info.class_names
    shown = legible(names)
    drawings = drawing_paths(arguments.image, arguments.output or runs_folder() / "predictions")
    for path, drawing, probabilities, labels in zip(
        arguments.image, drawings, *(values.tolist() for values in ranked(logits, LIKELIEST)), strict=True
    ):
        classes = [(names[c], p) for c, p in zip(labels, probabilities, strict=True)]
        image = decode_image(path.read_bytes(), tolerant=True)
        seen = center_views(params.input)(*image.size, Draws(0)).box
        with whole_file(drawing) as partial:
            drawn = [(shown[c], p) for c, p in zip(labels, probabilities, strict=True)]
            labelled(image, seen, path.name, drawn).save(partial, "PNG")
        lines = [f"  {100 * p:6.2f} %  {printable(name)}" for name, p in classes]
        print(printable(str(path), None), *lines, f"  drawn in {printable(str(drawing), None)}", sep="\n")


def drawing_paths(images: Sequence[Path], folder: Path) -> list[Path]:
    """The drawing of each image: <folder>/<name of the image>.png; no two are equal, and none is one of the images."""
    taken, paths = {path.resolve() for path in images}, []
    for path in images:
        drawing, number = _drawing(folder, path.stem, ".png"), 1
        while drawing.resolve() in taken:
            number += 1
            drawing = _drawing(folder, path.stem, f"_{number}.png")
        taken.add(drawing.resolve())
        paths.append(drawing)
    return paths


def _drawing(folder: Path, stem: str, end: str) -> Path:
    """A file of this name, whose stem is cut if file systems would not take it."""
    while len(os.fsencode(stem + end)) > LONGEST:
        stem = stem[:-1]
    return folder / (stem + end)


if __name__ == "__main__":
    run(main)
