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

/* Spikes, and their operations and reads, of one position in one step. */
INLINE void count_levels(const tp_delta *s, const int16_t *levels, const int32_t *fan, const int32_t *own, int64_t *found) {
    const int64_t channels = s->channels;
    vi spikes = {0}, operations = {0}, reads = {0}; /* Python has bounded them */
    int64_t c = 0;
    for (; !s->all_digits && c + TP_LANES <= channels; c += TP_LANES) {
        shorts some;
        memcpy(&some, levels + c, sizeof some);
        const vi fired = __builtin_convertvector(some != 0, vi);
        spikes -= fired;
        vi value;
        memcpy(&value, fan + c, sizeof value);
        operations += value & fired;
        if (own) {
            memcpy(&value, own + c, sizeof value);
            reads += value & fired;
        }
    }
    found[0] = total(spikes), found[1] = found[0] ? total(operations) : 0, found[2] = own && found[0] ? total(reads) : 0;
    for (; c < channels; ++c) {
        const int64_t n = spikes_of(levels[c], s->all_digits);
        found[0] += n, found[1] += n * fan[c], found[2] += own ? n * own[c] : 0;
    }
}

/* Spikes, operations and active positions of the tile; sent [steps]: spikes. */
static void count(const tp_delta *s, const tile *t, int64_t *totals, int64_t *sent) {
    const int64_t positions = s->height * s->width;
    for (int64_t y = 0; y < t->rows; ++y)
        for (int64_t x = 0; x < t->columns; ++x) {
            const int64_t position = (t->y + y) * s->width + t->x + x;
            const int16_t *levels = s->out + (t->sample * positions + position) * s->all_steps * s->channels;
            const int32_t *fan = s->fan + position * s->fan_position;
            const int32_t *own = s->reads ? s->reads + position * s->reads_position : NULL;
            for (int64_t k = 0; k < s->steps; ++k, levels += s->channels) {
                int64_t found[3], *sums = totals + TP_DELTA_TOTALS * k;
                count_levels(s, levels, fan, own, found);
                sums[0] += found[0], sums[1] += found[1], sums[2] += found[0] != 0, sums[3] += found[2];
                sent[k] += found[0];
            }
        }
}

#endif
