/* Depthwise convolutions of several planes, included by kernel.c: levels are added up once for each input, and every
 * window that holds it multiplies them, where a masked source goes through all planes for every tap.
 *
 * The inputs of the columns of one window are kept; the next window of the row adds the columns that are new.
 */
#ifndef TRANSPIKE_GRADED_H
#define TRANSPIKE_GRADED_H

/* The levels of the units of a block at one input, [step][channel]. */
static void add_planes(const tp_source *s, int64_t at, int64_t channels, int64_t steps, float *levels) {
    for (int64_t c = 0; c < channels; c += TP_LANES)
        for (int64_t t = 0; t < steps; ++t) {
            const uint32_t bit = (uint32_t)1 << t;
            vf level = {0};
            for (int64_t p = 0; p < s->plane_count; ++p) {
                const vi fired = (load_words(s->planes[p] + at + c) & bit) != 0;
                const vf factor = (vf){0} + s->factors[p];
                level += (vf)((vi)factor & fired);
            }
            store(levels + t * channels + c, level);
        }
}

/* A new row or block: no column is kept. */
static void find_graded_row(place *p, const tp_source *s, const tp_plan *plan, char *scratch, int64_t block,
                            int64_t steps) {
    p->ring = (float *)(scratch + plan->pixel_lists);
    p->kept = (int64_t *)(scratch + plan->tags);
    p->span = steps;
    p->weights = (const float *)s->weights + s->block_weights[block];
    for (int64_t k = 0; k < plan->slots; ++k)
        p->kept[k] = -1;
}

/* The taps of a window that lie inside, their weights and levels. */
static void find_graded(place *p, int64_t sample, int64_t row, int64_t column, int64_t channel, int64_t channels) {
    const tp_source *s = p->source;
    const int64_t reach = (s->kernel_x - 1) * s->dilation_x + 1, left = column * s->stride_x - s->padding_x;
    const int64_t size = p->span * channels, top = row * s->stride_y - s->padding_y;
    p->taps = 0;
    for (int64_t kx = 0; kx < s->kernel_x; ++kx) {
        const int64_t x = left + kx * s->dilation_x;
        if (x < 0 || x >= s->width)
            continue;
        const int64_t slot = x % reach, known = p->kept[slot] == x;
        p->kept[slot] = x;
        for (int64_t ky = 0; ky < s->kernel_y; ++ky) {
            const int64_t y = top + ky * s->dilation_y;
            float *levels = p->ring + (slot * s->kernel_y + ky) * size;
            if (y < 0 || y >= s->height)
                continue;
            if (!known)
                add_planes(s, sample * s->sample_words + y * s->row_words + x * s->column_words + channel, channels,
                           p->span, levels);
            p->tap_weights[p->taps] = p->weights + (ky * s->kernel_x + kx) * channels;
            p->levels[p->taps++] = levels;
        }
    }
}

#define DEFINE_GRADED(UNITS)                                                                                       \
    INLINE void graded_##UNITS(vf *acc, const place *p, int64_t t) {                                               \
        enum { N = UNITS * VECTORS, ROW = UNITS * TP_UNIT };                                                       \
        for (int64_t k = 0; k < p->taps; ++k)                                                                      \
            for (int v = 0; v < N; ++v)                                                                            \
                acc[v] += load(p->tap_weights[k] + v * TP_LANES) * load(p->levels[k] + t * ROW + v * TP_LANES);    \
    }

#endif
