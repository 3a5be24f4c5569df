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
#if TP_LANES == 16
#define HALF(v, second) \
    ((second) ? __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15) : __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7))
#elif TP_LANES == 8
#define HALF(v, second) ((second) ? __builtin_shufflevector(v, v, 4, 5, 6, 7) : __builtin_shufflevector(v, v, 0, 1, 2, 3))
#else
#define HALF(v, second) ((second) ? __builtin_shufflevector(v, v, 2, 3) : __builtin_shufflevector(v, v, 0, 1))
#endif
INLINE vd wide_half(vf v, int64_t second) { return __builtin_convertvector(HALF(v, second), vd); }
/* Half of the integers as float64 numbers. */
INLINE vd part_of(vi v, int64_t second) { return __builtin_convertvector(HALF(v, second), vd); }
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
enum { POWER = 0xFF << 23 /* the bits of a float32 that are its power of two */ };
INLINE vf magnitude(vf v) { return (vf)((vi)v & INT32_MAX); }
/* The larger and the smaller of two numbers; ``b`` if one of them is NaN. */
INLINE vf larger(vf a, vf b) {
#if TP_LANES == 16 && defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif TP_LANES == 8 && defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return (vf)picked((vi)(a > b), (vi)a, (vi)b);
#endif
}
INLINE vf smaller(vf a, vf b) {
#if TP_LANES == 16 && defined(__AVX512F__)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif TP_LANES == 8 && defined(__AVX2__)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return (vf)picked((vi)(a < b), (vi)a, (vi)b);
#endif
}
INLINE void store_shorts(int16_t *p, vi v) {
#if TP_LANES == 16 && defined(__AVX512F__)
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16((__m512i)v));
#else
    const shorts some = __builtin_convertvector(v, shorts);
    memcpy(p, &some, sizeof some);
#endif
}
/* ``bits`` where v >= least, else 0. */
INLINE vi where_at_least(vf v, float least, vi bits) {
#if TP_LANES == 16 && defined(__AVX512F__)
    return (vi)_mm512_maskz_mov_epi32(_mm512_cmp_ps_mask((__m512)v, _mm512_set1_ps(least), _CMP_GE_OQ), (__m512i)bits);
#else
    return bits & (vi)(v >= least);
#endif
}

/* Decisions in float32: a value that is rounded to parts reaches an edge, a whole number of parts, if it is at most half a
 * part below it. A float32 operation errs by 2^-24 of its result: ``SHARE`` is more than what the terms of ``left`` add up
 * to. Vectors in which a decision is too close to an edge are left to ``exactly``. One digit in each step. ``error`` is the
 * part of the error that does not change; ``half_part`` and ``most`` are those of the layer. */
typedef struct {
    vf inverse, shift, highest, error, sent, half_part, most;
    vi close;
} decision;

static const float SHARE = 0x1p-20f;

INLINE decision begun(const tp_delta *s, int64_t at, int64_t own) {
    const vf zero = {0};
    decision d = {.sent = zero, .close = {0}};
    memcpy(&d.inverse, s->inverse + own, sizeof d.inverse);
    memcpy(&d.shift, s->shift + own, sizeof d.shift);
    d.highest = (float)s->ceiling * d.inverse;
    d.error = 0x1p-17f + SHARE * (magnitude(d.shift) + 1.0f);
    d.half_part = zero + (float)(0.5 / s->fine);
    d.most = zero + 1.4f * (float)s->top;
    if (!s->fresh)
        d.sent = both(load(s->sent + at, WIDE, 0.0), load(s->sent + at + WIDE, WIDE, 0.0));
    return d;
}

/* |digit| of a size, as in ``digit``, is the power of two of this number if it is not below 1, else 0: half a power is
 * rounded up, and sizes are kept between what is below the first digit and what is not above the largest. */
INLINE vi rounded_to_digit(const decision *d, vf size) {
    const vf none = {0};
    return (vi)smaller(larger(size, none + 0.7f), d->most) + ((int32_t)1 << 22);
}

