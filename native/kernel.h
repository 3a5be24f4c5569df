/* What the dispatcher and the kernels of every instruction set share. */
#ifndef TRANSPIKE_KERNEL_H
#define TRANSPIKE_KERNEL_H

#include "transpike.h"

typedef struct {
    void (*rows)(tp_layer *, char *scratch, int64_t first, int64_t last, int64_t block, int64_t last_block,
                 int64_t *ties, int64_t *beyond);
    void (*count)(const uint32_t *, const uint32_t *, int64_t, int64_t, int64_t *, int64_t *);
    void (*unpack)(const uint32_t *, int64_t, int64_t, int64_t, float *, int64_t);
    int64_t (*pack)(const float *, int64_t, int64_t, int64_t, uint32_t *);
    void (*sum_positions)(const uint32_t *, int64_t, int64_t, int64_t, float *, int64_t);
    void (*pool_max)(const uint32_t *, const int64_t *, int64_t, int64_t, int64_t, int64_t, int32_t *, int32_t *,
                     uint32_t *);
    void (*compare_bars)(const float *, int64_t, const float *, const float *, int64_t, float *);
    void (*look_up_bars)(const float *, int64_t, const float *, const float *, const int32_t *, int32_t, int32_t,
                         int32_t, float *);
} tp_kernels;

/* The lists of one source: those of single pixels, kept for the rows a window spans, and those of whole windows.
 * All entries are 16 bits; a start is where the entries of a pixel (or of a column of windows) begin in step t. */
typedef struct {
    int64_t slots;         /* rows of pixels kept */
    int64_t pixel_entries; /* room for one row's entries of one step */
    int64_t window_entries;
    int64_t padded_width;  /* look-up: columns with borders */
    int64_t tags, pixel_lists, pixel_starts, window_lists, window_starts, columns; /* offsets in bytes */
} tp_plan;

/* Rows that are prepared together, and every source's place in the scratch memory. Gives the bytes of one thread. */
int64_t tp_plan_scratch(const tp_layer *layer, tp_plan *plans, int64_t *rows);

#define TP_SOURCES 64 /* most sources of one layer */
#define TP_TALLEST 16 /* most rows of a kernel that looks up */
#define TP_COMPARED 31 /* most slot_thresholds that every charge is compared with */
#define TP_TAPS 100   /* most taps of a masked source, over all planes */

extern uint16_t tp_expand[256][8]; /* the positions of the bits that are set */
extern uint8_t tp_bits[256];       /* how many they are */

#endif
