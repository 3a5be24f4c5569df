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

/* The level of step t under TP_NEAREST is a number of CODE_BITS bits, 0 for none. Bit j of all steps gathers in one word at
 * t + j, modulo 32; planes are made of these words once, in place of two comparisons for each plane and step. */
enum { CODE_BITS = 6 };
_Static_assert(2 * TP_FACTORS < 1 << CODE_BITS && CODE_BITS <= TP_PLANES, "a code for every level");

INLINE vu turned(vu v, uint32_t by) { return v << (by & 31) | v >> (-by & 31); }

/* Where the code of `bits` is `code`. */
INLINE vu where_code(const vu *bits, int64_t stride, uint32_t code) {
    vu found = ~(vu){0};
    for (uint32_t j = 0; j < CODE_BITS; ++j) {
        const vu own = turned(bits[j * stride], -j);
        found &= code >> j & 1 ? own : ~own;
    }
    return found;
}

/* Step t of `n` vectors of neurons: `m` is the potential and becomes what is left of it. Bits are set in `planes`, one of n
 * vectors each, or in words of codes. `sent`: the sum of levels so far. */
INLINE void send(const tp_layer *layer, const int n, vf *m, const vf *theta, const vf *edge, vf *sent, vu *planes,
                 uint32_t t) {
    const int64_t count = layer->factor_count;
    const uint32_t bit = (uint32_t)1 << t;
    if (layer->rule == TP_SIGNED) {
        const vi always = (vi){0} - (layer->remembers ? 0 : 1);
        for (int i = 0; i < n; ++i) {
            const vf one = (vf){0} + 1;
            const vi plus = m[i] >= theta[i];
            const vi minus = (m[i] < edge[i]) & ((sent[i] > 0) | always);
            planes[i] |= (vu)plus & bit;
            planes[n + i] |= (vu)minus & bit;
            m[i] = m[i] - where(plus, theta[i]) + where(minus, theta[i]);
            sent[i] = sent[i] + where(plus, one) - where(minus, one);
        }
    } else if (layer->rule == TP_NEAREST) {
        for (int i = 0; i < n; ++i) {
            vi index;
            const vf level = nearest(m[i], edge[i], sent[i], (int32_t)count, &index);
            m[i] -= level * theta[i];
            sent[i] += level;
            const vu code = turned((vu)(index + 1), t);
            for (uint32_t j = 0; j < CODE_BITS; ++j)
                planes[j * n + i] |= code & (uint32_t)1 << ((t + j) & 31);
        }
    } else if (layer->hard_reset) { /* of neurons with one threshold */
        for (int i = 0; i < n; ++i) {
            const vi fired = m[i] >= theta[i];
            planes[i] |= (vu)fired & bit;
            m[i] = where(~fired, m[i]);
        }
    } else {
        for (int64_t p = 0; p < count; ++p) { /* the largest first: every level is a sum of some of them */
            const float factor = layer->factors[p];
            for (int i = 0; i < n; ++i) {
                const vf charge = theta[i] * factor;
                const vi fired = m[i] >= charge;
                m[i] -= where(fired, charge);
                planes[p * n + i] |= (vu)fired & bit;
            }
        }
    }
}

/* The neurons that would send another level with a potential that is a little higher or lower. `words`: vectors of each
 * that ``send`` sets. */
static NEVER_INLINE void near_levels(const tp_layer *layer, const int n, const vf *m, const vf *theta, const vf *edge,
                                     const vf *sent, int64_t words, vi *near_ties) {
    vu planes[2][TP_PLANES * TP_CHAINS];
    memset(planes, 0, sizeof planes);
    for (int up = 0; up < 2; ++up) {
        vf moved[TP_CHAINS], before[TP_CHAINS];
        for (int i = 0; i < n; ++i) {
            const vf size = magnitude(m[i]);
            const vi large = size > theta[i];
            const vf room = 1e-5f * (where(large, size) + where(~large, theta[i]));
            moved[i] = up ? m[i] + room : m[i] - room;
            before[i] = sent[i];
        }
        send(layer, n, moved, theta, edge, before, planes[up], 0);
    }
    for (int i = 0; i < n; ++i) {
        vi other = {0};
        for (int64_t p = 0; p < words; ++p)
            other |= planes[0][p * n + i] != planes[1][p * n + i];
        near_ties[0] -= other;
    }
}

