/* The event engine's native library: plain C, no Python, no torch. See docs/architecture.md, "The event engine".
 *
 * Spikes travel as words of 32 time steps: bit t of words[sample][row][column][channel] is 1 if the neuron fired in
 * step t of the chunk. Channels are padded to a multiple of TP_UNIT with words of zero.
 */
#ifndef TRANSPIKE_H
#define TRANSPIKE_H

#include <stdint.h>

#define TP_ABI 5     /* increased with every change of a struct or a meaning below */
#define TP_UNIT 16   /* channels that are always computed together */
#define TP_STEPS 32  /* steps of one call at most: the bits of a word */
#define TP_TABLE 259 /* rows of a look-up table, 256 of them used: a power of two would cause cache conflicts */
#define TP_LOW 8192  /* added to the 16-bit weights of the first 8 of 16 outputs, see native/narrow.h */
#define TP_LIST 65535 /* inputs of one window, and of one row of windows, at most: list entries have 16 bits */

#if defined(_WIN32)
#define TP_API __declspec(dllexport)
#else
#define TP_API __attribute__((visibility("default")))
#endif

#define TP_FACTORS 16 /* of the levels of one sign at most */

enum { TP_GATHER = 0, TP_LOOKUP = 1, TP_MASKED = 2, TP_NARROW = 3, TP_NARROW_LOOKUP = 4, TP_GRADED = 5 };

/* What a neuron with potential m sends in a step (levels.h). One spike if m >= threshold; the largest sum of factors
 * times the threshold that m reaches; 1 if m >= threshold or -1 if m < edge; or the largest factor that |m| / edge
 * reaches, with the sign of m and, if negative, at most as large as what was sent. */
enum { TP_ONE = 0, TP_SEVERAL = 1, TP_SIGNED = 2, TP_NEAREST = 3 };

/* One synapse into a layer: a convolution over spikes (a linear layer has a single position).
 * Rows and columns are those after pooling: a sum over windows is a sum of planes, all with the same strides. */
typedef struct {
    const uint32_t *const *planes; /* [plane_count] */
    const void *weights;          /* of all blocks: floats, or 16-bit integers for the narrow kinds */
    const float *units;           /* [channels of the layer]: the value of a narrow weight of 1 */
    const float *factors;         /* [plane_count]: levels of the planes, for TP_GRADED */
    const int64_t *block_weights; /* [blocks]: where a block's weights begin, in elements */
    int64_t kind, plane_count;
    int64_t sample_words, row_words, column_words; /* strides */
    int64_t height, width, channels, groups;       /* channels: padded; a multiple of TP_UNIT in every group */
    int64_t kernel_y, kernel_x, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;
} tp_source;

/* A layer of integrate-and-fire neurons over a chunk of steps.
 * A stride of 0 words between positions shares a row of per-channel values; channels are padded everywhere. Under every
 * rule but TP_ONE thresholds are finite, also those of padding, and the potential is multiplied by the leak first. */
typedef struct {
    const tp_source *sources;
    const float *constant;  /* current of every step */
    const float *threshold, *room;
    const float *edge;      /* as threshold; not for TP_ONE */
    const float *factors;   /* [factor_count], the largest first: levels of the planes; not for TP_ONE */
    const float *initial;   /* potentials before the first step; with it, `potential` and `sent` are not read */
    float *potential;       /* [batch][positions][channels], in and out; NULL: not stored, with `initial` only */
    float *sent;            /* the sum of levels so far, likewise; NULL for TP_ONE and TP_SEVERAL */
    uint32_t *words;        /* [planes][batch][positions][channels], out */
    const int64_t *block_start, *block_units; /* [blocks]: first channel, and number of units */
    int64_t source_count, blocks;
    int64_t batch, height, width, channels, steps;
    int64_t constant_sample, constant_position, threshold_position, room_position, initial_position; /* strides in
                               floats */
    int64_t first_step;     /* steps simulated before this chunk */
    int64_t hard_reset, count_ties, range_check_every, threads;
    int64_t rule, factor_count, remembers; /* remembers: TP_SIGNED sends -1 only while `sent` is positive */
    double leak;
    int64_t ties, beyond;   /* out: near ties; 1 if a potential left its exact range */
} tp_layer;

