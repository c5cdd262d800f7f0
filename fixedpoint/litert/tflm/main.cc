// Runs the network on golden pictures and compares every logit. README.md says how to build it.
#include <cstdint>
#include <cstring>

#include "golden_data.h"
#include "model_data.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

// RAM for all tensors and for the interpreter; enough for the reference kernels and CMSIS-NN.
#ifndef ARENA_BYTES
#define ARENA_BYTES $arena_bytes
#endif

namespace {

alignas(16) uint8_t arena[ARENA_BYTES];

// 0 if all logits are the golden ones, 1 if not; what it found is printed.
int SelfCheck() {
#ifdef ETHOS_U  // as the Makefile of TensorFlow Lite for Microcontrollers sets it
  tflite::MicroMutableOpResolver<$operators + 1> resolver;
  resolver.AddEthosU();
#else
  tflite::MicroMutableOpResolver<$operators> resolver;
#endif
$registrations

  tflite::MicroInterpreter interpreter(tflite::GetModel(model_data), resolver, arena, ARENA_BYTES);
  if (interpreter.AllocateTensors() != kTfLiteOk) {
    MicroPrintf("FAIL: the network cannot be set up in an arena of %d bytes", ARENA_BYTES);
    return 1;
  }
  MicroPrintf("arena: %d of %d bytes used", static_cast<int>(interpreter.arena_used_bytes()), ARENA_BYTES);
  int8_t* input = interpreter.typed_input_tensor<int8_t>(0);
  const GoldenLogit* logits = interpreter.typed_output_tensor<GoldenLogit>(0);
  if (input == nullptr || interpreter.input(0)->bytes != kGoldenPictureBytes || logits == nullptr ||
      interpreter.output(0)->bytes != kGoldenClasses * sizeof(GoldenLogit)) {
    MicroPrintf("FAIL: input or output have another type or size than the golden data");
    return 1;
  }
  for (int i = 0; i < kGoldenPictures; i++) {
    std::memcpy(input, golden_pictures + i * kGoldenPictureBytes, kGoldenPictureBytes);
    if (interpreter.Invoke() != kTfLiteOk) {
      MicroPrintf("FAIL: picture %d: an operator reports an error", i);
      return 1;
    }
    for (int c = 0; c < kGoldenClasses; c++) {
      const int expected = golden_logits[i * kGoldenClasses + c];
      if (logits[c] != expected) {
        MicroPrintf("FAIL: picture %d, class %d: got %d, expected %d", i, c, logits[c], expected);
        return 1;
      }
    }
  }
  MicroPrintf("PASS: %d pictures, %d logits", kGoldenPictures, kGoldenPictures * kGoldenClasses);
  return 0;
}

}  // namespace

#ifdef ESP_PLATFORM  // ESP-IDF
extern "C" void app_main() { SelfCheck(); }
#else
int main() {
  tflite::InitializeTarget();
  return SelfCheck();
}
#endif
