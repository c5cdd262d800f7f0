"""How the images of a network are prepared, as timm and torchvision publish it with their weights."""

from dataclasses import dataclass

from models.own_source import is_own
from models.registry import TORCHVISION
from storage.errors import InputError

FILTERS = ("bilinear", "bicubic")  # of `input.resample`


@dataclass(frozen=True)
class Published:
    """What a library says of a network's images.

    Attributes:
        source: Where it says so.
        size: Height and width of the network's input.
        crop: The part of the resized image's short side that the input is.
        resample: The filter of the resizing, by the library's name.
        mean, std: Of the normalization `(p / 255 - mean) / std` of pixels p.
    """

    source: str
    size: int
    crop: float
    resample: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def filter(self) -> str:
        """That of FILTERS which is `resample`, or takes its place."""
        return self.resample if self.resample in FILTERS else FILTERS[1]


def without_tag(name: str) -> str:
    """The network's name without the tag of weights that a name of timm may have."""
    return name if is_own(name) or name.startswith(TORCHVISION) else name.partition(".")[0]


def published(name: str) -> Published | None:
    """What timm or torchvision says of the network `name`; None if it says nothing.

    A name of timm may have the tag of its weights, as resnet18.a1_in1k has.

    Raises:
        InputError: If timm has no weights of that tag.
    """
    if is_own(name):
        return None
    return _of_torchvision(name.removeprefix(TORCHVISION)) if name.startswith(TORCHVISION) else _of_timm(name)


def _of_timm(name: str) -> Published | None:
    import timm
    from timm.data import resolve_data_config

    bare, dot, given = name.partition(".")
    known = [each.partition(".")[2] for each in timm.list_pretrained(f"{bare}.*")]
    if dot and known and given not in known:
        raise InputError(f"timm has no weights {given!r} of {bare}, but {', '.join(known)}")
    found = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    if found is None or not found.mean:
        return None
    values = resolve_data_config(pretrained_cfg=found.to_dict())
    tag = f"{found.architecture}.{found.tag}" if found.tag else found.architecture
    _, size, _ = values["input_size"]
    return Published(f"timm's {tag}", size, values["crop_pct"], values["interpolation"], values["mean"], values["std"])


def _of_torchvision(name: str) -> Published | None:
    from torchvision.models import get_model_weights, list_models

    if name not in list_models():
        return None
    weights = get_model_weights(name).DEFAULT
    values = weights.transforms()
    size, resize = values.crop_size[0], values.resize_size[0]
    filter_name = values.interpolation.value
    return Published(f"torchvision's {weights}", size, size / resize, filter_name, (*values.mean,), (*values.std,))
