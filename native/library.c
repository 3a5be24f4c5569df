/* The functions for Python: checks, scratch memory, threads, and the choice of the instruction set at run time. */
#include <stddef.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "kernel.h"

uint16_t tp_expand[256][8];
uint8_t tp_bits[256];

extern const tp_kernels tp_kernels_baseline;
#ifdef TP_X86
extern const tp_kernels tp_kernels_avx2, tp_kernels_avx512;
#endif
#ifdef TP_VNNI
void tp_delta_vnni(const tp_delta *, const tp_delta_plan *, int64_t, char *, int64_t *, int64_t *);
static tp_kernels with_vnni;
#endif
static const tp_kernels *kernels = &tp_kernels_baseline;
#ifdef __aarch64__
#define BASELINE "NEON"
#else
#define BASELINE "baseline"
#endif
static const char *instructions = BASELINE;

__attribute__((constructor)) static void choose(void) {
    for (int byte = 0; byte < 256; ++byte)
        for (int bit = 0; bit < 8; ++bit)
            if (byte >> bit & 1)
                tp_expand[byte][tp_bits[byte]++] = (uint16_t)bit;
    if (!tp_force("AVX-512"))
        tp_force("AVX2");
}

int64_t tp_abi(void) { return TP_ABI; }
int64_t tp_struct_bytes(int64_t which) {
    const size_t sizes[] = {sizeof(tp_source), sizeof(tp_layer), sizeof(tp_scan), sizeof(tp_part), sizeof(tp_section),
                            sizeof(tp_delta), sizeof(tp_entrance), sizeof(tp_staircase), sizeof(tp_rounding)};
    return (int64_t)sizes[which];
}
const char *tp_instructions(void) { return instructions; }
int64_t tp_has_threads(void) {
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

int64_t tp_compiled(const char *name) {
#ifdef __aarch64__
    return !strcmp(name, "NEON") || !strcmp(name, "baseline");
#elif defined(TP_X86)
    return !strcmp(name, "baseline") || !strcmp(name, "AVX2") || !strcmp(name, "AVX-512");
#else
    return !strcmp(name, "baseline");
#endif
}

int64_t tp_force(const char *name) {
#ifdef TP_X86
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!strcmp(name, "AVX2") && avx2) {
        kernels = &tp_kernels_avx2, instructions = "AVX2";
        return 1;
    }
    const int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#ifdef TP_VNNI
    if (!strcmp(name, "AVX-512") && avx512 && __builtin_cpu_supports("avx512vnni")) {
        with_vnni = tp_kernels_avx512, with_vnni.delta = tp_delta_vnni;
        kernels = &with_vnni, instructions = "AVX-512";
        return 1;
    }
#endif
    if ((!strcmp(name, "AVX-512") || !strcmp(name, "AVX-512 without VNNI")) && avx512) {
        kernels = &tp_kernels_avx512, instructions = "AVX-512";
        return 1;
    }
    if (strcmp(name, "baseline"))
        return 0;
#endif
    if (!tp_compiled(name))
        return 0;
    kernels = &tp_kernels_baseline, instructions = BASELINE;
    return 1;
}

static int64_t align(int64_t bytes) { return (bytes + 63) / 64 * 64; }

/* Space for `entries` and the surplus of whole vectors; never a multiple of a page, to avoid cache conflicts. */
static int64_t with_room(int64_t entries) {
    const int64_t lines = (entries + 64) / 32 + 1;
    return (lines % 2 ? lines : lines + 1) * 32;
}

