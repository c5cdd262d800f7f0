/* Runs the network on golden pictures and compares every logit, on a computer or on a device.
 *
 *     cc -std=c99 -O3 network.c selfcheck.c -o selfcheck && ./selfcheck
 *
 * It prints PASS and ends with 0, or the first logit that differs and ends with 1.
 */
#include <stdio.h>

#include "network.h"

#define PICTURES $count

/* [pictures][height][width][channels], each value a pixel 0..255 less 128. */
$pictures

/* [pictures][classes] */
$logits

int main(void)
{
    static int32_t logits[NETWORK_CLASSES];
    const int32_t *expected = golden_logits;

    for (int32_t i = 0; i < PICTURES; i++) {
        network_run(golden_pictures + i * NETWORK_INPUT_BYTES, logits);
        for (int32_t c = 0; c < NETWORK_CLASSES; c++, expected++)
            if (logits[c] != *expected) {
                printf("FAIL: picture %ld, class %ld: got %ld, expected %ld\n", (long)i, (long)c, (long)logits[c],
                       (long)*expected);
                return 1;
            }
    }
    printf("PASS: %ld pictures, %ld logits\n", (long)PICTURES, (long)PICTURES * NETWORK_CLASSES);
    return 0;
}
