/* Sigma-delta neurons behind integer sums: all steps of some neurons of one position.
 *
 * Decisions are made in float32 where its error cannot change them, else in float64. Numbers are those of
 * sigma_delta.c, bit by bit.
 */
#ifndef TRANSPIKE_DELTA_NEURONS_H
#define TRANSPIKE_DELTA_NEURONS_H

#include "estimates.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h> /* for instructions that compilers do not find: see ``pairs``, ``any`` and ``append`` */
#endif

enum { BLOCK = TP_DELTA_BLOCK, VECTORS_TOGETHER = TP_LANES == 16 ? 2 : 1 /* registers for as many */ };

typedef int32_t vi __attribute__((vector_size(4 * TP_LANES)));
typedef int32_t half __attribute__((vector_size(2 * TP_LANES)));
typedef int16_t quarter __attribute__((vector_size(TP_LANES)));
typedef float vf __attribute__((vector_size(4 * TP_LANES)));
typedef int16_t shorts __attribute__((vector_size(2 * TP_LANES)));

/* ``n`` neurons of one position, from channel c on, in the layer's sample; ``step``: the layer's neurons in one step. */
typedef struct {
    int64_t at, position, c, n, step;
    int16_t *out;
    const int16_t *passed; /* or NULL; steps are as far apart as those of ``out`` */
    const int32_t *sums;  /* [steps][BLOCK] */
    const uint8_t *heard; /* [steps] */
} group;

