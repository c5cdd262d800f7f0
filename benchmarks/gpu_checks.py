"""What `benchmarks.gpu` checks: each check gives rows of what was measured, and of the goal."""

import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from benchmarks import data
from benchmarks.data_ours import training_batches
from benchmarks.gpu_rows import Row
from benchmarks.timing import interleaved
from benchmarks.train_steps import Work, our_step, plain_recipe, repeated, timm_step
from evaluation.score import NotFinite
from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.program import Program
from fixedpoint.program.integer import IntegerEvaluator, integer_logits
from fixedpoint.quantize.calibrate import EXACT8, PORTABLE, calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.qat import FakeQuantModel
from imagedb.sources.folder import FolderSource
from imagedb.writer import write_database
from models.normalization import normalize
from pipeline.params import check_params, load_params
from pipeline.yaml_file import read_yaml
from pixels.batches import TrainingBatches
from pixels.gpu import DeviceRenderer
from training.execution import Execution
from training.losses import label_loss
from training.mixing import Mixing
from training.optimization import Schedule
from training.step import TrainingStep

RECIPES = ("imagenet", "imagenet_modern")
RECIPE_STEPS = 50
CLASSES = 1000
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Extent:
    """How much is checked: the networks, sizes, executions and goals' speeds of one kind of device."""

    network: str
    rival: str
    size: int
    batch: int
    checked: int  # images whose integers are compared
    rounds: int
    steps: int  # of a recipe
    files: data.Extent  # JPEG files
    plain: Execution
    fast: Execution
    exact: Execution
    speeds_have_goals: bool


BF16 = Execution("bf16", compile=True)
LARGE = Extent(
    network="vargconvnet",
    rival="resnet50",
    size=224,
    batch=512,
    checked=64,
    rounds=3,
    steps=RECIPE_STEPS,
    files=data.Extent(images=4096),
    plain=BF16,
    fast=replace(BF16, dense_groups=True),
    exact=Execution("tf32", compile=True),
    speeds_have_goals=True,
)
SMALL = Extent(
    network="vargconvnet_32",
    rival="resnet18",
    size=32,
    batch=8,
    checked=4,
    rounds=1,
    steps=2,
    files=replace(data.QUICK, images=16),
    plain=Execution(),
    fast=Execution("bf16"),
    exact=Execution("tf32"),
    speeds_have_goals=False,
)


def integers(device: torch.device, extent: Extent) -> Iterator[Row]:
    """Integers beside those of the CPU: of each tensor, arithmetic and execution, and of QAT's evaluation."""
    work = _work(extent.network, extent, CPU)
    pixels = work.images()[0][: extent.checked]
    folded = fold(capture(work.model().eval(), (3, extent.size, extent.size)))
    for arithmetic in (PORTABLE, EXACT8):
        calibrated = calibrate(folded, lambda: [normalize(pixels[:16])], arithmetic=arithmetic)
        program = convert(calibrated)
        x = (pixels.int() - 128).to(torch.int8)
        expected = dict(IntegerEvaluator(program).run(x))
        found = IntegerEvaluator(program).to(device).run(x.to(device))
        wrong = sum(int((value.cpu() != expected[name]).sum()) for name, value in found)
        yield Row(f"{arithmetic}: integers of any tensor that differ from the CPU's", wrong, limit=0)
        logits = integer_logits(program, CPU)(pixels)
        for execution in dict.fromkeys((Execution(), Execution("tf32"), extent.exact)):
            for form, of_pixels in _forms(program, calibrated, device).items():
                with execution.active(), torch.no_grad():
                    compute = torch.compile(of_pixels) if execution.compile else of_pixels
                    different = int((compute(pixels.to(device)).cpu() != logits).sum())
                how = execution.precision + (", compiled" if execution.compile else "")
                yield Row(f"{arithmetic}: logits of {form} in {how} that differ from the CPU's", different, limit=0)


def _forms(program: Program, calibrated: Program, device: torch.device) -> dict[str, Callable[[Tensor], Tensor]]:
    model = FakeQuantModel(calibrated).to(device).eval()
    return {
        "the integer model": integer_logits(program, device),
        "QAT's evaluation": lambda pixels: model(normalize(pixels)),
    }


