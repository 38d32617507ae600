/*
 * Generation and short prompts with 16-bit survivors, AVX-512 VBMI2. Rows run in
 * pairs, which share the activations and keep more sums on their way than one
 * row has; the second begins in the stream where counting the first one's
 * survivors ends. Six tokens' sums fit the registers; of more, tiles are
 * expanded several times.
 */
#include "vector.h"

/* How far ahead of the tile that is executed the next ones are fetched, at least. */
enum { PREFETCH_BYTES = 16 << 10 };

enum { TOKENS = 6 };

/* What is fetched: step bytes for 32 columns of a pair of rows. */
struct ahead {
    const char *at;
    uint64_t step;
};

struct row {
    const uint64_t *mask;
    const uint8_t *at; /* stream */
};

/* The products of rows first and, if there are two, first+1. */
INLINE void row_products(struct row r[2], struct ahead *ahead, uint32_t words, const float *values, uint64_t stride, int tokens, bool bf16, int rows,
                         struct products out[], uint32_t first) {
    const __m512i zero = opaque_zero();
    __m512 sum[2][TOKENS][2];
    for (int t = 0; t < tokens; t++) sum[0][t][0] = sum[0][t][1] = sum[1][t][0] = sum[1][t][1] = _mm512_setzero_ps();
#pragma GCC unroll 2
    for (uint32_t i = 0; i < 2 * words; i++) {
        __m512 w[2][2];
        _mm_prefetch(ahead->at, _MM_HINT_T0);
        _mm_prefetch(ahead->at + 64, _MM_HINT_T0);
        ahead->at += ahead->step;
        for (int k = 0; k < rows; k++) r[k].at = expand_halves(r[k].at, (uint32_t)(r[k].mask[i / 2] >> i % 2 * 32), zero, bf16, w[k]);
        for (int t = 0; t < tokens; t++) {
            const float *x = values + (uint64_t)t * stride + 32 * (uint64_t)i;
            __m512 x0 = _mm512_load_ps(x), x1 = _mm512_load_ps(x + 16);
            for (int k = 0; k < rows; k++) {
                sum[k][t][0] = _mm512_fmadd_ps(w[k][0], x0, sum[k][t][0]);
                sum[k][t][1] = _mm512_fmadd_ps(w[k][1], x1, sum[k][t][1]);
            }
        }
    }
    for (int t = 0; t < tokens; t++) {
        for (int k = 0; k < rows; k++) out[t].rows[first + (uint32_t)k] = _mm512_add_ps(sum[k][t][0], sum[k][t][1]);
    }
}

/* The products of a tile with tokens from t on. */
INLINE void tile_products(const struct plain *p, uint32_t tile, const struct activations *a, uint32_t t, float *y, uint64_t ld, int tokens, bool bf16) {
    struct tile v = tile_at(p, tile);
    uint64_t bytes = 8 * (uint64_t)(p->offsets[tile + 1] - p->offsets[tile]);
    struct ahead ahead = {(const char *)v.masks + (bytes > PREFETCH_BYTES ? bytes : PREFETCH_BYTES), bytes / (p->words * TILE_ROWS)};
    const float *values = a->values + (uint64_t)t * a->stride;
    struct products out[TOKENS];
    struct row r[2] = {{v.masks, NULL}, {v.masks, v.stream}};
    uint32_t row = 0;
    for (; row + 1 < v.rows; row += 2) {
        r[0] = (struct row){v.masks + (uint64_t)row * p->words, r[1].at};
        r[1] = (struct row){r[0].mask + p->words, r[0].at + 2 * count_survivors(r[0].mask, p->words)};
        row_products(r, &ahead, p->words, values, a->stride, tokens, bf16, 2, out, row);
    }
    if (row < v.rows) {
        r[0] = (struct row){v.masks + (uint64_t)row * p->words, r[1].at};
        row_products(r, &ahead, p->words, values, a->stride, tokens, bf16, 1, out, row++);
    }
    for (int i = 0; i < tokens; i++) {
        for (uint32_t none = row; none < TILE_ROWS; none++) out[i].rows[none] = _mm512_setzero_ps();
        store_tile(&v, false, sum_lanes(out[i].rows), y + (t + (uint64_t)i) * ld + (uint64_t)tile * TILE_ROWS);
    }
}

typedef void variant(const struct plain *, uint32_t, const struct activations *, uint32_t, float *, uint64_t);

#define VARIANT(name, tokens, bf16)                                                                                                  \
    TARGET static void name##_##tokens(const struct plain *p, uint32_t tile, const struct activations *a, uint32_t t, float *y, uint64_t ld) { \
        tile_products(p, tile, a, t, y, ld, tokens, bf16);                                                                           \
    }
#define VARIANTS(name, bf16)                                                             \
    VARIANT(name, 1, bf16) VARIANT(name, 2, bf16) VARIANT(name, 3, bf16)                 \
    VARIANT(name, 4, bf16) VARIANT(name, 5, bf16) VARIANT(name, 6, bf16)                 \
    static variant *const name[TOKENS] = {name##_1, name##_2, name##_3, name##_4, name##_5, name##_6};
VARIANTS(f16, false)
VARIANTS(bf16, true)

void kernel_floats(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, void *scratch) {
    (void)scratch;
    variant *const *by_tokens = p->coding == CODING_F16 ? f16 : bf16;
    for (uint32_t tile = from; tile < to; tile++) {
        for (uint32_t t = 0; t < a->tokens; t += TOKENS) {
            uint32_t n = a->tokens - t < TOKENS ? a->tokens - t : TOKENS;
            by_tokens[n - 1](p, tile, a, t, y, ld);
        }
    }
}