/* Steps of sigma-delta neurons in float64. Arrays hold all neurons of one step, in the same order; ``threshold`` and
 * ``initial`` hold the values of the first ``period`` neurons, which repeat. */
enum { TP_SAME = 0, TP_CLIP = 1, TP_GIVEN = 2 }; /* f(E) = E; E clipped to 0 … ceiling; from ``value`` */
typedef struct {
    const double *wide;   /* [steps][neurons]: what is received, or NULL; if both are, nothing is added to E */
    const float *narrow;  /* the same in float32 */
    const double *value;  /* f(E) of one step, for TP_GIVEN */
    const double *threshold, *initial;
    double *estimate, *sent; /* E and R, in and out */
    float *levels;           /* [steps][neurons], out */
    int64_t neurons, period, steps, source, all_digits, threads;
    double ceiling, fine, off_grid, near, top;
    int64_t unclear, broken; /* out: values near an edge, for TP_GIVEN; 1 if a value is NaN or infinite */
} tp_scan;

/* One node of a network whose wires have fixed places in memory: neurons, maximum pooling, or wiring that copies runs of
 * words; words that no run reaches keep their values. */
enum { TP_FIRE = 0, TP_POOL = 1, TP_MOVE = 2 };
typedef struct {
    tp_layer *layer;        /* TP_FIRE: all but batch, steps, first_step, threads and count_ties is given */
    const uint32_t *source; /* TP_POOL, TP_MOVE */
    uint32_t *to;
    const int64_t *taps;    /* TP_POOL: as in tp_pool_max */
    const int32_t *runs;    /* TP_MOVE: [run_count][3]: first word of the output, of the input, and their number */
    int32_t *counts, *largest;
    const uint32_t *fan_out, *boundary; /* [neurons], as in tp_count; NULL: not counted */
    int64_t *totals;        /* [3][TP_STEPS], out: spikes, and their sums of fan_out and boundary */
    int64_t kind, source_sample, inputs, outputs, window, channels, neurons;
    int64_t run_count;
    int64_t work;           /* multiplications of a sample and step, to choose the number of threads */
} tp_part;

typedef struct {
    const tp_part *parts;
    int64_t part_count, batch, steps, first_step, threads, count_ties;
    int64_t ties, left;     /* out: near ties; the part whose potentials left their exact range, or -1 */
} tp_section;

/* Steps of a layer of weights that reads levels, and of the sigma-delta neurons behind it, which may be missing.
 * Levels have all steps of a position next to each other. Channels come last in every array, without gaps, and their number is even where ``channels_in`` are summed. A stride
 * of 0 between positions shares a row of values per channel. */
