/* Several layers in one call: for a batch of one, calls from Python would take longer than the layers. */
#include <string.h>

#include "transpike.h"

enum { WORK = 1 << 24 }; /* multiplications of the dense layer that are worth one more thread, which must wake up */

static int64_t worthwhile(int64_t threads, double work) {
    const double most = 1 + work / WORK;
    return most < (double)threads ? (int64_t)most : threads;
}

static void move(const tp_part *part, int64_t batch) {
    for (int64_t sample = 0; sample < batch; ++sample) {
        const uint32_t *from = part->source + sample * part->source_sample;
        uint32_t *to = part->to + sample * part->outputs;
        for (int64_t i = 0; i < part->run_count; ++i) {
            const int32_t *run = part->runs + 3 * i;
            for (int32_t k = 0; k < run[2]; ++k)
                to[run[0] + k] = from[run[1] + k];
        }
    }
}

static void count(const tp_part *part, const uint32_t *words, const tp_section *section, int64_t threads) {
    int64_t *totals = part->totals, unused[TP_STEPS] = {0};
    memset(totals, 0, 3 * TP_STEPS * sizeof *totals);
    tp_count(words, part->fan_out, section->batch, part->neurons, section->steps, threads, totals, totals + TP_STEPS);
    if (part->boundary)
        tp_count(words, part->boundary, section->batch, part->neurons, section->steps, threads, unused,
                 totals + 2 * TP_STEPS);
}

int64_t tp_run_section(tp_section *section, void *scratch) {
    int64_t count_ties = section->count_ties;
    section->ties = 0;
    section->left = -1;
    for (int64_t i = 0; i < section->part_count; ++i) {
        const tp_part *part = section->parts + i;
        const int64_t threads =
            worthwhile(section->threads, (double)part->work * (double)section->batch * (double)section->steps);
        const uint32_t *words = part->to;
        if (part->kind == TP_MOVE) {
            move(part, section->batch);
            continue;
        }
        if (part->kind == TP_POOL) {
            tp_pool_max(part->source, part->taps, section->batch, part->inputs, part->outputs, part->window,
                        part->channels, section->steps, threads, part->counts, part->largest, part->to);
        } else {
            tp_layer *layer = part->layer;
            layer->batch = section->batch;
            layer->steps = section->steps;
            layer->first_step = section->first_step;
            layer->threads = threads;
            layer->count_ties = count_ties;
            if (tp_run(layer, scratch))
                return -1;
            section->ties += layer->ties;
            if (layer->beyond && !count_ties) { /* off the grid from here on */
                section->left = i;
                count_ties = 1;
            }
            words = layer->words;
        }
        if (part->fan_out)
            count(part, words, section, threads);
    }
    return 0;
}

int64_t tp_pack_wire(const float *values, int64_t steps, int64_t batch, int64_t positions, int64_t channels,
                     int64_t padded, int64_t value_sample, int64_t value_position, int64_t value_channel,
                     uint32_t *words) {
    int64_t odd = 0;
    memset(words, 0, (size_t)(batch * positions * padded) * sizeof *words);
    for (int64_t t = 0; t < steps; ++t)
        for (int64_t sample = 0; sample < batch; ++sample) {
            const float *from = values + (t * batch + sample) * value_sample;
            uint32_t *to = words + sample * positions * padded;
            for (int64_t p = 0; p < positions; ++p)
                for (int64_t c = 0; c < channels; ++c) {
                    const float value = from[p * value_position + c * value_channel];
                    to[p * padded + c] |= (uint32_t)(value == 1.0f) << t;
                    odd += value != 1.0f && value != 0.0f;
                }
        }
    return odd;
}
