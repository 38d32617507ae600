/*
 * Prefill with 16-bit survivors: a panel of 32 rows (two tiles) and up to 256
 * columns is expanded, transposed so that a register holds 16 rows, and
 * multiplied from the cache, six tokens at a time. A register has a column of the
 * rows as float32, or a pair of columns in BF16.
 */
#include "vector.h"

enum { TOKENS = 6 };

struct panel {
    __m512i columns[2][FLOAT_PANEL_COLS]; /* [tile][column, or pair of columns] */
};

/* Sums of all tokens: [token][tile][row]. */
typedef float product[2][TILE_ROWS];

uint64_t kernel_floats_scratch(uint32_t tokens) { return sizeof(struct panel) + (uint64_t)tokens * sizeof(product); }

struct cursor {
    struct tile v;
    const uint8_t *at[TILE_ROWS];
    struct fetcher ahead;
};

TARGET static void cursor_open(struct cursor *c, const struct plain *p, uint32_t tile) {
    c->v = tile_at(p, tile);
    const uint8_t *at = c->v.stream;
    for (uint32_t row = 0; row < c->v.rows; row++) {
        c->at[row] = at;
        at += 2 * count_survivors(c->v.masks + (uint64_t)row * p->words, p->words);
    }
    c->ahead = fetch_after(p, tile);
}

/* Expands words [w, w+words) of a tile, 16 or 32 columns at a time. */
INLINE void fill(struct cursor *c, const struct plain *p, uint32_t w, uint32_t words, enum half_form f, __m512i *panel) {
    const __m512i zero = opaque_zero();
    const uint32_t cols = f == BF16_PAIRS ? 32 : 16, per_word = 64 / cols;
    for (uint32_t i = 0; i < per_word * words; i++) {
        if (i % per_word == 0) fetch_word(&c->ahead);
        __m512i r[TILE_ROWS];
        for (uint32_t row = 0; row < TILE_ROWS; row++) {
            r[row] = _mm512_setzero_si512();
            if (row >= c->v.rows) continue;
            uint64_t mask = c->v.masks[(uint64_t)row * p->words + w + i / per_word] >> i % per_word * cols;
            uint32_t m = f == BF16_PAIRS ? (uint32_t)mask : (uint16_t)mask;
            const void *at = c->at[row];
            c->at[row] += 2 * _mm_popcnt_u32(m);
            if (f == BF16_PAIRS) {
                r[row] = _mm512_mask_expand_epi16(zero, m, _mm512_loadu_si512(at));
            } else {
                r[row] = widen(_mm256_mask_expand_epi16(_mm512_castsi512_si256(zero), (__mmask16)m, _mm256_loadu_si256(at)), f);
            }
        }
        transpose(r);
        for (uint32_t k = 0; k < 16; k++) panel[16 * i + k] = r[k];
    }
}

/* Adds the products of n columns or pairs of the panel with tokens tokens, whose activations are step apart. */
INLINE void products(const struct panel *q, const uint32_t *x, uint64_t step, uint32_t n, int tokens, enum half_form f, product *y) {
    __m512 sum[2][TOKENS];
    for (int i = 0; i < tokens; i++) {
        sum[0][i] = _mm512_load_ps(y[i][0]);
        sum[1][i] = _mm512_load_ps(y[i][1]);
    }
#pragma GCC unroll 8 /* a loop would copy every sum to another register and back */
    for (uint32_t k = 0; k < n; k++) {
        __m512i w0 = q->columns[0][k], w1 = q->columns[1][k];
        for (int i = 0; i < tokens; i++) {
            int32_t one; /* float32, or a pair */
            memcpy(&one, x + (uint64_t)i * step + k, sizeof one);
            __m512i v = _mm512_set1_epi32(one);
            sum[0][i] = add_product(sum[0][i], w0, v, f);
            sum[1][i] = add_product(sum[1][i], w1, v, f);
        }
    }
    for (int i = 0; i < tokens; i++) {
        _mm512_store_ps(y[i][0], sum[0][i]);
        _mm512_store_ps(y[i][1], sum[1][i]);
    }
}

typedef void variant(const struct panel *, const uint32_t *, uint64_t, uint32_t, product *);

#define VARIANT(name, tokens, form)                                                                                    \
    TARGET static void name##_##tokens(const struct panel *q, const uint32_t *x, uint64_t step, uint32_t n, product *y) { \
        products(q, x, step, n, tokens, form, y);                                                                      \
    }
#define VARIANTS(name, form)                                                                 \
    VARIANT(name, 1, form) VARIANT(name, 2, form) VARIANT(name, 3, form)                     \
    VARIANT(name, 4, form) VARIANT(name, 5, form) VARIANT(name, 6, form)                     \
    static variant *const name[TOKENS] = {name##_1, name##_2, name##_3, name##_4, name##_5, name##_6};
VARIANTS(columns, BF16)
VARIANTS(pairs, BF16_PAIRS)

INLINE void many(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, void *scratch, enum half_form f) {
    struct panel *q = scratch;
    product *sums = (product *)(q + 1);
    const uint32_t per = f == BF16_PAIRS ? 2 : 1; /* columns to a register */
    const uint32_t *x = f == BF16_PAIRS ? (const uint32_t *)a->halves : (const uint32_t *)a->values;
    variant *const *by_tokens = f == BF16_PAIRS ? pairs : columns;
    for (uint32_t tile = from; tile < to; tile += 2) {
        struct cursor c[2] = {0};
        cursor_open(&c[0], p, tile);
        if (tile + 1 < to) cursor_open(&c[1], p, tile + 1);
        memset(sums, 0, (uint64_t)a->tokens * sizeof *sums);
        for (uint32_t w = 0; w < p->words; w += FLOAT_PANEL_COLS / 64) {
            uint32_t words = p->words - w < FLOAT_PANEL_COLS / 64 ? p->words - w : FLOAT_PANEL_COLS / 64;
            for (int i = 0; i < 2; i++) fill(&c[i], p, w, words, f, q->columns[i]);
            for (uint32_t t = 0; t < a->tokens; t += TOKENS) {
                uint32_t n = a->tokens - t < TOKENS ? a->tokens - t : TOKENS;
                by_tokens[n - 1](q, x + ((uint64_t)t * a->stride + 64 * w) / per, a->stride / per, 64 * words / per, sums + t);
            }
        }
        for (uint32_t t = 0; t < a->tokens; t++) {
            for (int i = 0; i < 2; i++) store_tile(&c[i].v, false, _mm512_load_ps(sums[t][i]), y + t * ld + (tile + (uint32_t)i) * (uint64_t)TILE_ROWS);
        }
    }
}

TARGET void kernel_floats_many(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, void *scratch) {
    if (p->coding == CODING_F16) {
        many(p, from, to, a, y, ld, scratch, F16);
    } else {
        many(p, from, to, a, y, ld, scratch, BF16);
    }
}

TARGET void kernel_bf16_many(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, void *scratch) {
    many(p, from, to, a, y, ld, scratch, BF16_PAIRS);
}
