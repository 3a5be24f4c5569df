/* Sums of 16-bit weights. Included by kernel.c, once for every instruction set.
 *
 * A row of 16 outputs is stored as 8 words of 32 bits: output k in the low half of word k, output k + 8 in the high
 * half. The low halves hold weight + TP_LOW, which is not negative, so that additions of words never carry into the high
 * halves; the sum of four rows fits into a half. For every four rows, `high` adds the high halves and `both` the whole
 * words modulo 2^32; afterwards the sum of the low halves is both - 2^16 · high. This takes half the loads and two
 * thirds of the additions of sums that widen every half by itself.
 */
#ifndef TRANSPIKE_NARROW_H
#define TRANSPIKE_NARROW_H

#if TP_LANES < 16
#define HALF (VECTORS / 2) /* vectors of 8 outputs */
#define DEFINE_OUTPUTS(UNITS)                                                                                      \
    INLINE void add_narrow_##UNITS(vf *acc, const vu *low, const vu *high, const float *unit) {                    \
        for (int v = 0; v < UNITS * HALF; ++v) {                                                                   \
            const int at = v / HALF * VECTORS + v % HALF;                                                          \
            acc[at] += __builtin_convertvector((vi)low[v], vf) * load(unit + at * TP_LANES);                       \
            acc[at + HALF] += __builtin_convertvector((vi)high[v], vf) * load(unit + (at + HALF) * TP_LANES);      \
        }                                                                                                          \
    }
#define DEFINE_NARROW(UNITS) DEFINE_OUTPUTS(UNITS) DEFINE_NARROW_SUMS(UNITS, vu, vi)
#else
/* A vector holds two units, or one where their number is odd. */
typedef uint32_t vu8 __attribute__((vector_size(32)));
typedef int32_t vi8 __attribute__((vector_size(32)));
#define DEFINE_OUTPUTS_EVEN(UNITS)                                                                                 \
    INLINE void add_narrow_##UNITS(vf *acc, const vu *low, const vu *high, const float *unit) {                    \
        for (int v = 0; v < UNITS / 2; ++v) {                                                                      \
            const vi first = (vi)__builtin_shufflevector(low[v], high[v], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19,  \
                                                         20, 21, 22, 23);                                          \
            const vi second = (vi)__builtin_shufflevector(low[v], high[v], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25,   \
                                                          26, 27, 28, 29, 30, 31);                                 \
            acc[2 * v] += __builtin_convertvector(first, vf) * load(unit + 2 * v * TP_LANES);                      \
            acc[2 * v + 1] += __builtin_convertvector(second, vf) * load(unit + (2 * v + 1) * TP_LANES);           \
        }                                                                                                          \
    }
#define DEFINE_OUTPUTS_ODD(UNITS)                                                                                  \
    INLINE void add_narrow_##UNITS(vf *acc, const vu8 *low, const vu8 *high, const float *unit) {                  \
        for (int v = 0; v < UNITS; ++v) {                                                                          \
            const vi all = (vi)__builtin_shufflevector(low[v], high[v], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,  \
                                                       13, 14, 15);                                                \
            acc[v] += __builtin_convertvector(all, vf) * load(unit + v * TP_LANES);                                \
        }                                                                                                          \
    }
#define DEFINE_NARROW_1 DEFINE_OUTPUTS_ODD(1) DEFINE_NARROW_SUMS(1, vu8, vi8)
#define DEFINE_NARROW_2 DEFINE_OUTPUTS_EVEN(2) DEFINE_NARROW_SUMS(2, vu, vi)
#define DEFINE_NARROW_3 DEFINE_OUTPUTS_ODD(3) DEFINE_NARROW_SUMS(3, vu8, vi8)
#define DEFINE_NARROW_4 DEFINE_OUTPUTS_EVEN(4) DEFINE_NARROW_SUMS(4, vu, vi)
#define DEFINE_NARROW(UNITS) DEFINE_NARROW_##UNITS
#endif

/* acc += the weights of the inputs that fired, times the units. Four rows at a time, as in gather_*; or one row of a
 * table for every eight channels of every tap. The words of these tables are integers: a sum of weights + 2 · TP_LOW, and
 * 2^16 times the other one, so that the halves of a single word may overlap, but not those of the sum of a tap's two. */
