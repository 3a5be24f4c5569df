/* The kernels, written with vector extensions of the compiler; compiled once for every instruction set.
 *
 * A layer is computed output by output ("output stationary"), for one position and up to 64 channels at a time. Time is the
 * innermost loop: first every step adds the weight rows of the inputs that fired to its currents, which stay in the fastest
 * cache; then the neurons integrate them, with potentials in registers.
 */
#include <stddef.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "kernel.h"

#ifndef TP_LANES
#define TP_LANES 4 /* SSE2, NEON */
#endif
#ifndef TP_NAME
#define TP_NAME tp_kernels_baseline
#endif
#ifndef TP_SIGMA_DELTA
#define TP_SIGMA_DELTA tp_sigma_delta_baseline
#define TP_DELTA tp_delta_baseline
#define TP_ENTRANCE tp_entrance_baseline
#define TP_STAIRCASE tp_staircase_baseline
#define TP_ROUND tp_round_baseline
#endif

#define VECTORS (TP_UNIT / TP_LANES) /* per unit */
#define TP_CHAINS 4 /* vectors of neurons whose steps overlap */
#define INLINE static inline __attribute__((always_inline))
#define NEVER_INLINE __attribute__((noinline))
/* The compiler moves no load across: it would start more loads of a loop than there are registers. */
#define IN_ORDER __asm__ volatile("" ::: "memory")

typedef float vf __attribute__((vector_size(4 * TP_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * TP_LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * TP_LANES)));
typedef uint8_t b32 __attribute__((vector_size(32)));
typedef uint64_t q32 __attribute__((vector_size(32)));
typedef uint32_t w4 __attribute__((vector_size(16)));
typedef uint32_t w8 __attribute__((vector_size(32)));
typedef uint16_t h16 __attribute__((vector_size(16)));
typedef uint16_t h32 __attribute__((vector_size(32)));
typedef uint16_t h64 __attribute__((vector_size(64)));

INLINE vf load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE vu load_words(const uint32_t *p) {
    vu v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void store(float *p, vf v) { memcpy(p, &v, sizeof v); }
INLINE void store_words(uint32_t *p, vu v) { memcpy(p, &v, sizeof v); }
INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* bytes[t] bit j = words[j] bit t, for eight neighbouring channels and 32 steps. */
INLINE void by_step(const uint32_t *words, uint8_t *bytes) {
    b32 x;
    q32 q, d;
    memcpy(&x, words, 32);
    x = __builtin_shufflevector(x, x, 0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29, 2, 6, 10, 14, 18, 22,
                                26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
    memcpy(&q, &x, 32); /* lane k: byte j = steps 8k … 8k+7 of channel j; now transpose its 8 × 8 bits */
    d = (q ^ (q >> 7)) & 0x00AA00AA00AA00AAu;
    q ^= d ^ (d << 7);
    d = (q ^ (q >> 14)) & 0x0000CCCC0000CCCCu;
    q ^= d ^ (d << 14);
    d = (q ^ (q >> 28)) & 0x00000000F0F0F0F0u;
    q ^= d ^ (d << 28);
    memcpy(bytes, &q, 32);
}

/* The same for the first step only. */
INLINE void by_one_step(const uint32_t *words, uint8_t *bytes) {
#ifdef __AVX2__
    bytes[0] = (uint8_t)_mm256_movemask_ps(
        _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256((const __m256i *)words), 31)));
#else
    uint32_t found = 0;
    for (int j = 0; j < 8; ++j)
        found |= (words[j] & 1) << j;
    bytes[0] = (uint8_t)found;
#endif
}

/* ---- lists ---------------------------------------------------------------------------------------------------- */

enum { FEW_STEPS = 16 }; /* with events, out of 32: then it is faster to find them than to go through all steps */

/* The steps in which any channel of a unit fired. */
INLINE uint32_t steps_of(const uint32_t *words) {
    vu some = load_words(words);
    for (int v = 1; v < VECTORS; ++v)
        some |= load_words(words + v * TP_LANES);
    uint64_t parts[2];
#if TP_LANES == 16
    const w8 halves = __builtin_shufflevector(some, some, 0, 1, 2, 3, 4, 5, 6, 7) |
                      __builtin_shufflevector(some, some, 8, 9, 10, 11, 12, 13, 14, 15);
#elif TP_LANES == 8
    const w8 halves = some;
#endif
#if TP_LANES > 4
    const w4 quarters = __builtin_shufflevector(halves, halves, 0, 1, 2, 3) |
                        __builtin_shufflevector(halves, halves, 4, 5, 6, 7);
    memcpy(parts, &quarters, sizeof quarters);
#else
    memcpy(parts, &some, sizeof some);
#endif
    const uint64_t any = parts[0] | parts[1];
    return (uint32_t)(any | any >> 32);
}

/* Append the channels of a unit that fired in step t. */
INLINE void list_unit(uint8_t bytes[2][TP_STEPS], int64_t t, h16 low, h16 high, uint16_t *list, int32_t *at) {
    const uint8_t a = bytes[0][t], b = bytes[1][t];
    uint16_t *to = list + *at;
    h16 first, second;
    memcpy(&first, tp_expand[a], 16);
    memcpy(&second, tp_expand[b], 16);
    first += low;
    second += high;
    memcpy(to, &first, 16);
    memcpy(to + tp_bits[a], &second, 16);
    *at += tp_bits[a] + tp_bits[b];
}

