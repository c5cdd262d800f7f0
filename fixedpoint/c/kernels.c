/* The operations. A map is stored as [height][width][channels], so that innermost loops run over adjacent values and
 * vectorize. Nothing depends on what C leaves to the compiler: no negative number is shifted, no signed sum overflows.
 */
/* Functions that need much of the stack are not put into network_run, which would need that of all at the same time. */
#ifdef __GNUC__
#define APART __attribute__((noinline))
#else
#define APART
#endif

/* How many values of 32 bits a function keeps on the stack. */
enum { BLOCK = 64 };

/* Of what the terms of a sum are a multiple, so that none is left for a slower loop after that of vectors. */
enum { LANES = 32 };

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

/* value / 2^shift, rounded half to even; for |value| < 2^24 and -8 <= shift <= 25. Without branches, so that loops over
 * channels vectorize. Of the doubled magnitude, adding the greatest number below the divisor rounds half down; one more,
 * where the quotient would be odd, lifts just the tie. What is multiplied is limited first, to 128, which saturates.
 * (An offset against negative values makes gcc 12 -O3 give wrong products.)
 */
static int32_t rescaled(int32_t value, int32_t shift)
{
    const int32_t right = shift > 0 ? shift : 0, limit = shift > 0 ? INT32_C(1) << 24 : 128;
    const int32_t magnitude = value < 0 ? -value : value;
    const uint32_t size = (uint32_t)(magnitude < limit ? magnitude : limit) << (right - shift);
    const uint32_t odd = size >> right & 1;
    const int32_t quotient = (int32_t)((2 * size + (UINT32_C(1) << right) - 1 + odd) >> (right + 1));
    return value < 0 ? -quotient : quotient;
}

/* y[k] = sums[k] / 2^shift[k]. The first loop has values of 32 bits alone, so that its vectors hold few of them: most
 * maps have few channels.
 */
static void rescale(int32_t *restrict sums, const int32_t *restrict shift, int32_t count, int32_t low, int32_t high,
                    int8_t *restrict y)
{
    for (int32_t k = 0; k < count; k++)
        sums[k] = clamped(rescaled(sums[k], shift[k]), low, high);
    for (int32_t k = 0; k < count; k++)
        y[k] = (int8_t)sums[k];
}

/* A convolution, or a linear layer as one of a 1x1 map. */
struct conv {
    struct map in, out;
    struct pair kernel, stride, padding, dilation;
    int32_t groups, terms;
    const int8_t *weight; /* [out.channels][terms]: kernel.height, kernel.width, in.channels / groups, then zeros */
    const int32_t *bias; /* less the sum of the weights times 128, but not where each channel is by itself */
    const int32_t *shift; /* of each channel: the result is its sum / 2^shift, within [low, high] */
    int32_t low, high;
};

/* The values under the kernel, zeros outside the map, each plus 128, which the biases make up for: processors multiply
 * 8 bits without a sign by 8 with one and add neighbouring products in one instruction, which is what the loops of
 * dot_products become. Columns that lie together are copied together.
 */
static void gather(const struct conv *op, const int8_t *x, int32_t row, int32_t column, int32_t group, uint8_t *patch)
{
    const int32_t depth = op->in.channels / op->groups, columns = op->kernel.width, terms = op->terms / LANES * LANES;
    const int32_t top = row * op->stride.height - op->padding.height;
    const int32_t left = column * op->stride.width - op->padding.width;
    const int32_t inside = left >= 0 && left + columns <= op->in.width;
    const int32_t piece = inside && op->groups == 1 && op->dilation.width == 1 ? columns : 1;
    memset(patch, 0, (size_t)terms);
    for (int32_t i = 0, v = top; i < op->kernel.height; i++, v += op->dilation.height)
        for (int32_t j = 0, h = left; j < columns; j += piece, h += op->dilation.width)
            if (v >= 0 && v < op->in.height && h >= 0 && h < op->in.width)
                memcpy(patch + (i * columns + j) * depth, x + (v * op->in.width + h) * op->in.channels + group * depth,
                       (size_t)(piece * depth));
    for (int32_t k = 0; k < terms; k++)
        patch[k] ^= 128;
}

