/* Calls the functions of pixels/native.c, which the compiler includes before this, for each JPEG file on stdin: 4 bytes
   of length and the file. Views are those that pixels/views.py can give. Prints how many files were known and decoded. */

static uint32_t state = 1;
static int32_t below(int32_t end) { /* a pseudorandom number from 0 to end - 1 */
    state = state * 1664525u + 1013904223u;
    return (int32_t)((uint64_t)(state >> 8) * (uint32_t)end >> 24);
}

int main(void) {
    uint32_t bytes;
    int files = 0, known = 0, decoded = 0;
    while (fread(&bytes, 4, 1, stdin) == 1) {
        uint8_t *data = malloc(bytes ? bytes : 1); /* of the exact length, so that reading beyond is seen */
        if (fread(data, 1, bytes, stdin) != bytes) return 1;
        int32_t shape[2] = {0, 0};
        files++;
        if (jpeg_size(data, bytes, 100, shape) == 0 && shape[0] > 0 && (int64_t)shape[0] * shape[1] < 1 << 22) {
            known++;
            for (int view = 0; view < 6; view++) {
                int32_t size = 1 + below(40), reduce = 1 << below(4);
                Box box = {below(shape[0]), below(shape[1]), 0, 0};
                box.right = box.left + 1 + below(shape[0] - (int32_t)box.left);
                box.bottom = box.top + 1 + below(shape[1] - (int32_t)box.top);
                Rectangle target = {below(size), below(size), 0, 0};
                target.width = 1 + below(size - target.left), target.height = 1 + below(size - target.top);
                int clipped = view < 4;
                if (!clipped) { /* the centre, between pixels */
                    box.left += 0.3 * (box.right - box.left), box.top += 0.3 * (box.bottom - box.top), reduce = 1;
                }
                if ((box.right - box.left) / target.width < reduce || (box.bottom - box.top) / target.height < reduce)
                    reduce = 1;
                uint8_t *out = malloc((size_t)3 * size * size);
                decoded += jpeg_pixels(data, bytes, reduce, &box, clipped, &target, below(2), below(2), size, out) == 0;
                uint8_t *picture = calloc(shape[0], (size_t)3 * shape[1]), *resized = malloc((size_t)3 * size * 9);
                if (rgb_pixels(picture, shape[0], shape[1], &box, clipped, &target, below(2), below(2), size, out)) return 1;
                if (resize_rgb(picture, shape[0], shape[1], size, 9, resized)) return 1;
                free(out), free(picture), free(resized);
            }
        }
        free(data);
    }
    printf("%d %d %d\n", files, known, decoded);
    return 0;
}