/* The lists of one row of pixels: for every step, the channels that fired, pixel by pixel and group by group. */
static void list_pixels(const tp_source *s, const tp_plan *plan, char *scratch, int64_t slot, int64_t sample,
                        int64_t row, int64_t steps) {
    uint16_t *list = (uint16_t *)(scratch + plan->pixel_lists) + slot * TP_STEPS * plan->pixel_entries;
    const int64_t width = s->width * s->groups, group = s->channels / s->groups;
    int32_t *starts = (int32_t *)(scratch + plan->pixel_starts) + slot * TP_STEPS * (width + 1);
    uint32_t *steps_with_events = (uint32_t *)(scratch + plan->pixel_steps) + slot * width;
    const uint32_t every = ~(uint32_t)0 >> (TP_STEPS - steps);
    int32_t at[TP_STEPS] = {0};
    for (int64_t x = 0; x < s->width; ++x)
        for (int64_t g = 0; g < s->groups; ++g) {
            uint32_t active = 0;
            memcpy(starts + (x * s->groups + g) * TP_STEPS, at, sizeof at);
            for (int64_t p = 0; p < s->plane_count; ++p) {
                const uint32_t *words = s->planes[p] + sample * s->sample_words + row * s->row_words +
                                        x * s->column_words + g * group;
                for (int64_t c = 0; c < group; c += TP_UNIT) {
                    uint8_t bytes[2][TP_STEPS];
                    uint32_t some = steps_of(words + c) & every;
                    active |= some;
                    if (!some)
                        continue;
                    if (steps == 1) {
                        by_one_step(words + c, bytes[0]);
                        by_one_step(words + c + 8, bytes[1]);
                    } else {
                        by_step(words + c, bytes[0]);
                        by_step(words + c + 8, bytes[1]);
                    }
                    const uint16_t c16 = (uint16_t)c;
                    const h16 low = {c16, c16, c16, c16, c16, c16, c16, c16}, high = low + 8;
                    if (__builtin_popcount(some) > FEW_STEPS)
                        for (int64_t t = 0; t < steps; ++t)
                            list_unit(bytes, t, low, high, list + t * plan->pixel_entries, at + t);
                    else
                        for (; some; some &= some - 1) {
                            const int64_t t = __builtin_ctz(some);
                            list_unit(bytes, t, low, high, list + t * plan->pixel_entries, at + t);
                        }
                }
            }
            steps_with_events[x * s->groups + g] = active;
        }
    memcpy(starts + width * TP_STEPS, at, sizeof at);
}

/* Append the entries of a pixel in one step. Whole vectors: surplus elements are overwritten or never read. */
INLINE void list_pixel(const uint16_t *source, int32_t entries, h32 offset, uint16_t *list, int32_t *at) {
    uint16_t *to = list + *at;
    int32_t i = 0;
    do {
        h32 some;
        memcpy(&some, source + i, 32);
        some += offset;
        memcpy(to + i, &some, 32);
        i += 16;
    } while (i < entries);
    *at += entries;
}

/* Join the lists of the rows that a window spans, column by column, so that a window is one stretch of the list.
 * Columns come in the order of their residue modulo the dilation. An entry is (column · kernel_y + ky) · group + c. */
static void list_windows(const tp_source *s, const tp_plan *plan, char *scratch, int64_t index, int64_t sample,
                         int64_t row, int64_t steps) {
    const int64_t group = s->channels / s->groups, width = s->width * s->groups;
    const int64_t *columns = (const int64_t *)(scratch + plan->columns);
    int64_t *tags = (int64_t *)(scratch + plan->tags);
    uint16_t *list = (uint16_t *)(scratch + plan->window_lists) + index * TP_STEPS * plan->window_entries;
    int32_t *starts = (int32_t *)(scratch + plan->window_starts) + index * TP_STEPS * s->groups * (s->width + 1);
    uint32_t *window_steps = (uint32_t *)(scratch + plan->window_steps) + index * s->groups * s->width;
    int32_t at[TP_STEPS] = {0};
    const int64_t top = row * s->stride_y - s->padding_y;
    for (int64_t ky = 0; ky < s->kernel_y; ++ky) {
        const int64_t y = top + ky * s->dilation_y, slot = y % plan->slots;
        if (y >= 0 && y < s->height && tags[slot] != sample * s->height + y) {
            list_pixels(s, plan, scratch, slot, sample, y, steps);
            tags[slot] = sample * s->height + y;
        }
    }
    for (int64_t g = 0; g < s->groups; ++g) {
        for (int64_t j = 0; j < s->width; ++j) {
            uint32_t steps_of_column = 0;
            memcpy(starts + (g * (s->width + 1) + j) * TP_STEPS, at, sizeof at);
            for (int64_t ky = 0; ky < s->kernel_y; ++ky) {
                const int64_t y = top + ky * s->dilation_y, slot = y % plan->slots;
                if (y < 0 || y >= s->height)
                    continue;
                const uint16_t *from =
                    (const uint16_t *)(scratch + plan->pixel_lists) + slot * TP_STEPS * plan->pixel_entries;
                const int32_t *pixel = (const int32_t *)(scratch + plan->pixel_starts) +
                                       (slot * (width + 1) + columns[j] * s->groups + g) * TP_STEPS;
                const uint16_t shift = (uint16_t)((j * s->kernel_y + ky) * group);
                const h32 offset = {shift, shift, shift, shift, shift, shift, shift, shift,
                                    shift, shift, shift, shift, shift, shift, shift, shift};
                uint32_t active = ((const uint32_t *)(scratch + plan->pixel_steps))[slot * width + columns[j] * s->groups + g];
                steps_of_column |= active;
                if (__builtin_popcount(active) > FEW_STEPS)
                    for (int64_t t = 0; t < steps; ++t)
                        list_pixel(from + t * plan->pixel_entries + pixel[t], pixel[TP_STEPS + t] - pixel[t], offset,
                                   list + t * plan->window_entries, at + t);
                else
                    for (; active; active &= active - 1) {
                        const int64_t t = __builtin_ctz(active);
                        list_pixel(from + t * plan->pixel_entries + pixel[t], pixel[TP_STEPS + t] - pixel[t], offset,
                                   list + t * plan->window_entries, at + t);
                    }
            }
            window_steps[g * s->width + j] = steps_of_column;
        }
        memcpy(starts + (g * (s->width + 1) + s->width) * TP_STEPS, at, sizeof at);
    }
}