/* Neurons of one vector: their currents of step t are at currents[t * stride]. */
typedef struct {
    const vf *currents;
    const float *threshold, *edge, *room;
    const float *before, *sent_before; /* potentials and sums of levels, the latter NULL for zeros; where they are stored, or NULL */
    float *after, *sent_after;
    uint32_t *words;
} several;

/* All steps of `n` vectors of neurons, whose chains of operations overlap; `size`: words of a plane of the layer. */
INLINE void send_all(const tp_layer *layer, const several *of, const int n, const int64_t stride, int64_t size,
                     uint32_t check, vi *near_ties, vi *beyond) {
    const int64_t codes = layer->rule == TP_NEAREST, factors = layer->factor_count;
    const int64_t count = layer->rule == TP_SEVERAL ? factors : 2 * factors, words = codes ? CODE_BITS : count;
    const float leak = (float)layer->leak;
    vf v[TP_CHAINS], sent[TP_CHAINS], theta[TP_CHAINS], edge[TP_CHAINS];
    vu planes[TP_PLANES * TP_CHAINS];
    memset(planes, 0, (size_t)(words * n) * sizeof *planes);
    for (int i = 0; i < n; ++i) {
        v[i] = load(of[i].before);
        sent[i] = of[i].sent_before ? load(of[i].sent_before) : (vf){0};
        theta[i] = load(of[i].threshold), edge[i] = load(of[i].edge);
    }
    for (int64_t t = 0; t < layer->steps; ++t) {
        for (int i = 0; i < n; ++i)
            v[i] = (leak == 1 ? v[i] : v[i] * leak) + of[i].currents[t * stride];
        if (__builtin_expect(layer->count_ties != 0, 0)) { /* of copies: v and sent stay in registers */
            vf m[TP_CHAINS], before[TP_CHAINS], thetas[TP_CHAINS], edges[TP_CHAINS];
            for (int i = 0; i < n; ++i)
                m[i] = v[i], before[i] = sent[i], thetas[i] = theta[i], edges[i] = edge[i];
            near_levels(layer, n, m, thetas, edges, before, words, near_ties);
        }
        send(layer, n, v, theta, edge, sent, planes, (uint32_t)t);
        if (check >> t & 1)
            for (int i = 0; i < n; ++i)
                *beyond |= magnitude(v[i]) > load(of[i].room);
    }
    for (int i = 0; i < n; ++i) {
        if (of[i].after)
            store(of[i].after, v[i]);
        if (of[i].sent_after)
            store(of[i].sent_after, sent[i]);
        for (int64_t p = 0; p < count; ++p) { /* the largest factor first, then the negative ones */
            const uint32_t code = (uint32_t)(p < factors ? factors - p : 3 * factors - p);
            store_words(of[i].words + p * size, codes ? where_code(planes + i, n, code) : planes[p * n + i]);
        }
    }
}

static NEVER_INLINE void send_one(const tp_layer *layer, const several *of, int64_t stride, int64_t size, uint32_t check,
                                  vi *near_ties, vi *beyond) {
    send_all(layer, of, 1, stride, size, check, near_ties, beyond);
}
static NEVER_INLINE void send_three(const tp_layer *layer, const several *of, int64_t stride, int64_t size, uint32_t check,
                                    vi *near_ties, vi *beyond) {
    send_all(layer, of, 3, stride, size, check, near_ties, beyond);
}
static NEVER_INLINE void send_chains(const tp_layer *layer, const several *of, int64_t stride, int64_t size, uint32_t check,
                                     vi *near_ties, vi *beyond) {
    send_all(layer, of, TP_CHAINS, stride, size, check, near_ties, beyond);
}

