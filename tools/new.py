"""Look at your images, and write the params.yaml that fits them: each value that changes is printed with its reason.

python -m tools.new DIR [--network NAME] [--checkpoint FILE] [--size PIXELS] [--dry-run]

DIR holds train/<class>/ and val/<class>/, or <class>/ alone; or two lists of paths, or the archives of ImageNet; a list
can stand in its place. What is not split is: a fifth of each class becomes val.jsonl, the rest train.jsonl, two lists
in DIR. No image moves. Lists that are there stay. Other values are those of the sample, recipes/fashion_mnist.yaml.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from math import prod
from pathlib import Path
from typing import Any

from tqdm import tqdm

from imagedb.class_names import difference, look_alike
from imagedb.images import SUFFIXES
from imagedb.layout import Layout, layout
from imagedb.looks import Look, copies, look
from imagedb.sources.source import Source
from imagedb.split import NAMES, split, write_list
from pipeline.cli import run
from pipeline.params import check_params
from pipeline.paths import require
from pipeline.sources import open_source
from pipeline.survey import Choice, Weights, choices, of_imagenet
from pipeline.yaml_file import parse_yaml, read_yaml
from storage.errors import InputError
from storage.files import whole_file
from storage.printable import printable
from tools.recipe import BASE, PARAMS, RECIPES, head, merged, with_values
from tools.recipe import difference as changed

IMAGENET = RECIPES / "imagenet.yaml"
WORKERS = 2  # threads that look at images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DIR", help="a folder of images, or a list")
    parser.add_argument("--network", metavar="NAME", help="model.name (default: that of the sample)")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="weights of that network to start from")
    parser.add_argument("--size", type=int, help="input.size in pixels (default: chosen by the images)")
    parser.add_argument("--dry-run", action="store_true", help="only print, and write no file")
    arguments = parser.parse_args()
    if arguments.size is not None and arguments.size < 1:
        raise InputError(f"--size {arguments.size} is not allowed, must be at least 1")
    found = layout(arguments.data)
    recipe = IMAGENET if found.kind == "imagenet" else BASE
    base = merged(read_yaml(require(BASE, "git restore recipes")), read_yaml(recipe))
    asked = arguments.network or arguments.checkpoint
    weights = None
    if asked or arguments.size:
        weights = try_to_make(base["model"], arguments, arguments.size or base["input"]["size"])
    if recipe == IMAGENET:
        sources = [open_source(found.kind, str(found.root), name, None) for name in ("train", "val")]
        train, val = (source.survey().images for source in sources)
        class_names = sources[0].class_names
        fitting = of_imagenet(train, val, class_names, base, arguments.size, weights)
    else:
        looks, class_names = looked_at(found, base["seed"])
        fitting = choices(looks["train"], looks["val"], class_names, base, arguments.size, weights)
    chosen = [*fitting]
    if asked:
        chosen.append(Choice("model.name", base["model"]["name"], "as asked for"))
        chosen.append(arithmetic(with_choices(base, chosen), len(class_names)))
    if not found.val:
        found = write_lists(found, looks, class_names, arguments.dry_run)
    write(found, [*places(found), *chosen], base, recipe, arguments.dry_run)


def with_choices(base: dict[str, Any], chosen: Iterable[Choice]) -> dict[str, Any]:
    """All values, with those that were chosen."""
    return reduce(merged, map(unfolded, chosen), base)


def try_to_make(model: dict[str, Any], arguments: argparse.Namespace, size: int) -> Weights | None:
    """Make a network with random weights, and look at those that it is to start from.

    Raises:
        InputError: If there is none of that name, or it does not take images of that size, or weights of that file.
    """
    from models.published import without_tag
    from models.registry import create_model  # which imports PyTorch, for seconds
    from pipeline.start import network_in, weights_for

    file, tagged = arguments.checkpoint, arguments.network
    if tagged:
        model |= {"name": without_tag(tagged), "arguments": {}}
    if file:
        model |= {} if tagged else network_in(file)
        return weights_for(model, tagged or model["name"], file, arguments.size)
    create_model(model["name"], 2, size, model["arguments"])
    return None


def arithmetic(values: Mapping[str, Any], classes: int) -> Choice:
    """The arithmetic that the network needs, which is tried.

    Raises:
        InputError: If it cannot be quantized; names all causes.
    """
    from pipeline.start import arithmetic_choice

    return arithmetic_choice(values["model"], classes, values["input"]["size"])


def looked_at(found: Layout, seed: int) -> tuple[dict[str, list[Look]], list[str]]:
    """The images of both splits, divided if they are not, and the class names; says what is strange."""
    of_split = {name: open_source(found.kind, str(found.root), name, None) for name in (found.train, found.val) if name}
    class_names = of_split[found.train].class_names
    check_classes(found, of_split)
    looks = {name: seen(source) for name, source in of_split.items()}
    describe(found, [each for of_one in looks.values() for each in of_one], class_names)
    if found.val:
        named = dict(zip(NAMES, looks.values(), strict=True))
        if shared := copies(named["val"], named["train"]):
            example = ", there ".join(printable(each.name) for each in shared[0])
            print(f"warning: {len(shared)} validation images are training images, too: {example}; remove them")
        if found.kind == "list":
            say_unlisted(found, looks.values())
        return named, class_names
    return split(looks[found.train], class_names, seed), class_names


def write_lists(found: Layout, looks: Mapping[str, list[Look]], class_names: list[str], dry_run: bool) -> Layout:
    """Write a list for each split, and return the layout that has both."""
    below = f"{found.train}/" if found.kind == "folder" and found.train != "." else ""
    for name, images in looks.items():
        if not dry_run:
            write_list(found.root / NAMES[name], images, class_names, below)
        share = "a fifth" if name == "val" else "the rest"
        print(f"{found.root / NAMES[name]}: {len(images)} images, {share} of each class")
    return Layout("list", found.root, NAMES["train"], NAMES["val"])


def say_unlisted(found: Layout, looks: Iterable[Sequence[Look]]) -> None:
    """Say how many images beside two lists are in neither, such as those that came after the lists."""
    listed = {(found.root / each.name).resolve() for images in looks for each in images}
    images = {path.resolve() for path in found.root.rglob("*") if path.suffix.lower() in SUFFIXES}
    if left := len(images - listed):
        both = f"{found.train} and {found.val}"
        print(f"{left} images in {found.root} are in neither list; to divide all again, remove {both}")


def check_classes(found: Layout, of_split: Mapping[str, Source]) -> None:
    """Make sure that there is something to tell apart.

    Raises:
        InputError: If there is one class only, or the splits have different ones.
    """
    train, *others = of_split.values()
    if len(train.class_names) < 2:
        only = found.root / found.train / train.class_names[0]
        raise InputError(f"{found.root / found.train} has one class only, {train.class_names[0]}; did you mean {only}?")
    for other in others:
        if other.class_names != train.class_names:
            how = difference(train.class_names, other.class_names)
            raise InputError(f"{found.train} and {found.val} in {found.root} have different classes: {how}")
    if alike := look_alike(train.class_names):
        print(f"warning: {alike}")


def seen(source: Source) -> list[Look]:
    total, unit = source.expected()
    with tqdm(total=total, unit=unit, disable=None, leave=False) as bar:
        return look(source, WORKERS, bar.update)


def describe(found: Layout, looks: Sequence[Look], class_names: Sequence[str]) -> None:
    """Say what was found: counts, sizes, colours, and what is strange."""
    counts = Counter(each.label for each in looks)
    (rarest, least), most = min(counts.items(), key=lambda item: (item[1], item[0])), max(counts.values())
    fewest = f"{least:,} to {most:,} of a class, fewest of {printable(class_names[rarest])}"
    each_class = f"{least:,} of each" if least == most else fewest
    print(f"{len(looks):,} images in {len(class_names)} classes in {found.root}, {each_class}")
    sizes = sorted((each.size for each in looks if each.size), key=prod)
    if sizes:
        (w, h), (wide, high) = sizes[0], sizes[-1]
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(each.format for each in looks).most_common())
        grey = sum(each.grey for each in looks)
        narrow, flat = (choose(width / height for width, height in sizes) for choose in (min, max))
        shape = f"width / height {narrow:.2f}" + (f" to {flat:.2f}" if narrow < flat else "")
        print(f"{w} x {h} to {wide} x {high} pixels, {shape}, {grey} of {len(sizes)} grey; {kinds}")
    for note, count in Counter(note for each in looks for note in each.notes if note != "grey").items():
        turned = ", which is not applied: turn them before" if note == "EXIF orientation" else ""
        print(f"{count} images: {note}{turned}")
    for each in [each for each in looks if each.problem][:5]:
        print(f"damaged: {printable(each.name, None)}: {each.problem}")
    if again := len(looks) - len({each.digest or each.name for each in looks}):
        print(f"{again} images are copies of another one")


def places(found: Layout) -> list[Choice]:
    """Where the images are."""
    absolute = found.root.absolute()  # links stay
    root = absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
    return [
        Choice("pack.source", found.kind, "how they are laid out"),
        Choice("pack.dataset", None, "of torchvision only"),
        Choice("pack.root", str(root), "where they are"),
        Choice("pack.splits.train", found.train, "the training split there"),
        Choice("pack.splits.val", found.val, "the validation split there"),
    ]


def write(found: Layout, chosen: Sequence[Choice], base: dict[str, Any], recipe: Path, dry_run: bool) -> None:
    """Write params.yaml with the values that were chosen, and print each that changes."""
    values = with_choices(base, chosen)
    check_params(values, PARAMS)
    text, reasons = BASE.read_text(encoding="utf-8"), {choice.key: choice.reason for choice in chosen}
    top = f"# The images in {printable(str(found.root), None)}; `make new` has written this file.\n"
    top += "# Commands:\n#   make repro\n#   make validate\n"
    text = top + with_values(text, values).removeprefix(head(text))
    before = read_yaml(PARAMS) if PARAMS.exists() else {}
    for line in changed(before if isinstance(before, dict) else {}, parse_yaml(text, PARAMS)):
        key = line.partition(": ")[0]
        reason = next((reasons[part] for part in (key, key.rpartition(".")[0]) if part in reasons), f"as in {recipe}")
        print(f"{line}  # {reason}")
    if not dry_run:
        with whole_file(PARAMS) as partial:
            partial.write_text(text, encoding="utf-8")
        print(f"{PARAMS} is written; make repro trains and converts")


def unfolded(choice: Choice) -> dict[str, Any]:
    """A value in its blocks: {"a": {"b": 1}} of "a.b" and 1."""
    value = choice.value
    for part in reversed(choice.key.split(".")):
        value = {part: value}
    return value


if __name__ == "__main__":
    run(main)