/* The rows of spikes of a look-up source as numbers of table rows, [column with borders][half of the 16 channels][step]:
 * a byte of spikes times TP_UNIT, so that the address of a row of outputs needs no shift. */
static void list_places(const tp_source *s, const tp_plan *plan, char *scratch, int64_t sample, int64_t row,
                        int64_t steps, int by_active_step) {
    int64_t *tags = (int64_t *)(scratch + plan->tags);
    for (int64_t ky = 0; ky < s->kernel_y; ++ky) {
        const int64_t y = row * s->stride_y - s->padding_y + ky * s->dilation_y, slot = y % plan->slots;
        if (y < 0 || y >= s->height || tags[slot] == sample * s->height + y)
            continue;
        tags[slot] = sample * s->height + y;
        uint16_t *places = (uint16_t *)(scratch + plan->pixel_lists) + (slot + 1) * plan->padded_width * 2 * TP_STEPS;
        const uint32_t *words = s->planes[0] + sample * s->sample_words + y * s->row_words;
        uint32_t *pixel_steps = (uint32_t *)(scratch + plan->pixel_steps) + (slot + 1) * plan->padded_width;
        for (int64_t x = 0; x < least(s->width, plan->padded_width - s->padding_x); ++x) {
            if (by_active_step)
                pixel_steps[s->padding_x + x] = steps_of(words + x * s->column_words);
            for (int64_t half = 0; half < 2; ++half) {
                const uint32_t *from = words + x * s->column_words + 8 * half;
                uint16_t *to = places + ((s->padding_x + x) * 2 + half) * TP_STEPS;
                uint8_t bytes[TP_STEPS];
                if (steps == 1) {
                    by_one_step(from, bytes);
                    to[0] = (uint16_t)(bytes[0] * TP_UNIT);
                } else {
                    b32 all;
                    by_step(from, bytes);
                    memcpy(&all, bytes, sizeof all);
                    const h64 wide = __builtin_convertvector(all, h64) * TP_UNIT;
                    memcpy(to, &wide, sizeof wide);
                }
            }
        }
    }
}

/* ---- one position --------------------------------------------------------------------------------------------- */

/* The inputs of one position from one source. */
typedef struct {
    int64_t kind;
    uint32_t active; /* the steps in which anything may have fired; only for the rules of levels.h */
    /* gather: where the window's entries begin and end in every step, and row 0 of its weights */
    const int32_t *begin, *end;
    const uint16_t *list;
    int64_t entries, nothing; /* nothing: the entry of the row of zeros */
    int64_t group, row_of_weights, first_weight;
    const float *weights;
    const int16_t *narrow;
    const float *unit;
    const int32_t *starts;            /* gather: of the row of windows */
    const uint32_t *column_steps;     /* gather: the steps with events of every column */
    const int64_t *index_of;          /* gather: column → its index in the list */
    const uint16_t *rows[TP_TALLEST];  /* look-up: the places of the window's rows, */
    const uint16_t *lines[TP_TALLEST]; /* starting at its left end, */
    const uint32_t *steps[TP_TALLEST]; /* and the steps with events of every column */
    const tp_source *source;
    int64_t taps; /* masked: the taps of all planes that lie inside, and their weights */
    const uint32_t *pixels[TP_TAPS];
    const float *tap_weights[TP_TAPS];
    const float *levels[TP_TAPS]; /* graded: of the taps that lie inside, in the ring of kept columns */
    float *ring;
    int64_t *kept; /* the column in each place of the ring */
    int64_t span;  /* steps */
} place;

/* acc += the weights of the inputs that fired. Four at a time; the last group is padded with rows of zeros, because a
 * mispredicted end of the loop costs more than an addition. */
#define DEFINE_GATHER(UNITS)                                                                                       \
    INLINE void add_rows_##UNITS(vf *acc, const float *weights, int64_t i, int64_t j, int64_t k, int64_t l) {      \
        enum { N = UNITS * VECTORS, ROW = UNITS * TP_UNIT };                                                       \
        const float *a = weights + i * ROW, *b = weights + j * ROW, *c = weights + k * ROW, *d = weights + l * ROW; \
        for (int v = 0; v < N; ++v)                                                                                \
            acc[v] += (load(a + v * TP_LANES) + load(b + v * TP_LANES)) +                                          \
                      (load(c + v * TP_LANES) + load(d + v * TP_LANES));                                           \
    }                                                                                                              \
    INLINE void gather_##UNITS(vf *acc, const place *p, int64_t t) {                                               \
        const uint16_t *list = p->list + t * p->entries;                                                           \
        int64_t i = p->begin[t];                                                                                   \
        const int64_t end = p->end[t], none = p->nothing;                                                          \
        if (i >= end)                                                                                              \
            return;                                                                                                \
        for (; i + 4 < end; i += 4)                                                                                \
            add_rows_##UNITS(acc, p->weights, list[i], list[i + 1], list[i + 2], list[i + 3]);                     \
        add_rows_##UNITS(acc, p->weights, list[i], i + 1 < end ? list[i + 1] : none,                               \
                         i + 2 < end ? list[i + 2] : none, i + 3 < end ? list[i + 3] : none);                      \
    }

/* acc += one row of a table for every eight channels of every tap. The offset of a table is a constant of the load and
 * that of its row is scaled by it: address arithmetic would otherwise cost more than the additions. */
