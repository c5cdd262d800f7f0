"""The peers of `benchmarks.data`: other packers and loaders of image folders, each at its best settings.

All make batches of random crops (scale 0.08 to 1, ratio 3/4 to 4/3), flipped, normalized, float32. Their filters
differ: Pillow's, timm's and torchvision's average over the pixels of an area when they shrink it; FFCV's is OpenCV's
INTER_AREA. FFCV has threads in place of processes, and always encodes again.

FFCV is compiled when it is installed, with Debian's g++, pkg-config, python3-dev, libopencv-dev and libturbojpeg0-dev.
What it imports: numba, llvmlite, opencv-python-headless, assertpy, terminaltables. webdataset: braceexpand.
"""

import subprocess
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from timm.data import ImageDataset, create_loader
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2
from tqdm import tqdm

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTER = (0.4, 0.4, 0.4, 0.1)  # brightness, contrast, saturation, hue
FFCV_QUALITY = 90
LOADED = ("webdataset", "FFCV, 512 px, 2 workers", "FFCV, 256 px, 2 workers")  # what `loaders` reads

Packer = Callable[[Path, Path], object]  # from a folder of class folders to a new file or folder


def packers(images: int) -> dict[str, Packer | None]:
    """The packers by name, None if not installed; webdataset's has `images` images per tar file."""
    web, ffcv = find_spec("webdataset"), find_spec("ffcv")
    return {
        "cp -r": lambda folder, path: subprocess.run(["cp", "-r", folder, path], check=True),
        "tar": lambda folder, path: subprocess.run(["tar", "-cf", path, "-C", folder, "."], check=True),
        "webdataset": partial(_pack_webdataset, images=images) if web else None,
        "FFCV, 512 px, 2 workers": partial(_pack_ffcv, size=512, workers=2) if ffcv else None,
        "FFCV, 256 px, 1 worker": partial(_pack_ffcv, size=256, workers=1) if ffcv else None,
        "FFCV, 256 px, 2 workers": partial(_pack_ffcv, size=256, workers=2) if ffcv else None,
    }


def loaders(folder: Path, packed: dict[str, Path], size: int, batch: int, workers: int) -> dict[str, Iterable | None]:
    """Iterables of one epoch of (float32 [batch, 3, size, size], labels), by name; None if not installed.

    Args:
        folder: A folder of class folders.
        packed: The results of the packers LOADED by name; those that are not installed are missing.
        size: Size of an image in pixels.
        batch: Images per batch.
        workers: Processes besides this one; for FFCV threads, at least one.
    """
    crop_and_flip = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()]
    pixels = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]

    def image_folder(*transforms: Callable, **reading: Any) -> DataLoader:
        data = ImageFolder(folder, v2.Compose(transforms), **reading)
        return DataLoader(data, batch, True, num_workers=workers, persistent_workers=workers > 0, drop_last=True)

    web, ffcv_512, ffcv_256 = map(packed.get, LOADED)
    return {
        "torchvision, PIL": image_folder(*crop_and_flip, *pixels),
        "torchvision, PIL, jitter": image_folder(*crop_and_flip, v2.ColorJitter(*JITTER), *pixels),
        "torchvision, tensors": image_folder(
            *crop_and_flip, *pixels[1:], loader=partial(decode_image, mode=ImageReadMode.RGB)
        ),
        "timm": create_loader(
            ImageDataset(str(folder)),
            (3, size, size),
            batch,
            is_training=True,
            color_jitter=None,  # type: ignore[arg-type]  # timm's annotation leaves None out
            num_workers=workers,
            device=torch.device("cpu"),
        ),
        "webdataset": _webdataset(web, v2.Compose([*crop_and_flip, *pixels]), batch, workers) if web else None,
        "FFCV, 512 px": _ffcv(ffcv_512, size, batch, workers) if ffcv_512 else None,
        "FFCV, 256 px": _ffcv(ffcv_256, size, batch, workers) if ffcv_256 else None,
    }


def _pack_webdataset(folder: Path, path: Path, images: int) -> None:
    from webdataset import ShardWriter

    path.mkdir()
    with ShardWriter(f"{path}/%06d.tar", maxcount=images, verbose=0) as shards:
        for index, (file, label) in enumerate(ImageFolder(folder).samples):
            shards.write({"__key__": f"{index:07}", "jpg": Path(file).read_bytes(), "cls": label})


def _webdataset(path: Path, transform: Callable, batch: int, workers: int) -> Iterable:
    from webdataset import WebDataset, WebLoader

    shards = sorted(str(shard) for shard in path.iterdir())
    data = WebDataset(shards, shardshuffle=len(shards)).shuffle(1000).decode("pilrgb").to_tuple("jpg", "cls")
    batches = data.map_tuple(transform, int).batched(batch, partial=False)
    return WebLoader(batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0)


def _pack_ffcv(folder: Path, path: Path, size: int, workers: int) -> None:
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    image = RGBImageField(write_mode="jpg", max_resolution=size, jpeg_quality=FFCV_QUALITY)
    writer = DatasetWriter(str(path), {"image": image, "label": IntField()}, num_workers=workers)
    with patch("ffcv.writer.tqdm", partial(tqdm, disable=True)):
        writer.from_indexed_dataset(ImageFolder(folder))


def _ffcv(path: Path, size: int, batch: int, workers: int) -> Iterable:
    from ffcv.fields.basics import IntDecoder
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, ToTensor, ToTorchImage

    mean, std = (255 * np.array(values) for values in (MEAN, STD))
    image = [RandomResizedCropRGBImageDecoder((size, size)), RandomHorizontalFlip()]
    image += [NormalizeImage(mean, std, np.float32), ToTensor(), ToTorchImage()]
    pipelines = {"image": image, "label": [IntDecoder(), ToTensor()]}
    order = OrderOption.RANDOM
    return Loader(str(path), batch, max(1, workers), os_cache=True, order=order, drop_last=True, pipelines=pipelines)
