/*
 * Prefill with 16-bit survivors: a panel of 32 rows (two tiles) and up to 256
 * columns is expanded to float32, transposed so that a register holds a column
 * of 16 rows, and multiplied from the cache, six tokens at a time.
 */
#include "vector.h"

enum { TOKENS = 6 };

struct panel {
    _Alignas(64) float w[2][FLOAT_PANEL_COLS][TILE_ROWS]; /* [tile][column][row] */
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

/* Expands words [w, w+words) of a tile, 16 columns at a time. */
INLINE void fill(struct cursor *c, const struct plain *p, uint32_t w, uint32_t words, bool bf16, float (*panel)[TILE_ROWS]) {
    __m256i zero = _mm256_setzero_si256();
    __asm__("" : "+v"(zero));
    for (uint32_t i = 0; i < 4 * words; i++) {
        if (i % 4 == 0) fetch_word(&c->ahead);
        __m512i r[TILE_ROWS];
        for (uint32_t row = 0; row < TILE_ROWS; row++) {
            r[row] = _mm512_setzero_si512();
            if (row >= c->v.rows) continue;
            __mmask16 m = (__mmask16)(c->v.masks[(uint64_t)row * p->words + w + i / 4] >> i % 4 * 16);
            __m256i v = _mm256_mask_expand_epi16(zero, m, _mm256_loadu_si256((const __m256i *)c->at[row]));
            c->at[row] += 2 * _mm_popcnt_u32(m);
            r[row] = bf16 ? _mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16) : _mm512_castps_si512(_mm512_cvtph_ps(v));
        }
        transpose(r);
        for (uint32_t k = 0; k < 16; k++) _mm512_store_si512(panel[16 * i + k], r[k]);
    }
}

TARGET static void fill_panel(struct cursor *c, const struct plain *p, uint32_t w, uint32_t words, float (*panel)[TILE_ROWS]) {
    if (p->coding == CODING_BF16) {
        fill(c, p, w, words, true, panel);
    } else {
        fill(c, p, w, words, false, panel);
    }
}

/* Adds the panel's products with n tokens from t on. */
INLINE void products(const struct panel *q, const struct activations *a, uint32_t t, int n, uint32_t col, uint32_t cols, product *y) {
    const float *x = a->values + (uint64_t)t * a->stride + col;
    __m512 sum[2][TOKENS];
    for (int i = 0; i < n; i++) {
        sum[0][i] = _mm512_load_ps(y[t + (uint32_t)i][0]);
        sum[1][i] = _mm512_load_ps(y[t + (uint32_t)i][1]);
    }
#pragma GCC unroll 8 /* a loop would copy every sum to another register and back */
    for (uint32_t k = 0; k < cols; k++) {
        __m512 w0 = _mm512_load_ps(q->w[0][k]), w1 = _mm512_load_ps(q->w[1][k]);
        for (int i = 0; i < n; i++) {
            __m512 v = _mm512_set1_ps(x[(uint64_t)i * a->stride + k]);
            sum[0][i] = _mm512_fmadd_ps(w0, v, sum[0][i]);
            sum[1][i] = _mm512_fmadd_ps(w1, v, sum[1][i]);
        }
    }
    for (int i = 0; i < n; i++) {
        _mm512_store_ps(y[t + (uint32_t)i][0], sum[0][i]);
        _mm512_store_ps(y[t + (uint32_t)i][1], sum[1][i]);
    }
}

typedef void variant(const struct panel *, const struct activations *, uint32_t, uint32_t, uint32_t, product *);

#define VARIANT(n)                                                                                                                   \
    TARGET static void products_##n(const struct panel *q, const struct activations *a, uint32_t t, uint32_t col, uint32_t cols, product *y) { \
        products(q, a, t, n, col, cols, y);                                                                                          \
    }
VARIANT(1)
VARIANT(2)
VARIANT(3)
VARIANT(4)
VARIANT(5)
VARIANT(6)

void kernel_floats_many(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, void *scratch) {
    static variant *const by_tokens[TOKENS + 1] = {NULL, products_1, products_2, products_3, products_4, products_5, products_6};
    struct panel *q = scratch;
    product *sums = (product *)(q + 1);
    for (uint32_t tile = from; tile < to; tile += 2) {
        struct cursor c[2] = {0};
        cursor_open(&c[0], p, tile);
        if (tile + 1 < to) cursor_open(&c[1], p, tile + 1);
        memset(sums, 0, (uint64_t)a->tokens * sizeof *sums);
        for (uint32_t w = 0; w < p->words; w += FLOAT_PANEL_COLS / 64) {
            uint32_t words = p->words - w < FLOAT_PANEL_COLS / 64 ? p->words - w : FLOAT_PANEL_COLS / 64;
            for (int i = 0; i < 2; i++) fill_panel(&c[i], p, w, words, q->w[i]);
            for (uint32_t t = 0; t < a->tokens; t += TOKENS) {
                uint32_t n = a->tokens - t < TOKENS ? a->tokens - t : TOKENS;
                by_tokens[n](q, a, t, 64 * w, 64 * words, sums);
            }
        }
        for (uint32_t t = 0; t < a->tokens; t++) {
            for (int i = 0; i < 2; i++)
                memcpy(y + t * ld + (tile + (uint32_t)i) * (uint64_t)TILE_ROWS, sums[t][i], c[i].v.rows * sizeof(float));
        }
    }
}