/* The currents of all steps of one position and one block of channels, step by step: of most planes few bits are set. */
#define DEFINE_LEVELS(UNITS)                                                                                       \
    static void heard_##UNITS(const tp_layer *layer, const place *places, const float *constant, vf *currents,     \
                              int64_t stride) {                                                                    \
        enum { N = UNITS * VECTORS };                                                                              \
        vf now[N];                                                                                                 \
        for (int64_t t = 0; t < layer->steps; ++t) {                                                               \
            for (int i = 0; i < N; ++i)                                                                            \
                now[i] = load(constant + i * TP_LANES);                                                            \
            for (int64_t s = 0; s < layer->source_count; ++s) {                                                    \
                if (!(places[s].active >> t & 1))                                                                  \
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
                currents[t * stride + i] = now[i];                                                                 \
        }                                                                                                          \
    }                                                                                                              \
    /* As positions_1 … positions_4 for TP_ONE: neighbouring positions together. */                                 \
    static void levels_##UNITS(const tp_layer *layer, place *places, uint32_t check, int64_t sample, int64_t row,  \
                               int64_t block, int64_t channel, vi *near_ties, vi *beyond) {                        \
        enum { N = UNITS * VECTORS, TOGETHER = N < TP_CHAINS ? TP_CHAINS / N : 1, ALL = TOGETHER * N,              \
               CHAINS = ALL % TP_CHAINS ? 3 : TP_CHAINS };                                                         \
        const int64_t size = layer->batch * layer->height * layer->width * layer->channels;                        \
        vf currents[TP_STEPS * ALL];                                                                               \
        several n[ALL];                                                                                            \
        for (int64_t x = 0; x < layer->width; x += TOGETHER) {                                                     \
            const int count = (int)least(TOGETHER, layer->width - x);                                              \
            for (int k = 0; k < count; ++k) {                                                                      \
                const int64_t position = row * layer->width + x + k;                                               \
                const int64_t at = (sample * layer->height * layer->width + position) * layer->channels + channel; \
                for (int64_t i = 0; i < layer->source_count; ++i)                                                  \
                    find_column(places + i, sample, row, x + k, block, channel, UNITS, 1);                         \
                heard_##UNITS(layer, places, layer->constant + sample * layer->constant_sample +                   \
                              position * layer->constant_position + channel, currents + k * N, ALL);               \
                for (int i = 0; i < N; ++i) {                                                                      \
                    const int64_t lane = channel + i * TP_LANES, own = position * layer->threshold_position + lane; \
                    const float *initial =                                                                         \
                        layer->initial ? layer->initial + position * layer->initial_position + lane : NULL;        \
                    float *potential = layer->potential ? layer->potential + at + i * TP_LANES : NULL;             \
                    float *sent = layer->sent ? layer->sent + at + i * TP_LANES : NULL;                            \
                    n[k * N + i] = (several){                                                                      \
                        currents + k * N + i, layer->threshold + own, layer->edge + own,                           \
                        layer->room + position * layer->room_position + lane, initial ? initial : potential,       \
                        initial ? NULL : sent, potential, sent, layer->words + at + i * TP_LANES};                 \
                }                                                                                                  \
            }                                                                                                      \
            if (count < TOGETHER)                                                                                  \
                for (int i = 0; i < count * N; ++i)                                                                \
                    send_one(layer, n + i, ALL, size, check, near_ties, beyond);                                   \
            else                                                                                                   \
                for (int i = 0; i < ALL; i += CHAINS)                                                              \
                    (CHAINS == 3 ? send_three : send_chains)(layer, n + i, ALL, size, check, near_ties, beyond);   \
        }                                                                                                          \
    }

#endif
