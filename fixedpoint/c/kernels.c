/* The operations. A map is stored as [height][width][channels], so that innermost loops run over adjacent values and
 * vectorize. Nothing depends on what C leaves to the compiler: no negative number is shifted, no signed sum overflows.
 */

/* How many values of 32 bits a function keeps on the stack. */
enum { BLOCK = 64 };

struct pair {
    int32_t height, width;
};

struct map {
    int32_t height, width, channels;
};

static int32_t lesser(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t clamped(int32_t value, int32_t low, int32_t high)
{
    value = value < low ? low : value;
    return value > high ? high : value;
}

/* value / 2^shift, rounded half to even, within [low, high]; for |value| < 2^24 and -8 <= shift <= 25.
 * The magnitude is rounded: adding the greatest number below half the divisor rounds half down; one more, where the
 * quotient would be odd, lifts just the tie. (An offset against negative values makes gcc 12 -O3 give wrong products.)
 */
static int8_t rescaled(int32_t value, int32_t shift, int32_t low, int32_t high)
{
    if (shift <= 0)
        return (int8_t)clamped(clamped(value, -128, 127) * (INT32_C(1) << -shift), low, high);
    const uint32_t size = (uint32_t)(value < 0 ? -value : value);
    const uint32_t odd = size >> shift & 1;
    const int32_t quotient = (int32_t)((size + (UINT32_C(1) << (shift - 1)) - 1 + odd) >> shift);
    return (int8_t)clamped(value < 0 ? -quotient : quotient, low, high);
}

/* A convolution, or a linear layer as one of a 1x1 map. */
struct conv {
    struct map in, out;
    struct pair kernel, stride, padding, dilation;
    int32_t groups;
    const int8_t *weight; /* [out.channels][kernel.height][kernel.width][in.channels / groups] */
    const int32_t *bias;
    const int8_t *shift; /* of each channel: the result is its sum / 2^shift, within [low, high] */
    int32_t low, high;
};

/* The values under the kernel, zeros outside the map. They get 16 bits because processors multiply 16 bits by 16 and add
 * neighbouring products in one instruction, which is what the loops of dot_products become.
 */
static void gather(const struct conv *op, const int8_t *x, int32_t row, int32_t column, int32_t group, int16_t *patch)
{
    const int32_t depth = op->in.channels / op->groups;
    for (int32_t i = 0; i < op->kernel.height; i++)
        for (int32_t j = 0; j < op->kernel.width; j++, patch += depth) {
            const int32_t v = row * op->stride.height - op->padding.height + i * op->dilation.height;
            const int32_t h = column * op->stride.width - op->padding.width + j * op->dilation.width;
            if (v < 0 || v >= op->in.height || h < 0 || h >= op->in.width) {
                memset(patch, 0, (size_t)depth * sizeof *patch);
                continue;
            }
            const int8_t *source = x + (v * op->in.width + h) * op->in.channels + group * depth;
            for (int32_t k = 0; k < depth; k++)
                patch[k] = source[k];
        }
}

/* sums[r] = bias[r] + sum(weight[r][k] * x[k]), four rows at a time because they share x */
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
        sums[r] = sum0;
        sums[r + 1] = sum1;
        sums[r + 2] = sum2;
        sums[r + 3] = sum3;
    }
    for (; r < rows; r++, weight += terms) {
        int32_t sum = bias[r];
        for (int32_t k = 0; k < terms; k++)
            sum += (int32_t)x[k] * weight[k];
        sums[r] = sum;
    }
}

static void conv(const struct conv *op, const int8_t *x, int16_t *patch, int8_t *restrict y)
{
    const int32_t terms = op->kernel.height * op->kernel.width * (op->in.channels / op->groups);
    const int32_t depth = op->out.channels / op->groups;
    int32_t sums[BLOCK];
    for (int32_t row = 0; row < op->out.height; row++)
        for (int32_t column = 0; column < op->out.width; column++, y += op->out.channels)
            for (int32_t group = 0; group < op->groups; group++) {
                const int32_t end = (group + 1) * depth;
                gather(op, x, row, column, group, patch);
                for (int32_t c = group * depth; c < end; c += BLOCK) {
                    const int32_t count = lesser(BLOCK, end - c);
                    dot_products(op->weight + c * terms, op->bias + c, patch, count, terms, sums);
                    for (int32_t k = 0; k < count; k++)
                        y[c + k] = rescaled(sums[k], op->shift[c + k], op->low, op->high);
                }
            }
}

/* The last layer: its sums are the logits, its result is a 1x1 map. */
static void conv_sums(const struct conv *op, const int8_t *x, int16_t *patch, int32_t *logits)
{
    const int32_t terms = op->kernel.height * op->kernel.width * (op->in.channels / op->groups);
    const int32_t depth = op->out.channels / op->groups;
    for (int32_t group = 0; group < op->groups; group++) {
        const int32_t c = group * depth;
        gather(op, x, 0, 0, group, patch);
        dot_products(op->weight + c * terms, op->bias + c, patch, depth, terms, logits + c);
    }
}