#define DEFINE_NARROW_SUMS(UNITS, words, integers)                                                               \
    INLINE words words_##UNITS(const int16_t *row, int v) {                                                        \
        words some;                                                                                                \
        memcpy(&some, (const char *)row + v * sizeof some, sizeof some);                                           \
        return some;                                                                                               \
    }                                                                                                              \
    INLINE void add_narrow_rows_##UNITS(words *both, words *high, const int16_t *weights, int64_t i, int64_t j,    \
                                        int64_t k, int64_t l) {                                                    \
        enum { ROW = UNITS * TP_UNIT, N = ROW * 2 / sizeof(words) };                                               \
        const int16_t *a = weights + i * ROW, *b = weights + j * ROW, *c = weights + k * ROW, *d = weights + l * ROW; \
        for (int v = 0; v < N; ++v) {                                                                              \
            const words four = (words_##UNITS(a, v) + words_##UNITS(b, v)) +                                       \
                               (words_##UNITS(c, v) + words_##UNITS(d, v));                                        \
            both[v] += four;                                                                                       \
            high[v] += (words)((integers)four >> 16);                                                              \
        }                                                                                                          \
    }                                                                                                              \
    INLINE void gather_narrow_##UNITS(vf *acc, const place *p, int64_t t) {                                        \
        enum { ROW = UNITS * TP_UNIT, N = ROW * 2 / sizeof(words) };                                               \
        const uint16_t *list = p->list + t * p->entries;                                                           \
        int64_t i = p->begin[t];                                                                                   \
        const int64_t end = p->end[t], none = p->nothing;                                                          \
        if (i >= end)                                                                                              \
            return;                                                                                                \
        const uint32_t added = (uint32_t)(end - i + 3) / 4 * 4 * TP_LOW;                                           \
        words both[N], high[N];                                                                                    \
        for (int v = 0; v < N; ++v)                                                                                \
            both[v] = high[v] = (words){0};                                                                        \
        for (; i + 4 < end; i += 4)                                                                                \
            add_narrow_rows_##UNITS(both, high, p->narrow, list[i], list[i + 1], list[i + 2], list[i + 3]);        \
        add_narrow_rows_##UNITS(both, high, p->narrow, list[i], i + 1 < end ? list[i + 1] : none,                  \
                                i + 2 < end ? list[i + 2] : none, i + 3 < end ? list[i + 3] : none);               \
        for (int v = 0; v < N; ++v)                                                                                \
            both[v] -= (high[v] << 16) + added;                                                                    \
        add_narrow_##UNITS(acc, both, high, p->unit);                                                              \
    }                                                                                                              \
    INLINE void lookup_narrow_taps_##UNITS(vf *acc, const uint16_t *const *lines, const int16_t *weights,          \
                                           const float *unit, int64_t t, const int64_t kernel_y,                   \
                                           const int64_t kernel_x, const int64_t dilation) {                       \
        enum { ROW = UNITS * TP_UNIT, N = ROW * 2 / sizeof(words) };                                               \
        words both[N], high[N];                                                                                    \
        for (int v = 0; v < N; ++v)                                                                                \
            both[v] = high[v] = (words){0};                                                                        \
        for (int64_t ky = 0; ky < kernel_y; ++ky) {                                                                \
            const uint16_t *line = lines[ky] + t;                                                                  \
            const int16_t *table = weights + ky * kernel_x * 2 * TP_TABLE * ROW;                                   \
            for (int64_t kx = 0; kx < kernel_x; ++kx) {                                                            \
                const uint64_t first = (uint64_t)line[kx * dilation * 2 * TP_STEPS] * UNITS;                       \
                const uint64_t second = (uint64_t)line[(kx * dilation * 2 + 1) * TP_STEPS] * UNITS;                \
                for (int v = 0; v < N; ++v) {                                                                      \
                    const words all = words_##UNITS(table + first + kx * 2 * TP_TABLE * ROW, v) +                  \
                                      words_##UNITS(table + second + (kx * 2 + 1) * TP_TABLE * ROW, v);            \
                    both[v] += all;                                                                                \
                    high[v] += (words)((integers)all >> 16);                                                       \
                }                                                                                                  \
            }                                                                                                      \
            IN_ORDER;                                                                                              \
        }                                                                                                          \
        for (int v = 0; v < N; ++v)                                                                                \
            both[v] -= (high[v] << 16) + (uint32_t)(kernel_y * kernel_x * 4 * TP_LOW);                             \
        add_narrow_##UNITS(acc, both, high, unit);                                                                 \
    }                                                                                                              \
    INLINE void lookup_narrow_##UNITS(vf *acc, const place *p, int64_t t) {                                        \
        const tp_source *s = p->source;                                                                            \
        if (s->kernel_y == 3 && s->kernel_x == 3 && s->dilation_x == 1)                                            \
            lookup_narrow_taps_##UNITS(acc, p->lines, p->narrow, p->unit, t, 3, 3, 1); /* for loop unrolling */    \
        else                                                                                                       \
            lookup_narrow_taps_##UNITS(acc, p->lines, p->narrow, p->unit, t, s->kernel_y, s->kernel_x,             \
                                       s->dilation_x);                                                             \
    }

#endif
