"""Self-checks, compiled and run: those for TFLM with a stand-in, and with TFLM=/path/to/tflite-micro with itself."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from portable_programs import PROGRAMS, build
from programs import PROGRAMS as C_PROGRAMS
from programs import conv, hard_inputs

from fixedpoint.c.selfcheck import c_selfcheck, golden_count
from fixedpoint.c.source import c_source
from fixedpoint.litert.runtime import LitertModel
from fixedpoint.litert.selfcheck import TFLM_FOLDER, _planned, arena_bytes, tflm_selfcheck
from fixedpoint.litert.writer import litert_model
from fixedpoint.program import INPUT, Pad
from fixedpoint.program.integer import IntegerEvaluator, int8_logits

STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
TFLM = os.environ.get("TFLM")
CASES = ["conv", "conv_groups", "network", "network_vectors"]


def golden(program, count=1) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and their accumulators, int32 [n, classes]."""
    pictures = hard_inputs(program, count)
    return pictures, IntegerEvaluator(program)(torch.from_numpy(pictures)).flatten(1).numpy()


def files(name: str, count=1) -> tuple[bytes, np.ndarray, np.ndarray]:
    """The .tflite file of a portable program, pictures and their int8 logits."""
    program = PROGRAMS[name]
    pictures, accumulators = golden(program, count)
    return litert_model(program, {}), pictures, int8_logits(program, torch.from_numpy(accumulators)).numpy()


def write(folder: Path, texts: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)


def call(folder: Path, *command: str) -> tuple[int, str]:
    """Exit code and all that was printed."""
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout.replace("\r", "")


def array(text: str, declaration: str) -> list[int]:
    """The numbers of an array in a source."""
    listed = re.search(rf"^{re.escape(declaration)}\[\] = {{\n([-\d,\n]+)\n}};$", text, re.MULTILINE)
    return [int(number) for number in listed[1].split(",")]


@pytest.mark.parametrize(
    ("shape", "count"), [((3, 32, 32), 21), ((3, 128, 128), 1), ((3, 224, 224), 1), ((1, 8, 8), 40)]
)
def test_pictures_of_64_kib_at_most_but_one(shape, count):
    assert golden_count(np.zeros((40, *shape), np.int8)) == count


def run_c(folder: Path, sources: dict[str, str]) -> tuple[int, str]:
    write(folder, sources)
    command = ["cc", "-std=c99", *STRICT, "-O1", "network.c", "selfcheck.c", "-o", "selfcheck"]
    assert call(folder, *command) == (0, "")
    return call(folder, "./selfcheck")


@pytest.fixture(params=["network", "linear"])
def c_files(request):
    program = C_PROGRAMS[request.param]
    pictures, logits = golden(program)
    return program, pictures, logits, c_source(program, {})


def test_the_c_form_passes(c_files, tmp_path):
    program, pictures, logits, sources = c_files
    sources["selfcheck.c"] = c_selfcheck(program, pictures, logits)
    assert run_c(tmp_path, sources) == (0, f"PASS: {len(pictures)} pictures, {logits.size} logits\n")
    assert not re.search(r"\b(float|double)\b", sources["selfcheck.c"])


def test_the_c_form_names_the_first_logit_that_differs(c_files, tmp_path):
    program, pictures, logits, sources = c_files
    wrong = logits.copy()
    wrong[3, 2] += 1
    wrong[4, 0] -= 1
    sources["selfcheck.c"] = c_selfcheck(program, pictures, wrong)
    message = f"FAIL: picture 3, class 2: got {logits[3, 2]}, expected {wrong[3, 2]}\n"
    assert run_c(tmp_path, sources) == (1, message)


