/* Random layers of the native library against plain loops, for every instruction set that this processor has.
 *
 * It needs neither Python nor torch, so that it also runs where they do not: on an emulated processor (make arm).
 * Usage: kernels [layers of each instruction set] [seed]. Ends with 1 at the first difference.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

enum { PEAK = 8191, MOST = 1 << 20, EXACT = 1 << 23 }; /* beyond 2^24 floats round; half of it for partial sums */

static uint64_t state = 1;
static int64_t below(int64_t limit) { /* 0 … limit − 1 */
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (int64_t)((state >> 11) % (uint64_t)limit);
}
static void *room_for(int64_t bytes) {
    void *memory = aligned_alloc(64, (size_t)(bytes + 127) / 64 * 64);
    if (!memory)
        exit(2);
    memset(memory, 0, (size_t)(bytes + 127) / 64 * 64);
    return memory;
}

/* A source and its weights as integers, [output][input of its group][ky][kx]. */
typedef struct {
    tp_source s;
    int32_t *whole;
    int64_t inputs; /* of a group */
} source;

/* Adds to the words of a row of 16-bit weights: outputs o and o + 8 of 16 share one, native/narrow.h. */
static void add_narrow(uint32_t *row, int64_t o, int64_t value, int64_t low) {
    row[o / 16 * 8 + o % 8] += o / 8 % 2 ? (uint32_t)value << 16 : (uint32_t)(value + low);
}

static source random_source(int64_t kind, int64_t channels, int64_t height, int64_t width, int64_t batch,
                            const int64_t *start, const int64_t *units, int64_t blocks, int64_t groups) {
    source x = {0};
    tp_source *s = &x.s;
    s->kind = kind;
    const int lookup = kind == TP_LOOKUP || kind == TP_NARROW_LOOKUP, masked = is_depthwise(s);
    s->groups = lookup || masked ? 1 : groups;
    s->channels = masked ? channels : lookup ? TP_UNIT : TP_UNIT * s->groups * (1 + below(3));
    s->plane_count = lookup ? 1 : 1 + below(3);
    s->kernel_y = 1 + below(3), s->kernel_x = 1 + below(3);
    if (below(2))
        s->kernel_y = s->kernel_x = 3;
    s->stride_y = 1 + below(2), s->stride_x = 1 + below(2), s->padding_y = below(3), s->padding_x = below(3);
    s->dilation_y = 1 + below(2), s->dilation_x = 1 + below(2);
    s->height = (height - 1) * s->stride_y + 1 + below(3), s->width = (width - 1) * s->stride_x + 1 + below(3);
    s->column_words = s->channels, s->row_words = s->width * s->channels, s->sample_words = s->height * s->row_words;
    const uint32_t **planes = room_for(s->plane_count * (int64_t)sizeof *planes);
    const int64_t density = below(5);
    for (int64_t p = 0; p < s->plane_count; ++p) {
        uint32_t *words = room_for(batch * s->sample_words * 4 + 64);
        for (int64_t n = 0; n < batch * s->sample_words; ++n)
            for (int t = 0; t < TP_STEPS; ++t)
                words[n] |= (uint32_t)(below(4) < density) << t;
        planes[p] = words;
    }
    s->planes = planes;
    float *factors = room_for(s->plane_count * 4);
    for (int64_t p = 0; p < s->plane_count; ++p)
        factors[p] = kind == TP_GRADED ? (float)(below(7) - 3) : 1;
    s->factors = factors;
    const int64_t inputs = masked ? 1 : s->channels / s->groups, taps = s->kernel_y * s->kernel_x;
    x.inputs = inputs;
    x.whole = room_for(channels * inputs * taps * 4);
    const int64_t peak = kind == TP_NARROW_LOOKUP ? PEAK / 2 : PEAK;
    for (int64_t n = 0; n < channels * inputs * taps; ++n)
        x.whole[n] = (int32_t)(below(64) ? below(401) - 200 : below(2) ? peak : -peak);
    const int64_t rows = masked ? taps : lookup ? taps * 2 * TP_TABLE : taps * inputs + 1;
    const int narrow_ = kind == TP_NARROW || kind == TP_NARROW_LOOKUP;
    int64_t *offsets = room_for(blocks * 8), total = 0;
    for (int64_t b = 0; b < blocks; ++b)
        offsets[b] = total, total += rows * units[b] * TP_UNIT;
    float *wide = narrow_ ? NULL : room_for(total * 4), *unit = room_for(channels * 4);
    uint32_t *thin = narrow_ ? room_for(total * 2) : NULL;
    for (int64_t o = 0; o < channels; ++o)
        unit[o] = 1.0f;
    for (int64_t b = 0; b < blocks; ++b)
        for (int64_t row = 0; row < rows; ++row)
            for (int64_t o = 0; o < units[b] * TP_UNIT; ++o) {
                const int32_t *own = x.whole + (start[b] + o) * inputs * taps;
                int64_t value = 0;
                if (masked)
                    value = own[row];
                else if (lookup) { /* [ky][kx][half][byte] */
                    const int64_t tap = row / (2 * TP_TABLE), half = row / TP_TABLE % 2, byte = row % TP_TABLE;
                    for (int64_t i = 0; i < 8; ++i)
                        value += byte < 256 && byte >> i & 1 ? own[(half * 8 + i) * taps + tap] : 0;
                } else if (row < taps * inputs) { /* [kx][ky][input] */
                    const int64_t kx = row / inputs / s->kernel_y, ky = row / inputs % s->kernel_y;
                    value = own[row % inputs * taps + ky * s->kernel_x + kx];
                }
                const int64_t at = offsets[b] + row * units[b] * TP_UNIT;
                if (narrow_)
                    add_narrow(thin + at / 2, o, value, kind == TP_NARROW ? TP_LOW : 2 * TP_LOW);
                else
                    wide[at + o] = (float)value;
            }
    s->weights = narrow_ ? (const void *)thin : (const void *)wide;
    s->units = unit, s->block_weights = offsets;
    return x;
}