#define DEFINE_LOOKUP(UNITS)                                                                                       \
    INLINE void lookup_taps_##UNITS(vf *acc, const uint16_t *const *lines, const float *weights,                   \
                                    const float *unit, int64_t t, const int64_t kernel_y, const int64_t kernel_x,  \
                                    const int64_t dilation) {                                                      \
        enum { N = UNITS * VECTORS, ROW = UNITS * TP_UNIT };                                                       \
        (void)unit;                                                                                                \
        for (int64_t ky = 0; ky < kernel_y; ++ky) {                                                                \
            const uint16_t *line = lines[ky] + t;                                                                  \
            const float *table = weights + ky * kernel_x * 2 * TP_TABLE * ROW;                                     \
            vf sum[N];                                                                                             \
            for (int v = 0; v < N; ++v)                                                                            \
                sum[v] = load(table + (uint64_t)line[0] * UNITS + v * TP_LANES) +                                  \
                         load(table + (uint64_t)line[TP_STEPS] * UNITS + (TP_TABLE * ROW + v * TP_LANES));         \
            for (int64_t kx = 1; kx < kernel_x; ++kx) {                                                            \
                const uint64_t first = (uint64_t)line[kx * dilation * 2 * TP_STEPS] * UNITS;                       \
                const uint64_t second = (uint64_t)line[(kx * dilation * 2 + 1) * TP_STEPS] * UNITS;                \
                for (int v = 0; v < N; ++v)                                                                        \
                    sum[v] += load(table + first + (kx * 2 * TP_TABLE * ROW + v * TP_LANES)) +                     \
                              load(table + second + ((kx * 2 + 1) * TP_TABLE * ROW + v * TP_LANES));               \
            }                                                                                                      \
            for (int v = 0; v < N; ++v)                                                                            \
                acc[v] += sum[v];                                                                                  \
        }                                                                                                          \
    }                                                                                                              \
    INLINE void lookup_##UNITS(vf *acc, const place *p, int64_t t) {                                               \
        const tp_source *s = p->source;                                                                            \
        if (s->kernel_y == 3 && s->kernel_x == 3 && s->dilation_x == 1)                                            \
            lookup_taps_##UNITS(acc, p->lines, p->weights, NULL, t, 3, 3, 1); /* for loop unrolling */             \
        else                                                                                                       \
            lookup_taps_##UNITS(acc, p->lines, p->weights, NULL, t, s->kernel_y, s->kernel_x, s->dilation_x);      \
    }

/* acc += weights where the same channel fired: depthwise convolutions and shortcuts. */
#define DEFINE_MASKED(UNITS)                                                                                       \
    INLINE void masked_##UNITS(vf *acc, const place *p, int64_t t) {                                               \
        enum { N = UNITS * VECTORS };                                                                              \
        const uint32_t bit = (uint32_t)1 << t;                                                                     \
        for (int64_t k = 0; k < p->taps; ++k)                                                                      \
            for (int v = 0; v < N; ++v) {                                                                          \
                const vi fired = (load_words(p->pixels[k] + v * TP_LANES) & bit) != 0;                             \
                acc[v] += (vf)((vi)load(p->tap_weights[k] + v * TP_LANES) & fired);                                \
            }                                                                                                      \
    }

#include "narrow.h"
#include "graded.h"

/* The source's window for one output of the row that find_row prepared. */
INLINE void find_column(place *p, int64_t sample, int64_t row, int64_t column, int64_t block, int64_t channel,
                        int64_t block_units, const int by_active_step) {
    const tp_source *s = p->source;
    if (is_lookup(s)) {
        p->active = 0;
        for (int64_t ky = 0; ky < s->kernel_y; ++ky) {
            p->lines[ky] = p->rows[ky] + column * s->stride_x * 2 * TP_STEPS;
            for (int64_t kx = 0; by_active_step && kx < s->kernel_x; ++kx)
                p->active |= p->steps[ky][column * s->stride_x + kx * s->dilation_x];
        }
        return;
    }
    if (s->kind == TP_GRADED) {
        find_graded(p, sample, row, column, channel, block_units * TP_UNIT);
        return;
    }
    if (s->kind == TP_MASKED) {
        p->taps = 0;
        for (int64_t ky = 0; ky < s->kernel_y; ++ky)
            for (int64_t kx = 0; kx < s->kernel_x; ++kx) {
                const int64_t y = row * s->stride_y - s->padding_y + ky * s->dilation_y;
                const int64_t x = column * s->stride_x - s->padding_x + kx * s->dilation_x;
                if (y < 0 || y >= s->height || x < 0 || x >= s->width)
                    continue;
                const float *weights = (const float *)s->weights + s->block_weights[block];
                for (int64_t plane = 0; plane < s->plane_count; ++plane, ++p->taps) {
                    p->tap_weights[p->taps] = weights + (ky * s->kernel_x + kx) * block_units * TP_UNIT;
                    p->pixels[p->taps] = s->planes[plane] + sample * s->sample_words + y * s->row_words +
                                         x * s->column_words + channel;
                }
            }
        return;
    }
    const int64_t left = column * s->stride_x - s->padding_x;
    int64_t first = 0, last = s->kernel_x; /* taps inside the row */
    while (first < last && left + first * s->dilation_x < 0)
        ++first;
    while (last > first && left + (last - 1) * s->dilation_x >= s->width)
        --last;
    const int64_t begin = first < last ? p->index_of[left + first * s->dilation_x] : 0;
    p->begin = p->starts + begin * TP_STEPS;
    p->end = p->begin + (last - first) * TP_STEPS;
    p->active = 0;
    for (int64_t k = begin; by_active_step && k < begin + last - first; ++k)
        p->active |= p->column_steps[k];
    const int64_t shift = (begin - first) * s->kernel_y * p->group; /* the entry of the window's first input */
    p->nothing = shift + s->kernel_x * s->kernel_y * p->group;
    const int64_t at = p->first_weight - shift * p->row_of_weights;
    if (s->kind == TP_NARROW)
        p->narrow = (const int16_t *)s->weights + at;
    else
        p->weights = (const float *)s->weights + at;
}

INLINE vf magnitude(vf v) { return (vf)((vi)v & 0x7fffffff); }

/* Neurons of one vector: their currents of step t are at currents[t * stride]. */
typedef struct {
    const vf *currents;
    const float *threshold, *room;
    const float *before; /* the potentials, and where they are stored, or NULL */
    float *after;
    uint32_t *words;
} neurons;