/* What is sent for estimates ``y`` in units of a threshold; 0 where nothing is, without signs. */
INLINE vi decided(decision *d, vf y, int64_t source, int16_t *out) {
    const vf zero = {0};
    if (source == TP_CLIP)
        y = smaller(larger(y, zero), d->highest);
    const vf left = y + d->shift - d->sent;
    const vf size = magnitude(left), error = d->error + SHARE * magnitude(y); /* and SHARE * size */
    const vi most = rounded_to_digit(d, size * (1.0f + SHARE) + (d->half_part + error));
    const vi least = rounded_to_digit(d, size * (1.0f - SHARE) + (d->half_part - error));
    d->close |= most ^ least;
    const vi more = where_at_least((vf)most, 1.0f, most & POWER);
    const vf digits = (vf)(more | ((vi)left & ~INT32_MAX));
    d->sent += digits;
    store_shorts(out, __builtin_convertvector(digits, vi));
    return more;
}

/* Lanes in which a decision was too close, or float32 does not hold what was sent. */
INLINE vi unsure(const decision *d) { return (d->close & POWER) | (vi)(magnitude(d->sent) >= 0x1p23f); }

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
        live = any(decided(&d, y, source, g->out + k * s->channels + from));
    }
    if (any(unsure(&d) | broken))
        return 0;
    if (s->estimate)
        keep(s, at, estimate, after, d.sent);
    return 1;
}

/* Neurons to which only integer sums come that add up to less than 2^31: an estimate is start + total * unit. */
typedef struct {
    decision d;
    vd low, high; /* before the first step */
    vf start, scale;
    vi total;
} summing;

INLINE summing summing_from(const tp_delta *s, const group *g, int64_t from) {
    const int64_t c = g->c + from;
    summing n = {.d = begun(s, g->at + from, g->position * s->neuron_position + c), .total = {0}};
    initial(s, g, from, &n.low, &n.high);
    n.start = both(n.low, n.high) * n.d.inverse;
    n.scale = both(load(s->units + c, WIDE, 0.0), load(s->units + c + WIDE, WIDE, 0.0)) * n.d.inverse;
    n.d.error += SHARE * magnitude(n.start);
    return n;
}

INLINE vi step_of(summing *n, const int32_t *sums, int64_t source, int16_t *out) {
    vi some;
    memcpy(&some, sums, sizeof some);
    n->total += some;
    return decided(&n->d, __builtin_convertvector(n->total, vf) * n->scale + n->start, source, out);
}

INLINE vi failed(const summing *n) { return unsure(&n->d) | ~(vi)(n->start - n->start == 0.0f); }

INLINE void keep_sums(const tp_delta *s, const group *g, int64_t from, const summing *n) {
    const int64_t c = g->c + from;
    keep(s, g->at + from, n->low + part_of(n->total, 0) * load(s->units + c, WIDE, 0.0),
         n->high + part_of(n->total, 1) * load(s->units + c + WIDE, WIDE, 0.0), n->d.sent);
}

/* The same as ``fast`` of ``count`` vectors of such neurons, one or two, which wait for each other less. */
INLINE int64_t fast_whole(const tp_delta *s, const group *g, int64_t from, int64_t source, int64_t count) {
    static const int32_t nothing[BLOCK];
    const int64_t next = from + (count > 1 ? TP_LANES : 0), steps = s->steps, channels = s->channels;
    summing one = summing_from(s, g, from), two = summing_from(s, g, next); /* the same vector if there is one */
    const int32_t *sums = g->sums;
    const uint8_t *heard = g->heard;
    int16_t *out = g->out;
    int64_t live = 1;
    for (int64_t k = 0; k < steps; ++k, sums += BLOCK, out += channels) {
        if (!heard[k] && !live) {
            memset(out + from, 0, (size_t)count * TP_LANES * sizeof *out);
            continue;
        }
        const int32_t *now = heard[k] ? sums : nothing;
        vi sent = step_of(&one, now + from, source, out + from);
        if (count > 1)
            sent |= step_of(&two, now + next, source, out + next);
        live = any(sent);
    }
    if (any(failed(&one)) || (count > 1 && any(failed(&two))))
        return 0;
    if (s->estimate)
        keep_sums(s, g, from, &one);
    if (s->estimate && count > 1)
        keep_sums(s, g, next, &two);
    return 1;
}

#endif
