"""Networks with random weights, and images for them."""

from pathlib import Path

import torch
from torch import nn

from imagedb.sources.torchvision import TorchvisionSource
from models.normalization import normalize
from models.registry import create_model
from pixels.augmentation import InputFormat
from pixels.render import render
from pixels.views import center_views


def real_images(size, count):
    """Network input of real images, float32 [count, 3, size, size]."""
    source = TorchvisionSource("FashionMNIST", Path(__file__).parents[2] / "data" / "fashion_mnist", "test")
    input_format = InputFormat(size=size, color_space="yuv444", resize=size, resample="bilinear")
    views, images = center_views(input_format), (source[index].image() for index in range(count))
    return normalize(torch.stack([render(image, views, input_format, torch.Generator()) for image in images]))


@torch.no_grad()
def random_network(name, size, normalization):
    torch.manual_seed(0)
    arguments = {"aux_logits": False, "init_weights": True} if name.endswith("googlenet") else {}
    model = create_model(name, 10, size, arguments, normalization)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
    model.train()
    for batch in real_images(size, 32 if size < 100 else 8).split(16):
        model(batch)
    return model.eval()


class Net(nn.Module):
    """A forward function and the modules or parameters that it uses."""

    def __init__(self, function, **members):
        super().__init__()
        self.function = function
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, x):
        return self.function(self, x)
