"""The project's own forms: the QAT model in PyTorch, and C.

Each function returns the logits of the int8 images, as accumulators, and every int8 tensor of the first `traced` ones.
"""

import numpy as np
import torch
from apart import Answer
from batches import BATCH, real
from subjects import RefusedError, Subject

from fixedpoint.c.runtime import CModel
from fixedpoint.c.source import c_source, flash_bytes
from fixedpoint.program.integer import integer_tensor
from fixedpoint.quantize.qat import FakeQuantModel

MOST_C_CONSTANTS = 10_000_000  # bytes: the compiler takes minutes for more


@torch.no_grad()
def qat(subject: Subject, x: np.ndarray, traced: int) -> Answer:
    model, images = FakeQuantModel(subject.trained).eval(), torch.from_numpy(real(x))
    logits = torch.cat([model.logits(batch) for batch in images.split(BATCH)])
    tensors = {
        name: integer_tensor(subject.trained, name, value).numpy()
        for name, value in (model.run(images[:traced]) if traced else ())
        if name in subject.tensors
    }
    return integer_tensor(subject.trained, subject.program.output, logits).numpy(), tensors


def c(subject: Subject, x: np.ndarray, traced: int) -> Answer:
    if (size := flash_bytes(subject.program)) > MOST_C_CONSTANTS:
        raise RefusedError(f"not compiled: {size / 1e6:.0f} MB of constants")
    model = CModel(c_source(subject.program, {}), trace=True)
    tensors = model.tensors(x[:traced]) if traced else {}
    return model(x), {name: value for name, value in tensors.items() if name in subject.tensors}