#define TP_DELTA_STEPS 16 /* steps of one call at most */
#define TP_DELTA_BLOCK 64 /* channels that are computed together at most */
#define TP_DELTA_TOTALS 4 /* spikes, operations, positions that sent, states that were read */
typedef struct {
    const int16_t *levels;   /* [batch][height_in][width_in][all_steps][channels_in], or NULL */
    const int64_t *heard;    /* [steps][batch]: 0 where all of these levels are 0; or NULL */
    const int16_t *weights;  /* by blocks of channels: [taps][pairs of inputs][channels][2], or, if each channel has
                              * weights of its own, [pairs of taps][channels][2]; channels are padded to 16 */
    const double *units;     /* [channels, padded]: the value of a weight of 1 */
    const double *wide;      /* [added_steps][batch][positions][channels]: currents that are added, or NULL */
    const float *narrow;     /* the same in float32 */
    const double *first;     /* [positions][channels]: added in the first step, or NULL */
    const int16_t *passed;   /* [batch][positions][all_steps][channels]: levels that are added times ``factors``, or NULL */
    const double *factors;   /* [channels] */
    double *currents;        /* out, without ``first``: [steps][batch][positions][channels], or NULL */
    const double *threshold, *initial; /* [positions][channels] */
    const float *inverse, *shift; /* the same: 1 / threshold, and initial / threshold + off_grid / fine, rounded */
    double *estimate, *sent; /* [batch][positions][channels]: E and R, in and out, or both NULL: nothing is kept */
    int16_t *out;            /* [batch][positions][all_steps][channels], or NULL without neurons */
    const int32_t *fan;      /* [positions][channels]: operations of a spike; the sum over channels is below 2^31 */
    const int32_t *reads;    /* the same of the states that a spike reads, or NULL */
    int64_t *totals;         /* [steps][TP_DELTA_TOTALS], out; with ``fan`` only */
    int64_t *events;         /* [steps][batch], out: spikes; zeros before the call */
    int64_t steps, all_steps, added_steps, batch, height, width, channels, height_in, width_in, channels_in;
    int64_t kernel_y, kernel_x, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;
    int64_t first_position, neuron_position, fan_position, reads_position; /* strides in numbers */
    /* whole: the sums of all steps add up to less than 2^31; fresh: E and R are 0, whatever they hold */
    int64_t depthwise, whole, source, all_digits, fresh, threads;
    double ceiling, fine, off_grid, top;
    int64_t broken;          /* out: 1 if a value is NaN or infinite */
} tp_delta;

/* The current of a constant analogue input behind a convolution, bias + factor · (the sum, rounded to the grid). */
typedef struct {
    const float *x;        /* [batch][channels_in][height_in][width_in] */
    const double *weights; /* [kernel_y][kernel_x][channels_in][channels]; channels are padded */
    const double *grid;    /* [channels]: powers of two */
    const float *bias;     /* [positions][channels] */
    float *currents;       /* [batch][positions][channels], out */
    int64_t batch, height, width, channels, height_in, width_in, channels_in;
    int64_t kernel_y, kernel_x, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;
    int64_t bias_position, threads; /* a stride in floats; 0 shares a row */
    double factor;
} tp_entrance;

/* levels = min(max(floor((charge + offset) / threshold), 0), most) of rows of neurons, whose offsets and thresholds repeat
 * after ``period`` rows; ``shared``: each of these rows has one of them. */
typedef struct {
    const double *wide;  /* [rows][columns]: charges, or */
    const float *narrow; /* the same in float32 */
    const double *offset, *threshold; /* [period][columns], or [period] */
    float *levels;       /* [rows][columns], out */
    int64_t rows, columns, period, shared, threads;
    double most;         /* below 2^24 */
} tp_staircase;

/* Values that are rounded to whole multiples of ``grid``, a power of two, ties to even. */
typedef struct {
    const double *value;     /* [count]: finite */
    double *values, *changes; /* [count]: the rounded ones, in those before and out; and the differences, out */
    int64_t count, threads;
    double grid, room, near; /* near: a distance from an edge, relative to 1 and the value in steps of the grid */
    int64_t unclear;         /* out: values that are as near to an edge, or beyond the room in size */
} tp_rounding;

TP_API int64_t tp_abi(void);
TP_API int64_t tp_struct_bytes(int64_t which); /* tp_source, tp_layer, tp_scan, tp_part, tp_section, tp_delta,
                                                  tp_entrance, tp_staircase, tp_rounding */
TP_API const char *tp_instructions(void);      /* the instruction set chosen at run time */
/* Whether the library holds kernels for "baseline", "NEON", "AVX2" or "AVX-512"; the baseline of ARM is NEON. */
TP_API int64_t tp_compiled(const char *name);
/* Use these instead. Returns 0 if they are not compiled, or if this processor lacks them. "AVX-512" uses VNNI where the
 * processor has it; "AVX-512 without VNNI" does not, for tests. */
