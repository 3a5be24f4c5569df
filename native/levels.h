/* Neurons that send several levels or leak, included by kernel.c behind the kernels of sources.
 *
 * A level is a sum of planes: bit t of plane p is factors[p] of it, and under TP_SIGNED and TP_NEAREST as many planes
 * follow for its negative. Readers treat the planes of one factor as a source whose weights are multiplied by the
 * factor, so that their cost follows the bits that are set.
 */
#ifndef TRANSPIKE_LEVELS_H
#define TRANSPIKE_LEVELS_H

INLINE vf where(vi mask, vf v) { return (vf)((vi)v & mask); }
INLINE vi least_of(vi a, vi b) {
    const vi less = a < b;
    return (a & less) | (b & ~less);
}

/* ± the largest of 2^i, i < count, with |m| >= 2^i edge, or 0; a negative one is at most `sent`. `index` becomes i, or
 * i + count for a negative level. Positive floats are ordered as their bits are, and a power of two is added to the
 * bits of the exponent, so that a difference of bits tells i. */
INLINE vf nearest(vf m, vf edge, vf sent, int32_t count, vi *index) {
    const vi negative = m < 0;
    vi i = least_of(((vi)magnitude(m) - (vi)edge) >> 23, (vi){0} + (count - 1));
    i = (i & ~negative) | (least_of(i, ((vi)sent >> 23) - 127) & negative);
    const vi some = i >= 0;
    *index = ((i + (negative & count)) & some) | ~some;
    return where(some, (vf)(((i + 127) << 23) | (negative & INT32_MIN)));
}

/* One step of N vectors of neurons: `m` is the potential and becomes what is left of it. Bits are set in `planes`, one of
 * N vectors each. `sent`: the sum of levels so far. */
