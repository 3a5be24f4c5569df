/* Shared by the dispatcher and the kernels of every instruction set. */
#ifndef TRANSPIKE_KERNEL_H
#define TRANSPIKE_KERNEL_H

#include "transpike.h"

/* Outputs that are computed together, and offsets of the scratch memory in bytes. */
typedef struct {
    int64_t rows, columns, tiles, bytes;
    int64_t entries, numbers, starts, sums, heard, pairs, begins, inputs;
} tp_delta_plan;

typedef struct {
    void (*rows)(tp_layer *, char *scratch, int64_t first, int64_t last, int64_t block, int64_t last_block,
                 int64_t *ties, int64_t *beyond);
    void (*count)(const uint32_t *, const uint32_t *, int64_t, int64_t, int64_t *, int64_t *);
    void (*unpack)(const uint32_t *, int64_t, int64_t, int64_t, float *, int64_t);
    void (*sum_positions)(const uint32_t *, int64_t, int64_t, int64_t, float *, int64_t);
    void (*pool_max)(const uint32_t *, const int64_t *, int64_t, int64_t, int64_t, int64_t, int32_t *, int32_t *,
                     uint32_t *);
    void (*compare_bars)(const float *, int64_t, const float *, const float *, int64_t, float *);
    void (*look_up_bars)(const float *, int64_t, const float *, const float *, const int32_t *, int32_t, int32_t,
                         int32_t, float *);
    /* neurons at … at + count − 1, whose thresholds begin at own; adds to unclear, and sets broken */
    void (*sigma_delta)(const tp_scan *, int64_t at, int64_t own, int64_t count, int64_t *unclear, int64_t *broken);
    /* tile ``number`` of a layer; adds to totals [steps][TP_DELTA_TOTALS], and sets broken */
    void (*delta)(const tp_delta *, const tp_delta_plan *, int64_t number, char *scratch, int64_t *totals,
                  int64_t *broken);
    void (*entrance)(const tp_entrance *, int64_t row, double *scratch); /* output row ``row`` of all samples */
    void (*staircase)(const tp_staircase *, int64_t first, int64_t last); /* rows */
    int64_t (*round)(const tp_rounding *, int64_t at, int64_t count); /* returns the number of unclear ones */
} tp_kernels;

/* The lists of one source: of single pixels, stored for the rows of a window, and of whole windows.
 * All entries are 16 bits; a start is where the entries of a pixel (or of a column of windows) begin in step t. */
typedef struct {
    int64_t slots;         /* stored rows of pixels */
    int64_t pixel_entries; /* capacity for the entries of one row and step */
    int64_t window_entries;
    int64_t padded_width;  /* look-up: columns with borders */
    int64_t tags, pixel_lists, pixel_starts, pixel_steps, window_lists, window_starts, window_steps, columns; /* offsets in bytes */
} tp_plan;

/* Inputs of one channel each, of which no lists are made. */
static inline int is_depthwise(const tp_source *s) { return s->kind == TP_MASKED || s->kind == TP_GRADED; }
static inline int is_lookup(const tp_source *s) { return s->kind == TP_LOOKUP || s->kind == TP_NARROW_LOOKUP; }

/* Rows that are prepared together, and every source's offset in the scratch memory. Returns the bytes per thread. */
int64_t tp_plan_scratch(const tp_layer *layer, tp_plan *plans, int64_t *rows);

#define TP_SOURCES 64 /* sources of one layer at most */
#define TP_TALLEST 16 /* rows of a look-up kernel at most */
#define TP_COMPARED 31 /* slot thresholds at most that are all compared with every charge */
#define TP_TOGETHER 1024 /* sigma-delta neurons that are computed together at most: they fit into the fastest cache */
#define TP_PLANES (2 * TP_FACTORS) /* of one layer's spikes at most */
#define TP_TAPS 100   /* taps of a masked source at most, over all planes; of a graded one without planes */
#define TP_KEPT 128   /* inputs at most that a graded source keeps */
#define TP_BLOCK 64   /* channels of a block at most */

extern uint16_t tp_expand[256][8]; /* the positions of the bits that are set */
extern uint8_t tp_bits[256];       /* their number */

#endif
