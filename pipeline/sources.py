"""The source of images that params.yaml or the command line names; only what it needs is imported."""

from pathlib import Path

from imagedb.class_names import check_class_names
from imagedb.sources.source import Source
from storage.errors import InputError


def open_source(kind: str, root: str, split: str, dataset: str | None) -> Source:
    """Open a source.

    Args:
        kind: A kind of source, as in pack.source.
        root: Its folder or file.
        split: The split's name in the source.
        dataset: A class of torchvision.datasets, for that kind only.

    Raises:
        FileNotFoundError: If something of it is missing.
        InputError: If it is damaged, has a class name that is not allowed, or there is no such kind, split or dataset.
    """
    source = _open(kind, root, split, dataset)
    check_class_names(source.class_names)
    return source


def _open(kind: str, root: str, split: str, dataset: str | None) -> Source:
    match kind:
        case "torchvision":
            from imagedb.sources.torchvision import TorchvisionSource

            if dataset is None:
                raise InputError("pack.dataset is null: name a class of torchvision.datasets there or with --dataset")
            return TorchvisionSource(dataset, root, split)
        case "folder":
            from imagedb.sources.folder import FolderSource

            return FolderSource(root, split)
        case "imagenet":
            from imagedb.sources.imagenet import imagenet_source

            return imagenet_source(root, split)
        case "list":
            from imagedb.sources.image_list import ImageListSource

            return ImageListSource(root, split)
        case "voc":
            from imagedb.sources.voc import VocSource

            return VocSource(root, split)
        case "coco":
            from imagedb.sources.coco import CocoSource

            return CocoSource(root, split)
        case "cityscapes":
            from imagedb.sources.cityscapes import CityscapesSource

            return CityscapesSource(root, split)
        case "reference":
            from imagedb.sources.packed import ReferenceSource

            return ReferenceSource(root, split)
        case "database":
            from imagedb.sources.packed import DatabaseSource

            return DatabaseSource(Path(root, split))
        case _:
            raise InputError(f"there is no source {kind}")
