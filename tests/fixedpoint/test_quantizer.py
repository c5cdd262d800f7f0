"""The interface of the package: from a module and images to the integers of the pipeline's steps, and files of them."""

import errno
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import oracle
import pytest
import torch
import torch.nn.functional as F
from ai_edge_litert.interpreter import Interpreter
from networks import real_images
from torch import nn

from fixedpoint.c.source import c_source
from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.errors import QuantizationError
from fixedpoint.litert.writer import litert_model
from fixedpoint.onnx.float import FloatWriter
from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.qdq import QdqWriter
from fixedpoint.onnx.qoperator import QOperatorWriter
from fixedpoint.program.integer import IntegerEvaluator
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.correct import correct_biases
from fixedpoint.quantize.reconstruct import reconstruct
from fixedpoint.quantize.refine import refine
from fixedpoint.quantize.scales import with_best_scales
from fixedpoint.quantizer import Quantized, network_input, quantize
from models.normalization import Normalized, normalize

REPOSITORY = Path(__file__).parents[2]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
ONNX = {"float": FloatWriter, "int8_qdq": QdqWriter, "int8_qoperator": QOperatorWriter, "int8_integer": IntegerWriter}


class Network(nn.Module):
    """Convolutions with BatchNorm, a residual sum, a concatenation and pools."""

    def __init__(self, act: type[nn.Module] = nn.ReLU):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), act())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6())
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        x = torch.cat([self.pool(x + self.block(x)), self.pool(x)], 1)
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    """uint8 [70, 3, 16, 16], real images."""
    return (real_images(16, 70) * 128 + 128).to(torch.uint8)


def a_network(pixels: torch.Tensor, **options) -> Network:
    """A network in train mode, with BatchNorm statistics of the images."""
    torch.manual_seed(0)
    network = Network(**options).train()
    with torch.no_grad():
        network(normalize(pixels))
    return network


@pytest.fixture(scope="module")
def quantized(pixels) -> Quantized:
    return quantize(a_network(pixels), pixels, class_names=["a", "b", "c", "d", "e"], metadata={"network": "own"})


def by_steps(network: nn.Module, batches: list[torch.Tensor], refined: int, corrected: int, *options):
    """The folded and the calibrated program, by the steps of stages/calibrate.py."""
    inputs = [normalize(batch) for batch in batches]
    floating = fold(capture(network, tuple(batches[0].shape[1:])))
    program = calibrate(with_best_scales(floating, lambda: inputs), lambda: inputs, 3, *options)
    everything = torch.cat(inputs)
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0)).tolist()
    program = refine(program, everything[sorted(order[:refined])], 3).program
    return floating, correct_biases(program, everything[sorted(order[:corrected])])


def test_it_reconstructs_as_the_pipeline_does(pixels):
    """From the corrected program, towards the float network's constants and not the corrected ones."""
    _, corrected = by_steps(a_network(pixels), [pixels], 64, 70, "portable")
    found = quantize(a_network(pixels), pixels, reconstruction=70, reconstruction_steps=40)
    reference = quantize(a_network(pixels), pixels, bias_correction=0).calibrated
    *_, expected = reconstruct(corrected, reference, normalize(pixels), 40)
    assert any(not torch.equal(value, corrected.constants[key]) for key, value in expected.constants.items())
    assert all(torch.equal(value, found.calibrated.constants[key]) for key, value in expected.constants.items())


@pytest.mark.parametrize("options", [("portable", 8), ("exact8", 8), ("exact8", 7)])
def test_it_gives_what_the_steps_of_the_pipeline_give(options, pixels, tmp_path):
    batches, about = list(pixels.split(32)), {"network": "own", "class_names": list("abcde")}
    floating, calibrated = by_steps(a_network(pixels), batches, 64, 70, *options)
    program = convert(calibrated)
    arithmetic, bits = options
    found = quantize(a_network(pixels), batches, metadata=about, arithmetic=arithmetic, weight_bits=bits)
    for ours, theirs in ((found.program, program), (found.calibrated, calibrated), (found.floating, floating)):
        assert ours.to_json() == theirs.to_json()
        assert ours.constants.keys() == theirs.constants.keys()
        assert all(torch.equal(value, theirs.constants[key]) for key, value in ours.constants.items())
    found.save_onnx(tmp_path / "deeper/onnx")
    for name, writer in ONNX.items():
        expected = writer.export(floating if name == "float" else program, about).SerializeToString(deterministic=True)
        assert (tmp_path / f"deeper/onnx/{name}.onnx").read_bytes() == expected, name
    found.save_c(tmp_path)
    assert {name: (tmp_path / name).read_text() for name in c_source(program, about)} == c_source(program, about)
    if arithmetic == "portable":
        for logits in ("int8", "int16"):
            found.save_tflite(tmp_path / "int8.tflite", logits)
            assert (tmp_path / "int8.tflite").read_bytes() == litert_model(program, about, logits)
    assert not any(tmp_path.rglob("*.partial"))


