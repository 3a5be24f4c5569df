/* The event engine's native library: plain C, no Python, no torch. See docs/architecture.md, "The event engine".
 *
 * Spikes travel as words of 32 time steps: bit t of words[sample][row][column][channel] says that the neuron fired in
 * step t of the chunk. Channels are padded to a multiple of TP_UNIT with words of zero.
 */
#ifndef TRANSPIKE_H
#define TRANSPIKE_H

#include <stdint.h>

#define TP_ABI 3     /* changes with every change of a struct or a meaning below */
#define TP_UNIT 16   /* channels that are always computed together */
#define TP_STEPS 32  /* most steps of one call: the bits of a word */
#define TP_TABLE 259 /* rows of a look-up table, 256 of them used: powers of two would all lie in the same cache sets */
#define TP_LIST 65535 /* most inputs of one window, and of one row of windows: list entries have 16 bits */

#if defined(_WIN32)
#define TP_API __declspec(dllexport)
#else
#define TP_API __attribute__((visibility("default")))
#endif

enum { TP_GATHER = 0, TP_LOOKUP = 1, TP_MASKED = 2, TP_NARROW = 3 };

/* One synapse into a layer: a convolution over spikes (a linear layer is one of a single position).
 * Rows and columns are those after pooling: a sum over windows is the sum of as many planes, all of the same strides. */
typedef struct {
    const uint32_t *const *planes; /* [plane_count] */
    const void *weights;          /* of all blocks: floats, or 16-bit whole numbers of TP_NARROW */
    const float *units;           /* [channels of the layer]: what a narrow weight of 1 stands for */
    const int64_t *block_weights; /* [blocks]: where a block's weights begin, in elements */
    int64_t kind, plane_count;
    int64_t sample_words, row_words, column_words; /* strides */
    int64_t height, width, channels, groups;       /* channels: padded; a multiple of TP_UNIT in every group */
    int64_t kernel_y, kernel_x, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;
} tp_source;

/* A layer of integrate-and-fire neurons over a chunk of steps.
 * A stride of 0 words between positions shares a row of per-channel values; channels are padded everywhere. */
typedef struct {
    const tp_source *sources;
    const float *constant;  /* current of every step */
    const float *threshold, *room;
    float *potential;       /* [batch][positions][channels], in and out */
    uint32_t *words;        /* [batch][positions][channels], out */
    const int64_t *block_start, *block_units; /* [blocks]: first channel, and how many units */
    int64_t source_count, blocks;
    int64_t batch, height, width, channels, steps;
    int64_t constant_sample, constant_position, threshold_position, room_position; /* strides in floats */
    int64_t first_step;     /* steps simulated before this chunk */
    int64_t hard_reset, count_ties, range_check_every, threads;
    int64_t ties, beyond;   /* out: near ties; whether a potential went beyond its room */
} tp_layer;

TP_API int64_t tp_abi(void);
TP_API int64_t tp_struct_bytes(int64_t which); /* 0: tp_source, 1: tp_layer */
TP_API const char *tp_instructions(void);      /* what run-time dispatch has chosen */
/* Take "baseline", "AVX2" or "AVX-512" instead, to test them on a better machine. Gives 0 where this is not one. */
TP_API int64_t tp_force(const char *name);
TP_API int64_t tp_has_threads(void);

/* Scratch memory that tp_run needs, in bytes, or -1 for a layer that it cannot run. */
TP_API int64_t tp_scratch_bytes(const tp_layer *layer);
/* 0, or -1 where tp_scratch_bytes says so. */
TP_API int64_t tp_run(tp_layer *layer, void *scratch);

/* spikes[t] += the spikes of step t; operations[t] += the same, each times its neuron's fan_out [neurons],
 * which is below 2^24. */
TP_API void tp_count(const uint32_t *words, const uint32_t *fan_out, int64_t batch, int64_t neurons, int64_t steps,
                     int64_t threads, int64_t *spikes, int64_t *operations);
/* values[t][n] = bit first + t of words[n]. */
TP_API void tp_unpack(const uint32_t *words, int64_t count, int64_t first, int64_t steps, int64_t threads,
                      float *values);
/* The other way round, for steps 0 … steps − 1. Gives how many values were neither 0 nor 1. */
TP_API int64_t tp_pack(const float *values, int64_t count, int64_t steps, int64_t threads, uint32_t *words);
/* sums[t][sample][channel] = how many of the positions fired in step t. */
TP_API void tp_sum_positions(const uint32_t *words, int64_t batch, int64_t positions, int64_t channels, int64_t steps,
                             int64_t threads, float *sums);
/* Maximum pooling by lateral inhibition: the output's count is the largest count in its window.
 * taps [outputs][window] are input positions, -1 outside; counts [batch][inputs][channels] and
 * largest [batch][outputs][channels] are kept between chunks. */
TP_API void tp_pool_max(const uint32_t *words, const int64_t *taps, int64_t batch, int64_t inputs, int64_t outputs,
                        int64_t window, int64_t channels, int64_t steps, int64_t threads, int32_t *counts,
                        int32_t *largest, uint32_t *out);
/* out[i] = levels[n], n = how many of the ascending slot_thresholds [count + 1] are not above charge[i]; the last bar is NaN; a NaN has n = 0.
 * Levels are whole numbers below 2^24, and out may be charge. first[e] is n for the least float whose
 * bits >> shift are low + e, and no more than one bar lies between it and the least of e + 1; smaller charges have
 * e = 0, larger ones e = entries - 1. */
TP_API void tp_first_spikes(const float *charge, int64_t n, const float *slot_thresholds, const float *levels, int64_t count,
                            const int32_t *first, int64_t low, int64_t entries, int64_t shift, int64_t threads,
                            float *out);

#endif
