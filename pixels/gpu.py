"""Rendering of whole batches on a GPU, which decodes, crops, flips and jitters the images.

Views and colours come from the same draws as for `pixels.render.render` and mean the same. Some values differ by one;
at edges of colour a little more, because a GPU's JPEG decoder upsamples the chroma by its own rules; and more again
where a policy rotates, shears or solarizes an image.
"""

import math

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from pixels.augmentation import InputFormat
from pixels.batches import EncodedBatch, decode_rgb
from pixels.colors import float_color_map
from pixels.policies import GREY, apply_operations
from pixels.views import View

CANVAS = 2**28  # most float32 values that are resampled at once


class DeviceRenderer:
    """Renders encoded batches.

    Args:
        input_format: Size and colour space of the pixels.
        device: The device that renders; "cuda" decodes with nvJPEG, or on the CPU what nvJPEG refuses.
    """

    def __init__(self, input_format: InputFormat, device: torch.device):
        self.size = input_format.size
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # runs beside training
        self.from_rgb = torch.from_numpy(float_color_map(input_format.color_space)).float().to(device)

    @torch.no_grad()
    def __call__(self, batch: EncodedBatch) -> tuple[Tensor, Tensor]:
        """uint8 [batch, 3, size, size] on the device, and the labels, int64 [batch].

        Raises:
            InputError: If an image cannot be decoded.
        """
        if self.stream is None:
            return self._render(batch), batch.labels
        training = torch.cuda.current_stream()
        self.stream.synchronize()  # nvJPEG writes into freed memory that the GPU may still read
        with torch.cuda.stream(self.stream):
            out = self._render(batch)
        training.wait_stream(self.stream)
        out.record_stream(training)
        return out, batch.labels

    def _render(self, batch: EncodedBatch) -> Tensor:
        decoded = self._decode(batch.images, batch.names)
        pixels = torch.cat([self._resample(decoded[part], batch.views[part]) for part in _parts(batch.views)])
        out = _recolor(pixels, batch.colors.to(self.device, non_blocking=True))
        if changed := [i for i, view in enumerate(batch.views) if view.changes_rgb]:
            rgb = torch.stack([self._changed(out[i], batch.views[i]) for i in changed])
            out[changed] = _recolor(rgb.float(), self.from_rgb.expand(len(changed), -1, -1))
        for i, view in enumerate(batch.views):
            if view.erase:
                left, top, width, height = view.erase
                out[i, :, top : top + height, left : left + width] = GREY
        return out

    def _changed(self, pixels: Tensor, view: View) -> Tensor:
        """RGB pixels, uint8 [3, size, size], after a view's operations and its extra, which runs on the CPU."""
        pixels = apply_operations(pixels, view.operations)
        return view.extra(pixels).to(self.device) if view.extra else pixels

    def _decode(self, images: list[Tensor], names: list[str]) -> list[Tensor]:
        decoded = [image.to(self.device, non_blocking=True) if image.dim() == 3 else image for image in images]
        encoded = [i for i, image in enumerate(images) if image.dim() == 1]
        files = [images[i] for i in encoded]
        try:
            from_files = decode_jpeg(files, ImageReadMode.RGB, self.device) if files else []
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # nvJPEG refuses some files without saying which
            from_files = [decode_rgb(bytes(images[i].numpy()), names[i]).to(self.device) for i in encoded]
        for i, image in zip(encoded, from_files, strict=True):
            decoded[i] = image
        return decoded

    def _resample(self, images: list[Tensor], views: list[View]) -> Tensor:
        """Views of images, each uint8 [3, height, width], as float32 [batch, 3, size, size] of whole numbers."""
        windows = [_window(view) for view in views]
        height, width = (max(w[axis][1] - w[axis][0] for w in windows) for axis in (1, 0))
        canvas = torch.zeros(len(views), 3, height, width, device=self.device)
        for row, image, ((left, right), (top, bottom)) in zip(canvas, images, windows, strict=True):
            row[:, : bottom - top, : right - left] = image[:, top:bottom, left:right]
        across = self._weights(views, axis=0, length=width)
        down = self._weights(views, axis=1, length=height)
        # rounds half up after each pass and clips what a cubic filter overshoots, as on the CPU
        rows = (canvas @ across[:, None].mT).add_(0.5).floor_().clamp_(0, 255)
        return (down[:, None] @ rows).add_(0.5).floor_().clamp_(0, 255)

    def _weights(self, views: list[View], axis: int, length: int) -> Tensor:
        """The filters of pixels/native.c along an axis (0: x), float32 [batch, size, length]."""
        numbers = []
        for view in views:
            low, high = _window(view)[axis]
            numbers.append([view.box[axis] - low, view.box[axis + 2] - low, high - low, *view.target[axis::2]])
        start, end, limit, first, count = torch.tensor(numbers).to(self.device)[..., None, None].unbind(1)
        scale = (end - start) / count
        output = torch.arange(self.size, device=self.device)[:, None] - first
        if axis == 0:
            flips = torch.tensor([view.flip for view in views], device=self.device)[:, None, None]
            output = torch.where(flips, count - 1 - output, output)
        position = torch.arange(length, device=self.device)
        distance = (position + 0.5 - start - (output + 0.5) * scale).abs() / scale.clamp(min=1)
        cubic = torch.tensor([view.cubic for view in views], device=self.device)[:, None, None]
        weights = torch.where(cubic, _cubic(distance), (1 - distance).clamp(min=0))
        weights = weights * (position < limit) * ((output >= 0) & (output < count))
        return weights / weights.sum(dim=2, keepdim=True).clamp(min=1e-9)


def _cubic(x: Tensor) -> Tensor:
    near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    return torch.where(x < 1, near, far * (x < 2))


def _recolor(pixels: Tensor, colors: Tensor) -> Tensor:
    """Float32 [batch, 3, size, size] as uint8, after the `colors` of an `EncodedBatch`."""
    matrix, offset, of_mean = colors.split([3, 1, 3], dim=2)
    flat = pixels.flatten(2)
    offset = offset + of_mean @ flat.mean(dim=2, keepdim=True)
    colored = torch.baddbmm(offset, matrix, flat).round_().clamp_(0, 255)
    return colored.to(torch.uint8).unflatten(2, pixels.shape[2:])


def _window(view: View) -> tuple[tuple[int, int], tuple[int, int]]:
    """The pixels that a clipped view depends on, (left, right) and (top, bottom); training has clipped views only."""
    left, top, right, bottom = view.box
    return (math.floor(left), math.ceil(right)), (math.floor(top), math.ceil(bottom))


def _parts(views: list[View]) -> list[slice]:
    """Consecutive slices of a batch whose canvases, of the size of the slice's largest image, stay below CANVAS."""
    parts, start, height, width = [], 0, 0, 0
    for i, view in enumerate(views):
        (left, right), (top, bottom) = _window(view)
        height, width = max(height, bottom - top), max(width, right - left)
        if i > start and 3 * height * width * (i + 1 - start) > CANVAS:
            parts.append(slice(start, i))
            start, height, width = i, bottom - top, right - left
    return [*parts, slice(start, len(views))]
