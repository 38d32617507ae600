/*
 * Prefill: many tokens, 4- and 8-bit weights, AVX-512 VNNI + VBMI2. A panel of 32 rows (two tiles)
 * and up to 512 columns is expanded to u8 codes, transposed so that a register
 * holds four columns of 16 rows, and multiplied from the cache like a dense
 * int8 matrix, six tokens at a time.
 */
#include "vector.h"

enum {
    TOKENS = 6, /* × 2 tiles: 12 integer and 12 float sums stay in registers */
    PANEL_WORDS = PANEL_COLS / 64,
    PANEL_BLOCKS = PANEL_COLS / ACT_BLOCK,
};

/*
 * The rows of a 4-bit tile lie in the panel as in the stream: those of the low
 * half in order, then those of the high half. Sums are put in order at the end.
 */
struct panel {
    /* [tile][quad of columns][row][column of the quad] */
    _Alignas(64) uint8_t codes[2][PANEL_COLS / 4][TILE_ROWS][4];
    /* [tile][block of 32 columns][row] */
    _Alignas(64) float scales[2][PANEL_BLOCKS][TILE_ROWS];
};

/* Sums of all tokens: [token][tile][row]. */
typedef float product[2][TILE_ROWS];

uint64_t kernel_many_scratch(uint32_t tokens) { return sizeof(struct panel) + (uint64_t)tokens * sizeof(product); }

/* A tile on its way through the columns. */
struct cursor {
    struct tile v;
    _Alignas(64) int32_t scale_at[TILE_ROWS]; /* bytes into the scales; by place in the panel, as all below */
    const uint64_t *masks[TILE_ROWS];
    const uint8_t *stream[TILE_ROWS];
    struct fetcher ahead;
};

/* The slot of a place in the panel. Places of rows that are not there repeat the first one; nobody looks at their sums. */
static uint32_t slot_of_place(const struct plain *p, const struct tile *v, uint32_t place) {
    uint32_t half = TILE_ROWS / 2, slot = !p->halves ? place : place < half ? 2 * place : 2 * (place - half) + 1;
    return slot < v->rows ? slot : 0;
}

TARGET static void cursor_open(struct cursor *c, const struct plain *p, uint32_t tile) {
    c->v = tile_at(p, tile);
    const uint8_t *at[TILE_ROWS] = {NULL}, *plane[2] = {c->v.stream, c->v.stream};
    for (uint32_t slot = 0; slot < c->v.rows; slot++) {
        const uint8_t **next = &plane[p->halves ? slot & 1 : 0];
        at[slot] = *next;
        *next += count_survivors(c->v.masks + (uint64_t)slot * p->words, p->words);
    }
    for (uint32_t i = 0; i < TILE_ROWS; i++) {
        uint32_t slot = slot_of_place(p, &c->v, i);
        c->masks[i] = c->v.masks + (uint64_t)slot * p->words;
        c->scale_at[i] = (int32_t)(2 * slot * p->groups);
        c->stream[i] = at[slot];
    }
    c->ahead = fetch_after(p, tile);
}

/* The unsigned codes of 64 bytes of the stream: of a nibble's plane, or whole. */
INLINE __m512i codes_of(__m512i bytes, bool nibbles, bool high) {
    if (!nibbles) return _mm512_xor_si512(bytes, _mm512_set1_epi8((char)0x80));
    return _mm512_and_si512(high ? _mm512_srli_epi16(bytes, 4) : bytes, _mm512_set1_epi8(15));
}

/* Expands words [w, w+words) of a tile into the panel. */
INLINE void fill(struct cursor *c, uint32_t w, uint32_t words, bool nibbles, uint8_t (*codes)[TILE_ROWS][4]) {
    const __m512i pruned = _mm512_set1_epi8(nibbles ? 8 : (char)0x80);
    for (uint32_t i = 0; i < words; i++) {
        fetch_word(&c->ahead);
        __m512i r[TILE_ROWS];
        for (uint32_t k = 0; k < TILE_ROWS; k++) {
            uint64_t mask = c->masks[k][w + i];
            r[k] = _mm512_mask_expand_epi8(pruned, mask, codes_of(_mm512_loadu_si512(c->stream[k]), nibbles, k >= TILE_ROWS / 2));
            c->stream[k] += _mm_popcnt_u64(mask);
        }
        transpose(r);
        for (int quad = 0; quad < 16; quad++) _mm512_store_si512(codes[16 * i + (uint32_t)quad], r[quad]);
    }
}

TARGET static void fill_codes(struct cursor *c, const struct plain *p, uint32_t w, uint32_t words, uint8_t (*codes)[TILE_ROWS][4]) {
    if (p->halves) {
        fill(c, w, words, true, codes);
    } else {
        fill(c, w, words, false, codes);
    }
}

/* The scales of every block; past the last column, where activations are zero, the last ones again. */
TARGET static void fill_scales(const struct cursor *c, const struct plain *p, uint32_t w, uint32_t words, float (*scales)[TILE_ROWS]) {
    const __m512i at = _mm512_load_si512(c->scale_at);
    uint32_t per = p->group / ACT_BLOCK, first = 2 * w / per; /* PANEL_COLS is a multiple of any group */
    for (uint32_t b = 0; b < 2 * words; b += per) {
        uint32_t g = first + b / per < p->groups ? first + b / per : p->groups - 1;
        /* a gather reads four bytes; behind the scales of the last row the stream follows */
        __m512 d = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_i32gather_epi32(at, c->v.scales + g, 1)));
        for (uint32_t i = b; i < b + per && i < 2 * words; i++) _mm512_store_ps(scales[i], d);
    }
}