def speeds(device: torch.device, extent: Extent) -> Iterator[Row]:
    """Training steps on random images that lie on the device."""
    work, rival = (_work(name, extent, device) for name in (extent.network, extent.rival))
    qat = FakeQuantModel(work.program)
    rows = {
        "ours": our_step(work, work.model(), extent.fast),
        "QAT": our_step(work, qat, extent.fast),
        "timm": timm_step(work, extent.plain, torch.channels_last),
        "grouped": our_step(work, work.model(), extent.plain),
        "rival": our_step(rival, rival.model(), extent.plain),
    }
    found = interleaved({name: repeated(step, work.batch) for name, step in rows.items()}, extent.rounds)
    ours, goals = found["ours"], extent.speeds_have_goals
    yield Row(f"training step of {work}", ours, "images/s", ">=", 6500 if goals else None)
    yield Row(f"its speed in times of {extent.rival}'s", ours / found["rival"], "", ">=", 1 if goals else None)
    yield Row("its speed in times of timm's loop", ours / found["timm"], "", ">=", 1 if goals else None)
    yield Row(
        "its speed in times of that with grouped convolutions", ours / found["grouped"], "", ">=", 1 if goals else None
    )
    yield Row("time of a QAT step in times of a float step", ours / found["QAT"], "", "<=", 0.85 if goals else None)


def evaluation(device: torch.device, extent: Extent) -> Iterator[Row]:
    """Evaluation in integers beside that in float, at the same precision."""
    work = _work(extent.network, extent, device)
    pixels = work.images()[0]
    network = work.model().to(device).to(memory_format=torch.channels_last).eval()
    of_float = lambda pixels: network(normalize(pixels).contiguous(memory_format=torch.channels_last))  # noqa: E731
    integer = integer_logits(convert(work.program), device)

    def step(compute: Callable[[Tensor], Tensor], number: int) -> Tensor:
        with extent.exact.active(), torch.no_grad():
            return compute(pixels)

    rows = {"float": of_float, "integers": integer}
    if extent.exact.compile:
        rows = {name: torch.compile(each) for name, each in rows.items()}
    found = interleaved({name: repeated(partial(step, each), work.batch) for name, each in rows.items()}, extent.rounds)
    limit = 1.03 if extent.speeds_have_goals else None
    yield Row("time of integer evaluation in times of float's", found["float"] / found["integers"], "", "<=", limit)


def waiting(device: torch.device, extent: Extent) -> Iterator[Row]:
    """Whether a step waits for the GPU, and whether a loss that is not finite is traced to where it began."""
    work = _work(extent.network, extent, device)
    step = our_step(work, work.model(), Execution("bf16"))
    for number in range(2):
        step(number)
    claim = "waits of a step for the GPU, besides for the loss of the step before"
    if device.type == "cuda":
        yield Row(claim, _waits(partial(step, 2)), limit=0)
    else:
        yield Row(claim, error="a CPU has none")
    model = work.model().to(device)
    name, weight = list(model.named_parameters())[3]
    trained = TrainingStep(model, work.recipe, label_loss(0.1))
    with torch.no_grad():
        weight.fill_(math.nan)
    try:
        trained((work.images(),), range(1), (0, 0, 0), 1)
        trained.check()
        told = ""
    except NotFinite as error:
        told = str(error)
    wrong = int(told != f"the loss is nan in epoch 1, step 1; it began in the weights {name}")
    yield Row("losses that are NaN whose origin is not told", wrong, limit=0)


