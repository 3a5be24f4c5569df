/* The sigma-delta neuron in float64; compiled once for every instruction set.
 *
 * Some neurons stay in registers, and time is the innermost loop.
 */
#include "estimates.h"

#ifndef TP_SIGMA_DELTA
#define TP_SIGMA_DELTA tp_sigma_delta_baseline
#endif

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
