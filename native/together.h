/* Sums of neighbouring steps in which many inputs are active, included by delta.c: each weight is read once for all of
 * these steps, and no list ends after few entries. The sums are those of ``gather``: integers are exact in any order.
 */
#ifndef TRANSPIKE_TOGETHER_H
#define TRANSPIKE_TOGETHER_H

/* Registers for the sums of as many steps, two vectors each; steps that are not listed if more than one pair of
 * inputs in so many is active; pairs up to which all are read, as lists of so few would end unforeseen. */
enum { MOST_TOGETHER = TP_LANES == 16 ? 8 : 6, ONE_IN = 6, FEW_PAIRS = 16 };

/* Steps first … first + count - 1; the pairs of which one level is not 0 in one of them at least, at every input: those
 * from begins[input] to begins[input + 1]. */
typedef struct {
    int64_t first, count;
    int32_t *pairs;
    int64_t *begins;
} range;

INLINE int32_t pair_at(const int16_t *levels) {
    int32_t both;
    memcpy(&both, levels, sizeof both);
    return both;
}

/* How many of ``pairs`` pairs of levels are not both 0. */
INLINE int64_t active_in(const int16_t *levels, int64_t pairs) {
    int64_t n = 0, c = 0;
#if TP_LANES == 16 && defined(__AVX512F__)
    for (; c < pairs; c += 16) {
        const __mmask16 inside = (__mmask16)(pairs - c < 16 ? (1u << (pairs - c)) - 1 : 0xFFFF);
        const __m512i some = _mm512_maskz_loadu_epi32(inside, levels + 2 * c);
        n += __builtin_popcount(_mm512_test_epi32_mask(some, some));
    }
#elif TP_LANES == 8 && defined(__AVX2__)
    for (; c + TP_LANES <= pairs; c += TP_LANES) {
        const __m256i silent = _mm256_cmpeq_epi32((__m256i)load_shorts(levels + 2 * c), _mm256_setzero_si256());
        n += TP_LANES - __builtin_popcount((unsigned)_mm256_movemask_ps((__m256)silent));
    }
#endif
    for (; c < pairs; ++c)
        n += pair_at(levels + 2 * c) != 0;
    return n;
}

/* The pairs of inputs that are active in each step, over the tile. */
static void find_active(const tp_delta *s, const tile *t, int64_t *active) {
    const int64_t channels = s->channels_in, pairs = channels / 2;
    int64_t wanted[TP_DELTA_STEPS], count = 0;
    for (int64_t k = 0; k < s->steps; ++k) {
        active[k] = 0;
        if (!s->heard || s->heard[k * s->batch + t->sample])
            wanted[count++] = k;
    }
    for (int64_t i = 0; i < t->rows_in * t->columns_in; ++i) {
        const int16_t *own = t->inputs[i];
        for (int64_t k = 0; own && k < count; ++k)
            active[wanted[k]] += active_in(own + wanted[k] * channels, pairs);
    }
}

/* From the first to the last step in which many pairs are active: either way is exact. */
static void find_range(const tp_delta *s, const tile *t, const int64_t *active, range *r) {
    const int64_t all = t->rows_in * t->columns_in * (s->channels_in / 2);
    int64_t last = -1;
    r->first = 0;
    for (int64_t k = 0; k < s->steps; ++k)
        if (active[k] * ONE_IN > all) {
            r->first = last < 0 ? k : r->first;
            last = k;
        }
    r->count = last < 0 ? 0 : last + 1 - r->first;
}

/* The numbers of the pairs that are active in one of these steps, and up to TP_LANES - 1 numbers more. */
INLINE int64_t append_active(const tp_delta *s, const int16_t *levels, int64_t steps, int32_t *numbers) {
    const int64_t pairs = s->channels_in / 2;
    int64_t n = 0;
    if (pairs <= FEW_PAIRS) {
        for (int64_t c = 0; c < pairs; ++c)
            numbers[c] = (int32_t)c;
        return pairs;
    }
#if TP_LANES == 16 && defined(__AVX512F__)
    __m512i own = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int64_t c = 0; c < pairs; c += 16, own = _mm512_add_epi32(own, _mm512_set1_epi32(16))) {
        const __mmask16 inside = (__mmask16)(pairs - c < 16 ? (1u << (pairs - c)) - 1 : 0xFFFF);
        __m512i any_level = _mm512_setzero_si512();
        for (int64_t k = 0; k < steps; ++k)
            any_level = _mm512_or_si512(any_level, _mm512_maskz_loadu_epi32(inside, levels + k * s->channels_in + 2 * c));
        const __mmask16 some = _mm512_test_epi32_mask(any_level, any_level);
        _mm512_storeu_si512(numbers + n, _mm512_maskz_compress_epi32(some, own));
        n += __builtin_popcount(some);
    }