/* All steps of `count` vectors of neurons, whose chains of additions and comparisons overlap. */
INLINE void fire_all(const tp_layer *layer, const neurons *n, const int count, const int64_t stride, uint32_t check,
                     vi *near_ties, vi *beyond, const int hard_reset, const int count_ties) {
    vf v[TP_CHAINS], theta[TP_CHAINS];
    vu fired[TP_CHAINS], bit = {0};
    bit += 1;
    for (int i = 0; i < count; ++i) {
        v[i] = load(n[i].before);
        theta[i] = load(n[i].threshold);
        fired[i] = (vu){0};
    }
    for (int64_t t = 0; t < layer->steps; ++t) {
        for (int i = 0; i < count; ++i) {
            v[i] += n[i].currents[t * stride];
            const vi spike = v[i] >= theta[i];
            if (count_ties)
                near_ties[0] -= magnitude(v[i] - theta[i]) < 1e-5f * theta[i];
            fired[i] |= (vu)spike & bit;
            v[i] = hard_reset ? (vf)((vi)v[i] & ~spike) : v[i] - (vf)((vi)theta[i] & spike);
        }
        bit += bit;
        if (check >> t & 1)
            for (int i = 0; i < count; ++i)
                *beyond |= magnitude(v[i]) > load(n[i].room);
    }
    for (int i = 0; i < count; ++i) {
        if (n[i].after)
            store(n[i].after, v[i]);
        store_words(n[i].words, fired[i]);
    }
}

INLINE void fire(const tp_layer *layer, const neurons *n, const int count, const int64_t stride, uint32_t check,
                 vi *near_ties, vi *beyond) {
    if (layer->hard_reset || layer->count_ties)
        fire_all(layer, n, count, stride, check, near_ties, beyond, layer->hard_reset != 0, layer->count_ties != 0);
    else /* no branches inside the loop */
        fire_all(layer, n, count, stride, check, near_ties, beyond, 0, 0);
}

/* A kernel's currents of all steps; each adds to those of the sources before it. It is a function of its own, so that
 * the compiler has all registers for it. */
#define DEFINE_STEPS(KERNEL, UNITS)                                                                                \
    static NEVER_INLINE void KERNEL##_steps_##UNITS(const place *p, int64_t steps, const vf *before,               \
                                                    int64_t before_stride, vf *after, int64_t stride) {            \
        enum { N = UNITS * VECTORS };                                                                              \
        for (int64_t t = 0; t < steps; ++t) {                                                                      \
            vf now[N];                                                                                             \
            for (int i = 0; i < N; ++i)                                                                            \
                now[i] = before[t * before_stride + i];                                                            \
            KERNEL##_##UNITS(now, p, t);                                                                           \
            for (int i = 0; i < N; ++i)                                                                            \
                after[t * stride + i] = now[i];                                                                    \
        }                                                                                                          \
    }

/* The same for tables: windows of 3 × 3 have all addresses in registers, and no loops over taps. */
#define DEFINE_TABLE_STEPS(KERNEL, UNITS, WEIGHTS)                                                                 \
    static NEVER_INLINE void KERNEL##_steps_##UNITS(const place *p, int64_t steps, const vf *before,               \
                                                    int64_t before_stride, vf *after, int64_t stride) {            \
        enum { N = UNITS * VECTORS };                                                                              \
        const tp_source *s = p->source;                                                                            \
        const int square = s->kernel_y == 3 && s->kernel_x == 3 && s->dilation_x == 1;                             \
        const uint16_t *const lines[3] = {p->lines[0], p->lines[square ? 1 : 0], p->lines[square ? 2 : 0]};        \
        for (int64_t t = 0; t < steps; ++t) {                                                                      \
            vf now[N];                                                                                             \
            for (int i = 0; i < N; ++i)                                                                            \
                now[i] = before[t * before_stride + i];                                                            \
            if (square)                                                                                            \
                KERNEL##_taps_##UNITS(now, lines, p->WEIGHTS, p->unit, t, 3, 3, 1);                                \
            else                                                                                                   \
                KERNEL##_##UNITS(now, p, t);                                                                       \
            for (int i = 0; i < N; ++i)                                                                            \
                after[t * stride + i] = now[i];                                                                    \
        }                                                                                                          \
    }

/* All steps of neighbouring positions and one block of channels: first the currents of all steps, then the neurons, whose
 * potentials and thresholds then stay in registers while the steps of several vectors overlap. */