/* What one source adds to output o at a position in step t. */
static int64_t current(const source *x, int64_t sample, int64_t y, int64_t column, int64_t o, int64_t channels, int t) {
    const tp_source *s = &x->s;
    int64_t sum = 0;
    for (int64_t p = 0; p < s->plane_count; ++p)
        for (int64_t ky = 0; ky < s->kernel_y; ++ky)
            for (int64_t kx = 0; kx < s->kernel_x; ++kx) {
                const int64_t row = y * s->stride_y - s->padding_y + ky * s->dilation_y;
                const int64_t at = column * s->stride_x - s->padding_x + kx * s->dilation_x;
                if (row < 0 || row >= s->height || at < 0 || at >= s->width)
                    continue;
                const int64_t first = is_depthwise(s) ? o : o / (channels / s->groups) * x->inputs;
                const uint32_t *words = s->planes[p] + sample * s->sample_words + row * s->row_words +
                                        at * s->column_words + first;
                for (int64_t i = 0; i < x->inputs; ++i)
                    if (words[i] >> t & 1)
                        sum += (int64_t)s->factors[p] *
                               x->whole[((o * x->inputs + i) * s->kernel_y + ky) * s->kernel_x + kx];
            }
    return sum;
}

static int one_layer(int64_t number) {
    tp_layer layer = {0};
    source sources[3];
    tp_source list[3];
    const int64_t groups = below(4) ? 1 : 2, channels = TP_UNIT * groups * (1 + below(5));
    int64_t start[16], units[16], blocks = 0;
    for (int64_t g = 0; g < groups; ++g) /* no block crosses the border of two groups */
        for (int64_t at = g * channels / groups; at < (g + 1) * channels / groups; at += units[blocks++] * TP_UNIT) {
            const int64_t left = ((g + 1) * channels / groups - at) / TP_UNIT;
            start[blocks] = at, units[blocks] = 1 + below(left < 4 ? left : 4);
        }
    layer.batch = 1 + below(2), layer.height = 1 + below(5), layer.width = 1 + below(6), layer.channels = channels;
    layer.steps = below(2) ? TP_STEPS : 1 + below(TP_STEPS), layer.blocks = blocks, layer.block_start = start;
    layer.block_units = units, layer.range_check_every = 8, layer.threads = 1 + below(2), layer.hard_reset = below(2);
    layer.count_ties = below(2), layer.source_count = below(4), layer.factor_count = 1, layer.leak = 1;
    for (int64_t i = 0; i < layer.source_count; ++i) {
        sources[i] = random_source(below(TP_GRADED + 1), channels, layer.height, layer.width, layer.batch, start,
                                   units, blocks, groups);
        list[i] = sources[i].s;
    }
    const int64_t positions = layer.height * layer.width, neurons = layer.batch * positions * channels;
    float *constant = room_for(channels * 4), *threshold = room_for(channels * 4), *room = room_for(channels * 4);
    float *potential = room_for(neurons * 4), *initial = room_for(channels * 4);
    uint32_t *words = room_for(neurons * 4);
    for (int64_t o = 0; o < channels; ++o) {
        constant[o] = (float)(below(2001) - 1000), threshold[o] = (float)(1 + below(20000));
        room[o] = (float)MOST, initial[o] = (float)below(10000);
    }
    double *expected = room_for(neurons * 8);
    const int64_t begins = below(2), stored = !begins || below(2);
    for (int64_t n = 0; n < neurons; ++n) {
        potential[n] = (float)below(10000);
        expected[n] = begins ? initial[n % channels] : potential[n];
    }
    layer.sources = list, layer.constant = constant, layer.threshold = threshold, layer.room = room;
    layer.initial = begins ? initial : NULL, layer.potential = stored ? potential : NULL, layer.words = words;
    void *scratch = room_for(tp_scratch_bytes(&layer));
    if (tp_run(&layer, scratch)) {
        printf("layer %lld is refused\n", (long long)number);
        return 1;
    }
    int64_t beyond = 0, ties = 0, inexact = 0;
    for (int64_t n = 0; n < neurons; ++n) {
        const int64_t o = n % channels, position = n / channels % positions, sample = n / channels / positions;
        uint32_t fired = 0;
        int exact = 1;
        for (int t = 0; t < layer.steps; ++t) {
            double sum = constant[o];
            for (int64_t i = 0; i < layer.source_count; ++i)
                sum += (double)current(sources + i, sample, position / layer.width, position % layer.width, o, channels, t);
            double v = expected[n] + sum;
            exact &= fabs(v) < EXACT;
            ties += layer.count_ties && fabsf((float)v - threshold[o]) < 1e-5f * threshold[o];
            if (v >= threshold[o]) {
                fired |= (uint32_t)1 << t;
                v = layer.hard_reset ? 0 : v - threshold[o];
            }
            expected[n] = v;
            beyond |= (t + 1) % 8 == 0 && fabs(v) > room[o];
        }
        inexact += !exact;
        if (exact && (words[n] != fired || (stored && potential[n] != expected[n]))) {
            printf("layer %lld, neuron %lld: spikes %08x instead of %08x, potential %.1f instead of %.1f\n",
                   (long long)number, (long long)n, words[n], fired, potential[n], expected[n]);
            return 1;
        }
    }
    if (!inexact && (!layer.beyond != !beyond || layer.ties != ties)) {
        printf("layer %lld: beyond %lld instead of %lld, ties %lld instead of %lld\n", (long long)number,
               (long long)layer.beyond, (long long)beyond, (long long)layer.ties, (long long)ties);
        return 1;
    }
    for (int64_t i = 0; i < layer.source_count; ++i) {
        for (int64_t p = 0; p < list[i].plane_count; ++p)
            free((void *)list[i].planes[p]);
        free((void *)list[i].planes), free((void *)list[i].weights), free((void *)list[i].units);
        free((void *)list[i].block_weights), free((void *)list[i].factors), free(sources[i].whole);
    }
    free(constant), free(threshold), free(room), free(potential), free(initial), free(words), free(expected);
    free(scratch);
    return 0;
}

