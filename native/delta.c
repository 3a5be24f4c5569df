/* Layers of weights that read levels of several steps, and the sigma-delta neurons behind them.
 *
 * Weights and levels are 16-bit integers, and sums 32-bit ones, which Python has bounded: they are exact in any order.
 * Behind a convolution, only the levels that are not 0 are looked at. Numbers are those of sigma_delta.c, bit by bit.
 */
#include "estimates.h"

#ifndef TP_DELTA
#define TP_DELTA tp_delta_baseline
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h> /* for one instruction that compilers do not find: see ``pairs`` */
#endif

enum { SHORTS = 2 * TP_LANES, BLOCK = TP_DELTA_BLOCK };

typedef int32_t vi __attribute__((vector_size(4 * TP_LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * TP_LANES)));
typedef int16_t vs __attribute__((vector_size(4 * TP_LANES)));
typedef int32_t half __attribute__((vector_size(2 * TP_LANES)));
typedef int16_t quarter __attribute__((vector_size(TP_LANES)));
typedef float vf __attribute__((vector_size(4 * TP_LANES)));
typedef int16_t shorts __attribute__((vector_size(2 * TP_LANES)));

INLINE vs load_shorts(const int16_t *p) {
    vs v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* a[0] b[0] + a[1] b[1], a[2] b[2] + a[3] b[3] … */
INLINE vi pairs(vs a, vs b) {
#if TP_LANES == 16 && defined(__AVX512BW__)
    return (vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif TP_LANES == 8 && defined(__AVX2__)
    return (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif TP_LANES == 4 && defined(__SSE2__)
    return (vi)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    const vi first = ((vi)((vu)a << 16) >> 16) * ((vi)((vu)b << 16) >> 16);
    return first + ((vi)a >> 16) * ((vi)b >> 16);
#endif
}

typedef struct { /* two levels of neighbouring channels, and the number of the pair */
    int32_t value, at;
} entry;

/* The part of a layer's outputs that is computed together: rows × columns, of one sample. */
typedef struct {
    int64_t sample, y, x, rows, columns;     /* outputs */
    int64_t top, left, rows_in, columns_in;  /* inputs that they read, which may begin outside */
} tile;

/* The lists of all pairs that are not 0, of all inputs of the tile and steps; starts [inputs][steps] and the end. */
static void list(const tp_delta *s, const tile *t, entry *entries, int64_t *starts) {
    const int64_t channels = s->channels_in, count = channels / 2, steps = s->steps;
    int64_t n = 0;
    for (int64_t i = 0; i < t->rows_in * t->columns_in; ++i) {
        const int64_t y = t->top + i / t->columns_in, x = t->left + i % t->columns_in;
        const int64_t inside = y >= 0 && y < s->height_in && x >= 0 && x < s->width_in;
        const int64_t position = (t->sample * s->height_in + y) * s->width_in + x;
        for (int64_t k = 0; k < steps; ++k) {
            *starts++ = n;
            if (!inside || (s->heard && !s->heard[k * s->batch + t->sample]))
                continue;
            const int16_t *own = s->levels + (position * s->all_steps + k) * channels;
            for (int64_t c = 0; c < count; ++c) {
                int32_t value;
                memcpy(&value, own + 2 * c, sizeof value);
                entries[n] = (entry){value, (int32_t)c};
                n += value != 0;
            }
        }
    }
    *starts = n;
}

/* Sums of ``vectors`` vectors of channels at one output position; a row of weights has ``row`` numbers. */
INLINE void gather(const tp_delta *s, const tile *t, const entry *entries, const int64_t *start, const int16_t *weights,
                   int64_t row, int64_t y, int64_t x, int64_t vectors, int32_t *sums) {
    vi sum[4] = {{0}};
    const int64_t tap = s->channels_in / 2 * row;
    for (int64_t v = 0; v < vectors; ++v)
        sum[v] = (vi){0};
    for (int64_t ky = 0; ky < s->kernel_y; ++ky)
        for (int64_t kx = 0; kx < s->kernel_x; ++kx) {
            const int64_t from = (y * s->stride_y + ky * s->dilation_y) * t->columns_in + x * s->stride_x + kx * s->dilation_x;
            const int16_t *w = weights + (ky * s->kernel_x + kx) * tap;
            const int64_t end = start[from * s->steps + 1];
            for (int64_t i = start[from * s->steps]; i < end; ++i) {
                const vs value = (vs)((vi){0} + entries[i].value);
                const int16_t *here = w + entries[i].at * row;
                for (int64_t v = 0; v < vectors; ++v)
                    sum[v] += pairs(value, load_shorts(here + v * SHORTS));
            }
        }
    for (int64_t v = 0; v < vectors; ++v)
        memcpy(sums + v * TP_LANES, &sum[v], sizeof sum[v]);
}

/* The sums of ``width`` channels, a multiple of 16, of one block. Returns whether anything was heard. */
INLINE int64_t of_block(const tp_delta *s, const tile *t, const entry *entries, const int64_t *start,
                        const int16_t *weights, int64_t width, int64_t y, int64_t x, int32_t *sums) {
    int64_t heard = 0;
    for (int64_t ky = 0; ky < s->kernel_y; ++ky) {
        const int64_t from = (y * s->stride_y + ky * s->dilation_y) * t->columns_in + x * s->stride_x;
        for (int64_t kx = 0; kx < s->kernel_x; ++kx) {
            const int64_t *own = start + (from + kx * s->dilation_x) * s->steps;
            heard |= own[1] - own[0];
        }
    }
    if (!heard)
        return 0;
    for (int64_t c = 0; c < width; c += 4 * TP_LANES) {
        const int64_t vectors = (width - c) / TP_LANES;
        const int16_t *w = weights + 2 * c;
        if (vectors >= 4)
            gather(s, t, entries, start, w, 2 * width, y, x, 4, sums + c);
        else if (vectors == 3)
            gather(s, t, entries, start, w, 2 * width, y, x, 3, sums + c);
        else if (vectors == 2)
            gather(s, t, entries, start, w, 2 * width, y, x, 2, sums + c);
        else
            gather(s, t, entries, start, w, 2 * width, y, x, 1, sums + c);
    }
    return 1;
}

/* Two vectors with the numbers of a and b in turn. */
INLINE void in_turn(vs a, vs b, vs *low, vs *high) {
#if TP_LANES == 16
    *low = __builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40, 9, 41, 10, 42,
                                   11, 43, 12, 44, 13, 45, 14, 46, 15, 47);
    *high = __builtin_shufflevector(a, b, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55, 24, 56, 25,
                                    57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63);
#elif TP_LANES == 8
    *low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *high = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#else
    *low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    *high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#endif
}

/* The same where each channel has weights of its own, [pairs of taps][width][2], for all steps of one output: the sums
 * and ``heard`` of step k are k · outputs places later. ``c`` is the block's first channel. */
INLINE void depthwise(const tp_delta *s, const tile *t, const int16_t *weights, int64_t c, int64_t width, int64_t y,
                      int64_t x, int64_t outputs, int32_t *sums, uint8_t *heard) {
    static const int16_t nothing[BLOCK];
    const int64_t channels = s->channels_in, place = s->all_steps * channels;
    const int16_t *levels = s->levels + t->sample * s->height_in * s->width_in * place + c;
    const int16_t *taps[TP_TAPS + 1];
    int64_t moves[TP_TAPS + 1], count = 0; /* from one step to the next */
    for (int64_t ky = 0; ky < s->kernel_y; ++ky)
        for (int64_t kx = 0; kx < s->kernel_x; ++kx, ++count) {
            const int64_t row = t->top + y * s->stride_y + ky * s->dilation_y;
            const int64_t column = t->left + x * s->stride_x + kx * s->dilation_x;
            const int64_t inside = row >= 0 && row < s->height_in && column >= 0 && column < s->width_in;
            taps[count] = inside ? levels + (row * s->width_in + column) * place : nothing;
            moves[count] = inside ? channels : 0;
        }
    if (count % 2)
        taps[count] = nothing, moves[count++] = 0;
    for (int64_t k = 0; k < s->steps; ++k) {
        heard[k * outputs] = !s->heard || s->heard[k * s->batch + t->sample];
        if (!heard[k * outputs])
            continue;
        int32_t *own = sums + k * outputs * BLOCK;
        for (int64_t i = 0; i < width && c + i < channels; i += SHORTS) {
            const int64_t left = channels - c - i, n = left < SHORTS ? left : SHORTS;
            vi low = {0}, high = {0};
            for (int64_t pair = 0; pair < count; pair += 2) {
                const int16_t *one = taps[pair] + k * moves[pair] + i, *two = taps[pair + 1] + k * moves[pair + 1] + i;
                const int16_t *w = weights + (pair / 2 * width + i) * 2;
                vs a, b, first, second;
                if (n == SHORTS) {
                    a = load_shorts(one), b = load_shorts(two);
                } else if (n == SHORTS / 2) { /* of known length */
                    a = b = (vs){0};
                    memcpy(&a, one, SHORTS / 2 * sizeof(int16_t));
                    memcpy(&b, two, SHORTS / 2 * sizeof(int16_t));
                } else {
                    a = b = (vs){0};
                    memcpy(&a, one, (size_t)n * sizeof(int16_t));
                    memcpy(&b, two, (size_t)n * sizeof(int16_t));
                }
                in_turn(a, b, &first, &second);
                low += pairs(first, load_shorts(w));
                high += pairs(second, load_shorts(w + SHORTS));
            }
            memcpy(own + i, &low, sizeof low);
            memcpy(own + i + TP_LANES, &high, sizeof high);
        }
    }
}

/* ``n`` neurons of one position, from channel c on, in the layer's sample; ``sums`` are those of the first step. */
typedef struct {
    int64_t at, position, c, n, step, outputs; /* step: neurons of one step in the layer; outputs: of the tile */
    int16_t *out;
    const int32_t *sums;
    const uint8_t *heard;
} group;

/* All steps of at most WIDE neurons, in float64. */
INLINE void exactly(const tp_delta *s, const group *g, int64_t from, int64_t n, int64_t source, vl *wrong) {
    const vd none = {0};
    const int64_t at = g->at + from, c = g->c + from, own = g->position * s->neuron_position + c;
    const vd threshold = load(s->threshold + own, n, 1.0), initial = load(s->initial + own, n, 0.0);
    const vd unit = s->levels ? load(s->units + c, WIDE, 0.0) : none;
    const double fine = s->fine, part = 1.0 / s->fine, off_grid = s->off_grid, ceiling = s->ceiling, largest = s->top;
    vd estimate = s->fresh ? none : load(s->estimate + at, n, 0.0), sent = s->fresh ? none : load(s->sent + at, n, 0.0);
    for (int64_t k = 0; k < s->steps; ++k) {
        const int64_t here = k * g->step + at;
        vd x = none;
        if (g->heard[k * g->outputs]) {
            half whole;
            memcpy(&whole, g->sums + k * g->outputs * BLOCK + from, sizeof whole);
            x = __builtin_convertvector(whole, vd) * unit;
        }
        if (k < s->added_steps)
            x += s->wide ? load(s->wide + here, n, 0.0) : load_narrow(s->narrow + here, n);
        if (k == 0 && s->first)
            x += load(s->first + g->position * s->first_position + c, n, 0.0);
        estimate += x;
        vd y = estimate;
        if (source == TP_CLIP) {
            y = chosen(y < 0.0, none, y);
            y = chosen(y > ceiling, none + ceiling, y);
        }
        *wrong |= ~(y - y == 0.0); /* NaN or infinite */
        y = (y + initial) / threshold * fine + off_grid;
        const vd left = nearest(y) * part - sent;
        vd level = digit(left, largest);
        if (s->all_digits)
            for (double top = largest / 2; top >= 1.0; top /= 2)
                level += digit(left - level, top);
        sent += level;
        const quarter levels = __builtin_convertvector(__builtin_convertvector(level, half), quarter);
        memcpy(g->out + k * s->channels + from, &levels, (size_t)n * sizeof(int16_t));
    }
    store(s->estimate + at, estimate, n);
    store(s->sent + at, sent, n);
}

INLINE vf joined(narrow a, narrow b) {
#if TP_LANES == 16
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#elif TP_LANES == 8
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
#else
    return __builtin_shufflevector(a, b, 0, 1, 2, 3);
#endif
}
INLINE vf both(vd a, vd b) { return joined(__builtin_convertvector(a, narrow), __builtin_convertvector(b, narrow)); }
INLINE vd wide_half(vf v, int64_t second) {
    narrow part;
    memcpy(&part, (const char *)&v + second * (int64_t)sizeof part, sizeof part);
    return __builtin_convertvector(part, vd);
}
INLINE int64_t any(vi v) {
#if TP_LANES == 16 && defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)v, (__m512i)v) != 0;
#elif TP_LANES == 8 && defined(__AVX2__)
    return !_mm256_testz_si256((__m256i)v, (__m256i)v);
#else
    int32_t found = 0;
    for (int64_t i = 0; i < TP_LANES; ++i)
        found |= v[i];
    return found != 0;
#endif
}
INLINE vi picked(vi mask, vi yes, vi no) { return (mask & yes) | (~mask & no); }
INLINE vf magnitude(vf v) { return (vf)((vi)v & INT32_MAX); }
/* |digit| of a size that is not negative, as in ``digit``. */
INLINE vi size_of_digit(vf size, float top) {
    const vi none = {0};
    const vi d = ((vi)size + ((int32_t)1 << 22)) & ((int32_t)0xFF << 23);
    return picked((vi)(size >= 1.5f * top), (vi)((vf)none + top), d) & (vi)(size >= 0.75f);
}

/* All steps of TP_LANES neurons: estimates in float64, and decisions in float32 where its error cannot change them.
 * Returns 0, and has changed nothing but ``out``, if one of them was too close. One digit in each step. */
INLINE int64_t fast(const tp_delta *s, const group *g, int64_t from, int64_t source) {
    const vd none = {0};
    const vf zero = {0};
    const int64_t at = g->at + from, c = g->c + from, own = g->position * s->neuron_position + c;
    const vd unit = s->levels ? load(s->units + c, WIDE, 0.0) : none;
    const vd unit_after = s->levels ? load(s->units + c + WIDE, WIDE, 0.0) : none;
    const float ceiling = (float)s->ceiling, top = (float)s->top;
    /* rounding to parts moves a value by half a part; the rest is more than the error of the sums and products below */
    const float room = (float)(0.5 / s->fine) + 0x1p-17f, share = 0x1p-20f;
    vf inverse, shift;
    memcpy(&inverse, s->inverse + own, sizeof inverse);
    memcpy(&shift, s->shift + own, sizeof shift);
    vd estimate = none, after = none;
    vf sent = zero;
    if (!s->fresh) {
        estimate = load(s->estimate + at, WIDE, 0.0), after = load(s->estimate + at + WIDE, WIDE, 0.0);
        sent = both(load(s->sent + at, WIDE, 0.0), load(s->sent + at + WIDE, WIDE, 0.0));
    }
    const vf terms = magnitude(shift) + 1.0f;
    vi close = {0}, broken = {0};
    int64_t live = 1; /* what was sent before is not known */
    for (int64_t k = 0; k < s->steps; ++k) {
        const int64_t here = k * g->step + at, heard = g->heard[k * g->outputs];
        if (heard) {
            half low, high;
            const int32_t *sums = g->sums + k * g->outputs * BLOCK + from;
            memcpy(&low, sums, sizeof low);
            memcpy(&high, sums + WIDE, sizeof high);
            estimate += __builtin_convertvector(low, vd) * unit;
            after += __builtin_convertvector(high, vd) * unit_after;
        }
        if (k < s->added_steps && s->wide)
            estimate += load(s->wide + here, WIDE, 0.0), after += load(s->wide + here + WIDE, WIDE, 0.0);
        else if (k < s->added_steps)
            estimate += load_narrow(s->narrow + here, WIDE), after += load_narrow(s->narrow + here + WIDE, WIDE);
        else if (!heard && !live) { /* it has settled */
            memset(g->out + k * s->channels + from, 0, TP_LANES * sizeof(int16_t));
            continue;
        }
        if (k == 0 && s->first) {
            const double *first = s->first + g->position * s->first_position + c;
            estimate += load(first, WIDE, 0.0), after += load(first + WIDE, WIDE, 0.0);
        }
        vf y = both(estimate, after);
        broken |= ~(vi)(y - y == 0.0f);
        if (source == TP_CLIP) {
            y = (vf)picked((vi)(y > 0.0f), (vi)y, (vi)zero);
            y = (vf)picked((vi)(y > ceiling), (vi)(zero + ceiling), (vi)y);
        }
        y = y * inverse;
        const vf left = y + shift - sent;
        const vf size = magnitude(left), error = room + share * (size + magnitude(y) + terms);
        const vi more = size_of_digit(size + error, top), less = size_of_digit(size - error, top);
        close |= more ^ less;
        const vf digits = (vf)(more | ((vi)left & ~INT32_MAX));
        sent += digits;
        live = any(more);
        const shorts levels = __builtin_convertvector(__builtin_convertvector(digits, vi), shorts); /* of equal length first */
        memcpy(g->out + k * s->channels + from, &levels, sizeof levels);
    }
    if (any(close | broken | (vi)(magnitude(sent) >= 0x1p23f)))
        return 0;
    store(s->estimate + at, estimate, WIDE);
    store(s->estimate + at + WIDE, after, WIDE);
    store(s->sent + at, wide_half(sent, 0), WIDE);
    store(s->sent + at + WIDE, wide_half(sent, 1), WIDE);
    return 1;
}

/* Spikes of one level: 1, or the digits of n in which n and 3 n differ, of which there are fewest. */
INLINE int64_t spikes_of(int64_t level, int64_t all_digits) {
    const int64_t size = level < 0 ? -level : level;
    return all_digits ? __builtin_popcountll((uint64_t)(size ^ 3 * size)) : size != 0;
}

/* Spikes, operations and active positions of the tile in step k. */
static void count(const tp_delta *s, const tile *t, int64_t k, int64_t *totals, int64_t *sent) {
    const int64_t positions = s->height * s->width, channels = s->channels;
    for (int64_t y = 0; y < t->rows; ++y)
        for (int64_t x = 0; x < t->columns; ++x) {
            const int64_t position = (t->y + y) * s->width + t->x + x;
            const int16_t *levels = s->out + ((t->sample * positions + position) * s->all_steps + k) * channels;
            const int32_t *fan = s->fan + position * s->fan_position;
            int64_t spikes = 0, operations = 0;
            if (s->all_digits) {
                for (int64_t c = 0; c < channels; ++c) {
                    const int64_t n = spikes_of(levels[c], 1);
                    spikes += n, operations += n * fan[c];
                }
            } else {
                int32_t some_spikes = 0, some_operations = 0; /* Python has bounded them */
                for (int64_t c = 0; c < channels; ++c) {
                    some_spikes += levels[c] != 0;
                    some_operations += levels[c] != 0 ? fan[c] : 0;
                }
                spikes = some_spikes, operations = some_operations;
            }
            totals[0] += spikes, totals[1] += operations, totals[2] += spikes != 0;
            *sent += spikes;
        }
}

/* The currents of all steps, for other readers. */
INLINE void currents(const tp_delta *s, const group *g) {
    for (int64_t k = 0; k < s->steps; ++k) {
        double *out = s->currents + k * g->step + g->at;
        const int32_t *sums = g->sums + k * g->outputs * BLOCK;
        for (int64_t i = 0; i < g->n; ++i)
            out[i] = g->heard[k * g->outputs] ? sums[i] * s->units[g->c + i] : 0.0;
    }
}

INLINE void of_source(const tp_delta *s, const tile *t, int64_t c, int64_t width, int64_t source, const int32_t *sums,
                      const uint8_t *heard, vl *wrong) {
    const int64_t outputs = t->rows * t->columns, positions = s->height * s->width;
    const int64_t n = c + width < s->channels ? width : s->channels - c;
    for (int64_t i = 0; i < outputs; ++i) {
        const int64_t position = (t->y + i / t->columns) * s->width + t->x + i % t->columns;
        const int64_t place = t->sample * positions + position;
        const group g = {place * s->channels + c, position, c, n, s->batch * positions * s->channels, outputs,
                         s->out ? s->out + place * s->all_steps * s->channels + c : NULL, sums + i * BLOCK, heard + i};
        if (s->currents)
            currents(s, &g);
        if (!s->out)
            continue;
        for (int64_t from = 0; from < n; from += TP_LANES) {
            const int64_t left = n - from;
            if (left >= TP_LANES && !s->all_digits && fast(s, &g, from, source))
                continue;
            exactly(s, &g, from, left < WIDE ? left : WIDE, source, wrong);
            if (left > WIDE)
                exactly(s, &g, from + WIDE, left - WIDE < WIDE ? left - WIDE : WIDE, source, wrong);
        }
    }
}

/* All steps of the outputs of one tile. */
static void of_tile(const tp_delta *s, const tile *t, const tp_delta_plan *plan, char *scratch, int64_t *totals,
                    int64_t *broken) {
    entry *entries = (entry *)(scratch + plan->entries);
    int64_t *starts = (int64_t *)(scratch + plan->starts);
    int32_t *sums = (int32_t *)(scratch + plan->sums);
    uint8_t *heard = (uint8_t *)(scratch + plan->heard);
    const int64_t outputs = t->rows * t->columns;
    const int64_t taps = s->kernel_y * s->kernel_x;
    vl wrong = {0};
    if (s->levels && !s->depthwise)
        list(s, t, entries, starts);
    for (int64_t c = 0; c < s->channels; c += BLOCK) {
        const int64_t left = (s->channels - c + 15) / 16 * 16, width = left < BLOCK ? left : BLOCK;
        const int64_t per_channel = s->depthwise ? (taps + 1) / 2 * 2 : taps * s->channels_in;
        const int16_t *weights = s->weights + c * per_channel;
        for (int64_t i = 0; i < outputs; ++i) {
            const int64_t y = i / t->columns, x = i % t->columns;
            if (s->levels && s->depthwise) {
                depthwise(s, t, weights, c, width, y, x, outputs, sums + i * BLOCK, heard + i);
                continue;
            }
            for (int64_t k = 0; k < s->steps; ++k) {
                int32_t *own = sums + (k * outputs + i) * BLOCK;
                heard[k * outputs + i] =
                    s->levels && of_block(s, t, entries, starts + k, weights, width, y, x, own);
            }
        }
        if (s->source == TP_CLIP)
            of_source(s, t, c, width, TP_CLIP, sums, heard, &wrong);
        else
            of_source(s, t, c, width, TP_SAME, sums, heard, &wrong);
    }
    if (s->out && s->fan)
        for (int64_t k = 0; k < s->steps; ++k) {
            int64_t sent = 0;
            count(s, t, k, totals + 3 * k, &sent);
            if (s->events && sent) /* other threads have other tiles of this sample */
                __atomic_fetch_add(s->events + k * s->batch + t->sample, sent, __ATOMIC_RELAXED);
        }
    for (int64_t i = 0; i < WIDE; ++i)
        *broken |= wrong[i] != 0;
}

/* Tile ``number`` of the layer. */
static tile of_number(const tp_delta *s, const tp_delta_plan *plan, int64_t number) {
    const int64_t across = (s->width + plan->columns - 1) / plan->columns;
    const int64_t down = (s->height + plan->rows - 1) / plan->rows;
    tile t = {.sample = number / (across * down)};
    t.y = number / across % down * plan->rows, t.x = number % across * plan->columns;
    t.rows = s->height - t.y < plan->rows ? s->height - t.y : plan->rows;
    t.columns = s->width - t.x < plan->columns ? s->width - t.x : plan->columns;
    t.top = t.y * s->stride_y - s->padding_y, t.left = t.x * s->stride_x - s->padding_x;
    t.rows_in = (t.rows - 1) * s->stride_y + (s->kernel_y - 1) * s->dilation_y + 1;
    t.columns_in = (t.columns - 1) * s->stride_x + (s->kernel_x - 1) * s->dilation_x + 1;
    return t;
}

/* Fetches the levels of the tile that comes next: short pieces of memory, which no processor fetches ahead by itself. */
static void fetch(const tp_delta *s, const tile *t) {
    const int64_t place = s->all_steps * s->channels_in, used = s->steps * s->channels_in * (int64_t)sizeof(int16_t);
    for (int64_t i = 0; i < t->rows_in * t->columns_in; ++i) {
        const int64_t y = t->top + i / t->columns_in, x = t->left + i % t->columns_in;
        if (y < 0 || y >= s->height_in || x < 0 || x >= s->width_in)
            continue;
        const char *own = (const char *)(s->levels + ((t->sample * s->height_in + y) * s->width_in + x) * place);
        for (int64_t at = 0; at < used; at += 64)
            __builtin_prefetch(own + at, 0, 2);
    }
}

void TP_DELTA(const tp_delta *s, const tp_delta_plan *plan, int64_t number, char *scratch, int64_t *totals,
              int64_t *broken) {
    const tile t = of_number(s, plan, number);
    if (s->levels && number + 1 < plan->tiles) {
        const tile next = of_number(s, plan, number + 1);
        fetch(s, &next);
    }
    of_tile(s, &t, plan, scratch, totals, broken);
}
