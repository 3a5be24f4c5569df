/* Layers of weights that read levels of several steps, and the sigma-delta neurons behind them.
 *
 * Weights and levels are 16-bit integers, and sums 32-bit ones, which Python has bounded: they are exact in any order.
 * Behind a convolution, only the levels that are not 0 are looked at.
 */
#include "delta_neurons.h"

#ifndef TP_DELTA
#define TP_DELTA tp_delta_baseline
#endif

enum { SHORTS = 2 * TP_LANES };

typedef uint32_t vu __attribute__((vector_size(4 * TP_LANES)));
typedef int16_t vs __attribute__((vector_size(4 * TP_LANES)));

INLINE vs load_shorts(const int16_t *p) {
    vs v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* sum + (a[0] b[0] + a[1] b[1], a[2] b[2] + a[3] b[3] …) */
INLINE vi with_pairs(vi sum, vs a, vs b) {
#if TP_LANES == 16 && defined(__AVX512VNNI__)
    return (vi)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif TP_LANES == 16 && defined(__AVX512BW__)
    return sum + (vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif TP_LANES == 8 && defined(__AVX2__)
    return sum + (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif TP_LANES == 4 && defined(__SSE2__)
    return sum + (vi)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    const vi first = ((vi)((vu)a << 16) >> 16) * ((vi)((vu)b << 16) >> 16);
    return sum + first + ((vi)a >> 16) * ((vi)b >> 16);
#endif
}

/* Pairs of neighbouring channels of which one level is not 0: both levels, and the number of the pair. */
typedef struct {
    int32_t *values, *at;
} lists;

/* The part of a layer's outputs that is computed together: rows × columns, of one sample. */
typedef struct {
    int64_t sample, y, x, rows, columns;     /* outputs */
    int64_t top, left, rows_in, columns_in;  /* inputs that they read, which may begin outside */
    const int16_t **inputs;                  /* [rows_in][columns_in]: their levels, or NULL outside */
} tile;

#include "together.h"
#include "delta_counts.h"

/* Writes the pairs that are not 0 of ``count`` ones, and up to TP_LANES - 1 numbers more. Returns their number. */
INLINE int64_t append(const int16_t *levels, int64_t count, int32_t *values, int32_t *at) {
    int64_t n = 0;
#if TP_LANES == 16 && defined(__AVX512F__)
    __m512i numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int64_t c = 0; c < count; c += 16, numbers = _mm512_add_epi32(numbers, _mm512_set1_epi32(16))) {
        const __mmask16 inside = (__mmask16)(count - c < 16 ? (1u << (count - c)) - 1 : 0xFFFF);
        const __m512i pairs = _mm512_maskz_loadu_epi32(inside, levels + 2 * c);
        const __mmask16 some = _mm512_test_epi32_mask(pairs, pairs);
        _mm512_storeu_si512(values + n, _mm512_maskz_compress_epi32(some, pairs));
        _mm512_storeu_si512(at + n, _mm512_maskz_compress_epi32(some, numbers));
        n += __builtin_popcount(some);
    }
#else
    for (int64_t c = 0; c < count; ++c) {
        memcpy(values + n, levels + 2 * c, sizeof *values);
        at[n] = (int32_t)c;
        n += values[n] != 0;
    }
#endif
    return n;
}

/* The lists of all inputs of the tile and of the ``wanted`` steps; starts [inputs][steps] and the end. */
static void list(const tp_delta *s, const tile *t, const uint8_t *wanted, const lists *found, int64_t *starts) {
    const int64_t channels = s->channels_in, steps = s->steps;
    int64_t n = 0;
    for (int64_t i = 0; i < t->rows_in * t->columns_in; ++i) {
        const int16_t *levels = t->inputs[i];
        for (int64_t k = 0; k < steps; ++k) {
            *starts++ = n;
            if (levels && wanted[k])
                n += append(levels + k * channels, channels / 2, found->values + n, found->at + n);
        }
    }
    *starts = n;
}

/* Sums of ``vectors`` vectors of channels at one output position; a row of weights has ``row`` numbers. */
INLINE void gather(const tp_delta *s, const tile *t, const lists *found, const int64_t *start, const int16_t *weights,
                   int64_t row, int64_t y, int64_t x, int64_t vectors, int32_t *sums) {
    vi sum[4] = {{0}};
    const int64_t tap = s->channels_in / 2 * row;
    for (int64_t v = 0; v < vectors; ++v)
        sum[v] = (vi){0};
    for (int64_t ky = 0; ky < s->kernel_y; ++ky)
        for (int64_t kx = 0; kx < s->kernel_x; ++kx) {
            const int64_t from = (y * s->stride_y + ky * s->dilation_y) * t->columns_in + x * s->stride_x + kx * s->dilation_x;
            const int16_t *w = weights + (ky * s->kernel_x + kx) * tap;
            const int64_t end = start[from * s->steps + 1];
            for (int64_t i = start[from * s->steps]; i < end; ++i) {
                const vs value = (vs)((vi){0} + found->values[i]);
                const int16_t *here = w + found->at[i] * row;
                for (int64_t v = 0; v < vectors; ++v)
                    sum[v] = with_pairs(sum[v], value, load_shorts(here + v * SHORTS));
            }
        }
    for (int64_t v = 0; v < vectors; ++v)
        memcpy(sums + v * TP_LANES, &sum[v], sizeof sum[v]);
}

/* The sums of ``width`` channels, a multiple of 16, of one block. Returns whether anything was heard. */
INLINE int64_t of_block(const tp_delta *s, const tile *t, const lists *found, const int64_t *start,
                        const int16_t *weights, int64_t width, int64_t y, int64_t x, int32_t *sums) {
    int64_t heard = 0;
    for (int64_t ky = 0; ky < s->kernel_y; ++ky) {
        const int64_t from = (y * s->stride_y + ky * s->dilation_y) * t->columns_in + x * s->stride_x;
        for (int64_t kx = 0; kx < s->kernel_x; ++kx) {
            const int64_t *own = start + (from + kx * s->dilation_x) * s->steps;
            heard |= own[1] - own[0];
        }
    }
    if (!heard)
        return 0;
    for (int64_t c = 0; c < width; c += 4 * TP_LANES) {
        const int64_t vectors = (width - c) / TP_LANES;
        const int16_t *w = weights + 2 * c;
        if (vectors >= 4)
            gather(s, t, found, start, w, 2 * width, y, x, 4, sums + c);
        else if (vectors == 3)
            gather(s, t, found, start, w, 2 * width, y, x, 3, sums + c);
        else if (vectors == 2)
            gather(s, t, found, start, w, 2 * width, y, x, 2, sums + c);
        else
            gather(s, t, found, start, w, 2 * width, y, x, 1, sums + c);
    }
    return 1;
}

/* Two vectors with the numbers of a and b in turn. */
INLINE void in_turn(vs a, vs b, vs *low, vs *high) {
#if TP_LANES == 16
    *low = __builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40, 9, 41, 10, 42,
                                   11, 43, 12, 44, 13, 45, 14, 46, 15, 47);
    *high = __builtin_shufflevector(a, b, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55, 24, 56, 25,
                                    57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63);
#elif TP_LANES == 8
    *low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *high = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#else
    *low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    *high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#endif
}

/* Sums of a window of 3 x 3 inputs that are all inside, ``rows`` and ``column`` apart, of SHORTS channels in all steps. The
 * weights stay in registers. */
INLINE void nine_taps(const tp_delta *s, const int16_t *levels, int64_t row, int64_t column, const int16_t *weights,
                      int64_t width, const uint8_t *heard, int32_t *sums) {
    vs w[10];
    for (int64_t pair = 0; pair < 5; ++pair)
        for (int64_t v = 0; v < 2; ++v)
            w[2 * pair + v] = load_shorts(weights + 2 * pair * width + v * SHORTS);
    for (int64_t k = 0; k < s->steps; ++k, levels += s->channels_in, sums += BLOCK) {
        if (!heard[k])
            continue;
        const int16_t *middle = levels + row, *bottom = middle + row;
        const vs taps[10] = {load_shorts(levels), load_shorts(levels + column), load_shorts(levels + 2 * column),
                             load_shorts(middle), load_shorts(middle + column), load_shorts(middle + 2 * column),
                             load_shorts(bottom), load_shorts(bottom + column), load_shorts(bottom + 2 * column), {0}};
        vi low = {0}, high = {0};
        for (int64_t pair = 0; pair < 5; ++pair) {
            vs first, second;
            in_turn(taps[2 * pair], taps[2 * pair + 1], &first, &second);
            low = with_pairs(low, first, w[2 * pair]);
            high = with_pairs(high, second, w[2 * pair + 1]);
        }
        memcpy(sums, &low, sizeof low);
        memcpy(sums + TP_LANES, &high, sizeof high);
    }
}

/* The same where each channel has weights of its own, [pairs of taps][width][2], for all steps of one output: sums
 * [steps][BLOCK], and ``heard`` [steps]. ``c`` is the block's first channel. */
INLINE void depthwise(const tp_delta *s, const tile *t, const int16_t *weights, int64_t c, int64_t width, int64_t y,
                      int64_t x, int32_t *sums, uint8_t *heard) {
    static const int16_t nothing[BLOCK];
    const int64_t channels = s->channels_in, place = s->all_steps * channels;
    const int16_t *levels = s->levels + t->sample * s->height_in * s->width_in * place + c;
    const int16_t *taps[TP_TAPS + 1];
    int64_t moves[TP_TAPS + 1], count = 0, done = 0; /* moves: from one step to the next; done: channels */
    for (int64_t k = 0; k < s->steps; ++k)
        heard[k] = !s->heard || s->heard[k * s->batch + t->sample];
    const int64_t top = t->top + y * s->stride_y, left = t->left + x * s->stride_x;
    if (s->kernel_y == 3 && s->kernel_x == 3 && top >= 0 && left >= 0 && top + 2 * s->dilation_y < s->height_in &&
        left + 2 * s->dilation_x < s->width_in) {
        const int64_t all = channels - c < width ? channels - c : width;
        for (; done + SHORTS <= all; done += SHORTS)
            nine_taps(s, levels + (top * s->width_in + left) * place + done, s->dilation_y * s->width_in * place,
                      s->dilation_x * place, weights + 2 * done, width, heard, sums + done);
        if (done >= all)
            return;
    }
    for (int64_t ky = 0; ky < s->kernel_y; ++ky)
        for (int64_t kx = 0; kx < s->kernel_x; ++kx, ++count) {
            const int64_t row = top + ky * s->dilation_y, column = left + kx * s->dilation_x;
            const int64_t inside = row >= 0 && row < s->height_in && column >= 0 && column < s->width_in;
            taps[count] = inside ? levels + (row * s->width_in + column) * place : nothing;
            moves[count] = inside ? channels : 0;
        }
    if (count % 2)
        taps[count] = nothing, moves[count++] = 0;
    for (int64_t k = 0; k < s->steps; ++k) {
        if (!heard[k])
            continue;
        int32_t *own = sums + k * BLOCK;
        for (int64_t i = done; i < width && c + i < channels; i += SHORTS) {
            const int64_t left = channels - c - i, n = left < SHORTS ? left : SHORTS;
            vi low = {0}, high = {0};
            for (int64_t pair = 0; pair < count; pair += 2) {
                const int16_t *one = taps[pair] + k * moves[pair] + i, *two = taps[pair + 1] + k * moves[pair + 1] + i;
                const int16_t *w = weights + (pair / 2 * width + i) * 2;
                vs a, b, first, second;
                if (n == SHORTS) {
                    a = load_shorts(one), b = load_shorts(two);
                } else if (n == SHORTS / 2) { /* of known length */
                    a = b = (vs){0};
                    memcpy(&a, one, SHORTS / 2 * sizeof(int16_t));
                    memcpy(&b, two, SHORTS / 2 * sizeof(int16_t));
                } else {
                    a = b = (vs){0};
                    memcpy(&a, one, (size_t)n * sizeof(int16_t));
                    memcpy(&b, two, (size_t)n * sizeof(int16_t));
                }
                in_turn(a, b, &first, &second);
                low = with_pairs(low, first, load_shorts(w));
                high = with_pairs(high, second, load_shorts(w + SHORTS));
            }
            memcpy(own + i, &low, sizeof low);
            memcpy(own + i + TP_LANES, &high, sizeof high);
        }
    }
}

/* The currents of all steps, for other readers. */
INLINE void currents(const tp_delta *s, const group *g) {
    for (int64_t k = 0; k < s->steps; ++k) {
        const int64_t here = k * g->step + g->at;
        const int32_t *sums = g->sums + k * BLOCK;
        double *out = s->currents + here;
        if (k < s->added_steps && s->wide)
            memcpy(out, s->wide + here, (size_t)g->n * sizeof *out);
        else if (k < s->added_steps)
            for (int64_t i = 0; i < g->n; ++i)
                out[i] = s->narrow[here + i];
        else
            memset(out, 0, (size_t)g->n * sizeof *out);
        if (g->heard[k])
            for (int64_t i = 0; i < g->n; ++i)
                out[i] += sums[i] * s->units[g->c + i];
        if (g->passed)
            for (int64_t i = 0; i < g->n; ++i)
                out[i] += g->passed[k * s->channels + i] * s->factors[g->c + i];
    }
}

/* Neurons of one output; source and whole are constants. */
INLINE void of_source(const tp_delta *s, const group *g, int64_t source, int64_t whole, vl *wrong) {
    enum { TOGETHER = VECTORS_TOGETHER * TP_LANES };
    for (int64_t from = 0; from < g->n;) {
        const int64_t left = g->n - from;
        if (VECTORS_TOGETHER > 1 && !s->all_digits && whole && left >= TOGETHER &&
            fast_whole(s, g, from, source, VECTORS_TOGETHER)) {
            from += TOGETHER;
            continue;
        }
        const int64_t decides = !s->all_digits && left >= TP_LANES;
        if (!decides || !(whole ? fast_whole(s, g, from, source, 1) : fast(s, g, from, source))) {
            exactly(s, g, from, left < WIDE ? left : WIDE, source, wrong);
            if (left > WIDE)
                exactly(s, g, from + WIDE, left - WIDE < WIDE ? left - WIDE : WIDE, source, wrong);
        }
        from += TP_LANES;
    }
}

static void neurons(const tp_delta *s, const group *g, vl *wrong) {
    const int64_t whole = s->units && s->whole && !s->added_steps && !s->passed;
    if (s->source == TP_CLIP && whole)
        of_source(s, g, TP_CLIP, 1, wrong);
    else if (s->source == TP_CLIP)
        of_source(s, g, TP_CLIP, 0, wrong);
    else if (whole)
        of_source(s, g, TP_SAME, 1, wrong);
    else
        of_source(s, g, TP_SAME, 0, wrong);
}

static void find_inputs(const tp_delta *s, const tile *t) {
    const int64_t place = s->all_steps * s->channels_in;
    for (int64_t i = 0; i < t->rows_in; ++i)
        for (int64_t j = 0; j < t->columns_in; ++j) {
            const int64_t y = t->top + i, x = t->left + j;
            const int64_t inside = y >= 0 && y < s->height_in && x >= 0 && x < s->width_in;
            const int64_t input = (t->sample * s->height_in + y) * s->width_in + x;
            t->inputs[i * t->columns_in + j] = inside ? s->levels + input * place : NULL;
        }
}

/* All steps of the outputs of one tile. */
static void of_tile(const tp_delta *s, const tile *t, const tp_delta_plan *plan, char *scratch, int64_t *totals,
                    int64_t *broken) {
    const lists found = {(int32_t *)(scratch + plan->entries), (int32_t *)(scratch + plan->numbers)};
    int64_t *starts = (int64_t *)(scratch + plan->starts);
    int32_t *sums = (int32_t *)(scratch + plan->sums);
    uint8_t *heard = (uint8_t *)(scratch + plan->heard);
    const int64_t outputs = t->rows * t->columns, positions = s->height * s->width;
    const int64_t taps = s->kernel_y * s->kernel_x;
    range busy = {.pairs = (int32_t *)(scratch + plan->pairs), .begins = (int64_t *)(scratch + plan->begins)};
    uint8_t listed[TP_DELTA_STEPS], some_listed = 0;
    vl wrong = {0};
    memset(heard, 0, (size_t)s->steps);
    if (s->levels && !s->depthwise) {
        int64_t active[TP_DELTA_STEPS];
        find_inputs(s, t);
        find_active(s, t, active);
        find_range(s, t, active, &busy);
        for (int64_t k = 0; k < s->steps; ++k) {
            const int64_t together = k >= busy.first && k < busy.first + busy.count;
            listed[k] = active[k] && !together, some_listed |= listed[k], heard[k] = (uint8_t)together;
        }
        if (busy.count)
            list_range(s, t, &busy);
        if (some_listed)
            list(s, t, listed, &found, starts);
    }
    for (int64_t c = 0; c < s->channels; c += BLOCK) {
        const int64_t left = (s->channels - c + 15) / 16 * 16, width = left < BLOCK ? left : BLOCK;
        const int64_t per_channel = s->depthwise ? (taps + 1) / 2 * 2 : taps * s->channels_in;
        const int16_t *weights = s->weights + c * per_channel;
        for (int64_t i = 0; i < outputs; ++i) {
            const int64_t y = i / t->columns, x = i % t->columns;
            const int64_t position = (t->y + y) * s->width + t->x + x, place = t->sample * positions + position;
            if (s->levels && s->depthwise)
                depthwise(s, t, weights, c, width, y, x, sums, heard);
            for (int64_t k = 0; some_listed && k < s->steps; ++k)
                if (listed[k])
                    heard[k] = (uint8_t)of_block(s, t, &found, starts + k, weights, width, y, x, sums + k * BLOCK);
            if (busy.count)
                block_together(s, t, &busy, weights, width, y, x, sums);
            const int64_t at = place * s->all_steps * s->channels + c;
            const group g = {place * s->channels + c, position, c, c + width < s->channels ? width : s->channels - c,
                             s->batch * positions * s->channels, s->out ? s->out + at : NULL,
                             s->passed ? s->passed + at : NULL, sums, heard};
            if (s->currents)
                currents(s, &g);
            if (s->out)
                neurons(s, &g, &wrong);
        }
    }
    if (s->out && s->fan) {
        int64_t sent[TP_DELTA_STEPS] = {0};
        count(s, t, totals, sent);
        for (int64_t k = 0; s->events && k < s->steps; ++k)
            if (sent[k]) /* other threads have other tiles of this sample */
                __atomic_fetch_add(s->events + k * s->batch + t->sample, sent[k], __ATOMIC_RELAXED);
    }
    for (int64_t i = 0; i < WIDE; ++i)
        *broken |= wrong[i] != 0;
}

/* Tile ``number`` of the layer. */
static tile of_number(const tp_delta *s, const tp_delta_plan *plan, int64_t number) {
    const int64_t across = (s->width + plan->columns - 1) / plan->columns;
    const int64_t down = (s->height + plan->rows - 1) / plan->rows;
    tile t = {.sample = number / (across * down)};
    t.y = number / across % down * plan->rows, t.x = number % across * plan->columns;
    t.rows = s->height - t.y < plan->rows ? s->height - t.y : plan->rows;
    t.columns = s->width - t.x < plan->columns ? s->width - t.x : plan->columns;
    t.top = t.y * s->stride_y - s->padding_y, t.left = t.x * s->stride_x - s->padding_x;
    t.rows_in = (t.rows - 1) * s->stride_y + (s->kernel_y - 1) * s->dilation_y + 1;
    t.columns_in = (t.columns - 1) * s->stride_x + (s->kernel_x - 1) * s->dilation_x + 1;
    return t;
}

/* Fetches the levels of the tile that comes next: short pieces of memory, which no processor fetches ahead by itself. */
static void fetch(const tp_delta *s, const tile *t) {
    const int64_t place = s->all_steps * s->channels_in, used = s->steps * s->channels_in * (int64_t)sizeof(int16_t);
    for (int64_t i = 0; i < t->rows_in * t->columns_in; ++i) {
        const int64_t y = t->top + i / t->columns_in, x = t->left + i % t->columns_in;
        if (y < 0 || y >= s->height_in || x < 0 || x >= s->width_in)
            continue;
        const char *own = (const char *)(s->levels + ((t->sample * s->height_in + y) * s->width_in + x) * place);
        for (int64_t at = 0; at < used; at += 64)
            __builtin_prefetch(own + at, 0, 2);
    }
}

void TP_DELTA(const tp_delta *s, const tp_delta_plan *plan, int64_t number, char *scratch, int64_t *totals,
              int64_t *broken) {
    tile t = of_number(s, plan, number);
    t.inputs = (const int16_t **)(scratch + plan->inputs);
    if (s->levels && number + 1 < plan->tiles) {
        const tile next = of_number(s, plan, number + 1);
        fetch(s, &next);
    }
    of_tile(s, &t, plan, scratch, totals, broken);
}
