/* From encoded or decoded pictures to the pixels of a network's input, one batch a call, any number of threads.

   A JPEG file is decoded to the planes that it stores, YCbCr with the chroma at its own resolution, and only down to
   the last row that is needed. Resampling is Pillow's, bit for bit: a filter that widens with the reduction, rows first,
   then columns, weights of 22 fractional bits, a byte between the passes. So each value is determined by integers: the
   inverse DCT is the accurate integer one, which all builds of libjpeg compute alike. */

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#if JPEG_LIB_VERSION >= 70
#define SCALED(thing) ((thing)->DCT_h_scaled_size)
#define MIN_SCALED(jpeg) ((jpeg)->min_DCT_h_scaled_size)
#else
#define SCALED(thing) ((thing)->DCT_scaled_size)
#define MIN_SCALED(jpeg) ((jpeg)->min_DCT_scaled_size)
#endif

#define BITS 22 /* of a weight's fraction */
#define LANES 8 /* rows of a horizontal pass */
#define DAMAGED (-1)
#define NO_MEMORY (-2)

typedef struct {
    double left, top, right, bottom; /* in pixels of the picture, edges at integers */
} Box;

typedef struct {
    const uint8_t *pixels;
    int32_t width, height, stride, channels; /* a pixel has 1 or 3 bytes */
} Plane;

typedef struct {
    int32_t left, top, width, height; /* in the output */
} Rectangle;

typedef struct {
    const uint8_t *data; /* a JPEG file, or uint8 [height, width, 3] */
    size_t bytes;
    int32_t width, height; /* 0: it is a JPEG file */
    Box box;
    Rectangle target;
    int32_t clipped, reduce, flip, cubic;
} Picture;

typedef struct {
    int32_t mapped; /* 0: colours do not change */
    int32_t matrix[9]; /* of 16 fractional bits */
    double offset[3], of_mean[9]; /* the mean colour times of_mean is added */
} Colors;

typedef struct {
    int32_t first, count;
    int32_t *weights;
} Taps;

typedef int32_t Lanes __attribute__((vector_size(4 * LANES)));

/* Eight bytes as integers; and integers below 2^15 as bytes, clipped to 0 .. 255. What compilers make of the general
   form is slow. */
#ifdef __AVX2__
static Lanes widen(uint64_t bytes) { return (Lanes)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)bytes)); }
static uint64_t narrow(Lanes x) {
    __m128i half = _mm_packus_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));
    return (uint64_t)_mm_cvtsi128_si64(_mm_packus_epi16(half, half));
}
#else
typedef uint8_t Bytes __attribute__((vector_size(LANES)));
static Lanes widen(uint64_t bytes) { return __builtin_convertvector((Bytes)bytes, Lanes); }
static uint64_t narrow(Lanes x) {
    x &= ~(x >> 31);
    Lanes large = x > 255;
    return (uint64_t)__builtin_convertvector((x & ~large) | (large & 255), Bytes);
}
#endif

typedef enum { TRIANGLE, CUBIC, LANCZOS } Filter; /* which reach 1, 2 and 3 pixels far */

static double sinc(double x) { return x == 0 ? 1 : sin(M_PI * x) / (M_PI * x); }

