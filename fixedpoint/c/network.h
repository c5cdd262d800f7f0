/* A quantized network in integer arithmetic, bit for bit what its integer program computes.
 *
$about *
 * C99 with 32-bit integers; neither allocation nor recursion, nor any library but memcpy and memset. Not reentrant: all
 * tensors lie in one static block. Compile network.c with -O3, which vectorizes its loops; for a
 * computer, with -march=native, too.
 */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NETWORK_INPUT_CHANNELS $channels
#define NETWORK_INPUT_HEIGHT $height
#define NETWORK_INPUT_WIDTH $width
#define NETWORK_INPUT_BYTES $input_bytes
#define NETWORK_CLASSES $classes
#define NETWORK_ACTIVATION_BYTES $activation_bytes /* RAM: the static block of all tensors between input and logits */
#define NETWORK_CONSTANT_BYTES $constant_bytes /* flash: weights, biases, shifts and tables */
#define NETWORK_STACK_BYTES $stack_bytes /* of network_run and all that it calls, at most, as gcc compiles it */

/* Class c has the real logit `logits[c] * 2^-network_logit_exponent[c]`; only if all exponents are equal do the integers
 * compare as the real numbers do.
 */
extern const int8_t network_logit_exponent[NETWORK_CLASSES];

/* One picture: input is [height][width][channels], each value a pixel 0..255 less 128. */
void network_run(const int8_t *input, int32_t *logits);

/* With NETWORK_TRACE defined, network_run calls this function, which is yours, after each operation. shape is channels,
 * height, width; values are [height][width][channels], int8_t (bytes = 1) or int32_t (bytes = 4).
 */
#ifdef NETWORK_TRACE
void network_trace(int32_t index, const char *name, const int32_t shape[3], int32_t bytes, const void *values);
#endif

#ifdef __cplusplus
}
#endif

#endif