int64_t tp_plan_scratch(const tp_layer *layer, tp_plan *plans, int64_t *rows) {
    enum { CACHE = 2 << 20 }; /* bytes of the window lists that are in use together */
    int64_t at = 0, row_bytes = 1, together = layer->batch * layer->height;
    for (int64_t i = 0; i < layer->source_count; ++i) {
        const tp_source *s = layer->sources + i;
        tp_plan *p = plans + i;
        memset(p, 0, sizeof *p);
        if (s->kind == TP_GRADED) { /* for runs of any number of steps */
            p->slots = (s->kernel_x - 1) * s->dilation_x + 1;
            p->tags = at;
            at += align(p->slots * 8);
            p->pixel_lists = at;
            at += align(p->slots * s->kernel_y * TP_STEPS * TP_BLOCK * 4);
        }
        if (is_depthwise(s))
            continue;
        p->slots = (s->kernel_y - 1) * s->dilation_y + 1;
        p->tags = at;
        at += align(p->slots * 8);
        if (is_lookup(s)) {
            const int64_t reach = (layer->width - 1) * s->stride_x + (s->kernel_x - 1) * s->dilation_x + 1;
            p->padded_width = reach;
            p->pixel_steps = at;
            at += align((p->slots + 1) * reach * 4);
            p->pixel_lists = at;
            at += align((p->slots + 1) * reach * 4 * TP_STEPS);
            together = 1; /* its rows of places are not stored */
            continue;
        }
        p->pixel_entries = with_room(s->width * s->channels * s->plane_count);
        p->window_entries = with_room(s->width * s->kernel_y * s->channels * s->plane_count);
        p->columns = at;
        at += align(2 * s->width * 8);
        p->pixel_starts = at;
        at += align(p->slots * TP_STEPS * (s->width * s->groups + 1) * 4);
        p->pixel_steps = at;
        at += align(p->slots * s->width * s->groups * 4);
        p->pixel_lists = at;
        at += align(p->slots * TP_STEPS * p->pixel_entries * 2);
        row_bytes += TP_STEPS * (p->window_entries * 2 + s->groups * (s->width + 1) * 4);
    }
    if (together > CACHE / row_bytes)
        together = CACHE / row_bytes;
    if (together < 1)
        together = 1;
    for (int64_t i = 0; i < layer->source_count; ++i) {
        const tp_source *s = layer->sources + i;
        if (is_lookup(s) || is_depthwise(s))
            continue;
        plans[i].window_starts = at;
        at += align(together * TP_STEPS * s->groups * (s->width + 1) * 4);
        plans[i].window_steps = at;
        at += align(together * s->groups * s->width * 4);
        plans[i].window_lists = at;
        at += align(together * TP_STEPS * plans[i].window_entries * 2);
    }
    *rows = together;
    return at + 64;
}

static int64_t within(int64_t value, int64_t low, int64_t high) { return value >= low && value <= high; }