#define DEFINE_POSITION(UNITS)                                                                                     \
    DEFINE_GATHER(UNITS)                                                                                           \
    DEFINE_NARROW(UNITS)                                                                                           \
    DEFINE_LOOKUP(UNITS)                                                                                           \
    DEFINE_MASKED(UNITS)                                                                                           \
    DEFINE_GRADED(UNITS)                                                                                           \
    DEFINE_STEPS(gather, UNITS)                                                                                    \
    DEFINE_STEPS(gather_narrow, UNITS)                                                                             \
    DEFINE_TABLE_STEPS(lookup, UNITS, weights)                                                                     \
    DEFINE_TABLE_STEPS(lookup_narrow, UNITS, narrow)                                                               \
    DEFINE_STEPS(masked, UNITS)                                                                                    \
    DEFINE_STEPS(graded, UNITS)                                                                                    \
    static void currents_##UNITS(const tp_layer *layer, const place *places, const float *constant, vf *currents,  \
                                 int64_t stride) {                                                                 \
        enum { N = UNITS * VECTORS };                                                                              \
        vf own[N];                                                                                                 \
        for (int i = 0; i < N; ++i)                                                                                \
            own[i] = load(constant + i * TP_LANES);                                                                \
        if (!layer->source_count)                                                                                  \
            for (int64_t t = 0; t < layer->steps; ++t)                                                             \
                for (int i = 0; i < N; ++i)                                                                        \
                    currents[t * stride + i] = own[i];                                                             \
        for (int64_t s = 0; s < layer->source_count; ++s) {                                                        \
            const vf *before = s ? currents : own;                                                                 \
            const int64_t before_stride = s ? stride : 0;                                                          \
            if (places[s].kind == TP_NARROW)                                                                       \
                gather_narrow_steps_##UNITS(places + s, layer->steps, before, before_stride, currents, stride);    \
            else if (places[s].kind == TP_GATHER)                                                                  \
                gather_steps_##UNITS(places + s, layer->steps, before, before_stride, currents, stride);           \
            else if (places[s].kind == TP_LOOKUP)                                                                  \
                lookup_steps_##UNITS(places + s, layer->steps, before, before_stride, currents, stride);           \
            else if (places[s].kind == TP_NARROW_LOOKUP)                                                           \
                lookup_narrow_steps_##UNITS(places + s, layer->steps, before, before_stride, currents, stride);    \
            else if (places[s].kind == TP_GRADED)                                                                  \
                graded_steps_##UNITS(places + s, layer->steps, before, before_stride, currents, stride);           \
            else                                                                                                   \
                masked_steps_##UNITS(places + s, layer->steps, before, before_stride, currents, stride);           \
        }                                                                                                          \
    }                                                                                                              \
    static void positions_##UNITS(const tp_layer *layer, place *places, uint32_t check, int64_t sample, int64_t row, \
                                  int64_t block, int64_t channel, vi *near_ties, vi *beyond) {                     \
        enum { N = UNITS * VECTORS, TOGETHER = N < TP_CHAINS ? TP_CHAINS / N : 1, ALL = TOGETHER * N,              \
               CHAINS = ALL % TP_CHAINS ? 3 : TP_CHAINS };                                                         \
        vf currents[TP_STEPS * ALL];                                                                               \
        neurons n[ALL];                                                                                            \
        for (int64_t x = 0; x < layer->width; x += TOGETHER) {                                                     \
            const int count = (int)least(TOGETHER, layer->width - x);                                              \
            for (int k = 0; k < count; ++k) {                                                                      \
                const int64_t position = row * layer->width + x + k;                                               \
                const int64_t at = (sample * layer->height * layer->width + position) * layer->channels + channel; \
                for (int64_t i = 0; i < layer->source_count; ++i)                                                  \
                    find_column(places + i, sample, row, x + k, block, channel, UNITS, 0);                         \
                currents_##UNITS(layer, places, layer->constant + sample * layer->constant_sample +                \
                                 position * layer->constant_position + channel, currents + k * N, ALL);            \
                for (int i = 0; i < N; ++i) {                                                                      \
                    const int64_t lane = channel + i * TP_LANES;                                                   \
                    float *potential = layer->potential ? layer->potential + at + i * TP_LANES : NULL;             \
                    n[k * N + i] = (neurons){currents + k * N + i,                                                 \
                                             layer->threshold + position * layer->threshold_position + lane,       \
                                             layer->room + position * layer->room_position + lane,                 \
                                             layer->initial                                                        \
                                                 ? layer->initial + position * layer->initial_position + lane      \
                                                 : potential,                                                      \
                                             potential, layer->words + at + i * TP_LANES};                         \
                }                                                                                                  \
            }                                                                                                      \
            if (count == TOGETHER)                                                                                 \
                for (int i = 0; i < ALL; i += CHAINS)                                                              \
                    fire(layer, n + i, CHAINS, ALL, check, near_ties, beyond);                                     \
            else                                                                                                   \
                for (int i = 0; i < count * N; ++i)                                                                \
                    fire(layer, n + i, 1, ALL, check, near_ties, beyond);                                          \
        }                                                                                                          \
    }

DEFINE_POSITION(1)
DEFINE_POSITION(2)
DEFINE_POSITION(3)
DEFINE_POSITION(4)

#include "levels.h"

DEFINE_LEVELS(1)
DEFINE_LEVELS(2)
DEFINE_LEVELS(3)
DEFINE_LEVELS(4)

typedef void positions(const tp_layer *, place *, uint32_t, int64_t, int64_t, int64_t, int64_t, vi *, vi *);
static positions *const positions_of[2][4] = {{positions_1, positions_2, positions_3, positions_4},
                                              {levels_1, levels_2, levels_3, levels_4}};

/* ---- a group of rows  ----------------------------------------------------------------------------------------- */

/* Values that the windows of one output row share; precomputed, so that columns need no slow divisions. */
static void find_row(place *p, const tp_source *s, const tp_plan *plan, const char *scratch, int64_t index, int64_t row,
                     int64_t block, int64_t channel, int64_t block_units, int64_t layer_channels) {
    p->kind = s->kind;
    p->source = s;
    p->active = ~(uint32_t)0;
    if (is_depthwise(s))
        return;
    p->unit = s->kind == TP_NARROW || s->kind == TP_NARROW_LOOKUP ? s->units + channel : NULL;
    if (is_lookup(s)) {
        if (s->kind == TP_LOOKUP)
            p->weights = (const float *)s->weights + s->block_weights[block];
        else
            p->narrow = (const int16_t *)s->weights + s->block_weights[block];
        for (int64_t ky = 0; ky < s->kernel_y; ++ky) {
            const int64_t y = row * s->stride_y - s->padding_y + ky * s->dilation_y;
            const int64_t slot = y >= 0 && y < s->height ? y % plan->slots + 1 : 0; /* 0: a row of zeros */
            p->steps[ky] = (const uint32_t *)(scratch + plan->pixel_steps) + slot * plan->padded_width;
            p->rows[ky] = (const uint16_t *)(scratch + plan->pixel_lists) + slot * plan->padded_width * 2 * TP_STEPS;
        }
        return;
    }
    const int64_t group = s->channels / s->groups, g = channel / (layer_channels / s->groups);
    p->index_of = (const int64_t *)(scratch + plan->columns) + s->width;
    p->starts = (const int32_t *)(scratch + plan->window_starts) +
                (index * s->groups + g) * (s->width + 1) * TP_STEPS;
    p->column_steps = (const uint32_t *)(scratch + plan->window_steps) + (index * s->groups + g) * s->width;
    p->list = (const uint16_t *)(scratch + plan->window_lists) + index * TP_STEPS * plan->window_entries;
    p->entries = plan->window_entries;
    p->group = group;
    p->row_of_weights = block_units * TP_UNIT;
    p->first_weight = s->block_weights[block];
}

