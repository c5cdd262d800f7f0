"""The template of an operation works as it stands: put in its places, it gives the same bits in every form."""

import numpy as np
import onnxruntime
import operation_template as template
import oracle
import pytest
import torch
from onnx_files import EXACT, WRITERS, save
from programs import hard_inputs, in_real_numbers

from fixedpoint.c import files
from fixedpoint.c.runtime import CModel
from fixedpoint.c.source import CWriter, c_source
from fixedpoint.capture.aten import AtenOperations
from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.onnx import seal
from fixedpoint.onnx.float import FloatWriter
from fixedpoint.onnx.graph import OUTPUT
from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.qdq import QdqWriter
from fixedpoint.onnx.runtime import OnnxModel
from fixedpoint.program import EXACT8, OPS
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.integer import IntegerEvaluator, integer_tensor
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.qat import FakeQuantModel

PLACES = {
    FloatEvaluator: template.Floating,
    FakeQuantModel: template.FakeQuantized,
    IntegerEvaluator: template.Integer,
    FloatWriter: template.Onnx,
    QdqWriter: template.Qdq,
    IntegerWriter: template.OnnxInteger,
    CWriter: template.C,
}


@pytest.fixture
def float_program(monkeypatch, tmp_path):
    """A network with the operation, captured and folded, while the operation is in its places."""
    monkeypatch.setitem(OPS, template.Negate.kind, template.Negate)
    for place, part in PLACES.items():
        monkeypatch.setattr(place, "negate", part.negate, raising=False)
    monkeypatch.setattr(AtenOperations, "aten_neg", template.Aten.aten_neg, raising=False)
    monkeypatch.setattr(seal, "OPERATORS", seal.OPERATORS | template.ONNX_OPERATORS)
    for file in files.FOLDER.glob("*.[ch]"):
        (tmp_path / file.name).write_text(file.read_text() + (template.KERNEL if file.name == "kernels.c" else ""))
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    torch.manual_seed(0)
    return fold(capture(template.Negative().eval(), (3, 8, 8)))


@torch.no_grad()
def test_the_template_of_an_operation_gives_the_same_bits_in_every_form(float_program, tmp_path):
    images = torch.from_numpy(hard_inputs(float_program, 24).astype(np.float32) / 128)
    program = convert(calibrate(float_program, lambda: iter([images]), 2, EXACT8))
    (name,) = (op.name for op in program.ops if op.kind == "negate")
    (source_name,) = next(op.inputs for op in program.ops if op.name == name)
    x = (images * 128).to(torch.int8)
    tensors = {each: value.numpy() for each, value in IntegerEvaluator(program).run(x)}
    shift = program.exponents[source_name] - program.exponents[name]
    expected = np.clip(oracle.divide_by_power(-tensors[source_name].astype(np.int64), shift), -128, 127)
    assert np.array_equal(tensors[name], expected) and len(np.unique(expected)) > 50

    fake = {
        each: integer_tensor(program, each, value)
        for each, value in FakeQuantModel(in_real_numbers(program)).run(images)
    }
    assert np.array_equal(fake[name], tensors[name]) and np.array_equal(fake[program.output], tensors[program.output])
    logits = np.ldexp(tensors[program.output].astype(np.float64), -program.logit_exponent.numpy())
    for form, mode in EXACT:
        model = OnnxModel(save(WRITERS[form], program, tmp_path), mode, outputs=[name])
        found = model.tensors(images.numpy())
        assert np.array_equal(found[name], tensors[name]), (form, mode)
        assert np.array_equal(found[OUTPUT], logits), (form, mode)
    for file, text in c_source(program, {}).items():
        (tmp_path / file).write_text(text)
    assert np.array_equal(CModel(tmp_path)(x.numpy()), tensors[program.output])

    floating = FloatWriter.export(float_program, {}).SerializeToString()
    session = onnxruntime.InferenceSession(floating, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": images.numpy()})
    np.testing.assert_allclose(found, FloatEvaluator(float_program).logits(images), rtol=1e-4, atol=1e-5)