def test_a_normalization_is_the_pipelines_but_for_the_names_of_modules(pixels):
    network = Normalized(a_network(pixels), MEAN, STD)
    floating, calibrated = by_steps(network, [pixels], 64, 70, "portable")
    found = quantize(network.network, [pixels], mean=MEAN, std=np.array(STD))
    for ours, theirs in ((found.floating, floating), (found.calibrated, calibrated)):
        values = {key.removeprefix("network."): value for key, value in theirs.constants.items()}
        assert ours.constants.keys() == values.keys()
        assert all(torch.equal(value, values[key]) for key, value in ours.constants.items())
    assert [*found.program.exponents.values()] == [*calibrated.exponents.values()]
    expected = network.eval()(normalize(pixels)).detach()
    assert float((found(pixels) - expected).square().mean() / expected.var()) < 0.01


def test_a_network_may_have_a_module_of_the_name_normalization(pixels):
    class Own(Network):
        def __init__(self):
            super().__init__()
            self.normalization = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return super().forward(self.normalization(x))

    names = [op.name for op in quantize(Own(), pixels, mean=MEAN, std=STD).program.ops]
    assert names[0] == "normalization" and len({*names}) == len(names)


@pytest.mark.parametrize("arithmetic", ["portable", "exact8"])
def test_every_tensor_is_the_oracles(arithmetic, pixels):
    network = a_network(pixels, act=nn.ReLU if arithmetic == "portable" else nn.SiLU)
    program = (found := quantize(network, pixels, arithmetic=arithmetic)).program
    x = pixels[5:9].numpy().astype(np.int16) - 128
    tensors = oracle.run(program.to_json(), {k: v.numpy() for k, v in program.constants.items()}, x.astype(np.int8))
    for name, value in IntegerEvaluator(program).run(torch.from_numpy(x.astype(np.int8))):
        assert np.array_equal(value.numpy(), tensors[name]), name
    logits = np.ldexp(tensors[program.output].astype(np.float64), -program.logit_exponent.numpy())
    assert found(pixels[5:9]).dtype == torch.float32
    assert np.array_equal(found(pixels[5:9]).numpy(), logits) and len(np.unique(logits)) > 10


def test_litert_onnx_runtime_and_c_give_the_same_logits(quantized, pixels, tmp_path):
    quantized.save_tflite(tmp_path / "int8.tflite")
    quantized.save_onnx(tmp_path)
    quantized.save_c(tmp_path)
    expected, program = quantized(pixels).numpy(), quantized.program
    accumulators = np.ldexp(expected.astype(np.float64), program.logit_exponent.numpy()).astype(np.int32)
    signed = (pixels.numpy().astype(np.int16) - 128).astype(np.int8)

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    for name, x, wanted in [
        ("int8_qdq", signed.astype(np.float32) / 128, expected),
        ("int8_qoperator", signed.astype(np.float32) / 128, expected),
        ("int8_integer", signed, accumulators),
    ]:
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
        assert np.array_equal(session.run(None, {"input": x})[0], wanted), name

    interpreter = Interpreter(model_path=str(tmp_path / "int8.tflite"))
    run = interpreter.get_signature_runner()
    found = np.concatenate([run(input=image.transpose(1, 2, 0)[None])["logits"] for image in signed])
    scaled = expected.astype(np.float64) * 2.0**program.int8_logit_exponent
    assert np.array_equal(found, np.rint(scaled).clip(-128, 127))
    assert len(np.unique(found)) > 20

    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "network.c", "main.c", "-o", "network"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "network", "-"], input=signed.tobytes(), capture_output=True, check=True)
    assert np.array_equal(np.frombuffer(done.stdout, "<i4").reshape(accumulators.shape), accumulators)


