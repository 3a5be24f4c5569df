/* float64 arithmetic of estimates, with vector extensions of the compiler, for the kernels of sigma-delta neurons.
 *
 * Every operation is one that torch does, in the same order, so that results are equal bit by bit.
 */
#ifndef TRANSPIKE_ESTIMATES_H
#define TRANSPIKE_ESTIMATES_H

#include <string.h>

#include "kernel.h"

#ifndef TP_LANES
#define TP_LANES 4
#endif

#define INLINE static inline __attribute__((always_inline))
enum { WIDE = TP_LANES / 2 }; /* float64 numbers of a vector */

typedef double vd __attribute__((vector_size(4 * TP_LANES)));
typedef int64_t vl __attribute__((vector_size(4 * TP_LANES)));
typedef float narrow __attribute__((vector_size(2 * TP_LANES)));

/* ``n`` numbers; the others are ``rest``. */
INLINE vd load(const double *p, int64_t n, double rest) {
    vd v = {0};
    v += rest;
    memcpy(&v, p, (size_t)n * sizeof *p);
    return v;
}
INLINE vd load_narrow(const float *p, int64_t n) {
    narrow v = {0};
    memcpy(&v, p, (size_t)n * sizeof *p);
    return __builtin_convertvector(v, vd);
}
INLINE void store(double *p, vd v, int64_t n) { memcpy(p, &v, (size_t)n * sizeof *p); }
INLINE void store_narrow(float *p, vd v, int64_t n) {
    const narrow some = __builtin_convertvector(v, narrow);
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

#endif
