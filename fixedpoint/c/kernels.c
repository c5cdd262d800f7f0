/* The operations. A map is stored as [height][width][channels], so that innermost loops run over adjacent values and
 * vectorize. Nothing depends on what C leaves to the compiler: no negative number is shifted, no signed sum overflows.
 */

/* How many values of 32 bits a function keeps on the stack. */
enum { BLOCK = 64 };

static int32_t lesser(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int8_t clamped(int32_t value, int32_t low, int32_t high)
{
    value = value < low ? low : value;
    return (int8_t)(value > high ? high : value);
}

/* value / 2^shift, rounded half to even, within [low, high]; for |value| < 2^24 and -8 <= shift <= 25.
 * A multiplication saturates first. A division takes twice the value, made positive by a multiple of the divisor:
 * adding the greatest number below half the divisor rounds half down, and one more lifts the tie above an odd quotient.
 */
static int8_t rescaled(int32_t value, int32_t shift, int32_t low, int32_t high)
{
    const int32_t left = shift < 0 ? -shift : 0, right = shift > 0 ? shift : 0;
    const int32_t limit = shift < 0 ? 128 : INT32_C(1) << 24;
    value = value < -limit ? -limit : value;
    value = value > limit ? limit : value;
    const uint32_t twice = 2 * (uint32_t)(value * (INT32_C(1) << left) + (INT32_C(1) << 26));
    const uint32_t odd = twice >> (right + 1) & 1;
    const uint32_t quotient = (twice + (UINT32_C(1) << right) - 1 + odd) >> (right + 1);
    return clamped((int32_t)quotient - (INT32_C(1) << (26 - right)), low, high);
}

/* A convolution, or a linear layer as one of a 1x1 map. */
struct conv {
    int32_t height, width, channels;
    int32_t out_height, out_width, out_channels;
    int32_t kernel_height, kernel_width;
    int32_t stride_down, stride_right;
    int32_t padding_down, padding_right;
    int32_t dilation_down, dilation_right;
    int32_t groups;
    const int8_t *weight;   /* [out_channels][kernel_height][kernel_width][channels / groups] */
    const int32_t *bias;    /* [out_channels] */
    const int8_t *shift;    /* [out_channels]; the result is the sum / 2^shift */
    int32_t low, high;      /* of the result */
};

/* The values under the kernel at (row, column), and zeros where it leaves the map, as [terms] of 16 bits: products of
 * 16 bits that are added up in pairs are an instruction of most processors.
 */
static void gather(const struct conv *op, const int8_t *x, int32_t row, int32_t column, int32_t group, int16_t *patch)
{
    const int32_t depth = op->channels / op->groups;
    for (int32_t i = 0; i < op->kernel_height; i++) {
        const int32_t v = row * op->stride_down - op->padding_down + i * op->dilation_down;
        for (int32_t j = 0; j < op->kernel_width; j++, patch += depth) {
            const int32_t h = column * op->stride_right - op->padding_right + j * op->dilation_right;
            if (v < 0 || v >= op->height || h < 0 || h >= op->width) {
                memset(patch, 0, (size_t)depth * sizeof *patch);
                continue;
            }
            const int8_t *source = x + (v * op->width + h) * op->channels + group * depth;
            for (int32_t c = 0; c < depth; c++)
                patch[c] = source[c];
        }
    }
}

/* sums[r] = bias[r] + sum(weight[r][k] * x[k]), four rows at a time because they share x. */
static void dot_products(const int8_t *weight, const int32_t *bias, const int16_t *x, int32_t rows, int32_t terms,
                         int32_t *sums)
{
    int32_t r = 0;
    for (; r + 4 <= rows; r += 4, weight += 4 * terms) {
        const int8_t *w0 = weight, *w1 = w0 + terms, *w2 = w1 + terms, *w3 = w2 + terms;
        int32_t sum0 = bias[r], sum1 = bias[r + 1], sum2 = bias[r + 2], sum3 = bias[r + 3];
        for (int32_t k = 0; k < terms; k++) {
            sum0 += (int32_t)x[k] * w0[k];
            sum1 += (int32_t)x[k] * w1[k];
            sum2 += (int32_t)x[k] * w2[k];
            sum3 += (int32_t)x[k] * w3[k];
        }
        sums[r] = sum0, sums[r + 1] = sum1, sums[r + 2] = sum2, sums[r + 3] = sum3;
    }
    for (; r < rows; r++, weight += terms) {
        sums[r] = bias[r];
        for (int32_t k = 0; k < terms; k++)
            sums[r] += (int32_t)x[k] * weight[k];
    }
}

static void conv(const struct conv *op, const int8_t *x, int16_t *patch, int8_t *restrict y)
{
    const int32_t terms = op->kernel_height * op->kernel_width * (op->channels / op->groups);
    const int32_t depth = op->out_channels / op->groups;
    int32_t sums[BLOCK];
    for (int32_t row = 0; row < op->out_height; row++)
        for (int32_t column = 0; column < op->out_width; column++, y += op->out_channels)
            for (int32_t group = 0; group < op->groups; group++) {
                gather(op, x, row, column, group, patch);
                const int32_t end = (group + 1) * depth;
                for (int32_t c = group * depth; c < end; c += BLOCK) {
                    const int32_t count = lesser(BLOCK, end - c);
                    dot_products(op->weight + c * terms, op->bias + c, patch, count, terms, sums);
                    for (int32_t i = 0; i < count; i++)
                        y[c + i] = rescaled(sums[i], op->shift[c + i], op->low, op->high);
                }
            }
}

/* The last layer, whose sums are the logits; its result is a 1x1 map. */
static void conv_sums(const struct conv *op, const int8_t *x, int16_t *patch, int32_t *logits)
{
    const int32_t terms = op->kernel_height * op->kernel_width * (op->channels / op->groups);
    const int32_t depth = op->out_channels / op->groups;
    for (int32_t group = 0; group < op->groups; group++) {
        const int32_t c = group * depth;
        gather(op, x, 0, 0, group, patch);
        dot_products(op->weight + c * terms, op->bias + c, patch, depth, terms, logits + c);
    }
}

/* A convolution of each channel by itself; weight is [kernel_height][kernel_width][channels]. */
static void conv_depthwise(const struct conv *op, const int8_t *x, int8_t *restrict y)
{
    int32_t sums[BLOCK];
    for (int32_t row = 0; row < op->out_height; row++)
        for (int32_t column = 0; column < op->out_width; column++, y += op->channels)
            for (int32_t c = 0; c < op->channels; c += BLOCK) {
                const int32_t count = lesser(BLOCK, op->channels - c);
                memcpy(sums, op->bias + c, (size_t)count * sizeof *sums);
                for (int32_t i = 0; i < op->kernel_height; i++)
                    for (int32_t j = 0; j < op->kernel_width; j++) {
                        const int32_t v = row * op->stride_down - op->padding_down + i * op->dilation_down;
                        const int32_t h = column * op->stride_right - op->padding_right + j * op->dilation_right;
                        if (v < 0 || v >= op->height || h < 0 || h >= op->width)
                            continue;
                        const int8_t *source = x + (v * op->width + h) * op->channels + c;
                        const int8_t *weight = op->weight + (i * op->kernel_width + j) * op->channels + c;
                        for (int32_t k = 0; k < count; k++)
                            sums[k] += source[k] * weight[k];
                    }
                for (int32_t k = 0; k < count; k++)
                    y[c + k] = rescaled(sums[k], op->shift[c + k], op->low, op->high);
            }
}

static void clamp(const int8_t *x, int32_t count, int32_t low, int32_t high, int8_t *y)
{
    for (int32_t i = 0; i < count; i++)
        y[i] = clamped(x[i], low, high);
}

static void lookup(const int8_t *x, int32_t count, const int8_t *table, int8_t *y)
{
    for (int32_t i = 0; i < count; i++)
        y[i] = table[x[i] + 128];
}

/* sum(x[o] * 2^left[o]) / 2^shift; y may be one of the operands. */
static void add(const int8_t *const *x, const int8_t *left, int32_t operands, int32_t count, int32_t shift,
                int32_t low, int32_t high, int8_t *y)
{
    int32_t sums[BLOCK];
    for (int32_t i = 0; i < count; i += BLOCK) {
        const int32_t end = lesser(BLOCK, count - i);
        memset(sums, 0, sizeof sums);
        for (int32_t o = 0; o < operands; o++)
            for (int32_t k = 0; k < end; k++)
                sums[k] += x[o][i + k] * (INT32_C(1) << left[o]);
        for (int32_t k = 0; k < end; k++)
            y[i + k] = rescaled(sums[k], shift, low, high);
    }
}

/* a[i][k] * b[k] / 2^shift; y may be a. */
static void mul(const int8_t *a, const int8_t *b, int32_t rows, int32_t count, int32_t shift, int32_t low,
                int32_t high, int8_t *y)
{
    for (int32_t i = 0; i < rows; i++, a += count, y += count)
        for (int32_t k = 0; k < count; k++)
            y[k] = rescaled((int32_t)a[k] * b[k], shift, low, high);
}

/* Channels of one operand, rescaled, among the `out_channels` of the result. */
static void concat(const int8_t *x, int32_t pixels, int32_t channels, int32_t out_channels, int32_t shift,
                   int32_t low, int32_t high, int8_t *restrict y)
{
    for (int32_t i = 0; i < pixels; i++, x += channels, y += out_channels)
        for (int32_t c = 0; c < channels; c++)
            y[c] = rescaled(x[c], shift, low, high);
}

struct pool {
    int32_t height, width, channels;
    int32_t out_height, out_width;
    int32_t kernel_height, kernel_width;
    int32_t stride_down, stride_right;
    int32_t padding_down, padding_right;
};

/* The greatest of the values of a window that lie inside the map. */
static void max_pool(const struct pool *op, const int8_t *x, int8_t *restrict y)
{
    for (int32_t row = 0; row < op->out_height; row++)
        for (int32_t column = 0; column < op->out_width; column++, y += op->channels) {
            const int32_t top = row * op->stride_down - op->padding_down;
            const int32_t left = column * op->stride_right - op->padding_right;
            memset(y, -128, (size_t)op->channels);
            for (int32_t v = top < 0 ? 0 : top; v < lesser(top + op->kernel_height, op->height); v++)
                for (int32_t h = left < 0 ? 0 : left; h < lesser(left + op->kernel_width, op->width); h++) {
                    const int8_t *source = x + (v * op->width + h) * op->channels;
                    for (int32_t c = 0; c < op->channels; c++)
                        y[c] = source[c] > y[c] ? source[c] : y[c];
                }
        }
}

/* The sum of a window, within [-limit, limit], times 2^left / divisor, rounded half to even. The emitter chooses limit
 * and left so that the numerator stays within 384 divisors: 512 of them make it positive.
 */
static void avg_pool(const struct pool *op, int32_t limit, int32_t left, int32_t divisor, int32_t low, int32_t high,
                     const int8_t *x, int8_t *restrict y)
{
    int32_t sums[BLOCK];
    for (int32_t row = 0; row < op->out_height; row++)
        for (int32_t column = 0; column < op->out_width; column++, y += op->channels)
            for (int32_t c = 0; c < op->channels; c += BLOCK) {
                const int32_t count = lesser(BLOCK, op->channels - c);
                memset(sums, 0, sizeof sums);
                for (int32_t i = 0; i < op->kernel_height; i++)
                    for (int32_t j = 0; j < op->kernel_width; j++) {
                        const int32_t v = row * op->stride_down + i, h = column * op->stride_right + j;
                        const int8_t *source = x + (v * op->width + h) * op->channels + c;
                        for (int32_t k = 0; k < count; k++)
                            sums[k] += source[k];
                    }
                for (int32_t k = 0; k < count; k++) {
                    int32_t sum = sums[k] < -limit ? -limit : lesser(sums[k], limit);
                    const int32_t numerator = sum * (INT32_C(1) << left) + 512 * divisor;
                    const int32_t below = numerator / divisor, twice_the_rest = 2 * (numerator % divisor);
                    const int32_t up = twice_the_rest > divisor || (twice_the_rest == divisor && below % 2);
                    y[c + k] = clamped(below + up - 512, low, high);
                }
            }
}

/* A map with rows and columns of a constant around it: values[0] (step 0), or values[channel] (step 1). */
static void pad(const int8_t *x, int32_t height, int32_t width, int32_t channels, int32_t top, int32_t bottom,
                int32_t left, int32_t right, const int8_t *values, int32_t step, int8_t *restrict y)
{
    const int32_t out_width = left + width + right;
    for (int32_t i = 0; i < (top + height + bottom) * out_width; i++)
        for (int32_t c = 0; c < channels; c++)
            y[i * channels + c] = values[c * step];
    for (int32_t row = 0; row < height; row++)
        memcpy(y + ((top + row) * out_width + left) * channels, x + row * width * channels, (size_t)(width * channels));
}

/* [pixels][channels] to [channels][pixels] */
static void flatten(const int8_t *x, int32_t pixels, int32_t channels, int8_t *restrict y)
{
    for (int32_t c = 0; c < channels; c++)
        for (int32_t i = 0; i < pixels; i++)
            *y++ = x[i * channels + c];
}