/* A convolution of each channel by itself; here, weight is [kernel.height][kernel.width][channels]. */
static void conv_depthwise(const struct conv *op, const int8_t *x, int8_t *restrict y)
{
    const int32_t channels = op->in.channels;
    int32_t sums[BLOCK];
    for (int32_t row = 0; row < op->out.height; row++)
        for (int32_t column = 0; column < op->out.width; column++, y += channels)
            for (int32_t c = 0; c < channels; c += BLOCK) {
                const int32_t count = lesser(BLOCK, channels - c);
                memcpy(sums, op->bias + c, (size_t)count * sizeof *sums);
                for (int32_t i = 0; i < op->kernel.height; i++)
                    for (int32_t j = 0; j < op->kernel.width; j++) {
                        const int32_t v = row * op->stride.height - op->padding.height + i * op->dilation.height;
                        const int32_t h = column * op->stride.width - op->padding.width + j * op->dilation.width;
                        if (v < 0 || v >= op->in.height || h < 0 || h >= op->in.width)
                            continue;
                        const int8_t *source = x + (v * op->in.width + h) * channels + c;
                        const int8_t *weight = op->weight + (i * op->kernel.width + j) * channels + c;
                        for (int32_t k = 0; k < count; k++)
                            sums[k] += source[k] * weight[k];
                    }
                for (int32_t k = 0; k < count; k++)
                    y[c + k] = rescaled(sums[k], op->shift[c + k], op->low, op->high);
            }
}

/* y may be x. */
static void clamp(const int8_t *x, int32_t count, int32_t low, int32_t high, int8_t *y)
{
    for (int32_t k = 0; k < count; k++)
        y[k] = (int8_t)clamped(x[k], low, high);
}

/* y may be x. */
static void lookup(const int8_t *x, int32_t count, const int8_t *table, int8_t *y)
{
    for (int32_t k = 0; k < count; k++)
        y[k] = table[x[k] + 128];
}

struct add {
    int32_t operands, count;
    const int32_t *places; /* of each operand in the arena; -1: it is the input */
    const int8_t *left;
    int32_t shift, low, high;
};

/* sum(x[o] * 2^left[o]) / 2^shift; y may be one of the operands. */
static void add(const struct add *op, const int8_t *input, const int8_t *arena, int8_t *y)
{
    int32_t sums[BLOCK];
    for (int32_t i = 0; i < op->count; i += BLOCK) {
        const int32_t size = lesser(BLOCK, op->count - i);
        memset(sums, 0, sizeof sums);
        for (int32_t o = 0; o < op->operands; o++) {
            const int8_t *x = (op->places[o] < 0 ? input : arena + op->places[o]) + i;
            for (int32_t k = 0; k < size; k++)
                sums[k] += x[k] * (INT32_C(1) << op->left[o]);
        }
        for (int32_t k = 0; k < size; k++)
            y[i + k] = rescaled(sums[k], op->shift, op->low, op->high);
    }
}

/* a[i][k] * b[k] / 2^shift; y may be a, and b if it has one row. */
static void mul(const int8_t *a, const int8_t *b, int32_t rows, int32_t count, int32_t shift, int32_t low,
                int32_t high, int8_t *y)
{
    for (int32_t i = 0; i < rows; i++, a += count, y += count)
        for (int32_t k = 0; k < count; k++)
            y[k] = rescaled(a[k] * b[k], shift, low, high);
}

/* One operand / 2^shift: pieces of `size` values, as a part of the pieces of `total` values of the result. */
static void concat(const int8_t *x, int32_t pieces, int32_t size, int32_t total, int32_t shift, int32_t low,
                   int32_t high, int8_t *restrict y)
{
    for (int32_t i = 0; i < pieces; i++, x += size, y += total)
        for (int32_t k = 0; k < size; k++)
            y[k] = rescaled(x[k], shift, low, high);
}

struct pool {
    struct map in, out;
    struct pair kernel, stride, padding;
    int32_t limit, left, divisor; /* of an avg_pool: the result is a sum, clamped to +-limit, * 2^left / divisor */
    int32_t low, high;
};

/* The greatest of the values of a window that lie inside the map. */
static void max_pool(const struct pool *op, const int8_t *x, int8_t *restrict y)
{
    const int32_t channels = op->in.channels;
    for (int32_t row = 0; row < op->out.height; row++)
        for (int32_t column = 0; column < op->out.width; column++, y += channels) {
            const int32_t top = row * op->stride.height - op->padding.height;
            const int32_t left = column * op->stride.width - op->padding.width;
            memset(y, -128, (size_t)channels);
            for (int32_t v = top < 0 ? 0 : top; v < lesser(top + op->kernel.height, op->in.height); v++)
                for (int32_t h = left < 0 ? 0 : left; h < lesser(left + op->kernel.width, op->in.width); h++) {
                    const int8_t *source = x + (v * op->in.width + h) * channels;
                    for (int32_t c = 0; c < channels; c++)
                        y[c] = source[c] > y[c] ? source[c] : y[c];
                }
        }
}