static void rows(tp_layer *layer, char *scratch, int64_t first, int64_t last, int64_t block, int64_t last_block,
                 int64_t *ties, int64_t *beyond) {
    tp_plan plans[TP_SOURCES];
    int64_t together;
    place places[TP_SOURCES];
    vi near_ties = {0}, too_far = {0};
    tp_plan_scratch(layer, plans, &together);
    uint32_t check = 0; /* the steps after which potentials are range-checked */
    for (int64_t t = 0; t < layer->steps; ++t)
        check |= (uint32_t)((layer->first_step + t + 1) % layer->range_check_every == 0) << t;
    for (int64_t i = 0; i < layer->source_count; ++i) {
        const tp_source *s = layer->sources + i;
        if (is_depthwise(s))
            continue;
        int64_t *tags = (int64_t *)(scratch + plans[i].tags);
        for (int64_t k = 0; k < plans[i].slots; ++k)
            tags[k] = -1;
        if (is_lookup(s)) {
            memset(scratch + plans[i].pixel_steps, 0, (size_t)((plans[i].slots + 1) * plans[i].padded_width * 4));
            memset(scratch + plans[i].pixel_lists, 0, (size_t)((plans[i].slots + 1) * plans[i].padded_width * 4 * TP_STEPS));
            continue;
        }
        int64_t *columns = (int64_t *)(scratch + plans[i].columns), *index_of = columns + s->width, j = 0;
        for (int64_t r = 0; r < s->dilation_x; ++r)
            for (int64_t x = r; x < s->width; x += s->dilation_x, ++j)
                columns[j] = x, index_of[x] = j;
    }
    for (int64_t start = first; start < last; start += together) {
        const int64_t stop = least(start + together, last);
        for (int64_t r = start; r < stop; ++r)
            for (int64_t i = 0; i < layer->source_count; ++i) {
                const tp_source *s = layer->sources + i;
                if (s->kind == TP_GATHER || s->kind == TP_NARROW)
                    list_windows(s, plans + i, scratch, r - start, r / layer->height, r % layer->height, layer->steps);
                else if (is_lookup(s))
                    list_places(s, plans + i, scratch, r / layer->height, r % layer->height, layer->steps,
                                layer->rule != TP_ONE);
            }
        for (int64_t b = block; b < last_block; ++b) {
            const int64_t channel = layer->block_start[b], units = layer->block_units[b];
            for (int64_t r = start; r < stop; ++r) {
                const int64_t sample = r / layer->height, row = r % layer->height;
                for (int64_t i = 0; i < layer->source_count; ++i) {
                    find_row(places + i, layer->sources + i, plans + i, scratch, r - start, row, b, channel, units,
                             layer->channels);
                    if (layer->sources[i].kind == TP_GRADED)
                        find_graded_row(places + i, layer->sources + i, plans + i, scratch, b, layer->steps);
                }
                positions_of[layer->rule != TP_ONE][units - 1](layer, places, check, sample, row, b, channel, &near_ties,
                                                               &too_far);
            }
        }
    }
    for (int i = 0; i < TP_LANES; ++i) {
        *ties += near_ties[i];
        *beyond |= too_far[i] != 0;
    }
}

/* ---- small kernels -------------------------------------------------------------------------------------------- */

static void count(const uint32_t *words, const uint32_t *fan_out, int64_t neurons, int64_t steps, int64_t *spikes,
                  int64_t *operations) {
    /* a lane of 32 bits holds the sum of 256 fan-outs below 2^24; few sums fit into registers */
    enum { PART = 256 * TP_LANES, FEW = TP_LANES < 16 ? 4 : 8 };
    for (int64_t start = 0; start < neurons; start += PART) {
        const int64_t stop = least(start + PART, neurons), whole = start + (stop - start) / TP_LANES * TP_LANES;
        for (int64_t first = 0; first < steps; first += FEW) {
            vu sent[FEW] = {{0}}, done[FEW] = {{0}};
            for (int64_t n = start; n < whole; n += TP_LANES) {
                const vu word = load_words(words + n) >> (uint32_t)first, fan = load_words(fan_out + n);
                for (int t = 0; t < FEW; ++t) {
                    const vu fired = (vu)((vi)(word << (31 - t)) >> 31);
                    sent[t] -= fired;
                    done[t] += fired & fan;
                }
            }
            for (int64_t t = first; t < least(first + FEW, steps); ++t)
                for (int i = 0; i < TP_LANES; ++i)
                    spikes[t] += sent[t - first][i], operations[t] += done[t - first][i];
        }
        for (int64_t n = whole; n < stop; ++n)
            for (int64_t t = 0; t < steps; ++t)
                if (words[n] >> t & 1)
                    spikes[t] += 1, operations[t] += fan_out[n];
    }
}

static void unpack(const uint32_t *words, int64_t count_, int64_t first, int64_t steps, float *values, int64_t stride) {
    for (int64_t t = 0; t < steps; ++t)
        for (int64_t n = 0; n < count_; ++n)
            values[t * stride + n] = (float)(int32_t)(words[n] >> (first + t) & 1);
}

static void sum_positions(const uint32_t *words, int64_t positions, int64_t channels, int64_t steps, float *sums,
                          int64_t stride) {
    for (int64_t c = 0; c < channels; c += TP_LANES) {
        vi total[TP_STEPS] = {{0}};
        for (int64_t p = 0; p < positions; ++p) {
            const vu word = load_words(words + p * channels + c);
            for (int t = 0; t < TP_STEPS; ++t)
                total[t] -= (vi)(word << (31 - t)) >> 31;
        }
        for (int64_t t = 0; t < steps; ++t)
            for (int i = 0; i < TP_LANES; ++i)
                sums[t * stride + c + i] = (float)total[t][i];
    }
}

