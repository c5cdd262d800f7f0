"""Tests compute as the stages do: the same instruction set, one thread."""

import stages  # noqa: F401, I001 - pins the instruction set, before torch is imported
import torch

torch.set_num_threads(1)