#else
    for (int64_t c = 0; c < pairs; ++c) {
        int32_t any_level = 0;
        for (int64_t k = 0; k < steps; ++k)
            any_level |= pair_at(levels + k * s->channels_in + 2 * c);
        numbers[n] = (int32_t)c;
        n += any_level != 0;
    }
#endif
    return n;
}

static void list_range(const tp_delta *s, const tile *t, range *r) {
    int64_t n = 0;
    for (int64_t i = 0; i < t->rows_in * t->columns_in; ++i) {
        const int16_t *own = t->inputs[i];
        r->begins[i] = n;
        if (own)
            n += append_active(s, own + r->first * s->channels_in, r->count, r->pairs + n);
    }
    r->begins[t->rows_in * t->columns_in] = n;
}

/* Sums of ``vectors`` vectors of channels at one output, in ``steps`` steps from ``first`` on: sums [steps][BLOCK]. Steps and
 * vectors are constants. */
INLINE void together(const tp_delta *s, const tile *t, const range *r, const int16_t *weights, int64_t row, int64_t y,
                     int64_t x, int64_t first, int64_t steps, int64_t vectors, int32_t *sums) {
    const int64_t channels = s->channels_in, tap = channels / 2 * row;
    vi sum[MOST_TOGETHER][2];
    for (int64_t k = 0; k < steps; ++k)
        for (int64_t v = 0; v < vectors; ++v)
            sum[k][v] = (vi){0};
    for (int64_t ky = 0; ky < s->kernel_y; ++ky)
        for (int64_t kx = 0; kx < s->kernel_x; ++kx) {
            const int64_t from = (y * s->stride_y + ky * s->dilation_y) * t->columns_in + x * s->stride_x + kx * s->dilation_x;
            const int64_t begin = r->begins[from], end = r->begins[from + 1];
            if (begin == end)
                continue;
            const int16_t *levels = t->inputs[from] + first * channels;
            const int16_t *w = weights + (ky * s->kernel_x + kx) * tap;
            for (int64_t i = begin; i < end; ++i) {
                const int64_t pair = r->pairs[i];
                const int16_t *own = levels + 2 * pair, *later = own + 4 * channels;
                vs here[2];
                for (int64_t v = 0; v < vectors; ++v)
                    here[v] = load_shorts(w + pair * row + v * SHORTS);
#pragma GCC unroll 8
                for (int64_t k = 0; k < steps; ++k) {
                    const vs value = (vs)((vi){0} + pair_at(k < 4 ? own + k * channels : later + (k - 4) * channels));
                    for (int64_t v = 0; v < vectors; ++v)
                        sum[k][v] = with_pairs(sum[k][v], value, here[v]);
                }
            }
        }
    for (int64_t k = 0; k < steps; ++k)
        for (int64_t v = 0; v < vectors; ++v)
            memcpy(sums + k * BLOCK + v * TP_LANES, &sum[k][v], sizeof sum[k][v]);
}

/* The sums of ``width`` channels, a multiple of 16, of one block in all steps of the range: sums [steps][BLOCK]. */
static void block_together(const tp_delta *s, const tile *t, const range *r, const int16_t *weights, int64_t width, int64_t y,
                           int64_t x, int32_t *sums) {
    const int64_t calls = (r->count + MOST_TOGETHER - 1) / MOST_TOGETHER, most = (r->count + calls - 1) / calls;
    for (int64_t k = 0; k < r->count; k += most)
        for (int64_t c = 0; c < width; c += 2 * TP_LANES) {
            const int64_t steps = r->count - k < most ? r->count - k : most, first = r->first + k;
            int32_t *own = sums + first * BLOCK + c;
#define STEPS(N)                                                                                                       \
    case N:                                                                                                            \
        if (TP_LANES < 16 || width - c > TP_LANES)                                                                     \
            together(s, t, r, weights + 2 * c, 2 * width, y, x, first, N, 2, own);                                      \
        else                                                                                                           \
            together(s, t, r, weights + 2 * c, 2 * width, y, x, first, N, 1, own);                                      \
        break
            switch (steps) {
                STEPS(1);
                STEPS(2);
                STEPS(3);
                STEPS(4);
                STEPS(5);
                STEPS(6);
#if TP_LANES == 16
                STEPS(7);
                STEPS(8);
#endif
            }
#undef STEPS
        }
}

#endif
