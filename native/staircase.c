/* The levels of neurons that have integrated a whole window, in one pass; compiled once for every instruction set. */
#include "estimates.h"

#ifndef TP_STAIRCASE
#define TP_STAIRCASE tp_staircase_baseline
#endif

INLINE vd floor_of(vd v) { /* of numbers below 2^52 */
    const vd whole = nearest(v);
    return whole - (vd)((whole > v) & (vl)((vd){0} + 1.0));
}

/* Columns at … at + n − 1 of a row, n <= WIDE. */
INLINE void some(const tp_staircase *s, int64_t row, int64_t at, int64_t n) {
    const int64_t here = row * s->columns + at, own = row % s->period;
    const vd none = {0}, most = none + s->most;
    const vd charge = s->narrow ? load_narrow(s->narrow + here, n) : load(s->wide + here, n, 0.0);
    vd offset, threshold;
    if (s->shared) {
        offset = none + s->offset[own], threshold = none + s->threshold[own];
    } else {
        offset = load(s->offset + own * s->columns + at, n, 0.0);
        threshold = load(s->threshold + own * s->columns + at, n, 1.0);
    }
    vd level = (charge + offset) / threshold;
    level = chosen(level > 0.0, level, none); /* before it is rounded: no number is then too large */
    level = chosen(level < most, level, most);
    store_narrow(s->levels + here, floor_of(level), n);
}

void TP_STAIRCASE(const tp_staircase *s, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
        int64_t at = 0;
        for (; at + WIDE <= s->columns; at += WIDE)
            some(s, row, at, WIDE);
        if (at < s->columns)
            some(s, row, at, s->columns - at);
    }
}