#define DEFINE_LEVELS(UNITS)                                                                                       \
    INLINE void send_##UNITS(const tp_layer *layer, vf *m, const float *threshold, const float *edge, vf *sent,    \
                             vu *planes, uint32_t bit) {                                                           \
        enum { N = UNITS * VECTORS };                                                                              \
        const int64_t count = layer->factor_count;                                                                 \
        if (layer->rule == TP_SIGNED) {                                                                            \
            const vi always = (vi){0} - (layer->remembers ? 0 : 1);                                                \
            for (int i = 0; i < N; ++i) {                                                                          \
                const vf theta = load(threshold + i * TP_LANES), one = (vf){0} + 1;                                \
                const vi plus = m[i] >= theta;                                                                     \
                const vi minus = (m[i] < load(edge + i * TP_LANES)) & ((sent[i] > 0) | always);                    \
                planes[i] |= (vu)plus & bit;                                                                       \
                planes[N + i] |= (vu)minus & bit;                                                                  \
                m[i] = m[i] - where(plus, theta) + where(minus, theta);                                            \
                sent[i] = sent[i] + where(plus, one) - where(minus, one);                                          \
            }                                                                                                      \
        } else if (layer->rule == TP_NEAREST) {                                                                    \
            vi index[N];                                                                                           \
            for (int i = 0; i < N; ++i) {                                                                          \
                const vf level = nearest(m[i], load(edge + i * TP_LANES), sent[i], (int32_t)count, index + i);     \
                m[i] -= level * load(threshold + i * TP_LANES);                                                    \
                sent[i] += level;                                                                                  \
            }                                                                                                      \
            for (int32_t p = 0; p < count; ++p)                                                                    \
                for (int i = 0; i < N; ++i) {                                                                      \
                    planes[(count - 1 - p) * N + i] |= (vu)(index[i] == p) & bit;                                  \
                    planes[(2 * count - 1 - p) * N + i] |= (vu)(index[i] == p + (int32_t)count) & bit;             \
                }                                                                                                  \
        } else if (layer->hard_reset) { /* of neurons with one threshold */                                        \
            for (int i = 0; i < N; ++i) {                                                                          \
                const vi fired = m[i] >= load(threshold + i * TP_LANES);                                           \
                planes[i] |= (vu)fired & bit;                                                                      \
                m[i] = where(~fired, m[i]);                                                                        \
            }                                                                                                      \
        } else {                                                                                                   \
            for (int64_t p = 0; p < count; ++p) { /* the largest first: every level is a sum of some of them */    \
                const float factor = layer->factors[p];                                                            \
                for (int i = 0; i < N; ++i) {                                                                      \
                    const vf charge = load(threshold + i * TP_LANES) * factor;                                     \
                    const vi fired = m[i] >= charge;                                                               \
                    m[i] -= where(fired, charge);                                                                  \
                    planes[p * N + i] |= (vu)fired & bit;                                                          \
                }                                                                                                  \
            }                                                                                                      \
        }                                                                                                          \
    }                                                                                                              \
    /* The neurons that would send another level with a potential that is a little higher or lower. */             \
    static __attribute__((noinline)) void near_##UNITS(const tp_layer *layer, const vf *m, const float *threshold, \
                                                       const float *edge, const vf *sent, int64_t planes_,         \
                                                       vi *near_ties) {                                            \
        enum { N = UNITS * VECTORS };                                                                              \
        vu planes[2][TP_PLANES * N];                                                                               \
        memset(planes, 0, sizeof planes);                                                                          \
        for (int up = 0; up < 2; ++up) {                                                                           \
            vf moved[N], before[N];                                                                                \
            for (int i = 0; i < N; ++i) {                                                                          \
                const vf theta = load(threshold + i * TP_LANES), size = magnitude(m[i]);                           \
                const vi large = size > theta;                                                                     \
                const vf room = 1e-5f * (where(large, size) + where(~large, theta));                               \
                moved[i] = up ? m[i] + room : m[i] - room;                                                         \
                before[i] = sent[i];                                                                               \
            }                                                                                                      \
            send_##UNITS(layer, moved, threshold, edge, before, planes[up], 1);                                    \
        }                                                                                                          \
        for (int i = 0; i < N; ++i) {                                                                              \
            vi other = {0};                                                                                        \
            for (int64_t p = 0; p < planes_; ++p)                                                                  \
                other |= planes[0][p * N + i] != planes[1][p * N + i];                                             \
            near_ties[0] -= other;                                                                                 \
        }                                                                                                          \
    }                                                                                                              \
    /* All steps of one position and one block of channels. */                                                     \
    static void position_##UNITS(const tp_layer *layer, const place *places, uint32_t check, int64_t sample,         \
                               int64_t position, int64_t channel, vi *near_ties, vi *beyond) {                     \
        enum { N = UNITS * VECTORS };                                                                              \
        const int64_t positions = layer->height * layer->width;                                                    \
        const int64_t at = (sample * positions + position) * layer->channels + channel;                            \
        const int64_t size = layer->batch * positions * layer->channels;                                           \
        const float *constant = layer->constant + sample * layer->constant_sample +                                \
                                position * layer->constant_position + channel;                                     \
        const float *threshold = layer->threshold + position * layer->threshold_position + channel;                \
        const float *edge = layer->edge + position * layer->threshold_position + channel;                          \
        const float *room = layer->room + position * layer->room_position + channel;                               \
        const int64_t count = layer->rule == TP_SEVERAL ? layer->factor_count : 2 * layer->factor_count;           \
        const float *initial =                                                                                     \
            layer->initial ? layer->initial + position * layer->initial_position + channel : NULL;                 \
        const float leak = (float)layer->leak;                                                                     \
        vf v[N], sent[N], now[N];                                                                                  \
        vu planes[TP_PLANES * N];                                                                                  \
        memset(planes, 0, (size_t)(count * N) * sizeof *planes);                                                   \
        for (int i = 0; i < N; ++i) {                                                                              \
            v[i] = load(initial ? initial + i * TP_LANES : layer->potential + at + i * TP_LANES);                  \
            sent[i] = layer->sent && !initial ? load(layer->sent + at + i * TP_LANES) : (vf){0};                   \
        }                                                                                                          \
        for (int64_t t = 0; t < layer->steps; ++t) {                                                               \
            for (int i = 0; i < N; ++i)                                                                            \
                now[i] = load(constant + i * TP_LANES);                                                            \
            for (int64_t s = 0; s < layer->source_count; ++s) {                                                    \
                if (!(places[s].active >> t & 1)) /* of most planes few bits are set */                            \
                    continue;                                                                                      \
                if (places[s].kind == TP_NARROW)                                                                   \
                    gather_narrow_##UNITS(now, places + s, t);                                                     \
                else if (places[s].kind == TP_GATHER)                                                              \
                    gather_##UNITS(now, places + s, t);                                                            \
                else if (places[s].kind == TP_LOOKUP)                                                              \
                    lookup_##UNITS(now, places + s, t);                                                            \
                else if (places[s].kind == TP_NARROW_LOOKUP)                                                       \
                    lookup_narrow_##UNITS(now, places + s, t);                                                     \
                else if (places[s].kind == TP_GRADED)                                                              \
                    graded_##UNITS(now, places + s, t);                                                            \
                else                                                                                               \
                    masked_##UNITS(now, places + s, t);                                                            \
            }                                                                                                      \
            for (int i = 0; i < N; ++i)                                                                            \
                v[i] = (leak == 1 ? v[i] : v[i] * leak) + now[i];                                                  \
            if (__builtin_expect(layer->count_ties != 0, 0)) { /* of copies: v and sent stay in registers */       \
                vf m[N], before[N];                                                                                \
                for (int i = 0; i < N; ++i)                                                                        \
                    m[i] = v[i], before[i] = sent[i];                                                              \
                near_##UNITS(layer, m, threshold, edge, before, count, near_ties);                                 \
            }                                                                                                      \
            send_##UNITS(layer, v, threshold, edge, sent, planes, (uint32_t)1 << t);                               \
            if (check >> t & 1)                                                                                    \
                for (int i = 0; i < N; ++i)                                                                        \
                    *beyond |= magnitude(v[i]) > load(room + i * TP_LANES);                                        \
        }                                                                                                          \
        for (int i = 0; i < N; ++i) {                                                                              \
            if (layer->potential)                                                                                  \
                store(layer->potential + at + i * TP_LANES, v[i]);                                                 \
            if (layer->sent)                                                                                       \
                store(layer->sent + at + i * TP_LANES, sent[i]);                                                   \
            for (int64_t p = 0; p < count; ++p)                                                                    \
                store_words(layer->words + p * size + at + i * TP_LANES, planes[p * N + i]);                       \
        }                                                                                                          \
    }                                                                                                              \
    /* As positions_1 … positions_4 for TP_ONE. */                                                                 \
    static void levels_##UNITS(const tp_layer *layer, place *places, uint32_t check, int64_t sample, int64_t row,  \
                               int64_t block, int64_t channel, vi *near_ties, vi *beyond) {                        \
        for (int64_t x = 0; x < layer->width; ++x) {                                                               \
            for (int64_t i = 0; i < layer->source_count; ++i)                                                      \
                find_column(places + i, sample, row, x, block, channel, UNITS, 1);                                 \
            position_##UNITS(layer, places, check, sample, row * layer->width + x, channel, near_ties, beyond);    \
        }                                                                                                          \
    }

#endif
