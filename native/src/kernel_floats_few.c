/*
 * Generation and short prompts with 16-bit survivors, AVX-512 VBMI2. Rows run in
 * pairs, which share the activations and keep more sums on their way than one
 * row has; the second begins in the stream where counting the first one's
 * survivors ends. Eight tokens' sums fit the registers; of more, tiles are
 * expanded several times.
 */
#include "vector.h"

enum { TOKENS = 8 };

/* What is fetched: step bytes for 32 columns of a pair of rows. */
struct ahead {
    const char *at;
    uint64_t step;
};

struct row {
    const uint64_t *mask;
    const uint8_t *at; /* stream */
};

/* The next 32 weights of a row, i·32 from its beginning. */
INLINE __m512i expand(struct row *r, uint32_t i, __m512i zero) {
    uint32_t m = (uint32_t)(r->mask[i / 2] >> i % 2 * 32);
    __m512i v = _mm512_mask_expand_epi16(zero, m, _mm512_loadu_si512(r->at));
    r->at += 2 * _mm_popcnt_u32(m);
    return v;
}

/* Two registers of weights: 32 as float32, or 64 in pairs. */
INLINE void expand_two(struct row *r, uint32_t i, __m512i zero, enum half_form f, __m512i w[2]) {
    if (f == BF16_PAIRS) {
        w[0] = expand(r, 2 * i, zero);
        w[1] = expand(r, 2 * i + 1, zero);
    } else {
        __m512i v = expand(r, i, zero);
        w[0] = widen(_mm512_castsi512_si256(v), f);
        w[1] = widen(_mm512_extracti64x4_epi64(v, 1), f);
    }
}

INLINE void fetch(struct ahead *a) {
    _mm_prefetch(a->at, _MM_HINT_T0);
    _mm_prefetch(a->at + 64, _MM_HINT_T0);
    a->at += a->step;
}

/* The products of rows first and, if there are two, first+1, with tokens whose activations are stride dwords apart. */
INLINE void row_products(struct row r[2], struct ahead *ahead, uint32_t words, const uint32_t *x, uint64_t stride, int tokens, enum half_form f, int rows,
                         struct products out[], uint32_t first) {
    const __m512i zero = opaque_zero();
    const uint32_t steps = f == BF16_PAIRS ? words : 2 * words;
    /* whether a row has two sums: several tokens have enough sums on their way, and few registers */
    const int second = tokens <= (f == BF16_PAIRS ? 2 : 3);
    __m512 sum[2][TOKENS][2];
    for (int t = 0; t < tokens; t++) sum[0][t][0] = sum[0][t][1] = sum[1][t][0] = sum[1][t][1] = _mm512_setzero_ps();
#pragma GCC unroll 2 /* a loop would copy every sum to another register and back */
    for (uint32_t i = 0; i < steps; i++) {
        __m512i w[2][2];
        fetch(ahead);
        if (f == BF16_PAIRS) fetch(ahead);
        for (int k = 0; k < rows; k++) expand_two(&r[k], i, zero, f, w[k]);
        for (int t = 0; t < tokens; t++) {
            const uint32_t *at = x + (uint64_t)t * stride + 32 * (uint64_t)i;
            __m512i x0 = _mm512_load_si512(at), x1 = _mm512_load_si512(at + 16);
            for (int k = 0; k < rows; k++) {
                sum[k][t][0] = add_product(sum[k][t][0], w[k][0], x0, f);
                sum[k][t][second] = add_product(sum[k][t][second], w[k][1], x1, f);
            }
        }
    }
    for (int t = 0; t < tokens; t++) {
        for (int k = 0; k < rows; k++) out[t].rows[first + (uint32_t)k] = _mm512_add_ps(sum[k][t][0], sum[k][t][1]);
    }
}

/* The products of a tile with some tokens, whose activations are stride dwords apart. */
INLINE void tile_products(const struct plain *p, uint32_t tile, const uint32_t *x, uint64_t stride, float *y, uint64_t ld, int tokens, enum half_form f) {
    struct tile v = tile_at(p, tile);
    uint64_t bytes = tile_bytes(p, tile);
    struct ahead ahead = {fetch_ahead(&v, bytes), bytes / (p->words * TILE_ROWS)};
    struct products out[TOKENS];
    struct row r[2] = {{v.masks, NULL}, {v.masks, v.stream}};
    uint32_t row = 0;
    for (; row + 1 < v.rows; row += 2) {
        r[0] = (struct row){v.masks + (uint64_t)row * p->words, r[1].at};
        r[1] = (struct row){r[0].mask + p->words, r[0].at + 2 * count_survivors(r[0].mask, p->words)};
        row_products(r, &ahead, p->words, x, stride, tokens, f, 2, out, row);
    }
    if (row < v.rows) {
        r[0] = (struct row){v.masks + (uint64_t)row * p->words, r[1].at};
        row_products(r, &ahead, p->words, x, stride, tokens, f, 1, out, row++);
    }
    for (int t = 0; t < tokens; t++) {
        for (uint32_t none = row; none < TILE_ROWS; none++) out[t].rows[none] = _mm512_setzero_ps();
        store_tile(&v, false, sum_lanes(out[t].rows), y + (uint64_t)t * ld + (uint64_t)tile * TILE_ROWS);
    }
}

typedef void variant(const struct plain *, uint32_t, const uint32_t *, uint64_t, float *, uint64_t);

#define VARIANT(name, tokens, form)                                                                                                       \
    TARGET static void name##_##tokens(const struct plain *p, uint32_t tile, const uint32_t *x, uint64_t stride, float *y, uint64_t ld) { \
        tile_products(p, tile, x, stride, y, ld, tokens, form);                                                                           \
    }
#define VARIANTS(name, form)                                                                    \
    VARIANT(name, 1, form) VARIANT(name, 2, form) VARIANT(name, 3, form) VARIANT(name, 4, form) \
    VARIANT(name, 5, form) VARIANT(name, 6, form) VARIANT(name, 7, form) VARIANT(name, 8, form) \
    static variant *const name[TOKENS] = {name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8};
VARIANTS(f16, F16)
VARIANTS(bf16, BF16)
VARIANTS(pairs, BF16_PAIRS)

static void few(const struct plain *p, uint32_t from, uint32_t to, uint32_t tokens, const void *activations, uint64_t stride, float *y, uint64_t ld,
                variant *const *by_tokens) {
    const uint32_t *x = activations;
    for (uint32_t tile = from; tile < to; tile++) {
        for (uint32_t t = 0; t < tokens; t += TOKENS) {
            uint32_t n = tokens - t < TOKENS ? tokens - t : TOKENS;
            by_tokens[n - 1](p, tile, x + t * stride, stride, y + t * ld, ld);
        }
    }
}

void kernel_floats(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, void *scratch) {
    (void)scratch;
    few(p, from, to, a->tokens, a->values, a->stride, y, ld, p->coding == CODING_F16 ? f16 : bf16);
}

void kernel_bf16(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, void *scratch) {
    (void)scratch;
    few(p, from, to, a->tokens, a->halves, a->stride / 2, y, ld, pairs);
}
