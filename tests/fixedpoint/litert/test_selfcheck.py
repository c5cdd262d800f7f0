"""The self-check for TFLM, compiled and run: with a stand-in, and with TFLM=/path/to/tflite-micro with itself."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from portable_programs import PROGRAMS, build
from programs import conv, hard_inputs
from selfchecks import STRICT, array, call, golden, write

from fixedpoint.litert.runtime import LitertModel
from fixedpoint.litert.selfcheck import TFLM_FOLDER, _planned, arena_bytes, tflm_selfcheck
from fixedpoint.litert.writer import litert_model
from fixedpoint.program import INPUT, Pad
from fixedpoint.program.integer import int8_logits

TFLM = os.environ.get("TFLM")
CASES = ["conv", "conv_groups", "network", "network_vectors"]


def files(name: str, count=1) -> tuple[bytes, np.ndarray, np.ndarray]:
    """The .tflite file of a portable program, images and their int8 logits."""
    program = PROGRAMS[name]
    images, accumulators = golden(program, count)
    return litert_model(program, {}), images, int8_logits(program, torch.from_numpy(accumulators)).numpy()


@pytest.mark.parametrize("name", CASES)
def test_the_arrays_hold_the_file_the_images_and_the_logits_of_litert(name):
    model, images, logits = files(name)
    texts = tflm_selfcheck(model, images, logits)
    declaration = "alignas(16) const unsigned char model_data"
    assert bytes(array(texts["model_data.cc"], declaration)) == model
    channels, height, width = images.shape[1:]
    listed = np.array(array(texts["golden_data.cc"], "const int8_t golden_pictures"), np.int8)
    listed = listed.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    expected = array(texts["golden_data.cc"], "const int8_t golden_logits")
    assert LitertModel(model, "reference")(listed).ravel().tolist() == expected
    assert np.array_equal(listed, images)


def test_logits_of_16_bits():
    program = PROGRAMS["conv"]
    model, images = litert_model(program, {}, "int16"), hard_inputs(program, 1)
    logits = LitertModel(model, "reference")(images)
    texts = tflm_selfcheck(model, images, logits)
    assert "using GoldenLogit = int16_t;" in texts["golden_data.h"]
    assert array(texts["golden_data.cc"], "const int16_t golden_logits") == logits.ravel().tolist()
    with pytest.raises(ValueError, match=r"the logits must be int16 \[n, 5\], not int8"):
        tflm_selfcheck(model, images, logits.astype(np.int8))


def test_exactly_the_operators_of_the_file_are_registered_once():
    layers = Pad("p", (INPUT,), (4, 9, 9), (1, 0, 0, 1), (0.5,)), conv("a", "p", (4, 9, 9))
    program = build((4, 8, 8), *layers, conv("b", "a", (4, 9, 9), groups=2))  # CONV_2D in two versions, PADV2
    images = hard_inputs(program, 1)
    model, names = litert_model(program, {}), ["Conv2D", "PadV2", "Reshape"]
    text = tflm_selfcheck(model, images, LitertModel(model)(images))["main.cc"]
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
// Its logits are the first bytes of the image.
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
    """Run main.cc with an interpreter that copies, for which the machine's compiler needs no TFLM."""
    write(folder, texts)
    for header in re.findall(r'#include "(tensorflow/.*)"', texts["main.cc"]):
        path = folder / header
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STAND_IN if path.name == "micro_interpreter.h" else "")
    command = ["c++", "-std=c++17", *STRICT, f"-DINPUT={input_bytes}", "-I.", "main.cc", "model_data.cc"]
    assert call(folder, *command, "golden_data.cc", "-o", "selfcheck") == (0, "")
    return call(folder, "./selfcheck")


def test_main_passes_or_names_the_first_logit_that_differs(tmp_path):
    model, images, _ = files("conv")
    logits = images.transpose(0, 2, 3, 1).reshape(len(images), -1)[:, :5].copy()
    arena = f"arena: 1029 of {arena_bytes(model)} bytes used\n"
    found = run_stand_in(tmp_path, tflm_selfcheck(model, images, logits), images[0].size)
    assert found == (0, f"{arena}PASS: {len(images)} pictures, {logits.size} logits\n")
    wrong = logits.copy()
    wrong[2, 4] ^= 1
    wrong[3, 0] ^= 1
    texts = tflm_selfcheck(model, images, wrong)
    message = f"FAIL: picture 2, class 4: got {logits[2, 4]}, expected {wrong[2, 4]}\n"
    assert run_stand_in(tmp_path, texts, images[0].size) == (1, arena + message)
    message = "FAIL: input or output have another type or size than the golden data\n"
    assert run_stand_in(tmp_path, texts, images[0].size + 1) == (1, arena + message)


@pytest.mark.skipif(TFLM is None, reason="needs TFLM=/path/to/tflite-micro")
@pytest.mark.parametrize("name", ["conv_groups", "network"])
def test_tflm_itself_passes_and_fails(name, tmp_path):
    model, images, logits = files(name)
    make = "make", "-s", f"TFLM={TFLM}"
    write(tmp_path, tflm_selfcheck(model, images, logits))
    code, text = call(tmp_path, *make)
    assert (code, text.splitlines()[-1]) == (0, f"PASS: {len(images)} pictures, {logits.size} logits")
    used = int(re.search(rf"arena: (\d+) of {arena_bytes(model)} bytes used", text)[1])
    assert used <= arena_bytes(model)
    wrong = logits.copy()
    wrong[1, 3] ^= 1
    write(tmp_path, tflm_selfcheck(model, images, wrong))
    code, text = call(tmp_path, *make)
    assert code and f"FAIL: picture 1, class 3: got {logits[1, 3]}, expected {wrong[1, 3]}\n" in text
    write(tmp_path, tflm_selfcheck(model, images, logits))
    code, text = call(tmp_path, *make, "ARENA_BYTES=1024")
    assert code and "FAIL: the network cannot be set up in an arena of 1024 bytes\n" in text
