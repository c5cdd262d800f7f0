/* Runs the network on a computer, to hold it against other implementations.
 *
 *     cc -std=c99 -O3 network.c main.c -o network
 *     ./network pictures.bin > logits.bin                    or: ./network < pictures.bin > logits.bin
 *
 *     cc -std=c99 -O3 -DNETWORK_TRACE network.c main.c -o trace
 *     ./trace pictures.bin FOLDER > logits.bin               writes every tensor to FOLDER, too; - reads stdin
 *
 * pictures.bin: any number of pictures, int8 [images][channels][height][width], each value a pixel less 128.
 * logits.bin: int32 [images][classes]. FOLDER/<tensor>.bin: int8 or int32 [images][channels][height][width].
 * FOLDER/tensors.txt: bytes a value and name of each tensor, in order of computation. Integers are little-endian.
 * Characters of a name other than letters, digits and . _ - ~ are percent-encoded, as in addresses of the web.
 */
#include <stdio.h>
#include <stdlib.h>

#include "network.h"

static void stop(const char *what, const char *name)
{
    fprintf(stderr, "error: %s %s\n", what, name);
    exit(1);
}

static void write_value(FILE *file, int32_t value, int32_t bytes)
{
    for (int32_t i = 0; i < bytes; i++)
        putc((int)((uint32_t)value >> 8 * i & 255), file);
}

#ifdef NETWORK_TRACE
static const char *folder;
static long image;

static FILE *open_to_write(const char *name, const char *suffix, int append)
{
    char path[1024];
    FILE *file = NULL;
    if (snprintf(path, sizeof path, "%s/%s%s", folder, name, suffix) < (int)sizeof path)
        file = fopen(path, append ? "ab" : "wb");
    if (!file)
        stop("cannot write", path);
    return file;
}

static void close_written(FILE *file, const char *name)
{
    const int failed = ferror(file);
    if (fclose(file) || failed)
        stop("cannot write", name);
}

void network_trace(int32_t index, const char *name, const int32_t shape[3], int32_t bytes, const void *values)
{
    const int32_t channels = shape[0], pixels = shape[1] * shape[2];
    FILE *file;
    if (!folder)
        return;
    if (image == 0) {
        file = open_to_write("tensors", ".txt", index > 0);
        fprintf(file, "%d %s\n", (int)bytes, name);
        close_written(file, "tensors.txt");
    }
    file = open_to_write(name, ".bin", image > 0);
    for (int32_t c = 0; c < channels; c++)
        for (int32_t i = c; i < pixels * channels; i += channels)
            write_value(file, bytes == 1 ? ((const int8_t *)values)[i] : ((const int32_t *)values)[i], bytes);
    close_written(file, name);
}
#endif

int main(int count, char **arguments)
{
    static int8_t picture[NETWORK_INPUT_BYTES], input[NETWORK_INPUT_BYTES];
    static int32_t logits[NETWORK_CLASSES];
    const int32_t channels = NETWORK_INPUT_CHANNELS, pixels = NETWORK_INPUT_HEIGHT * NETWORK_INPUT_WIDTH;
    const char *name = count > 1 ? arguments[1] : "-";
    const int is_stdin = name[0] == '-' && name[1] == '\0';
    FILE *file = is_stdin ? stdin : fopen(name, "rb");
    size_t got;

    if (!file)
        stop("cannot read", name);
#ifdef NETWORK_TRACE
    folder = count > 2 ? arguments[2] : NULL;
#endif
    while ((got = fread(picture, 1, sizeof picture, file)) == sizeof picture) {
        for (int32_t c = 0; c < channels; c++)
            for (int32_t i = 0; i < pixels; i++)
                input[i * channels + c] = picture[c * pixels + i];
        network_run(input, logits);
        for (int32_t i = 0; i < NETWORK_CLASSES; i++)
            write_value(stdout, logits[i], 4);
#ifdef NETWORK_TRACE
        image++;
#endif
    }
    if (ferror(file))
        stop("cannot read", name);
    if (got > 0)
        stop("the last picture is not whole in", name);
    if (fflush(stdout) || ferror(stdout))
        stop("cannot write", "the logits");
    return 0;
}