/* The small kernels, on words of any bits. */
static int small_kernels(int64_t number) {
    const int64_t batch = 1 + below(3), positions = 1 + below(9), channels = TP_UNIT * (1 + below(3));
    const int64_t steps = 1 + below(TP_STEPS), all = positions * channels, count = batch * all, window = 1 + below(4);
    const int64_t outputs = 1 + below(5);
    uint32_t *words = room_for(count * 4), *packed = room_for(count * 4), *fan = room_for(all * 4);
    float *values = room_for(count * TP_STEPS * 4), *sums = room_for(steps * batch * channels * 4);
    for (int64_t n = 0; n < count; ++n)
        words[n] = (uint32_t)below((int64_t)1 << 32) & (uint32_t)(((uint64_t)1 << steps) - 1);
    for (int64_t n = 0; n < all; ++n)
        fan[n] = (uint32_t)below(1 << 24);
    int64_t spikes[TP_STEPS] = {0}, operations[TP_STEPS] = {0}, wrong = 0;
    tp_count(words, fan, batch, all, steps, 2, spikes, operations);
    tp_unpack(words, count, 0, steps, 2, values);
    wrong += tp_pack_wire(values, steps, 1, 1, count, count, count, count, 1, packed) != 0 || memcmp(words, packed, (size_t)count * 4);
    tp_sum_positions(words, batch, positions, channels, steps, 2, sums);
    for (int64_t t = 0; t < steps; ++t) {
        for (int64_t n = 0; n < count; ++n) {
            const int64_t bit = words[n] >> t & 1;
            spikes[t] -= bit, operations[t] -= bit * fan[n % all];
            wrong += values[t * count + n] != (float)bit;
            sums[(t * batch + n / all) * channels + n % channels] -= (float)bit;
        }
        wrong += spikes[t] != 0 || operations[t] != 0;
    }
    for (int64_t n = 0; n < steps * batch * channels; ++n)
        wrong += sums[n] != 0;
    int64_t *taps = room_for(outputs * window * 8);
    int32_t *counts = room_for(count * 4), *largest = room_for(batch * outputs * channels * 4);
    uint32_t *out = room_for(batch * outputs * channels * 4);
    for (int64_t k = 0; k < outputs * window; ++k)
        taps[k] = below(positions + 1) - 1;
    tp_pool_max(words, taps, batch, positions, outputs, window, channels, steps, 2, counts, largest, out);
    for (int64_t n = 0; n < batch * outputs * channels; ++n) {
        const int64_t sample = n / channels / outputs, o = n / channels % outputs, c = n % channels;
        int64_t total[4] = {0}, most = 0;
        for (int64_t t = 0; t < steps; ++t) {
            int64_t now = most;
            for (int64_t k = 0; k < window; ++k)
                if (taps[o * window + k] >= 0) {
                    total[k] += words[(sample * positions + taps[o * window + k]) * channels + c] >> t & 1;
                    now = total[k] > now ? total[k] : now;
                }
            wrong += (out[n] >> t & 1) != (uint32_t)(now > most);
            most = now;
        }
        wrong += largest[n] != most;
    }
    free(words), free(packed), free(fan), free(values), free(sums), free(taps), free(counts), free(largest), free(out);
    if (wrong)
        printf("small kernels %lld: %lld values are wrong\n", (long long)number, (long long)wrong);
    return wrong != 0;
}

int main(int count, char **arguments) {
    const int64_t layers = count > 1 ? atoll(arguments[1]) : 100, seed = count > 2 ? atoll(arguments[2]) : 1;
    static const char *const sets[] = {"baseline", "NEON", "AVX2", "AVX-512"};
    for (int k = 0; k < 4; ++k) {
        if (!tp_force(sets[k])) {
            printf("%s: %s\n", sets[k], tp_compiled(sets[k]) ? "this processor lacks it" : "not compiled");
            continue;
        }
        state = (uint64_t)seed * 2654435761u + 88172645463325252u;
        for (int64_t n = 0; n < layers; ++n)
            if (one_layer(n) || small_kernels(n)) {
                printf("%s: FAILED\n", sets[k]);
                return 1;
            }
        printf("%s: %lld layers are right\n", sets[k], (long long)layers);
    }
    return 0;
}