/* All steps of at most WIDE neurons, in float64. */
INLINE void exactly(const tp_delta *s, const group *g, int64_t from, int64_t n, int64_t source, vl *wrong) {
    const vd none = {0};
    const int64_t at = g->at + from, c = g->c + from, own = g->position * s->neuron_position + c;
    const vd threshold = load(s->threshold + own, n, 1.0), initial = load(s->initial + own, n, 0.0);
    const vd unit = s->units ? load(s->units + c, WIDE, 0.0) : none;
    const double fine = s->fine, part = 1.0 / s->fine, off_grid = s->off_grid, ceiling = s->ceiling, largest = s->top;
    vd estimate = s->fresh ? none : load(s->estimate + at, n, 0.0), sent = s->fresh ? none : load(s->sent + at, n, 0.0);
    for (int64_t k = 0; k < s->steps; ++k) {
        const int64_t here = k * g->step + at;
        vd x = none;
        if (g->heard[k]) {
            half whole;
            memcpy(&whole, g->sums + k * BLOCK + from, sizeof whole);
            x = __builtin_convertvector(whole, vd) * unit;
        }
        if (k < s->added_steps)
            x += s->wide ? load(s->wide + here, n, 0.0) : load_narrow(s->narrow + here, n);
        if (g->passed) {
            quarter levels = {0};
            memcpy(&levels, g->passed + k * s->channels + from, (size_t)n * sizeof(int16_t));
            x += __builtin_convertvector(__builtin_convertvector(levels, half), vd) * load(s->factors + c, n, 0.0);
        }
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
    if (!s->estimate)
        return;
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
/* Half of the integers as float64 numbers. */
INLINE vd part_of(vi v, int64_t second) {
    half some;
    memcpy(&some, (const char *)&v + second * (int64_t)sizeof some, sizeof some);
    return __builtin_convertvector(some, vd);
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

/* Decisions in float32: a value that is rounded to parts reaches an edge, a whole number of parts, if it is at most half a
 * part below it. A float32 operation errs by 2^-24 of its result: ``share`` is more than what the terms of ``left`` add up
 * to. Vectors in which a decision is too close to an edge are left to ``exactly``. One digit in each step. */
typedef struct {
    vf inverse, shift, highest, terms, sent;
    vi close;
} decision;

INLINE decision begun(const tp_delta *s, int64_t at, int64_t own) {
    const vf zero = {0};
    decision d = {.sent = zero, .close = {0}};
    memcpy(&d.inverse, s->inverse + own, sizeof d.inverse);
    memcpy(&d.shift, s->shift + own, sizeof d.shift);
    d.highest = (float)s->ceiling * d.inverse;
    d.terms = magnitude(d.shift) + 1.0f;
    if (!s->fresh)
        d.sent = both(load(s->sent + at, WIDE, 0.0), load(s->sent + at + WIDE, WIDE, 0.0));
    return d;
}

/* What is sent for estimates ``y`` in units of a threshold; 0 where nothing is, without signs. */
INLINE vi decided(const tp_delta *s, decision *d, vf y, int64_t source, int16_t *out) {
    const vf zero = {0};
    const float top = (float)s->top, half_part = (float)(0.5 / s->fine), room = 0x1p-17f, share = 0x1p-20f;
    if (source == TP_CLIP) {
        y = (vf)picked((vi)(y > 0.0f), (vi)y, (vi)zero);
        y = (vf)picked((vi)(y > d->highest), (vi)d->highest, (vi)y);
    }
    const vf left = y + d->shift - d->sent;
    const vf size = magnitude(left), error = room + share * (size + magnitude(y) + d->terms);
    const vi more = size_of_digit(size + (half_part + error), top);
    const vi less = size_of_digit(size + (half_part - error), top);
    d->close |= more ^ less;
    const vf digits = (vf)(more | ((vi)left & ~INT32_MAX));
    d->sent += digits;
    const shorts levels = __builtin_convertvector(__builtin_convertvector(digits, vi), shorts); /* of equal length first */
    memcpy(out, &levels, sizeof levels);
    return more;
}

/* The estimates before the first step, without what comes in it. */
INLINE void initial(const tp_delta *s, const group *g, int64_t from, vd *low, vd *high) {
    const vd none = {0};
    *low = none, *high = none;
    if (!s->fresh)
        *low = load(s->estimate + g->at + from, WIDE, 0.0), *high = load(s->estimate + g->at + from + WIDE, WIDE, 0.0);
    if (s->first) {
        const double *first = s->first + g->position * s->first_position + g->c + from;
        *low += load(first, WIDE, 0.0), *high += load(first + WIDE, WIDE, 0.0);
    }
}

INLINE void keep(const tp_delta *s, int64_t at, vd low, vd high, vf sent) {
    store(s->estimate + at, low, WIDE);
    store(s->estimate + at + WIDE, high, WIDE);
    store(s->sent + at, wide_half(sent, 0), WIDE);
    store(s->sent + at + WIDE, wide_half(sent, 1), WIDE);
}

/* All steps of TP_LANES neurons. Returns 0, and has changed nothing but ``out``, if one of them was too close. */
INLINE int64_t fast(const tp_delta *s, const group *g, int64_t from, int64_t source) {
    const vd none = {0};
    const int64_t at = g->at + from, c = g->c + from;
    const vd unit = s->units ? load(s->units + c, WIDE, 0.0) : none;
    const vd unit_after = s->units ? load(s->units + c + WIDE, WIDE, 0.0) : none;
    decision d = begun(s, at, g->position * s->neuron_position + c);
    vd estimate, after;
    initial(s, g, from, &estimate, &after);
    vi broken = {0};
    int64_t live = 1; /* what was sent before is not known */
    for (int64_t k = 0; k < s->steps; ++k) {
        const int64_t here = k * g->step + at, added = k < s->added_steps;
        vi passed = {0};
        if (g->passed) {
            shorts some;
            memcpy(&some, g->passed + k * s->channels + from, sizeof some);
            passed = __builtin_convertvector(some, vi);
        }
        if (!g->heard[k] && !live && !added && !(g->passed && any(passed))) { /* it has settled */
            memset(g->out + k * s->channels + from, 0, TP_LANES * sizeof(int16_t));
            continue;
        }
        if (g->heard[k]) {
            vi sums;
            memcpy(&sums, g->sums + k * BLOCK + from, sizeof sums);
            estimate += part_of(sums, 0) * unit;
            after += part_of(sums, 1) * unit_after;
        }
        if (added && s->wide)
            estimate += load(s->wide + here, WIDE, 0.0), after += load(s->wide + here + WIDE, WIDE, 0.0);
        else if (added)
            estimate += load_narrow(s->narrow + here, WIDE), after += load_narrow(s->narrow + here + WIDE, WIDE);
        if (g->passed) {
            estimate += part_of(passed, 0) * load(s->factors + c, WIDE, 0.0);
            after += part_of(passed, 1) * load(s->factors + c + WIDE, WIDE, 0.0);
        }
        const vf y = both(estimate, after) * d.inverse;
        broken |= ~(vi)(y - y == 0.0f);
        live = any(decided(s, &d, y, source, g->out + k * s->channels + from));
    }
    if (any(d.close | broken | (vi)(magnitude(d.sent) >= 0x1p23f)))
        return 0;
    if (s->estimate)
        keep(s, at, estimate, after, d.sent);
    return 1;
}

/* The same of ``count`` vectors of neurons, which wait for each other less, if all that comes are integer sums that add up
 * to less than 2^31: an estimate is then start + total * unit. */
INLINE int64_t fast_whole(const tp_delta *s, const group *g, int64_t from, int64_t source, int64_t count) {
    decision d[VECTORS_TOGETHER];
    vd low[VECTORS_TOGETHER], high[VECTORS_TOGETHER];
    vf start[VECTORS_TOGETHER], scale[VECTORS_TOGETHER];
    vi total[VECTORS_TOGETHER], bad = {0};
    for (int64_t v = 0; v < count; ++v) {
        const int64_t after = from + v * TP_LANES, c = g->c + after;
        d[v] = begun(s, g->at + after, g->position * s->neuron_position + c);
        initial(s, g, after, low + v, high + v);
        start[v] = both(low[v], high[v]) * d[v].inverse;
        scale[v] = both(load(s->units + c, WIDE, 0.0), load(s->units + c + WIDE, WIDE, 0.0)) * d[v].inverse;
        d[v].terms += magnitude(start[v]);
        bad |= ~(vi)(start[v] - start[v] == 0.0f);
        total[v] = (vi){0};
    }
    int64_t live = 1;
    for (int64_t k = 0; k < s->steps; ++k) {
        int16_t *out = g->out + k * s->channels + from;
        if (!g->heard[k] && !live) {
            memset(out, 0, (size_t)count * TP_LANES * sizeof *out);
            continue;
        }
        vi sent = {0};
        for (int64_t v = 0; v < count; ++v) {
            vi sums = {0};
            if (g->heard[k])
                memcpy(&sums, g->sums + k * BLOCK + from + v * TP_LANES, sizeof sums);
            total[v] += sums;
            const vf y = __builtin_convertvector(total[v], vf) * scale[v] + start[v];
            sent |= decided(s, d + v, y, source, out + v * TP_LANES);
        }
        live = any(sent);
    }
    for (int64_t v = 0; v < count; ++v)
        bad |= d[v].close | (vi)(magnitude(d[v].sent) >= 0x1p23f);
    if (any(bad))
        return 0;
    for (int64_t v = 0; v < count && s->estimate; ++v) {
        const int64_t after = from + v * TP_LANES, c = g->c + after;
        keep(s, g->at + after, low[v] + part_of(total[v], 0) * load(s->units + c, WIDE, 0.0),
             high[v] + part_of(total[v], 1) * load(s->units + c + WIDE, WIDE, 0.0), d[v].sent);
    }
    return 1;
}

#endif
