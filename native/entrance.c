/* The current of a constant analogue input behind a convolution: float64 sums that are rounded once, to the grid.
 *
 * Neighbouring positions and one unit of channels stay in registers, while the loops go over the inputs of a window.
 */
#include "estimates.h"

#ifndef TP_ENTRANCE
#define TP_ENTRANCE tp_entrance_baseline
#endif

enum { VECTORS = TP_UNIT / WIDE, TOGETHER = VECTORS < 8 ? 8 / VECTORS : 1 }; /* of a unit; positions */

/* The rows of the input that windows of one output row read, [kernel_y][columns with borders][channels_in]. */
static void unfold(const tp_entrance *e, int64_t sample, int64_t y, int64_t columns, double *rows) {
    const int64_t channels = e->channels_in, plane = e->height_in * e->width_in;
    for (int64_t ky = 0; ky < e->kernel_y; ++ky) {
        const int64_t row = y * e->stride_y - e->padding_y + ky * e->dilation_y;
        double *to = rows + ky * columns * channels;
        if (row < 0 || row >= e->height_in) {
            memset(to, 0, (size_t)(columns * channels) * sizeof *to);
            continue;
        }
        const float *from = e->x + sample * channels * plane + row * e->width_in;
        for (int64_t c = 0; c < channels; ++c)
            for (int64_t k = 0; k < columns; ++k) {
                const int64_t column = k - e->padding_x;
                to[k * channels + c] = column >= 0 && column < e->width_in ? (double)from[c * plane + column] : 0.0;
            }
    }
}

void TP_ENTRANCE(const tp_entrance *e, int64_t number, double *rows) {
    const int64_t channels = e->channels_in, sample = number / e->height, y = number % e->height;
    const int64_t columns = (e->width - 1) * e->stride_x + (e->kernel_x - 1) * e->dilation_x + 1;
    unfold(e, sample, y, columns, rows);
    for (int64_t unit = 0; unit < e->channels; unit += TP_UNIT)
        for (int64_t first = 0; first < e->width; first += TOGETHER) {
            const double *window[TOGETHER];
            vd sum[TOGETHER][VECTORS];
            for (int p = 0; p < TOGETHER; ++p) { /* the last ones may repeat, and are not stored */
                const int64_t x = first + p < e->width ? first + p : e->width - 1;
                window[p] = rows + x * e->stride_x * channels;
                for (int v = 0; v < VECTORS; ++v)
                    sum[p][v] = (vd){0};
            }
            const double *weights = e->weights + unit;
            for (int64_t ky = 0; ky < e->kernel_y; ++ky)
                for (int64_t kx = 0; kx < e->kernel_x; ++kx)
                    for (int64_t c = 0; c < channels; ++c, weights += e->channels) {
                        const int64_t at = (ky * columns + kx * e->dilation_x) * channels + c;
                        for (int v = 0; v < VECTORS; ++v) {
                            const vd weight = load(weights + v * WIDE, WIDE, 0.0);
                            for (int p = 0; p < TOGETHER; ++p)
                                sum[p][v] += weight * window[p][at];
                        }
                    }
            for (int p = 0; p < TOGETHER && first + p < e->width; ++p) {
                const int64_t position = y * e->width + first + p;
                const float *bias = e->bias + position * e->bias_position + unit;
                float *to = e->currents + (sample * e->height * e->width + position) * e->channels + unit;
                for (int v = 0; v < VECTORS; ++v) {
                    const vd grid = load(e->grid + unit + v * WIDE, WIDE, 1.0);
                    const narrow current = __builtin_convertvector(nearest(sum[p][v] / grid) * grid, narrow);
                    narrow own;
                    memcpy(&own, bias + v * WIDE, sizeof own);
                    own += current * (float)e->factor;
                    memcpy(to + v * WIDE, &own, sizeof own);
                }
            }
        }
}
