/* The sigma-delta neuron, in float64, with vector extensions of the compiler; compiled once for every instruction set.
 *
 * Some neurons stay in registers, and time is the innermost loop. Every operation is one that torch does, in the same
 * order, so that results are equal bit by bit.
 */
#include <string.h>

#include "kernel.h"

#ifndef TP_LANES
#define TP_LANES 4
#endif
#ifndef TP_SIGMA_DELTA
#define TP_SIGMA_DELTA tp_sigma_delta_baseline
#endif

#define INLINE static inline __attribute__((always_inline))
enum { WIDE = TP_LANES / 2 }; /* float64 numbers of a vector */

typedef double vd __attribute__((vector_size(4 * TP_LANES)));
typedef int64_t vl __attribute__((vector_size(4 * TP_LANES)));
typedef float half __attribute__((vector_size(2 * TP_LANES)));

/* ``n`` numbers; the others are ``rest``. */
INLINE vd load(const double *p, int64_t n, double rest) {
    vd v = {0};
    v += rest;
    memcpy(&v, p, (size_t)n * sizeof *p);
    return v;
}
INLINE vd load_narrow(const float *p, int64_t n) {
    half v = {0};
    memcpy(&v, p, (size_t)n * sizeof *p);
    return __builtin_convertvector(v, vd);
}
INLINE void store(double *p, vd v, int64_t n) { memcpy(p, &v, (size_t)n * sizeof *p); }
INLINE void store_narrow(float *p, vd v, int64_t n) {
    const half some = __builtin_convertvector(v, half);
    memcpy(p, &some, (size_t)n * sizeof *p);
}

#define SIGN ((int64_t)((uint64_t)1 << 63))
INLINE vd size_of(vd v) { return (vd)((vl)v & ~SIGN); }
INLINE vd with_sign_of(vd size, vd other) { return (vd)((vl)size | ((vl)other & SIGN)); }
INLINE vd chosen(vl mask, vd yes, vd no) { return (vd)((mask & (vl)yes) | (~mask & (vl)no)); }

/* The nearest whole number, ties to even. */
INLINE vd nearest(vd v) {
    const vd size = size_of(v);
    return with_sign_of(chosen(size < 0x1p52, (size + 0x1p52) - 0x1p52, size), v);
}
/* ± the largest power of two up to ``top`` that is at most 4/3 of the number, or 0: half of the mantissa's range, added
 * to the bits of a number, increases its exponent if it is at least 1.5 times a power of two. */
INLINE vd digit(vd left, double top) {
    const int64_t half_range = (int64_t)1 << 51, exponent = (int64_t)0x7FF << 52;
    const vd none = {0};
    vd size = (vd)(((vl)size_of(left) + half_range) & exponent);
    size = chosen(size > top, none + top, size);
    return with_sign_of((vd)((vl)size & (size >= 1.0)), left);
}

/* All steps of ``n`` neurons, which begin at ``at`` in every array of neurons; source and n are constants. */
INLINE void some(const tp_scan *s, int64_t at, int64_t own, int64_t n, int source, vl *edges, vl *wrong) {
    const vd threshold = load(s->threshold + own, n, 1.0), initial = load(s->initial + own, n, 0.0), none = {0};
    vd estimate = load(s->estimate + at, n, 0.0), sent = load(s->sent + at, n, 0.0);
    for (int64_t k = 0; k < s->steps; ++k) {
        const int64_t here = k * s->neurons + at;
        if (s->wide)
            estimate += load(s->wide + here, n, 0.0);
        else if (s->narrow)
            estimate += load_narrow(s->narrow + here, n);
        vd y = source == TP_GIVEN ? load(s->value + at, n, 0.0) : estimate;
        if (source == TP_CLIP) {
            y = chosen(y < 0.0, none, y);
            y = chosen(y > s->ceiling, none + s->ceiling, y);
        }
        *wrong |= ~(y - y == 0.0); /* NaN or infinite */
        y = (y + initial) / threshold * s->fine + s->off_grid;
        const vd whole = nearest(y);
        if (source == TP_GIVEN) {
            const vd below = whole - (vd)((whole > y) & (vl)(none + 1.0));
            const vd scale = 1.0 + size_of(y) + size_of(estimate / threshold * s->fine);
            vl near = size_of(y - below - 0.5) < s->near * scale;
            for (int64_t i = n; i < WIDE; ++i)
                near[i] = 0;
            *edges -= near;
        }
        const vd left = whole / s->fine - sent;
        vd level = digit(left, s->top);
        if (s->all_digits)
            for (double top = s->top / 2; top >= 1.0; top /= 2)
                level += digit(left - level, top);
        sent += level;
        store_narrow(s->levels + here, level, n);
    }
    store(s->estimate + at, estimate, n);
    store(s->sent + at, sent, n);
}

INLINE void all(const tp_scan *s, int64_t at, int64_t own, int64_t n, int source, vl *edges, vl *wrong) {
    int64_t i = 0;
    for (; i + WIDE <= n; i += WIDE)
        some(s, at + i, own + i, WIDE, source, edges, wrong);
    if (i < n)
        some(s, at + i, own + i, n - i, source, edges, wrong);
}

void TP_SIGMA_DELTA(const tp_scan *s, int64_t at, int64_t own, int64_t n, int64_t *unclear, int64_t *broken) {
    vl edges = {0}, wrong = {0};
    if (s->source == TP_GIVEN)
        all(s, at, own, n, TP_GIVEN, &edges, &wrong);
    else if (s->source == TP_CLIP)
        all(s, at, own, n, TP_CLIP, &edges, &wrong);
    else
        all(s, at, own, n, TP_SAME, &edges, &wrong);
    for (int64_t i = 0; i < WIDE; ++i)
        *unclear += edges[i], *broken |= wrong[i] != 0;
}