/* True if all sizes are in range, so that no product below overflows and no kernel leaves its memory. */
static int64_t possible(const tp_layer *layer) {
    enum { SIZE = 1 << 24, STRIDE = 1 << 12 };
    if (!within(layer->source_count, 0, TP_SOURCES) || !within(layer->steps, 1, TP_STEPS) ||
        !within(layer->batch, 1, INT32_MAX) || !within(layer->height, 1, SIZE) || !within(layer->width, 1, SIZE) ||
        !within(layer->channels, TP_UNIT, SIZE) || layer->channels % TP_UNIT || !within(layer->blocks, 0, SIZE) ||
        !within(layer->rule, TP_ONE, TP_NEAREST) || !within(layer->factor_count, 1, TP_FACTORS) ||
        !within(layer->range_check_every, 1, SIZE) || !within(layer->threads, 1, STRIDE) ||
        (double)layer->batch * layer->height * layer->width * layer->channels > 1e15)
        return 0;
    for (int64_t i = 0; i < layer->source_count; ++i) {
        const tp_source *s = layer->sources + i;
        if (!within(s->kind, TP_GATHER, TP_GRADED) || !within(s->plane_count, 1, SIZE) ||
            !within(s->height, 1, SIZE) || !within(s->width, 1, SIZE) || !within(s->channels, TP_UNIT, SIZE) ||
            !within(s->groups, 1, SIZE) || s->channels % (s->groups * TP_UNIT) ||
            !within(s->kernel_y, 1, STRIDE) || !within(s->kernel_x, 1, SIZE) || !within(s->stride_y, 1, STRIDE) ||
            !within(s->stride_x, 1, STRIDE) || !within(s->padding_y, 0, STRIDE) || !within(s->padding_x, 0, STRIDE) ||
            !within(s->dilation_y, 1, STRIDE) || !within(s->dilation_x, 1, STRIDE))
            return 0;
        if (is_depthwise(s) && (s->channels != layer->channels || s->kernel_y * s->kernel_x > TP_TAPS))
            return 0;
        if (s->kind == TP_MASKED && s->kernel_y * s->kernel_x * s->plane_count > TP_TAPS)
            return 0;
        if (s->kind == TP_GRADED &&
            (!s->factors || ((s->kernel_x - 1) * s->dilation_x + 1) * s->kernel_y > TP_KEPT))
            return 0;
        if (is_lookup(s) && (s->channels != TP_UNIT || s->plane_count != 1 || s->kernel_y > TP_TALLEST))
            return 0;
        const int64_t gathers = s->kind == TP_GATHER || s->kind == TP_NARROW;
        /* entries have 16 bits, starts 32; plus one kernel width for the row of zeros */
        if (gathers && ((s->width + s->kernel_x) * s->kernel_y * (s->channels / s->groups) >= TP_LIST ||
                        layer->channels % s->groups ||
                        (double)s->width * s->channels * s->kernel_y * s->plane_count > INT32_MAX - 4096))
            return 0;
        if ((double)((s->kernel_y - 1) * s->dilation_y + 2) * s->width * s->channels * s->plane_count * 64 > 1e12 ||
            (double)((s->kernel_y - 1) * s->dilation_y + 2) *
                    ((double)layer->width * s->stride_x + (double)s->kernel_x * s->dilation_x) * 64 > 1e12)
            return 0;
    }
    for (int64_t b = 0; b < layer->blocks; ++b)
        if (!within(layer->block_units[b], 1, 4) || !within(layer->block_start[b], 0, layer->channels) ||
            layer->block_start[b] + layer->block_units[b] * TP_UNIT > layer->channels)
            return 0;
    return 1;
}

int64_t tp_scratch_bytes(const tp_layer *layer) {
    tp_plan plans[TP_SOURCES];
    int64_t rows;
    return possible(layer) ? tp_plan_scratch(layer, plans, &rows) * layer->threads : -1;
}

