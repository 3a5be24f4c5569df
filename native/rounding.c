/* Values of operators between sigma-delta neurons, rounded to a grid; compiled once for every instruction set. */
#include "estimates.h"

#ifndef TP_ROUND
#define TP_ROUND tp_round_baseline
#endif

/* ``n`` values, a constant. The numbers of values next to an edge or beyond the room are subtracted from ``unclear``. */
INLINE void some(const tp_rounding *r, int64_t at, int64_t n, vl *unclear) {
    const vd one = (vd){0} + 1.0, parts = load(r->value + at, n, 0.0) * (1.0 / r->grid), size = size_of(parts);
    vd below = nearest(size);
    below -= (vd)((below > size) & (vl)one);
    *unclear += (size_of(size - below - 0.5) < r->near * (1.0 + size)) | (size > r->room / r->grid);
    const vd now = nearest(parts) * r->grid;
    store(r->changes + at, now - load(r->values + at, n, 0.0), n);
    store(r->values + at, now, n);
}

int64_t TP_ROUND(const tp_rounding *r, int64_t at, int64_t n) {
    vl unclear = {0};
    int64_t i = 0, found = 0;
    for (; i + WIDE <= n; i += WIDE)
        some(r, at + i, WIDE, &unclear);
    if (i < n)
        some(r, at + i, n - i, &unclear);
    for (int64_t k = 0; k < WIDE; ++k)
        found -= unclear[k];
    return found;
}