def test_files_say_what_the_network_is(quantized, tmp_path):
    quantized.save_onnx(tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "int8_qdq.onnx", providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    assert found["class_names"] == '["a", "b", "c", "d", "e"]' and found["network"] == '"own"'
    assert repr(quantized) == f"Quantized(portable, [3, 16, 16] -> 5, {len(quantized.program.ops)} operations)"


def test_it_can_be_pickled(quantized, pixels):
    back = pickle.loads(pickle.dumps(quantized))
    assert back.program.to_json() == quantized.program.to_json() and back.metadata == quantized.metadata
    assert torch.equal(back(pixels), quantized(pixels))


def test_the_module_stays_as_it_is_and_later_training_changes_nothing(pixels):
    network = a_network(pixels)
    network.block.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    quantized = quantize(network, pixels, refinement=0, bias_correction=0)
    assert {name: module.training for name, module in network.named_modules() if not module.training}.keys() == {
        name for name, _ in network.named_modules() if name.startswith("block")
    }
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    values = [*quantized.floating.constants.values(), *quantized.calibrated.constants.values()]
    kept = [value.clone() for value in values]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert all(map(torch.equal, values, kept))


def test_images_may_come_as_a_tensor_in_batches_once_and_in_any_layout(pixels, quantized):
    rows = pixels.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for given in ([pixels], (batch for batch in [pixels]), rows):
        found = quantize(a_network(pixels), given)
        assert found.program.exponents == quantized.program.exponents
        assert all(torch.equal(v, quantized.calibrated.constants[k]) for k, v in found.calibrated.constants.items())


def test_trained_in_a_loop_of_ones_own_it_stays_the_integer_model(quantized, pixels):
    model = quantized.trainable().train()
    before = {name: value.clone() for name, value in quantized.calibrated.constants.items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    brightness, losses = pixels.float().mean((1, 2, 3)), []
    labels = brightness.argsort().argsort() // 14  # five classes of 14 images
    for _ in range(20):
        loss = F.cross_entropy(model(network_input(pixels)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.project()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1
    trained = quantized.from_trained(model)
    with torch.no_grad():
        assert torch.equal(trained(pixels), model(network_input(pixels)))
    assert not torch.equal(trained(pixels), quantized(pixels))
    assert trained.metadata == quantized.metadata and trained.floating is quantized.floating
    assert all(torch.equal(value, before[name]) for name, value in quantized.calibrated.constants.items())


def test_weights_that_were_not_projected_are_refused(quantized, pixels):
    model = quantized.trainable()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e6)
    with pytest.raises(ValueError, match=r"the accumulator of channel \d+ can reach \d+, not below 2\*\*24"):
        quantized.from_trained(model)


X = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            (X.float(),),
            "batch 0 of the images must be uint8 [n, channels, height, width], not float32 [2, ",
        ),
        ((X[0],), "batch 0 of the images must be uint8 [n, channels, height, width], not uint8 [3, 16, 16]"),
        (([X, X[:, :, 1:]],), "batch 1 of the images must be uint8 [n, 3, 16, 16], not uint8 [2, 3, 15, 16]"),
        (([(X, 1)],), "batch 0 of the images must be a uint8 tensor, not tuple; leave out labels"),
        (([X, X[:0]],), "batch 1 of the images must be uint8 [n, 3, 16, 16], not uint8 [0, 3, 16, 16]"),
        (([],), "there are no images to calibrate on"),
        ((X[:, :1],), "the network cannot be captured for inputs [batch, 1, 16, 16] in stem.0: Given groups=1"),
        ((X, {"mean": (0.5, 0.5), "std": STD}), "mean must have one number for each of 3 channels, not (0.5, 0.5)"),
        ((X, {"mean": MEAN}), "std must have one number for each of 3 channels, not None"),
        ((X, {"mean": MEAN, "std": (1, 0, 1)}), "std must not be 0, as in (1, 0, 1)"),
        ((X, {"class_names": "abcd"}), "class_names has 4 names, and the network 5 logits"),
        ((X, {"metadata": {"x": X}}), "metadata must be JSON values: Object of type Tensor is not"),
        ((X, {"arithmetic": "int8"}), "arithmetic must be portable or exact8, not 'int8'"),
        ((X, {"weight_bits": 7}), "weight_bits of portable must be 8, not 7"),
        ((X, {"weight_bits": 6, "arithmetic": "exact8"}), "weight_bits of exact8 must be 7 or 8, not 6"),
        ((X, {"refinement": -1}), "refinement must be 0 or more, not -1"),
    ],
)
def test_a_mistake_is_one_line(given, message):
    images, options = given if len(given) == 2 else (*given, {})
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        quantize(Network(), images, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            nn.Sequential(Network(), nn.LayerNorm(5), nn.Softmax(1), nn.Softsign()),
            "layer_norm in 1: it divides by statistics of each image, which has no exact integer form: use "
            "BatchNorm; softmax in 2: attention and softmax inside a network have no exact integer form: use "
            "convolutions; div in 3: ",
        ),
        (
            Network(nn.SiLU),
            "portable arithmetic has no products of tensors and no tables: stem.2 (a table); ",
        ),
    ],
)
def test_a_network_that_cannot_be_quantized_is_one_line(network, message):
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        quantize(network, X)
    assert "\n" not in str(raised.value)


