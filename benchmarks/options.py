"""The options of the subjects, apart from what measures: that takes seconds to import, and --help should not."""

import argparse
import ast
from pathlib import Path

PARTS = ("packing", "loading", "scale")
QUANTIZED = (
    "vargconvnet_32",
    "resnet18",
    "torchvision/mobilenet_v2",
    "torchvision/mobilenet_v3_small",
    "torchvision/efficientnet_b0",
)
DEPLOYED = ("sample", "vargconvnet:224", "mobilenetv2_100:224", "resnet18:224")
ARITHMETIC = ("portable", "exact8")


def options(subject: str) -> argparse.Namespace:
    """The options of a subject, by sys.argv; --help prints them below the docstring of its module."""
    text = Path(__file__).with_name(f"{subject}.py").read_text(encoding="utf-8")
    parser = argparse.ArgumentParser(
        description=ast.get_docstring(ast.parse(text)), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    match subject:
        case "data":
            add("--images", type=Path, help="a folder of class folders, in place of synthetic images")
            add("--rounds", type=int, default=5)
            add("--parts", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART", help=", ".join(PARTS))
            add("--quick", action="store_true", help="a few small images, to test that everything works")
        case "train":
            add("--model", help="a network of this repository, timm or torchvision")
            add("--size", type=int, help="of an image in pixels")
            add("--batch", type=int, help="images per batch")
            add("--rounds", type=int)
            add("--data", action="store_true", help="also measure with images of the database")
            add("--quick", action="store_true", help="a short form")
        case "quantize":
            names = ", ".join(QUANTIZED)
            add("--networks", nargs="+", choices=QUANTIZED, default=[*QUANTIZED], metavar="NAME", help=names)
            add("--rounds", type=int, default=5)
            add("--quick", action="store_true", help="the first network alone")
        case "deploy":
            add("--rounds", type=int, default=5)
            add("--networks", nargs="+", default=[*DEPLOYED], metavar="NAME:SIZE")
            add("--batches", type=int, nargs="+", default=[1, 32], help="images at a time (default: 1 32)")
            add("--quick", action="store_true", help="the pipeline's network, one image at a time")
        case "scale":
            add("--rounds", type=int)
            add("--quick", action="store_true", help="the smallest sizes alone")
        case "methods":
            add("--arithmetic", nargs="+", choices=ARITHMETIC, default=["exact8"])
        case "finetune":
            add("--seeds", type=int, nargs="+", default=[0, 1, 2])
            add("--lr", type=float, default=0.001, help="of timm's loop (default: %(default)s)")
            add("--whole", type=int, default=1, help="how many seeds go on to the integer model (default: %(default)s)")
            add("--quick", action="store_true", help="the first seed alone")
        case "gpu":
            add("--device", choices=("cuda", "cpu"), default="cuda")
            add("--minutes", type=float, default=10, help="after which no further check begins")
        case "plan":
            add("--rate", type=float, help="images per second of a training step on one GPU")
            add("--cores", type=int, help="of a machine with 8 GPUs")
            add("--disk", type=float, help="GB/s that a machine reads")
            add("--link", type=float, help="GB/s between GPUs of a machine, each way")
            add("--network", type=float, help="GB/s between machines for each GPU, each way")
    return parser.parse_args()