def test_the_c_form_fails_if_one_weight_is_another(c_files, tmp_path):
    program, pictures, logits, _ = c_files
    weight = program.constants["logits.weight"].clone()
    weight.view(-1)[0] ^= 1
    changed = program.with_constants(**{"logits.weight": weight})
    theirs = golden(changed)[1]
    picture, label = (int(i) for i in np.argwhere(theirs != logits)[0])
    sources = c_source(changed, {}) | {"selfcheck.c": c_selfcheck(program, pictures, logits)}
    got, expected = theirs[picture, label], logits[picture, label]
    message = f"FAIL: picture {picture}, class {label}: got {got}, expected {expected}\n"
    assert run_c(tmp_path, sources) == (1, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x, y: (x.astype(np.int16), y),
            r"the pictures must be int8 \[n, 3, 32, 32\], not int16 \[\d+, 3, ",
        ),
        (lambda x, y: (x.transpose(0, 2, 3, 1), y), r"the pictures must be int8 \[n, 3, 32, 32\], not int8"),
        (lambda x, y: (x, y.astype(np.int8)), r"the logits must be int32 \[n, 5\], not int8"),
        (lambda x, y: (x, y[:, :4]), r"the logits must be int32 \[n, 5\], not int32 \[\d+, 4\]"),
        (lambda x, y: (x, y[:2]), r"the logits must be int32 \[n, 5\], not int32 \[2, 5\]"),
        (lambda x, y: (x[:0], y[:0]), r"the pictures must be int8 \[n, 3, 32, 32\], not int8 \[0, "),
    ],
)
def test_other_arrays_are_refused(change, message):
    program = C_PROGRAMS["network"]
    with pytest.raises(ValueError, match=message):
        c_selfcheck(program, *change(*golden(program)))


@pytest.mark.parametrize("name", CASES)
def test_the_arrays_hold_the_file_the_pictures_and_the_logits_of_litert(name):
    model, pictures, logits = files(name)
    texts = tflm_selfcheck(model, pictures, logits)
    declaration = "alignas(16) const unsigned char model_data"
    assert bytes(array(texts["model_data.cc"], declaration)) == model
    channels, height, width = pictures.shape[1:]
    listed = np.array(array(texts["golden_data.cc"], "const int8_t golden_pictures"), np.int8)
    listed = listed.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    expected = array(texts["golden_data.cc"], "const int8_t golden_logits")
    assert LitertModel(model, "reference")(listed).ravel().tolist() == expected
    assert np.array_equal(listed, pictures)


def test_logits_of_16_bits():
    program = PROGRAMS["conv"]
    model, pictures = litert_model(program, {}, "int16"), hard_inputs(program, 1)
    logits = LitertModel(model, "reference")(pictures)
    texts = tflm_selfcheck(model, pictures, logits)
    assert "using GoldenLogit = int16_t;" in texts["golden_data.h"]
    assert array(texts["golden_data.cc"], "const int16_t golden_logits") == logits.ravel().tolist()
    with pytest.raises(ValueError, match=r"the logits must be int16 \[n, 5\], not int8"):
        tflm_selfcheck(model, pictures, logits.astype(np.int8))


def test_exactly_the_operators_of_the_file_are_registered_once():
    layers = Pad("p", (INPUT,), (4, 9, 9), (1, 0, 0, 1), (0.5,)), conv("a", "p", (4, 9, 9))
    program = build((4, 8, 8), *layers, conv("b", "a", (4, 9, 9), groups=2))  # CONV_2D in two versions, PADV2
    pictures = hard_inputs(program, 1)
    model, names = litert_model(program, {}), ["Conv2D", "PadV2", "Reshape"]
    text = tflm_selfcheck(model, pictures, LitertModel(model)(pictures))["main.cc"]
    registered = text.partition("#endif\n  resolver")[2]
    assert sorted(re.findall(r"\.Add(\w+)\(\);", registered)) == names
    assert f"MicroMutableOpResolver<{len(names)}> resolver" in text


def test_the_files_are_whole_and_the_same_each_time():
    texts = tflm_selfcheck(*files("conv"))
    assert sorted(texts) == sorted(path.name for path in TFLM_FOLDER.iterdir())
    assert texts == tflm_selfcheck(*files("conv"))
    assert all("$" not in text for name, text in texts.items() if name not in ("Makefile", "README.md"))
    assert all(max(map(len, text.splitlines())) <= 120 and text.endswith("\n") for text in texts.values())


def test_the_plan_of_the_arena_by_hand():
    assert _planned([(16, 0, 1), (32, 1, 2), (16, 2, 3)]) == 48
    assert _planned([(64, 0, 1), (32, 1, 2), (64, 2, 3), (16, 0, 3)]) == 64 + 32 + 16
    assert _planned([(16, 0, 0), (16, 1, 1)]) == 16


def test_the_arena_holds_the_largest_step():
    # 3x8x8 and 14x8x8 at a time, then the logits; each multiple of 16 bytes
    model, *_ = files("conv")
    assert 3 * 64 + 14 * 64 < arena_bytes(model) < 3 * 64 + 14 * 64 + 8192