TP_API int64_t tp_force(const char *name);
TP_API int64_t tp_has_threads(void);

/* Scratch memory that tp_run needs, in bytes, or -1 for a layer that it cannot run. */
TP_API int64_t tp_scratch_bytes(const tp_layer *layer);
/* 0, or -1 where tp_scratch_bytes returns -1. */
TP_API int64_t tp_run(tp_layer *layer, void *scratch);

/* The parts one after another; the scratch memory is enough for each. 0, or -1 for a layer that tp_run refuses. */
TP_API int64_t tp_run_section(tp_section *section, void *scratch);

/* spikes[t] += the spikes of step t; operations[t] += the same, each times its neuron's fan_out [neurons],
 * which is below 2^24. */
TP_API void tp_count(const uint32_t *words, const uint32_t *fan_out, int64_t batch, int64_t neurons, int64_t steps,
                     int64_t threads, int64_t *spikes, int64_t *operations);
/* values[t][n] = bit first + t of words[n]. */
TP_API void tp_unpack(const uint32_t *words, int64_t count, int64_t first, int64_t steps, int64_t threads,
                      float *values);
/* The inverse, for a wire in any order: values[t · batch + sample][position][channel] by their strides in floats, to
 * words [batch][positions][padded channels]. Returns the number of values that are neither 0 nor 1. */
TP_API int64_t tp_pack_wire(const float *values, int64_t steps, int64_t batch, int64_t positions, int64_t channels,
                            int64_t padded, int64_t value_sample, int64_t value_position, int64_t value_channel,
                            uint32_t *words);
/* sums[t][sample][channel] = the number of positions that fired in step t. */
TP_API void tp_sum_positions(const uint32_t *words, int64_t batch, int64_t positions, int64_t channels, int64_t steps,
                             int64_t threads, float *sums);
/* Maximum pooling by lateral inhibition: the output's count is the largest count in its window.
 * taps [outputs][window] are input positions, -1 outside; counts [batch][inputs][channels] and
 * largest [batch][outputs][channels] are the state between chunks. */
TP_API void tp_pool_max(const uint32_t *words, const int64_t *taps, int64_t batch, int64_t inputs, int64_t outputs,
                        int64_t window, int64_t channels, int64_t steps, int64_t threads, int32_t *counts,
                        int32_t *largest, uint32_t *out);
/* out[i] = levels[n], n = the number of ascending slot_thresholds [count + 1] that are <= charge[i]; the last threshold
 * is NaN; n = 0 for NaN. Levels are integers below 2^24, and out may be charge. first[e] is n for the smallest float
 * with bits >> shift == low + e; at most one threshold lies between it and the smallest float of e + 1. Smaller charges
 * have e = 0, larger ones e = entries - 1. */
TP_API void tp_first_spikes(const float *charge, int64_t n, const float *slot_thresholds, const float *levels, int64_t count,
                            const int32_t *first, int64_t low, int64_t entries, int64_t shift, int64_t threads,
                            float *out);
/* src/transpike/neurons/sigma_delta.py: SigmaDelta, for steps without an error. */
TP_API void tp_sigma_delta(tp_scan *scan);
TP_API void tp_run_staircase(const tp_staircase *staircase);
/* Scratch memory that tp_run_entrance needs, in bytes, or -1 for sizes that it does not take. */
TP_API int64_t tp_entrance_scratch(const tp_entrance *entrance);
/* 0, or -1 where tp_entrance_scratch returns -1. */
TP_API int64_t tp_run_entrance(const tp_entrance *entrance, void *scratch);
TP_API void tp_round(tp_rounding *rounding);
/* Scratch memory that tp_run_delta needs, in bytes, or -1 for a layer that it cannot run. */
TP_API int64_t tp_delta_scratch(const tp_delta *layer);
/* 0, or -1 where tp_delta_scratch returns -1. */
TP_API int64_t tp_run_delta(tp_delta *layer, void *scratch);

#endif