/* The filter at a distance; the cubic one is Keys's convolution with a = -1/2 (doi 10.1109/TASSP.1981.1163711). */
static double weight_at(double x, Filter filter) {
    if (filter == LANCZOS) return x < 3 ? sinc(x) * sinc(x / 3) : 0;
    if (filter == TRIANGLE) return x < 1 ? 1 - x : 0;
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

/* The input positions and weights behind each of `size` outputs that share [from, to); positions outside of [low, high)
   have none. One block of memory, NULL if there is none. */
static Taps *make_taps(int32_t low, int32_t high, double from, double to, Filter filter, int32_t size) {
    double scale = (to - from) / size, stretch = scale < 1 ? 1 : scale, reach = (1 + filter) * stretch;
    int32_t most = 2 * ((int32_t)reach + 1) + 1;
    Taps *taps = malloc(size * sizeof(Taps) + most * sizeof(double) + (size_t)size * most * sizeof(int32_t));
    if (!taps) return NULL;
    double *exact = (double *)(taps + size);
    int32_t *weights = (int32_t *)(exact + most);
    for (int32_t i = 0; i < size; i++, weights += most) {
        double center = (from - low) + (i + 0.5) * scale, sum = 0; /* counted from low, as if the rest were cut off */
        int32_t first = (int32_t)(center - reach + 0.5), end = (int32_t)(center + reach + 0.5);
        if (first < 0) first = 0;
        if (end > high - low) end = high - low;
        for (int32_t x = first; x < end; x++) {
            double distance = (x - center + 0.5) * (1 / stretch);
            if (distance < 0) distance = -distance;
            sum += exact[x - first] = weight_at(distance, filter);
        }
        for (int32_t k = 0; k < end - first; k++)
            weights[k] = (int32_t)((exact[k] < 0 ? -0.5 : 0.5) + (sum ? exact[k] / sum : exact[k]) * (1 << BITS));
        taps[i] = (Taps){low + first, end - first, weights};
    }
    return taps;
}

/* Byte c of row r goes to row c, byte r; rows begin `stride` and `to_stride` bytes apart, and there are at most 8. */
static void transpose(const uint8_t *from, size_t stride, int32_t rows, int32_t bytes, uint8_t *to, size_t to_stride) {
#ifdef __AVX2__
    if (rows >= 8 && bytes >= 8) { /* each step rotates the six bits of a byte's number in the block by one */
        __m128i x[8], y[4], z[4];
        for (int r = 0; r < 8; r++) x[r] = _mm_loadl_epi64((const __m128i *)(from + r * stride));
        for (int r = 0; r < 4; r++) y[r] = _mm_unpacklo_epi8(x[r], x[r + 4]);
        for (int r = 0; r < 2; r++) {
            z[2 * r] = _mm_unpacklo_epi8(y[r], y[r + 2]);
            z[2 * r + 1] = _mm_unpackhi_epi8(y[r], y[r + 2]);
        }
        for (int r = 0; r < 2; r++) {
            y[2 * r] = _mm_unpacklo_epi8(z[r], z[r + 2]);
            y[2 * r + 1] = _mm_unpackhi_epi8(z[r], z[r + 2]);
        }
        for (int r = 0; r < 4; r++, to += 2 * to_stride) {
            _mm_storel_epi64((__m128i *)to, y[r]);
            _mm_storeh_pd((double *)(to + to_stride), (__m128d)y[r]);
        }
        return;
    }
#endif
    for (int32_t r = 0; r < rows && r < 8; r++)
        for (int32_t c = 0; c < bytes && c < 8; c++) to[c * to_stride + r] = from[r * stride + c];
}

/* Rows first_row .. end_row - 1 of a plane, resampled to `width` values of `channels` bytes each, eight rows at a time.
   Magnitudes of weights add up to less than two, so that no sum leaves 32 bits. */
static inline __attribute__((always_inline)) int resample_lanes(Plane in, const Taps *taps, int32_t width, int flip,
                                                                int32_t channels, int32_t first_row, int32_t end_row,
                                                                uint8_t *out) {
    int32_t low = taps[0].first * channels, bytes = width * channels;
    int32_t columns = (taps[width - 1].first + taps[width - 1].count) * channels - low;
    uint64_t *column = malloc((size_t)(columns + bytes + 16) * sizeof *column); /* each byte of one is of another row */
    if (!column) return NO_MEMORY;
    uint64_t *result = column + columns + 8;
    for (int32_t row = first_row; row < end_row; row += LANES, out += LANES * bytes) {
        const uint8_t *rows = in.pixels + (size_t)row * in.stride + low;
        for (int32_t x = 0; x < columns; x += 8)
            transpose(rows + x, in.stride, end_row - row, columns - x, (uint8_t *)(column + x), 8);
        for (int32_t i = 0; i < width; i++) {
            const uint64_t *from = column + taps[i].first * channels - low;
            Lanes sums[3];
            for (int32_t c = 0; c < channels; c++) sums[c] = (Lanes){0} + (1 << (BITS - 1));
            for (int32_t k = 0; k < taps[i].count; k++)
                for (int32_t c = 0; c < channels; c++) sums[c] += widen(*from++) * taps[i].weights[k];
            uint64_t *to = result + (flip ? width - 1 - i : i) * channels;
            for (int32_t c = 0; c < channels; c++) to[c] = narrow(sums[c] >> BITS);
        }
        for (int32_t i = 0; i < bytes; i += 8)
            transpose((uint8_t *)(result + i), 8, bytes - i, end_row - row, out + i, bytes);
    }
    free(column);
    return 0;
}

static int resample_rows(Plane in, const Taps *taps, int32_t width, int flip, int32_t first_row, int32_t end_row,
                         uint8_t *out) {
    if (in.channels == 3) return resample_lanes(in, taps, width, flip, 3, first_row, end_row, out);
    return resample_lanes(in, taps, width, flip, 1, first_row, end_row, out);
}

/* A copy of at most eight bytes; of constant size, it is one instruction. */
static inline void copy(void *to, const void *from, int32_t bytes) {
    if (bytes >= 8)
        memcpy(to, from, 8);
    else
        memcpy(to, from, bytes);
}

/* The weighted sum of `count` lines, which follow one another in memory. */
static inline __attribute__((always_inline)) void add_lines(const uint8_t *restrict lines,
                                                            const int32_t *restrict weights, int32_t count,
                                                            int32_t bytes, uint8_t *restrict out) {
    for (int32_t x = 0; x < bytes; x += LANES) {
        Lanes sum = (Lanes){0} + (1 << (BITS - 1));
        for (int32_t k = 0; k < count; k++) {
            uint64_t loaded = 0;
            copy(&loaded, lines + (size_t)k * bytes + x, bytes - x);
            sum += widen(loaded) * weights[k];
        }
        uint64_t values = narrow(sum >> BITS);
        copy(out + x, &values, bytes - x);
    }
}

static void resample_columns(const uint8_t *in, const Taps *taps, int32_t bytes, int32_t height, int32_t first_row,
                             int32_t stride, uint8_t *out) {
    for (int32_t i = 0; i < height; i++, out += stride) {
        const uint8_t *lines = in + (size_t)(taps[i].first - first_row) * bytes;
        if (taps[i].count == 2) /* when a picture becomes larger; constants make a faster loop */
            add_lines(lines, taps[i].weights, 2, bytes, out);
        else
            add_lines(lines, taps[i].weights, taps[i].count, bytes, out);
    }
}

/* The part `box` of each of `count` planes of one size, resampled to width x height pixels, in rows that begin `stride`
   bytes apart, and planes `step` bytes apart; with `clipped`, pixels outside of the box have no influence. */
static int resample(const Plane *in, int32_t count, Box box, int clipped, int32_t width, int32_t height, int flip,
                    Filter filter, int32_t stride, size_t step, uint8_t *out) {
    int32_t left = 0, top = 0, right = in->width, bottom = in->height, bytes = width * in->channels, result = NO_MEMORY;
    if (clipped) {
        left = (int32_t)box.left, top = (int32_t)box.top;
        right = (int32_t)box.right + (box.right > (int32_t)box.right);
        bottom = (int32_t)box.bottom + (box.bottom > (int32_t)box.bottom);
    }
    Taps *across = make_taps(left, right, box.left, box.right, filter, width);
    Taps *down = make_taps(top, bottom, box.top, box.bottom, filter, height);
    uint8_t *rows = NULL;
    if (across && down) {
        int32_t first = down[0].first, end = down[height - 1].first + down[height - 1].count;
        rows = malloc((size_t)(end - first) * bytes);
        result = rows ? 0 : NO_MEMORY;
        for (int32_t i = 0; i < count && !result; i++, out += step) {
            result = resample_rows(in[i], across, width, flip, first, end, rows);
            if (!result) resample_columns(rows, down, bytes, height, first, stride, out);
        }
    }
    free(across), free(down), free(rows);
    return result;
}

typedef struct {
    struct jpeg_error_mgr base;
    jmp_buf leave;
} Errors;

static void leave(j_common_ptr jpeg) { longjmp(((Errors *)jpeg->err)->leave, 1); }
static void ignore(j_common_ptr jpeg, int level) { (void)jpeg, (void)level; }

static void open_jpeg(struct jpeg_decompress_struct *jpeg, Errors *errors, const uint8_t *data, size_t size) {
    jpeg->err = jpeg_std_error(&errors->base);
    errors->base.error_exit = leave;
    errors->base.emit_message = ignore; /* warnings of damaged data; what is missing becomes grey */
    jpeg_create_decompress(jpeg);
    jpeg_mem_src(jpeg, (unsigned char *)data, size);
    jpeg_read_header(jpeg, TRUE);
}

/* Whether `bytes` behind the header of a first scan hold few more scans: each passes over the whole picture. */
static int few_scans(const uint8_t *at, size_t bytes, int32_t max_scans) {
    const uint8_t *end = at + bytes;
    int32_t scans = 1;
    while (end - at >= 4 && scans <= max_scans) {
        if (at[0] != 0xFF || at[1] <= 1 || at[1] == 0xFF || (at[1] >= 0xD0 && at[1] <= 0xD8)) {
            at++; /* coded data, fill, or a marker without a segment */
            continue;
        }
        if (at[1] == 0xD9) break;
        scans += at[1] == 0xDA;
        ptrdiff_t segment = 2 + (at[2] << 8 | at[3]);
        at += segment < end - at ? segment : end - at;
    }
    return scans <= max_scans;
}

/* Width and height of a JPEG file that is grey or YCbCr, of 8 bits and at most `max_scans`; 0 and 0 of any other. */
int jpeg_size(const uint8_t *data, size_t bytes, int32_t max_scans, int32_t size[2]) {
    struct jpeg_decompress_struct jpeg;
    Errors errors;
    memset(&jpeg, 0, sizeof jpeg);
    if (setjmp(errors.leave)) {
        jpeg_destroy_decompress(&jpeg);
        return DAMAGED;
    }
    open_jpeg(&jpeg, &errors, data, bytes);
    int known = jpeg.data_precision == 8 && (jpeg.jpeg_color_space == JCS_GRAYSCALE || jpeg.jpeg_color_space == JCS_YCbCr);
    if (jpeg_has_multiple_scans(&jpeg))
        known = known && few_scans(jpeg.src->next_input_byte, jpeg.src->bytes_in_buffer, max_scans);
    size[0] = known ? (int32_t)jpeg.image_width : 0;
    size[1] = known ? (int32_t)jpeg.image_height : 0;
    jpeg_destroy_decompress(&jpeg);
    return 0;
}

/* Decode the rows `top` .. `bottom` - 1 of a JPEG file's picture reduced by `reduce`; `memory` is to be freed. */
static void decode(struct jpeg_decompress_struct *jpeg, int32_t top, int32_t bottom, int32_t reduce, Plane planes[3],
                   uint8_t **memory) {
    jpeg->raw_data_out = TRUE;
    jpeg->do_fancy_upsampling = FALSE;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->scale_num = 1, jpeg->scale_denom = reduce;
    jpeg->out_color_space = jpeg->jpeg_color_space;
    jpeg_start_decompress(jpeg);
    int32_t lines = jpeg->max_v_samp_factor * MIN_SCALED(jpeg); /* of one row of MCUs */
    int32_t bands = (bottom + lines - 1) / lines;
    size_t sizes[3], total = 0;
    for (int c = 0; c < jpeg->num_components; c++) {
        jpeg_component_info *info = jpeg->comp_info + c;
        int32_t step = SCALED(info);
        planes[c].width = info->downsampled_width, planes[c].height = info->downsampled_height;
        planes[c].channels = 1;
        planes[c].stride = ((info->width_in_blocks + info->h_samp_factor) / info->h_samp_factor) * info->h_samp_factor * step;
        sizes[c] = (size_t)planes[c].stride * bands * info->v_samp_factor * step;
        total += sizes[c];
    }
    uint8_t *to = *memory = malloc(total);
    if (!to) return;
    for (int c = 0; c < jpeg->num_components; to += sizes[c++]) planes[c].pixels = to;
    for (int32_t band = 0; band < bands && jpeg->output_scanline < jpeg->output_height; band++) {
        JSAMPROW rows[3][4 * DCTSIZE];
        JSAMPARRAY arrays[3] = {rows[0], rows[1], rows[2]};
        for (int c = 0; c < jpeg->num_components; c++) {
            jpeg->comp_info[c].component_needed = (band + 1) * lines > top; /* else only its bits are read */
            int32_t count = jpeg->comp_info[c].v_samp_factor * SCALED(jpeg->comp_info + c);
            for (int32_t r = 0; r < count; r++)
                rows[c][r] = (uint8_t *)planes[c].pixels + (size_t)(band * count + r) * planes[c].stride;
        }
        jpeg_read_raw_data(jpeg, arrays, lines);
    }
}

static int same_size(const jpeg_component_info *one, const jpeg_component_info *other) {
    return one->h_samp_factor == other->h_samp_factor && one->v_samp_factor == other->v_samp_factor &&
           SCALED(one) == SCALED(other);
}

/* The part `box` of a grey or YCbCr JPEG file in the rectangle `target` of `out`, uint8 [3, size, size], as YCbCr. */
int jpeg_pixels(const uint8_t *data, size_t bytes, int32_t reduce, const Box *box, int clipped, const Rectangle *target,
                int flip, int cubic, int32_t size, uint8_t *out) {
    struct jpeg_decompress_struct jpeg;
    Errors errors;
    uint8_t *volatile memory = NULL;
    volatile int result = DAMAGED;
    memset(&jpeg, 0, sizeof jpeg);
    if (setjmp(errors.leave)) goto done;
    open_jpeg(&jpeg, &errors, data, bytes);
    if (jpeg.num_components != 1 && jpeg.num_components != 3) goto done;
    Plane planes[3];
    int32_t margin = clipped ? 0 : (1 + cubic) * ((int32_t)((box->bottom - box->top) / target->height) + 2);
    int32_t height = (jpeg.image_height + reduce - 1) / reduce;
    int32_t top = (int32_t)(box->top / reduce) - 1 - margin, bottom = (int32_t)(box->bottom / reduce) + 1 + margin;
    decode(&jpeg, top, bottom < height ? bottom : height, reduce, planes, (uint8_t **)&memory);
    result = memory ? 0 : NO_MEMORY;
    for (int c = 0, alike; c < jpeg.num_components && !result; c += alike) {
        jpeg_component_info *info = jpeg.comp_info + c;
        for (alike = 1; c + alike < jpeg.num_components && same_size(info, info + alike); alike++);
        double across = (double)(info->h_samp_factor * SCALED(info)) / (jpeg.max_h_samp_factor * DCTSIZE);
        double down = (double)(info->v_samp_factor * SCALED(info)) / (jpeg.max_v_samp_factor * DCTSIZE);
        Box part = {box->left * across, box->top * down, box->right * across, box->bottom * down};
        uint8_t *to = out + ((size_t)c * size + target->top) * size + target->left;
        result = resample(planes + c, alike, part, clipped, target->width, target->height, flip, cubic, size,
                          (size_t)size * size, to);
    }
    if (!result && jpeg.num_components == 1)
        for (int32_t y = 0; y < target->height; y++)
            for (int c = 1; c < 3; c++)
                memset(out + ((size_t)c * size + target->top + y) * size + target->left, 128, target->width);
done:
    free(memory);
    jpeg_destroy_decompress(&jpeg);
    return result;
}

/* The same of a decoded picture, uint8 [height, width, 3]. */
int rgb_pixels(const uint8_t *picture, int32_t width, int32_t height, const Box *box, int clipped,
               const Rectangle *target, int flip, int cubic, int32_t size, uint8_t *out) {
    size_t count = (size_t)target->width * target->height;
    uint8_t *pixels = malloc(3 * count);
    if (!pixels) return NO_MEMORY;
    Plane plane = {picture, width, height, 3 * width, 3};
    int result =
        resample(&plane, 1, *box, clipped, target->width, target->height, flip, cubic, 3 * target->width, 0, pixels);
    for (int32_t y = 0; y < target->height && !result; y++) {
        const uint8_t *from = pixels + (size_t)3 * target->width * y;
        for (int c = 0; c < 3; c++) {
            uint8_t *to = out + ((size_t)c * size + target->top + y) * size + target->left;
            for (int32_t x = 0; x < target->width; x++) to[x] = from[3 * x + c];
        }
    }
    free(pixels);
    return result;
}

/* A picture, uint8 [height, width, 3], resampled by Lanczos's filter to uint8 [new_height, new_width, 3]. */
int resize_rgb(const uint8_t *picture, int32_t width, int32_t height, int32_t new_width, int32_t new_height,
               uint8_t *out) {
    Plane plane = {picture, width, height, 3 * width, 3};
    return resample(&plane, 1, (Box){0, 0, width, height}, 1, new_width, new_height, 0, LANCZOS, 3 * new_width, 0, out);
}

/* The sum of each of three planes of `count` bytes. */
void sum_colors(const uint8_t *pixels, int32_t count, uint64_t sums[3]) {
    for (int c = 0; c < 3; c++, pixels += count) {
        sums[c] = 0;
        int32_t i = 0;
#ifdef __AVX2__
        __m256i four = _mm256_setzero_si256();
        for (; i + 32 <= count; i += 32) {
            __m256i loaded = _mm256_loadu_si256((const __m256i *)(pixels + i));
            four = _mm256_add_epi64(four, _mm256_sad_epu8(loaded, _mm256_setzero_si256()));
        }
        for (int lane = 0; lane < 4; lane++) sums[c] += ((const uint64_t *)&four)[lane];
#endif
        for (; i < count; i++) sums[c] += pixels[i];
    }
}

/* The colours of `bytes` <= LANES pixels; called with constants, so that the copies are single instructions. With
   `alone`, the first colour and the two others do not depend on one another, as Y, U and V in YUV. */
static inline __attribute__((always_inline)) void map_lanes(uint8_t *restrict pixels, size_t count,
                                                            const int32_t *restrict matrix,
                                                            const int32_t *restrict offset, size_t bytes, int alone) {
    Lanes x[3];
    for (int c = 0; c < 3; c++) {
        uint64_t loaded = 0;
        memcpy(&loaded, pixels + c * count, bytes);
        x[c] = widen(loaded);
    }
    for (int c = 0; c < 3; c++, matrix += 3) {
        Lanes sum = (Lanes){0} + offset[c];
        for (int k = 0; k < 3; k++)
            if (!alone || !c == !k) sum += matrix[k] * x[k];
        uint64_t mapped = narrow(sum >> 16);
        memcpy(pixels + c * count, &mapped, bytes);
    }
}

/* Each pixel's three bytes, in planes of `count`, become (matrix x + offset) >> 16, clipped. */
void map_colors(uint8_t *restrict pixels, int32_t count, const int32_t matrix[restrict 9],
                const int32_t offset[restrict 3]) {
    int32_t i = 0;
    if (!(matrix[1] | matrix[2] | matrix[3] | matrix[6]))
        for (; i + LANES <= count; i += LANES) map_lanes(pixels + i, count, matrix, offset, LANES, 1);
    for (; i + LANES <= count; i += LANES) map_lanes(pixels + i, count, matrix, offset, LANES, 0);
    for (; i < count; i++) map_lanes(pixels + i, count, matrix, offset, 1, 0);
}

/* The sizes of `count` files by jpeg_size, 0 and 0 of damaged ones, too. */
void jpeg_sizes(const uint8_t *const *data, const size_t *bytes, int32_t count, int32_t max_scans, int32_t *sizes) {
    for (int32_t i = 0; i < count; i++, sizes += 2)
        if (jpeg_size(data[i], bytes[i], max_scans, sizes)) sizes[0] = sizes[1] = 0;
}

static int render_picture(const Picture *picture, int32_t size, uint8_t *out) {
    size_t count = (size_t)size * size;
    if (picture->target.width != size || picture->target.height != size) { /* the rest is black */
        memset(out, 0, 3 * count);
        if (!picture->width) memset(out + count, 128, 2 * count);
    }
    if (picture->width)
        return rgb_pixels(picture->data, picture->width, picture->height, &picture->box, picture->clipped,
                          &picture->target, picture->flip, picture->cubic, size, out);
    return jpeg_pixels(picture->data, picture->bytes, picture->reduce, &picture->box, picture->clipped,
                       &picture->target, picture->flip, picture->cubic, size, out);
}

/* Each picture in uint8 [3, size, size], with its colours mapped. Stops at the first that fails, and gives its number
   and why; `count` and 0 if there is none. */
int render_pictures(const Picture *pictures, const Colors *colors, int32_t count, int32_t size, uint8_t *out,
                    int32_t *done) {
    int32_t pixels = size * size;
    for (*done = 0; *done < count; ++*done, colors++, out += (size_t)3 * pixels) {
        int result = render_picture(pictures + *done, size, out);
        if (result) return result;
        if (!colors->mapped) continue;
        uint64_t sums[3];
        int32_t offset[3];
        sum_colors(out, pixels, sums);
        for (int c = 0; c < 3; c++) {
            double of_mean = 0;
            for (int k = 0; k < 3; k++) of_mean += colors->of_mean[3 * c + k] * ((double)sums[k] / pixels);
            offset[c] = (int32_t)rint((colors->offset[c] + of_mean) * 65536) + (1 << 15);
        }
        map_colors(out, pixels, colors->matrix, offset);
    }
    return 0;
}

/* The Mersenne Twister MT19937 (Matsumoto and Nishimura, doi 10.1145/272991.272995), from which PyTorch draws. */
typedef struct {
    uint32_t state[624];
    int32_t next;
} Random;

void seed_random(Random *random, uint32_t seed) {
    for (uint32_t i = 0; i < 624; seed = 1812433253 * (seed ^ seed >> 30) + ++i) random->state[i] = seed;
    random->next = 0;
}

static uint32_t draw(Random *random) {
    uint32_t *state = random->state;
    int32_t i = random->next, following = i < 623 ? i + 1 : 0;
    uint32_t x = (state[i] & 0x80000000) | (state[following] & 0x7FFFFFFF);
    x = state[i] = state[i < 227 ? i + 397 : i - 227] ^ x >> 1 ^ (x & 1 ? 0x9908B0DF : 0);
    random->next = following;
    x ^= x >> 11;
    x ^= x << 7 & 0x9D2C5680;
    x ^= x << 15 & 0xEFC60000;
    return x ^ x >> 18;
}

/* As PyTorch's uniform_ of float32, which rounds once. */
float draw_uniform(Random *random, float low, float high) {
    return fmaf((float)(draw(random) & 0xFFFFFF) * 0x1p-24f, high - low, low);
}

/* As PyTorch's randint, which draws 64 bits for large numbers. */
int64_t draw_integer(Random *random, int64_t count) {
    uint64_t bits = draw(random);
    if (count >= 1 << 28) bits = bits << 32 | draw(random);
    return (int64_t)(bits % (uint64_t)count);
}

/* Whether a number from 0 to 1 is below `probability`. */
int draw_chance(Random *random, float probability) { return draw_uniform(random, 0, 1) < probability; }
