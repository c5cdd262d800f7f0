"""Make the embedded sample: the first pictures of each class of Fashion-MNIST, in their original order.

python data/make_fashion_mnist.py SOURCE_DIR    # the folder with the four original .gz files
"""

import gzip
import struct
import sys
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parent / "fashion_mnist" / "FashionMNIST" / "raw"
PER_CLASS = {"train": 1000, "t10k": 200}
CLASSES = 10


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Ascending indices of the first `count` items of each class in `labels` (N, uint8)."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(CLASSES)]))


def write_gzip(path: Path, header: bytes, values: np.ndarray) -> None:
    path.write_bytes(gzip.compress(header + values.tobytes(), compresslevel=9, mtime=0))


def make_split(source: Path, split: str, count: int) -> None:
    """Write the images and labels of `split` as IDX files: big-endian magic number and sizes, then uint8 values."""
    images_name, labels_name = f"{split}-images-idx3-ubyte.gz", f"{split}-labels-idx1-ubyte.gz"
    labels = np.frombuffer(gzip.decompress((source / labels_name).read_bytes()), np.uint8, offset=8)
    images = np.frombuffer(gzip.decompress((source / images_name).read_bytes()), np.uint8, offset=16)
    kept = first_of_each_class(labels, count)
    write_gzip(TARGET / images_name, struct.pack(">4I", 0x803, len(kept), 28, 28), images.reshape(-1, 28, 28)[kept])
    write_gzip(TARGET / labels_name, struct.pack(">2I", 0x801, len(kept)), labels[kept])


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python data/make_fashion_mnist.py SOURCE_DIR (the folder with the original .gz files)")
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, number in PER_CLASS.items():
        make_split(Path(sys.argv[1]), name, number)