static void pool_max(const uint32_t *words, const int64_t *taps, int64_t outputs, int64_t window, int64_t channels,
                     int64_t steps_, int32_t *counts, int32_t *largest, uint32_t *out) {
    for (int64_t o = 0; o < outputs; ++o)
        for (int64_t c = 0; c < channels; c += TP_LANES) {
            vi most[TP_STEPS];
            vi before, after;
            memcpy(&before, largest + o * channels + c, sizeof before);
            for (int t = 0; t < TP_STEPS; ++t)
                most[t] = (vi){0};
            for (int64_t k = 0; k < window; ++k) {
                const int64_t tap = taps[o * window + k];
                if (tap < 0)
                    continue;
                const vu word = load_words(words + tap * channels + c);
                vi total;
                memcpy(&total, counts + tap * channels + c, sizeof total);
                for (int64_t t = 0; t < steps_; ++t) {
                    total -= (vi)(word << (31 - t)) >> 31;
                    const vi more = total > most[t];
                    most[t] = (total & more) | (most[t] & ~more);
                }
            }
            vu fired = {0};
            for (int64_t t = 0; t < steps_; ++t) {
                after = most[t];
                fired |= (vu)((after > before) & 1) << t;
                before = after;
            }
            store_words(out + o * channels + c, fired);
            memcpy(largest + o * channels + c, &before, sizeof before);
        }
}

/* ---- first spikes --------------------------------------------------------------------------------------------- */

#ifdef __AVX512F__
/* Five steps of a binary search in two registers; after the last threshold they hold NaN, which no value reaches. */
INLINE vf level_of(vf x, const __m512 limit[2], const __m512 level[2]) {
    __m512i reached = _mm512_setzero_si512();
    for (int step = 16; step > 0; step /= 2) {
        const __m512i probe = _mm512_add_epi32(reached, _mm512_set1_epi32(step - 1));
        const __mmask16 above =
            _mm512_cmp_ps_mask((__m512)x, _mm512_permutex2var_ps(limit[0], probe, limit[1]), _CMP_GE_OQ);
        reached = _mm512_mask_add_epi32(reached, above, reached, _mm512_set1_epi32(step));
    }
    return (vf)_mm512_permutex2var_ps(level[0], reached, level[1]);
}
#else
INLINE vf sum_of_gains(vf x, const float *slot_thresholds, const float *gain, float least_level, int64_t count) {
    vf level = {0};
    level += least_level;
    for (int64_t k = 0; k < count; ++k) {
        const vf one = {0};
        const vi above = x >= one + slot_thresholds[k];
        level += (vf)(above & (vi)(one + gain[k]));
    }
    return level;
}
#endif

static void compare_all(const float *charge, int64_t n, const float *slot_thresholds, const float *levels, int64_t count,
                         float *out) {
#ifdef __AVX512F__
    float limit[32], level[32] = {0};
    for (int64_t k = 0; k < 32; ++k)
        limit[k] = slot_thresholds[k < count ? k : count];
    memcpy(level, levels, (size_t)(count + 1) * sizeof *level);
    const __m512 two_limits[2] = {_mm512_loadu_ps(limit), _mm512_loadu_ps(limit + 16)};
    const __m512 two_levels[2] = {_mm512_loadu_ps(level), _mm512_loadu_ps(level + 16)};
#define LEVEL(x) level_of(x, two_limits, two_levels)
#else
    float gain[TP_COMPARED]; /* integers: their sums are exact */
    for (int64_t k = 0; k < count; ++k)
        gain[k] = levels[k + 1] - levels[k];
#define LEVEL(x) sum_of_gains(x, slot_thresholds, gain, levels[0], count)
#endif
    int64_t i = 0;
    for (; i + TP_LANES <= n; i += TP_LANES)
        store(out + i, LEVEL(load(charge + i)));
    if (i < n) {
        float rest[TP_LANES] = {0};
        memcpy(rest, charge + i, (size_t)(n - i) * sizeof *rest);
        store(rest, LEVEL(load(rest)));
        memcpy(out + i, rest, (size_t)(n - i) * sizeof *rest);
    }
#undef LEVEL
}

static void look_up(const float *charge, int64_t n, const float *slot_thresholds, const float *levels, const int32_t *first,
                         int32_t low, int32_t entries, int32_t shift, float *out) {
    for (int64_t i = 0; i < n; ++i) {
        int32_t bits, entry;
        memcpy(&bits, charge + i, sizeof bits);
        entry = (bits >> shift) - low; /* a negative float is a negative integer */
        entry = entry < 0 ? 0 : entry;
        entry = entry > entries - 1 ? entries - 1 : entry;
        const int32_t reached = first[entry];
        out[i] = charge[i] == charge[i] ? levels[reached + (charge[i] >= slot_thresholds[reached])] : levels[0];
    }
}

void TP_SIGMA_DELTA(const tp_scan *, int64_t, int64_t, int64_t, int64_t *, int64_t *); /* sigma_delta.c */
void TP_DELTA(const tp_delta *, const tp_delta_plan *, int64_t, char *, int64_t *, int64_t *);       /* delta.c */
void TP_ENTRANCE(const tp_entrance *, int64_t, double *);                                            /* entrance.c */
void TP_STAIRCASE(const tp_staircase *, int64_t, int64_t);                                           /* staircase.c */
int64_t TP_ROUND(const tp_rounding *, int64_t, int64_t);                                             /* rounding.c */

const tp_kernels TP_NAME = {rows,    count,          unpack,   sum_positions, pool_max,     compare_all,
                            look_up, TP_SIGMA_DELTA, TP_DELTA, TP_ENTRANCE,   TP_STAIRCASE, TP_ROUND};