def _waits(work: Callable[[], object]) -> int:
    """How often PyTorch warns that an operation of `work` waits for the GPU."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(each.message) for each in caught)


def recipes(device: torch.device, extent: Extent) -> Iterator[Row]:
    """The first steps of recipes, with warm-up, mixing and averaging, on one batch: its loss must fall."""
    base = read_yaml("recipes/fashion_mnist.yaml")
    for name in RECIPES:
        changes = read_yaml(f"recipes/{name}.yaml")
        own = {key: changes.get(key, base[key]) for key in ("lr", "epochs", "batch_size")}
        whole = check_params(base | own | {"train": base["train"] | changes.get("train", {})}, name).float_recipe
        recipe = whole.model_copy(update={"epochs": 10, "warmup_epochs": 1})
        work = _work(extent.network, extent, device)
        mixing = Mixing(recipe, CLASSES) if recipe.mixes else None
        loss_of = label_loss(recipe.label_smoothing, recipe.loss, recipe.target_threshold)
        model: nn.Module = work.model().to(device)
        step = TrainingStep(model, recipe, loss_of, extent.fast, mixing=mixing)
        step.train()
        schedule = Schedule(step.optimizer, recipe, extent.steps)
        losses = []
        for number in range(extent.steps):
            schedule.before_step(number)
            losses.append(step((work.images(),), range(1), (0, 0, number), number + 1)[0])
        step.check()
        few = max(extent.steps // 5, 1)
        first, last = (median(float(loss) for loss in part) for part in (losses[:few], losses[-few:]))
        limit = first if extent.speeds_have_goals else None
        yield Row(f"loss after {extent.steps} steps of recipes/{name}.yaml, on one batch", last, "nats", "<=", limit)


def decoding(device: torch.device, extent: Extent) -> Iterator[Row]:
    """Training from JPEG files, decoded by the CPU's cores or by the device, beside images that lie on the device."""
    with TemporaryDirectory() as folder:
        made = data.make_images(Path(folder, "images"), extent.files)
        write_database(FolderSource(made.parent, made.name), Path(folder, "jpeg.lmdb"))
        cores = len(os.sched_getaffinity(0))
        on_cpu = training_batches(Path(folder, "jpeg.lmdb"), extent.size, extent.batch, cores, "yuv444", "jitter")
        renderer = DeviceRenderer(on_cpu.pixels.input_format, device)
        there = TrainingBatches(on_cpu.pixels, extent.batch, cores, renderer)
        same = TrainingBatches(on_cpu.pixels, extent.batch, cores, DeviceRenderer(on_cpu.pixels.input_format, CPU))
        # The arithmetic is the same, so decoders that differ by a level of rounding differ by less than one on average.
        limit_of_same = None if device.type == "cpu" else 1.0
        compared = (("training's threads", on_cpu, None), ("the same code on the CPU", same, limit_of_same))
        for name, batches, limit in compared:
            pairs = zip(batches.epoch(0), there.epoch(0), strict=True)
            distances = [float((one.float() - two.cpu().float()).abs().mean()) for ((one, _),), ((two, _),) in pairs]
            yield Row(
                f"mean distance of the device's pixels from those of {name}", max(distances), "levels", limit=limit
            )
        work = _work(extent.network, extent, device)
        step, images = our_step(work, work.model(), extent.fast), work.images()

        def epoch(batches: TrainingBatches | None) -> int:
            for number, parts in enumerate(batches.epoch(0) if batches else [(images,)] * on_cpu.steps):
                result = step(number, parts)
            result.item()  # waits for the GPU
            return on_cpu.steps * extent.batch

        sources = {"synthetic": None, "cpu": on_cpu, "device": there}
        found = interleaved({name: partial(epoch, each) for name, each in sources.items()}, extent.rounds)
        for name, where in {"cpu": f"{cores} cores", "device": "the device"}.items():
            share, limit = 100 * found[name] / found["synthetic"], 95 if extent.speeds_have_goals else None
            yield Row(f"speed with JPEG files decoded by {where}, of that without", share, "%", ">=", limit)


def _work(network: str, extent: Extent, device: torch.device) -> Work:
    return Work(network, {}, CLASSES, extent.size, extent.batch, plain_recipe(load_params()), device)


CHECKS: dict[str, Callable[[torch.device, Extent], Iterator[Row]]] = {
    "integers": integers,
    "waiting": waiting,
    "recipes": recipes,
    "decoding": decoding,
    "speeds": speeds,
    "evaluation": evaluation,
}
