"""Operations of PyTorch that resample maps with weights: bilinear and bicubic, of any size."""

import torch
from torch import Tensor
from torch.fx import Node

from fixedpoint.capture.pools import Pools
from fixedpoint.capture.values import Value
from fixedpoint.errors import QuantizationError
from fixedpoint.program import Conv


class Resampling(Pools):
    """One method for each operation."""

    def aten_upsample_bilinear2d(self, node: Node, a: dict) -> Value:
        x: Value = a["input"]
        shape = x.shape
        scales = [size / own for size, own in zip(node.meta["val"].shape[2:], shape[1:], strict=True)]
        given = list(a.get("scale_factors") or scales)
        if a["align_corners"] or given != scales or any(scale < 1 or scale % 1 for scale in scales):
            return self._by_matrices(node, a)
        return self._enlarged(node, x, int(scales[0]), int(scales[1]))

    def aten_upsample_bicubic2d(self, node: Node, a: dict) -> Value:
        return self._by_matrices(node, a)

    aten__upsample_bilinear2d_aa = aten__upsample_bicubic2d_aa = aten_upsample_bicubic2d

    def _enlarged(self, node: Node, x: Value, rows: int, columns: int) -> Value:
        """Bilinear upsampling by whole factors: a depthwise convolution gives the `rows * columns` pixels of each.

        A pixel is a mean of the nearest four, weighted by multiples of 1 / (2 * factor) in each direction.
        """
        channels, height, width = x.shape
        kernel = _taps(rows).reshape(rows, 1, -1, 1) * _taps(columns).reshape(1, columns, 1, -1)
        weight = kernel.flatten(0, 1).unsqueeze(1).repeat(channels, 1, 1, 1)
        around = [each // 2 for each in kernel.shape[2:]]
        sides = [around[1], around[1], around[0], around[0]]
        bordered = x.with_positions(torch.nn.functional.pad(x.positions, sides, mode="replicate"), node)
        weights = {"weight": weight, "bias": torch.zeros(len(weight))}
        made = self.add(
            node, Conv, [bordered], weights, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=channels
        )
        phases = made.index.reshape(channels, rows, columns, height, width).permute(0, 3, 1, 4, 2)
        return made.at(phases.reshape(channels, height * rows, width * columns), node)

    def _by_matrices(self, node: Node, a: dict) -> Value:
        """Resampling as a matrix product of all rows, then one of all columns.

        A matrix is what the operation itself makes of maps that are 1 in one row and 0 in others.
        """
        x: Value = a["input"]
        if len(x.shape) != 3:
            raise QuantizationError("its operand must be [batch, channels, height, width]")
        _, height, width = x.shape
        target, rest = node.target, [value for key, value in a.items() if key != "input"]
        of_rows, of_columns = torch.eye(height, dtype=torch.float64), torch.eye(width, dtype=torch.float64)
        rows = target(of_rows.reshape(1, height, height, 1).expand(-1, -1, -1, width), *rest)[0, :, :, 0]  # type: ignore[operator]
        columns = target(of_columns.reshape(1, width, 1, width).expand(-1, -1, height, -1), *rest)[0, :, 0]  # type: ignore[operator]
        y = self._product(node, x.at(x.index.mT, node), rows.T, None)
        return self._product(node, y.at(y.index.mT, node), columns.T, None)


def _taps(factor: int) -> Tensor:
    """[factor, taps]: the weights of a pixel and its neighbours for each of `factor` pixels that it becomes."""
    if factor == 1:
        return torch.ones(1, 1)
    offset = (torch.arange(factor) + 0.5) / factor - 0.5
    return torch.stack([(-offset).clamp(min=0), 1 - offset.abs(), offset.clamp(min=0)], 1)