def test_pixels_of_another_type_or_size_have_no_logits(quantized):
    for wrong in (X.float(), X[:, :, :8], X[0]):
        with pytest.raises(ValueError, match=r"the pixels must be uint8 \[n, 3, 16, 16\], not "):
            quantized(wrong)


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(quantized, tmp_path, monkeypatch):
    def half(path, content, write=Path.write_bytes):
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "no space left")

    (tmp_path / "int8.tflite").write_text("earlier")
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="no space left"):
        quantized.save_tflite(tmp_path / "int8.tflite")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["earlier"]


def test_exact8_has_no_tflite_file(pixels, tmp_path):
    found = quantize(Network(nn.SiLU), pixels, arithmetic="exact8", refinement=0, bias_correction=0)
    with pytest.raises(ValueError, match="needs portable arithmetic, and the program's is exact8"):
        found.save_tflite(tmp_path / "int8.tflite")
    assert not [*tmp_path.iterdir()]


def test_its_import_needs_pytorch_and_numpy_alone():
    script = (
        "import sys, torch.export, numpy; before = {*sys.modules}; import fixedpoint.quantizer\n"
        "new = {name.partition('.')[0] for name in {*sys.modules} - before} - {*sys.stdlib_module_names}\n"
        "print(*sorted(new - {'torch', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("fixedpoint\n", "")


def test_the_ten_lines_of_the_page(tmp_path, monkeypatch):
    page = (REPOSITORY / "docs/python.md").read_text(encoding="utf-8")
    text = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    assert len([line for line in text.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(text, found)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {
        *("quantized/int8.tflite", "quantized/c/main.c", "quantized/c/network.c", "quantized/c/network.h"),
        *(f"quantized/onnx/{name}.onnx" for name in ONNX),
    }
    assert found["logits"].shape == (8, 10)
    x = found["images"][:8].numpy().astype(np.float32)
    session = onnxruntime.InferenceSession("quantized/onnx/int8_qoperator.onnx", providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {"input": (x - 128) / 128})[0], found["logits"].numpy())


def zero(*modules: int):
    """All weights of these modules are zero."""

    def change(network: nn.Sequential) -> None:
        for i in modules:
            network[i].weight.data.zero_()
            network[i].bias.data.zero_()

    return change


def dead_channels(network: nn.Sequential) -> None:
    for i in (0, 1, 2):
        network[i].weight.data[1] = 0


def tiny(network: nn.Sequential) -> None:
    network[1].weight.data *= 1e-38
    network[1].bias.data.zero_()


def small(change) -> nn.Sequential:
    torch.manual_seed(0)
    body = [nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    network = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    change(network)
    return network


BLANK = torch.full((3, 3, 6, 6), 128, dtype=torch.uint8)
NOISE = torch.randint(0, 256, (8, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("change", "images", "arithmetic"),
    [
        (dead_channels, NOISE, "portable"),
        (dead_channels, BLANK[:1], "exact8"),
        (zero(0), NOISE, "portable"),
        (zero(1, 6), NOISE, "portable"),
        (zero(1), NOISE, "exact8"),
        (zero(6), BLANK, "portable"),
        (tiny, NOISE, "portable"),
        (zero(), NOISE[:1], "portable"),
    ],
)
@torch.no_grad()
def test_dead_channels_and_images_that_say_nothing_give_results_near_the_networks(change, images, arithmetic):
    network = small(change)
    quantized = quantize(network, images, arithmetic=arithmetic)
    expected = network(network_input(images))
    assert float((quantized(images) - expected).abs().max()) <= 0.02 * float(expected.abs().max()) + 1e-4


def test_values_that_overflow_on_the_images_are_named():
    """On 0, as all of the black images are less 1; not on the numbers around it that the capture tries."""
    network = nn.Sequential(nn.Conv2d(1, 1, 8), nn.Flatten()).eval()
    network[0].weight.data.fill_(1e37)
    with pytest.raises(QuantizationError, match=r"^[01] has infinite values or NaN on the images of the calibration$"):
        quantize(network, torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