static int64_t thread(void) {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

int64_t tp_run(tp_layer *layer, void *scratch) {
    tp_plan plans[TP_SOURCES];
    int64_t together;
    if (!possible(layer))
        return -1;
    const int64_t bytes = tp_plan_scratch(layer, plans, &together), rows = layer->batch * layer->height;
    const int64_t threads = layer->threads;
    /* a task is a group of rows; if there are few rows, channels are split too */
    int64_t length = together > layer->height ? together : layer->height;
    if (length > (rows + 4 * threads - 1) / (4 * threads))
        length = (rows + 4 * threads - 1) / (4 * threads);
    const int64_t stretches = (rows + length - 1) / length;
    const int64_t parts = stretches >= threads || layer->blocks < 2 ? 1 : layer->blocks < threads ? layer->blocks : threads;
    int64_t ties = 0, beyond = 0;
#pragma omp parallel for schedule(dynamic, 1) num_threads((int)threads) reduction(+ : ties, beyond)
    for (int64_t task = 0; task < stretches * parts; ++task) {
        const int64_t first = task / parts * length, part = task % parts;
        const int64_t last = first + length < rows ? first + length : rows;
        kernels->rows(layer, (char *)scratch + thread() * bytes, first, last, part * layer->blocks / parts,
                      (part + 1) * layer->blocks / parts, &ties, &beyond);
    }
    layer->ties = ties;
    layer->beyond = beyond;
    return 0;
}

void tp_count(const uint32_t *words, const uint32_t *fan_out, int64_t batch, int64_t neurons, int64_t steps,
              int64_t threads, int64_t *spikes, int64_t *operations) {
#pragma omp parallel num_threads((int)(threads < 1 ? 1 : threads))
    {
        int64_t sent[TP_STEPS] = {0}, done[TP_STEPS] = {0};
#pragma omp for schedule(static)
        for (int64_t sample = 0; sample < batch; ++sample)
            kernels->count(words + sample * neurons, fan_out, neurons, steps, sent, done);
#pragma omp critical(tp_count)
        for (int64_t t = 0; t < steps; ++t)
            spikes[t] += sent[t], operations[t] += done[t];
    }
}

enum { PART = 1 << 14 };

void tp_unpack(const uint32_t *words, int64_t count, int64_t first, int64_t steps, int64_t threads, float *values) {
#pragma omp parallel for schedule(static) num_threads((int)(threads < 1 ? 1 : threads))
    for (int64_t start = 0; start < count; start += PART)
        kernels->unpack(words + start, start + PART < count ? PART : count - start, first, steps, values + start, count);
}

void tp_sum_positions(const uint32_t *words, int64_t batch, int64_t positions, int64_t channels, int64_t steps,
                      int64_t threads, float *sums) {
#pragma omp parallel for schedule(static) num_threads((int)(threads < 1 ? 1 : threads))
    for (int64_t sample = 0; sample < batch; ++sample)
        kernels->sum_positions(words + sample * positions * channels, positions, channels, steps,
                               sums + sample * channels, batch * channels);
}

void tp_pool_max(const uint32_t *words, const int64_t *taps, int64_t batch, int64_t inputs, int64_t outputs,
                 int64_t window, int64_t channels, int64_t steps, int64_t threads, int32_t *counts, int32_t *largest,
                 uint32_t *out) {
#pragma omp parallel for schedule(static) num_threads((int)(threads < 1 ? 1 : threads))
    for (int64_t sample = 0; sample < batch; ++sample) {
        int32_t *count = counts + sample * inputs * channels;
        const uint32_t *word = words + sample * inputs * channels;
        kernels->pool_max(word, taps, outputs, window, channels, steps, count,
                          largest + sample * outputs * channels, out + sample * outputs * channels);
        for (int64_t i = 0; i < inputs * channels; ++i)
            count[i] += __builtin_popcount(word[i]);
    }
}

void tp_first_spikes(const float *charge, int64_t n, const float *slot_thresholds, const float *levels, int64_t count,
                     const int32_t *first, int64_t low, int64_t entries, int64_t shift, int64_t threads, float *out) {
#pragma omp parallel for schedule(static) num_threads((int)(threads < 1 ? 1 : threads))
    for (int64_t start = 0; start < n; start += PART) {
        const int64_t part = start + PART < n ? PART : n - start;
        if (count <= TP_COMPARED)
            kernels->compare_bars(charge + start, part, slot_thresholds, levels, count, out + start);
        else
            kernels->look_up_bars(charge + start, part, slot_thresholds, levels, first, (int32_t)low, (int32_t)entries,
                                  (int32_t)shift, out + start);
    }
}

void tp_sigma_delta(tp_scan *scan) {
    const int64_t period = scan->period, parts = (period + TP_TOGETHER - 1) / TP_TOGETHER;
    const int64_t repeats = (scan->neurons + period - 1) / period;
    int64_t unclear = 0, broken = 0;
#pragma omp parallel for schedule(static) num_threads((int)(scan->threads < 1 ? 1 : scan->threads)) \
    reduction(+ : unclear) reduction(| : broken)
    for (int64_t k = 0; k < repeats * parts; ++k) {
        const int64_t own = k % parts * TP_TOGETHER, at = k / parts * period + own;
        const int64_t left = period - own < scan->neurons - at ? period - own : scan->neurons - at;
        if (left > 0)
            kernels->sigma_delta(scan, at, own, left < TP_TOGETHER ? left : TP_TOGETHER, &unclear, &broken);
    }
    scan->unclear = unclear, scan->broken = broken;
}

void tp_run_staircase(const tp_staircase *s) {
    const int64_t together = s->columns < PART ? PART / (s->columns < 1 ? 1 : s->columns) : 1;
#pragma omp parallel for schedule(static) num_threads((int)(s->threads < 1 ? 1 : s->threads))
    for (int64_t first = 0; first < s->rows; first += together)
        kernels->staircase(s, first, first + together < s->rows ? first + together : s->rows);
}

int64_t tp_entrance_scratch(const tp_entrance *e) {
    enum { SIZE = 1 << 24, STRIDE = 1 << 12 };
    if (!within(e->batch, 1, INT32_MAX) || !within(e->height, 1, SIZE) || !within(e->width, 1, SIZE) ||
        !within(e->channels, TP_UNIT, SIZE) || e->channels % TP_UNIT || !within(e->height_in, 1, SIZE) ||
        !within(e->width_in, 1, SIZE) || !within(e->channels_in, 1, SIZE) || !within(e->kernel_y, 1, STRIDE) ||
        !within(e->kernel_x, 1, STRIDE) || !within(e->stride_y, 1, STRIDE) || !within(e->stride_x, 1, STRIDE) ||
        !within(e->padding_y, 0, STRIDE) || !within(e->padding_x, 0, STRIDE) || !within(e->dilation_y, 1, STRIDE) ||
        !within(e->dilation_x, 1, STRIDE) || !within(e->threads, 1, STRIDE))
        return -1;
    const double columns = (double)(e->width - 1) * e->stride_x + (double)(e->kernel_x - 1) * e->dilation_x + 1;
    const double bytes = columns * e->kernel_y * e->channels_in * 8;
    return bytes < 1e9 ? align((int64_t)bytes) * e->threads : -1;
}

int64_t tp_run_entrance(const tp_entrance *e, void *scratch) {
    const int64_t bytes = tp_entrance_scratch(e) / (e->threads < 1 ? 1 : e->threads);
    if (bytes <= 0)
        return -1;
#pragma omp parallel for schedule(static) num_threads((int)e->threads)
    for (int64_t row = 0; row < e->batch * e->height; ++row)
        kernels->entrance(e, row, (double *)((char *)scratch + thread() * bytes));
    return 0;
}

void tp_round(tp_rounding *rounding) {
    int64_t unclear = 0;
#pragma omp parallel for schedule(static) num_threads((int)(rounding->threads < 1 ? 1 : rounding->threads)) \
    reduction(+ : unclear)
    for (int64_t at = 0; at < rounding->count; at += PART) {
        const int64_t left = rounding->count - at;
        unclear += kernels->round(rounding, at, left < PART ? left : PART);
    }
    rounding->unclear = unclear;
}

static int64_t possible_delta(const tp_delta *s) {
    enum { SIZE = 1 << 24, STRIDE = 1 << 12 };
    const int64_t sums = s->levels && !s->depthwise;
    if (!within(s->steps, 1, TP_DELTA_STEPS) || !within(s->all_steps, s->steps, SIZE) ||
        !within(s->added_steps, 0, s->wide || s->narrow ? s->steps : 0) || !within(s->batch, 1, INT32_MAX) || !within(s->height, 1, SIZE) ||
        !within(s->width, 1, SIZE) || !within(s->channels, 1, SIZE) || !within(s->threads, 1, STRIDE) ||
        (double)s->batch * s->height * s->width * s->channels * s->all_steps > 1e15)
        return 0;
    if (s->out && !s->estimate && !s->fresh)
        return 0;
    if (s->passed && !s->factors)
        return 0;
    if (!s->levels)
        return s->kernel_y == 1 && s->kernel_x == 1;
    return within(s->height_in, 1, SIZE) && within(s->width_in, 1, SIZE) && within(s->channels_in, 1, SIZE) &&
           within(s->kernel_y, 1, STRIDE) && within(s->kernel_x, 1, STRIDE) && within(s->stride_y, 1, STRIDE) &&
           within(s->stride_x, 1, STRIDE) && within(s->padding_y, 0, STRIDE) && within(s->padding_x, 0, STRIDE) &&
           within(s->dilation_y, 1, STRIDE) && within(s->dilation_x, 1, STRIDE) && !(sums && s->channels_in % 2) &&
           (!s->depthwise || (s->channels == s->channels_in && s->kernel_y * s->kernel_x <= TP_TAPS)) &&
           (double)s->batch * s->height_in * s->width_in * s->channels_in * s->all_steps < 1e15 &&
           (double)s->kernel_y * s->dilation_y * s->kernel_x * s->dilation_x * s->channels_in * TP_DELTA_STEPS < 1e8;
}

/* As many outputs as the lists of their inputs stay in the cache, at least one. */
static tp_delta_plan plan_delta(const tp_delta *s) {
    enum { CACHE = 256 << 10, ACROSS = 16, DOWN = 4, SIDE = 8 };
    const int64_t spot = s->kernel_y * s->kernel_x == 1, lists = s->levels && !s->depthwise;
    tp_delta_plan p = {.rows = spot ? 1 : DOWN, .columns = spot ? ACROSS : SIDE};
    int64_t inputs = 0, entries = 0;
    for (;;) {
        inputs = ((p.rows - 1) * s->stride_y + (s->kernel_y - 1) * s->dilation_y + 1) *
                 ((p.columns - 1) * s->stride_x + (s->kernel_x - 1) * s->dilation_x + 1);
        entries = lists ? s->steps * inputs * (s->channels_in / 2) : 0;
        if (entries * 8 <= CACHE || (p.rows == 1 && p.columns == 1))
            break;
        if (p.columns >= p.rows)
            p.columns = (p.columns + 1) / 2;
        else
            p.rows = (p.rows + 1) / 2;
    }
    p.tiles = s->batch * ((s->height + p.rows - 1) / p.rows) * ((s->width + p.columns - 1) / p.columns);
    int64_t at = 0;
    p.entries = at, at += align((entries + TP_UNIT) * 4); /* a vector more is written, and not read */
    p.numbers = at, at += align((entries + TP_UNIT) * 4);
    p.starts = at, at += align(lists ? (s->steps * inputs + 1) * 8 : 0);
    p.sums = at, at += align(s->steps * TP_DELTA_BLOCK * 4);
    p.heard = at, at += align(s->steps);
    p.pairs = at, at += align(lists ? (inputs * (s->channels_in / 2) + TP_UNIT) * 4 : 0);
    p.begins = at, at += align(lists ? (inputs + 1) * 8 : 0);
    p.inputs = at, at += align(lists ? inputs * (int64_t)sizeof(void *) : 0);
    p.bytes = at + 64;
    return p;
}

int64_t tp_delta_scratch(const tp_delta *layer) {
    return possible_delta(layer) ? plan_delta(layer).bytes * layer->threads : -1;
}

int64_t tp_run_delta(tp_delta *layer, void *scratch) {
    if (!possible_delta(layer))
        return -1;
    const tp_delta_plan plan = plan_delta(layer);
    int64_t broken = 0;
    if (layer->totals)
        memset(layer->totals, 0, (size_t)layer->steps * TP_DELTA_TOTALS * sizeof *layer->totals);
#pragma omp parallel num_threads((int)layer->threads) reduction(| : broken)
    {
        int64_t totals[TP_DELTA_TOTALS * TP_DELTA_STEPS] = {0};
#pragma omp for schedule(dynamic, 1)
        for (int64_t number = 0; number < plan.tiles; ++number)
            kernels->delta(layer, &plan, number, (char *)scratch + thread() * plan.bytes, totals, &broken);
#pragma omp critical(tp_delta)
        for (int64_t i = 0; layer->totals && i < TP_DELTA_TOTALS * layer->steps; ++i)
            layer->totals[i] += totals[i];
    }
    layer->broken = broken;
    return 0;
}
