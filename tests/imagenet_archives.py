"""Miniatures of ImageNet's three archives, with the structure of the real ones."""

import io
import tarfile

import numpy as np
import scipy.io
from PIL import Image

# ILSVRC2012_ID, WNID, words, children. Low-level synsets come first, not in the order of their WordNet ids, and the
# WordNet ids of high-level synsets lie between theirs.
SYNSETS = [
    (1, "n02119789", "kit fox, Vulpes macrotis", []),
    (2, "n02100735", "English setter", []),
    (3, "n02110185", "Siberian husky", []),
    (4, "n02083346", "canine, canid", [1, 5]),
    (5, "n02103406", "working dog", [2, 3]),
]
FIELDS = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images")


def jpeg(seed, size=(20, 16)):
    """An image of noise in `size` (width, height)."""
    return encoded(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))


def encoded(pixels):
    """A JPEG file of uint8 pixels of shape (height, width, 3), or (height, width) for grey."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def tar(files):
    """The bytes of a tar file of {name: content} in GNU tar's format."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            add(archive, name, content)
    return buffer.getvalue()


def meta_mat(synsets):
    """meta.mat: the struct array `synsets` of shape (N, 1); all numbers have MATLAB's type double."""
    array = np.empty((len(synsets), 1), [(field, object) for field in FIELDS])
    for row, (number, wnid, words, children) in enumerate(synsets):
        below = np.array([children], float) if children else np.zeros((0, 0))
        array[row, 0] = (float(number), wnid, words, f"a {words}", float(len(children)), below, float(row > 2), 1300.0)
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"synsets": array}, do_compression=True)
    return buffer.getvalue()


def write_devkit(root, synsets, truth, without=""):
    """Write the devkit without the file `without`; `truth` has the ILSVRC2012_ID of each validation image."""
    files = {
        "readme.txt": b"Introduction\n",
        "data/ILSVRC2012_validation_ground_truth.txt": "".join(f"{number}\n" for number in truth).encode(),
        "data/meta.mat": meta_mat(synsets),
    }
    with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            if name != without:
                add(archive, f"ILSVRC2012_devkit_t12/{name}", content)


def write_train(root, classes):
    """Write the training archive from pairs (WordNet id, {file name: content}), with one in memory at a time."""
    with tarfile.open(root / "ILSVRC2012_img_train.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for wnid, files in classes:
            add(archive, f"{wnid}.tar", tar(files))


def write_val(root, files):
    """Write the validation archive from pairs (file name, content)."""
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files:
            add(archive, name, content)
