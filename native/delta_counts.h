/* What the outputs of a tile sent, included by delta.c: spikes, operations, active positions and states that were read. */
#ifndef TRANSPIKE_DELTA_COUNTS_H
#define TRANSPIKE_DELTA_COUNTS_H

/* Spikes of one level: 1, or the digits of n in which n and 3 n differ, of which there are fewest. */
INLINE int64_t spikes_of(int64_t level, int64_t all_digits) {
    const int64_t size = level < 0 ? -level : level;
    return all_digits ? __builtin_popcountll((uint64_t)(size ^ 3 * size)) : size != 0;
}

INLINE int64_t total(vi v) {
    int64_t sum = 0;
    for (int64_t i = 0; i < TP_LANES; ++i)
        sum += v[i];
    return sum;
}

/* How many of ``count`` levels are not 0. */
INLINE int64_t spikes_in(const int16_t *levels, int64_t count) {
    int64_t n = 0, c = 0;
#if TP_LANES == 16 && defined(__AVX512BW__)
    for (; c < count; c += SHORTS) {
        const __mmask32 inside = count - c < SHORTS ? ((__mmask32)1 << (count - c)) - 1 : ~(__mmask32)0;
        const __m512i some = _mm512_maskz_loadu_epi16(inside, levels + c);
        n += __builtin_popcount(_mm512_test_epi16_mask(some, some));
    }
#elif TP_LANES == 8 && defined(__AVX2__)
    for (; c + SHORTS <= count; c += SHORTS) {
        const __m256i silent = _mm256_cmpeq_epi16((__m256i)load_shorts(levels + c), _mm256_setzero_si256());
        n += SHORTS - __builtin_popcount((unsigned)_mm256_movemask_epi8(silent)) / 2;
    }
#endif
    for (; c < count; ++c)
        n += levels[c] != 0;
    return n;
}

/* Sums of one step over positions, lane by lane. */
typedef struct {
    vi operations, reads;
} partial;

/* Of the first multiple of TP_LANES channels of one position; the rest are spikes [0], operations [1] and reads [2]. */
INLINE void add_levels(const tp_delta *s, const int16_t *levels, const int32_t *fan, const int32_t *own, partial *sums,
                       int64_t *found) {
    int64_t c = 0;
    for (; !s->all_digits && c + TP_LANES <= s->channels; c += TP_LANES) {
        shorts some;
        memcpy(&some, levels + c, sizeof some);
        const vi fired = __builtin_convertvector(some != 0, vi);
        vi value;
        memcpy(&value, fan + c, sizeof value);
        sums->operations += value & fired;
        if (own) {
            memcpy(&value, own + c, sizeof value);
            sums->reads += value & fired;
        }
    }
    found[0] = s->all_digits ? 0 : spikes_in(levels, c), found[1] = found[2] = 0;
    for (; c < s->channels; ++c) {
        const int64_t n = spikes_of(levels[c], s->all_digits);
        found[0] += n, found[1] += n * fan[c], found[2] += own ? n * own[c] : 0;
    }
}

/* The sum of numbers that are not negative; 0 without numbers. */
INLINE int64_t sum_of(const int32_t *numbers, int64_t count) {
    int64_t sum = 0;
    for (int64_t c = 0; numbers && c < count; ++c)
        sum += numbers[c];
    return sum;
}

/* Adds what the lanes have come to, and begins again. */
static void settle(const tp_delta *s, partial *lanes, int64_t *totals) {
    for (int64_t k = 0; k < s->steps; ++k) {
        totals[TP_DELTA_TOTALS * k + 1] += total(lanes[k].operations);
        totals[TP_DELTA_TOTALS * k + 3] += total(lanes[k].reads);
        lanes[k] = (partial){0};
    }
}

/* Spikes, operations and active positions of the tile; sent [steps]: spikes. */
static void count(const tp_delta *s, const tile *t, int64_t *totals, int64_t *sent) {
    const int64_t positions = s->height * s->width;
    partial lanes[TP_DELTA_STEPS] = {{{0}, {0}}};
    int64_t most = 0, more = 0; /* that a lane may have come to, and what a position may add */
    for (int64_t y = 0; y < t->rows; ++y)
        for (int64_t x = 0; x < t->columns; ++x) {
            const int64_t position = (t->y + y) * s->width + t->x + x;
            const int16_t *levels = s->out + (t->sample * positions + position) * s->all_steps * s->channels;
            const int32_t *fan = s->fan + position * s->fan_position;
            const int32_t *own = s->reads ? s->reads + position * s->reads_position : NULL;
            if (s->fan_position || s->reads_position || !(x || y)) {
                const int64_t one = sum_of(fan, s->channels), other = sum_of(own, s->channels);
                more = one > other ? one : other;
            }
            if (most + more > INT32_MAX)
                settle(s, lanes, totals), most = 0;
            most += more;
            for (int64_t k = 0; k < s->steps; ++k, levels += s->channels) {
                int64_t found[3], *sums = totals + TP_DELTA_TOTALS * k;
                add_levels(s, levels, fan, own, lanes + k, found);
                sums[0] += found[0], sums[1] += found[1], sums[2] += found[0] != 0, sums[3] += found[2];
                sent[k] += found[0];
            }
        }
    settle(s, lanes, totals);
}

#endif