/* The mean of a window, rounded half to even. */
static void avg_pool(const struct pool *op, const int8_t *x, int8_t *restrict y)
{
    const int32_t channels = op->in.channels, divisor = op->divisor;
    int32_t sums[BLOCK];
    for (int32_t row = 0; row < op->out.height; row++)
        for (int32_t column = 0; column < op->out.width; column++, y += channels)
            for (int32_t c = 0; c < channels; c += BLOCK) {
                const int32_t count = lesser(BLOCK, channels - c);
                memset(sums, 0, sizeof sums);
                for (int32_t i = 0; i < op->kernel.height; i++)
                    for (int32_t j = 0; j < op->kernel.width; j++) {
                        const int32_t v = row * op->stride.height + i, h = column * op->stride.width + j;
                        const int8_t *source = x + (v * op->in.width + h) * channels + c;
                        for (int32_t k = 0; k < count; k++)
                            sums[k] += source[k];
                    }
                for (int32_t k = 0; k < count; k++) {
                    const int32_t sum = clamped(sums[k], -op->limit, op->limit);
                    const int32_t size = (sum < 0 ? -sum : sum) * (INT32_C(1) << op->left);
                    const int32_t below = size / divisor, twice_the_rest = 2 * (size % divisor);
                    const int32_t up = twice_the_rest > divisor || (twice_the_rest == divisor && below % 2);
                    const int32_t quotient = below + up;
                    y[c + k] = (int8_t)clamped(sum < 0 ? -quotient : quotient, op->low, op->high);
                }
            }
}

struct pad {
    struct map in, out;
    int32_t top, left;
    struct pair between; /* rows and columns between two rows and two columns of the map */
    const int8_t *values;
    int32_t step; /* the constant is values[0] (step 0), or values[channel] (step 1) */
};

/* Rows and columns of a constant, around a map and between its own. */
static void pad(const struct pad *op, const int8_t *x, int8_t *restrict y)
{
    const int32_t channels = op->in.channels;
    const int32_t piece = op->between.width ? 1 : op->in.width; /* columns that stay together */
    for (int32_t i = 0; i < op->out.height * op->out.width; i++)
        for (int32_t c = 0; c < channels; c++)
            y[i * channels + c] = op->values[c * op->step];
    for (int32_t row = 0; row < op->in.height; row++)
        for (int32_t column = 0; column < op->in.width; column += piece, x += piece * channels) {
            const int32_t v = op->top + row * (1 + op->between.height);
            const int32_t h = op->left + column * (1 + op->between.width);
            memcpy(y + (v * op->out.width + h) * channels, x, (size_t)(piece * channels));
        }
}

/* What is chosen of an axis: numbers[i], or first + i * step where there are no numbers. */
struct axis {
    int32_t count, first, step;
    const int32_t *numbers;
};

static int32_t chosen(const struct axis *axis, int32_t i)
{
    return axis->numbers ? axis->numbers[i] : axis->first + i * axis->step;
}

struct select {
    int32_t width, depth; /* of the operand: columns, and values of each */
    struct axis rows, columns, values;
};

static void choose(const struct select *op, const int8_t *x, int8_t *restrict y)
{
    const struct axis *values = &op->values;
    for (int32_t i = 0; i < op->rows.count; i++)
        for (int32_t j = 0; j < op->columns.count; j++, y += values->count) {
            const int8_t *source = x + (chosen(&op->rows, i) * op->width + chosen(&op->columns, j)) * op->depth;
            if (!values->numbers && values->step == 1)
                memcpy(y, source + values->first, (size_t)values->count);
            else
                for (int32_t k = 0; k < values->count; k++)
                    y[k] = source[chosen(values, k)];
        }
}

/* An array of `axes` axes, two at least, of which the result has `sizes` values, in the operand `steps` apart. */
static void transpose(const int8_t *x, int32_t axes, const int32_t *sizes, const int32_t *steps, int8_t *restrict y)
{
    int32_t pieces = 1;
    for (int32_t axis = 0; axis < axes - 2; axis++)
        pieces *= sizes[axis];
    for (int32_t i = 0; i < pieces; i++) {
        const int8_t *source = x;
        for (int32_t axis = axes - 3, rest = i; axis >= 0; rest /= sizes[axis], axis--)
            source += rest % sizes[axis] * steps[axis];
        for (int32_t j = 0; j < sizes[axes - 2]; j++, source += steps[axes - 2])
            for (int32_t k = 0; k < sizes[axes - 1]; k++)
                *y++ = source[k * steps[axes - 1]];
    }
}