/*
 * Adds the panel's products with n tokens from t on, block by block: the
 * integer sum of a block times the product of both scales, which is exact,
 * added with one rounding. That is the order of ggml's repacked Q4_0, so the
 * results are the same bits.
 */
INLINE void panel_products(const struct panel *q, const struct activations *a, uint32_t t, int n, uint32_t w, uint32_t words, product *y) {
    const int8_t *codes = a->codes + (uint64_t)t * a->stride + 64 * (uint64_t)w;
    const float *scales = a->scales + (uint64_t)t * a->blocks + 2 * w;
    const int32_t *bias = a->bias + (uint64_t)t * a->blocks + 2 * w;
    __m512 sum[2][TOKENS];
    for (int i = 0; i < n; i++) {
        sum[0][i] = _mm512_load_ps(y[t + (uint32_t)i][0]);
        sum[1][i] = _mm512_load_ps(y[t + (uint32_t)i][1]);
    }
    for (uint32_t b = 0; b < 2 * words; b++) {
        __m512i dot[2][TOKENS];
        for (int i = 0; i < n; i++) dot[0][i] = dot[1][i] = _mm512_set1_epi32(bias[(uint64_t)i * a->blocks + b]);
#pragma GCC unroll 8 /* a loop would copy every sum to another register and back */
        for (int quad = 0; quad < ACT_BLOCK / 4; quad++) {
            __m512i c0 = _mm512_load_si512(q->codes[0][8 * b + quad]), c1 = _mm512_load_si512(q->codes[1][8 * b + quad]);
            for (int i = 0; i < n; i++) {
                int32_t four;
                memcpy(&four, codes + (uint64_t)i * a->stride + ACT_BLOCK * (uint64_t)b + 4 * quad, 4);
                __m512i x = _mm512_set1_epi32(four);
                dot[0][i] = _mm512_dpbusd_epi32(dot[0][i], c0, x);
                dot[1][i] = _mm512_dpbusd_epi32(dot[1][i], c1, x);
            }
        }
        __m512 d0 = _mm512_load_ps(q->scales[0][b]), d1 = _mm512_load_ps(q->scales[1][b]);
        for (int i = 0; i < n; i++) {
            __m512 s = _mm512_set1_ps(scales[(uint64_t)i * a->blocks + b]);
            sum[0][i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[0][i]), _mm512_mul_ps(d0, s), sum[0][i]);
            sum[1][i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[1][i]), _mm512_mul_ps(d1, s), sum[1][i]);
        }
    }
    for (int i = 0; i < n; i++) {
        _mm512_store_ps(y[t + (uint32_t)i][0], sum[0][i]);
        _mm512_store_ps(y[t + (uint32_t)i][1], sum[1][i]);
    }
}

#define PRODUCTS(n)                                                                                                                      \
    TARGET static void products_##n(const struct panel *q, const struct activations *a, uint32_t t, uint32_t w, uint32_t words, product *y) { \
        panel_products(q, a, t, n, w, words, y);                                                                                         \
    }
PRODUCTS(1)
PRODUCTS(2)
PRODUCTS(3)
PRODUCTS(4)
PRODUCTS(5)
PRODUCTS(6)

/* All tokens with one panel. */
static void panel_tokens(const struct panel *q, const struct activations *a, uint32_t w, uint32_t words, product *y) {
    typedef void products(const struct panel *, const struct activations *, uint32_t, uint32_t, uint32_t, product *);
    static products *const by_tokens[TOKENS + 1] = {NULL, products_1, products_2, products_3, products_4, products_5, products_6};
    for (uint32_t t = 0; t < a->tokens;) {
        uint32_t n = a->tokens - t < TOKENS ? a->tokens - t : TOKENS;
        by_tokens[n](q, a, t, w, words, y);
        t += n;
    }
}

TARGET void kernel_many(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, void *scratch) {
    struct panel *q = scratch;
    product *sums = (product *)(q + 1);
    for (uint32_t tile = from; tile < to; tile += 2) {
        struct cursor c[2];
        int tiles = tile + 1 < to ? 2 : 1;
        for (int i = 0; i < tiles; i++) cursor_open(&c[i], p, tile + (uint32_t)i);
        memset(sums, 0, (uint64_t)a->tokens * sizeof *sums);
        for (uint32_t w = 0; w < p->words; w += PANEL_WORDS) {
            uint32_t words = p->words - w < PANEL_WORDS ? p->words - w : PANEL_WORDS;
            for (int i = 0; i < tiles; i++) {
                fill_codes(&c[i], p, w, words, q->codes[i]);
                fill_scales(&c[i], p, w, words, q->scales[i]);
            }
            panel_tokens(q, a, w, words, sums);
        }
        for (uint32_t t = 0; t < a->tokens; t++) {
            for (int i = 0; i < tiles; i++)
                store_tile(&c[i].v, p->halves != NULL, _mm512_load_ps(sums[t][i]), y + t * ld + (tile + (uint32_t)i) * (uint64_t)TILE_ROWS);
        }
    }
}