/* sums[r] = bias[r] + sum(weight[r][k] * x[k]), four rows at a time because they share x */
static void dot_products(const int8_t *restrict weight, const int32_t *bias, const uint8_t *restrict x, int32_t rows,
                         int32_t terms, int32_t *restrict sums)
{
    int32_t r = 0;
    terms = terms / LANES * LANES; /* which it is; this tells the compiler */
    for (; r + 4 <= rows; r += 4, weight += 4 * terms) {
        const int8_t *w0 = weight, *w1 = w0 + terms, *w2 = w1 + terms, *w3 = w2 + terms;
        int32_t sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
        for (int32_t k = 0; k < terms; k++) {
            sum0 += x[k] * w0[k];
            sum1 += x[k] * w1[k];
            sum2 += x[k] * w2[k];
            sum3 += x[k] * w3[k];
        }
        sums[r] = bias[r] + sum0;
        sums[r + 1] = bias[r + 1] + sum1;
        sums[r + 2] = bias[r + 2] + sum2;
        sums[r + 3] = bias[r + 3] + sum3;
    }
    for (; r < rows; r++, weight += terms) {
        int32_t sum = 0;
        for (int32_t k = 0; k < terms; k++)
            sum += x[k] * weight[k];
        sums[r] = bias[r] + sum;
    }
}

static APART void conv(const struct conv *op, const int8_t *x, uint8_t *patch, int8_t *restrict y)
{
    const int32_t depth = op->out.channels / op->groups;
    int32_t sums[BLOCK];
    for (int32_t row = 0; row < op->out.height; row++)
        for (int32_t column = 0; column < op->out.width; column++, y += op->out.channels)
            for (int32_t group = 0; group < op->groups; group++) {
                const int32_t end = (group + 1) * depth;
                gather(op, x, row, column, group, patch);
                for (int32_t c = group * depth; c < end; c += BLOCK) {
                    const int32_t count = lesser(BLOCK, end - c);
                    dot_products(op->weight + c * op->terms, op->bias + c, patch, count, op->terms, sums);
                    rescale(sums, op->shift + c, count, op->low, op->high, y + c);
                }
            }
}

/* The last layer: its sums are the logits, its result is a 1x1 map. */
static void conv_sums(const struct conv *op, const int8_t *x, uint8_t *patch, int32_t *logits)
{
    const int32_t depth = op->out.channels / op->groups;
    for (int32_t group = 0; group < op->groups; group++) {
        const int32_t c = group * depth;
        gather(op, x, 0, 0, group, patch);
        dot_products(op->weight + c * op->terms, op->bias + c, patch, depth, op->terms, logits + c);
    }
}

/* A convolution of each channel by itself; here, weight is [kernel.height][kernel.width][channels]. */
static APART void conv_depthwise(const struct conv *op, const int8_t *x, int8_t *restrict y)
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
                rescale(sums, op->shift + c, count, op->low, op->high, y + c);
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
static APART void add(const struct add *op, const int8_t *input, const int8_t *arena, int8_t *y)
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
            y[i + k] = (int8_t)clamped(rescaled(sums[k], op->shift), op->low, op->high);
    }
}

/* a[i][k] * b[k] / 2^shift; y may be a, and b if it has one row. */
static APART void mul(const int8_t *a, const int8_t *b, int32_t rows, int32_t count, int32_t shift, int32_t low,
                      int32_t high, int8_t *y)
{
    for (int32_t i = 0; i < rows; i++, a += count, y += count)
        for (int32_t k = 0; k < count; k++)
            y[k] = (int8_t)clamped(rescaled(a[k] * b[k], shift), low, high);
}

/* One operand / 2^shift: pieces of `size` values, as a part of the pieces of `total` values of the result. */
static APART void concat(const int8_t *x, int32_t pieces, int32_t size, int32_t total, int32_t shift,
                         int32_t low, int32_t high, int8_t *restrict y)
{
    for (int32_t i = 0; i < pieces; i++, x += size, y += total)
        for (int32_t k = 0; k < size; k++)
            y[k] = (int8_t)clamped(rescaled(x[k], shift), low, high);
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
static APART void avg_pool(const struct pool *op, const int8_t *x, int8_t *restrict y)
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