STAND_IN = """
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

#define MicroPrintf(...) (std::printf(__VA_ARGS__), std::printf("\\n"))
enum TfLiteStatus { kTfLiteOk, kTfLiteError };
struct TfLiteTensor { size_t bytes; };

namespace tflite {
inline void InitializeTarget() {}
inline const void* GetModel(const void* model) { return model; }
template <int count> struct MicroMutableOpResolver {
  void AddConv2D() {}
  void AddReshape() {}
};
// Its logits are the first bytes of the picture.
struct MicroInterpreter {
  template <class Resolver> MicroInterpreter(const void*, const Resolver&, uint8_t* arena, size_t) : arena_(arena) {}
  TfLiteStatus AllocateTensors() { return kTfLiteOk; }
  TfLiteStatus Invoke() { std::memcpy(arena_ + 1024, arena_, 5); return kTfLiteOk; }
  size_t arena_used_bytes() { return 1029; }
  TfLiteTensor* input(int) { return &input_; }
  TfLiteTensor* output(int) { return &output_; }
  template <class T> T* typed_input_tensor(int) { return reinterpret_cast<T*>(arena_); }
  template <class T> T* typed_output_tensor(int) { return reinterpret_cast<T*>(arena_ + 1024); }
  TfLiteTensor input_{INPUT}, output_{5};
  uint8_t* arena_;
};
}  // namespace tflite
"""


def run_stand_in(folder: Path, texts: dict[str, str], input_bytes: int) -> tuple[int, str]:
    """main.cc with an interpreter that copies, which the machine's compiler needs no TFLM for."""
    write(folder, texts)
    for header in re.findall(r'#include "(tensorflow/.*)"', texts["main.cc"]):
        path = folder / header
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STAND_IN if path.name == "micro_interpreter.h" else "")
    command = ["c++", "-std=c++17", *STRICT, f"-DINPUT={input_bytes}", "-I.", "main.cc", "model_data.cc"]
    assert call(folder, *command, "golden_data.cc", "-o", "selfcheck") == (0, "")
    return call(folder, "./selfcheck")


def test_main_passes_or_names_the_first_logit_that_differs(tmp_path):
    model, pictures, _ = files("conv")
    logits = pictures.transpose(0, 2, 3, 1).reshape(len(pictures), -1)[:, :5].copy()
    arena = f"arena: 1029 of {arena_bytes(model)} bytes used\n"
    found = run_stand_in(tmp_path, tflm_selfcheck(model, pictures, logits), pictures[0].size)
    assert found == (0, f"{arena}PASS: {len(pictures)} pictures, {logits.size} logits\n")
    wrong = logits.copy()
    wrong[2, 4] ^= 1
    wrong[3, 0] ^= 1
    texts = tflm_selfcheck(model, pictures, wrong)
    message = f"FAIL: picture 2, class 4: got {logits[2, 4]}, expected {wrong[2, 4]}\n"
    assert run_stand_in(tmp_path, texts, pictures[0].size) == (1, arena + message)
    message = "FAIL: input or output have another type or size than the golden data\n"
    assert run_stand_in(tmp_path, texts, pictures[0].size + 1) == (1, arena + message)


@pytest.mark.skipif(TFLM is None, reason="needs TFLM=/path/to/tflite-micro")
@pytest.mark.parametrize("name", ["conv_groups", "network"])
def test_tflm_itself_passes_and_fails(name, tmp_path):
    model, pictures, logits = files(name)
    make = "make", "-s", f"TFLM={TFLM}"
    write(tmp_path, tflm_selfcheck(model, pictures, logits))
    code, text = call(tmp_path, *make)
    assert (code, text.splitlines()[-1]) == (0, f"PASS: {len(pictures)} pictures, {logits.size} logits")
    used = int(re.search(rf"arena: (\d+) of {arena_bytes(model)} bytes used", text)[1])
    assert used <= arena_bytes(model)
    wrong = logits.copy()
    wrong[1, 3] ^= 1
    write(tmp_path, tflm_selfcheck(model, pictures, wrong))
    code, text = call(tmp_path, *make)
    assert code and f"FAIL: picture 1, class 3: got {logits[1, 3]}, expected {wrong[1, 3]}\n" in text
    write(tmp_path, tflm_selfcheck(model, pictures, logits))
    code, text = call(tmp_path, *make, "ARENA_BYTES=1024")
    assert code and "FAIL: the network cannot be set up in an arena of 1024 bytes\n" in text
