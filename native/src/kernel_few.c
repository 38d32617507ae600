/*
 * Generation: a few tokens, AVX-512 VNNI + VBMI2. The rows of a tile run in
 * pairs, one of each half, so that they share the activations; survivors are
 * expanded in registers straight into the products.
 *
 * Per 64 weights of a row: 64 bytes from the stream's current place, the
 * plane's nibbles masked out, expanded over the pruned code 8 (merging: the
 * zeroing form of VPEXPANDB waits for its destination's old value), VPDPBUSD,
 * and the place advances by the popcount of the mask. The high plane is used
 * as 16·q, over 8·16, and its sum divided by 16 at the end, which is exact.
 * Where every word has the same number of survivors, at most 32, the places
 * are known without counting, and 32 bytes, half as likely to cross a line, do.
 */
#include "vector.h"

/*
 * How far ahead of the tile that is executed the next ones are fetched, at
 * least; never less than a tile, because a tile's sections are read side by side.
 */
enum { PREFETCH_BYTES = 16 << 10 };

/* Where a pair of rows is in its tile. */
struct pair {
    const uint64_t *mask_low, *mask_high;
    const uint16_t *scale_low, *scale_high;
    const uint8_t *low, *high; /* stream */
    const char *ahead;         /* next line to prefetch */
};

/* 64 codes of a row: survivors of a plane (even: at most 32) over pruned weights. */
INLINE __m512i expand(uint64_t mask, const uint8_t *stream, __m512i plane, __m512i pruned, bool even) {
    __m512i bytes = even ? _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)stream)) : _mm512_loadu_si512(stream);
    return _mm512_mask_expand_epi8(pruned, mask, _mm512_and_si512(bytes, plane));
}

/* Scale of each of the 16 lanes of word w: lanes 0–7 are its first 32 weights. scales: 16 groups. */
INLINE __m512 lane_scales(const float *scales, uint32_t word, int group) {
    if (group == 32) {
        __m512i index = _mm512_add_epi32(_mm512_set1_epi32((int)(2 * word)), _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0));
        return _mm512_permutexvar_ps(index, _mm512_load_ps(scales));
    }
    return _mm512_set1_ps(scales[group == 64 ? word : word / 2]);
}

struct sums {
    __m512 low[FEW_TOKENS], high[FEW_TOKENS];
};

/*
 * One word (64 columns) of both rows for all tokens; part collects products of
 * one weight scale. even: survivors of every word, or 0 if they differ.
 */
INLINE void word_products(struct pair *r, const struct activations *a, int tokens, uint32_t even, uint32_t w, bool two, struct sums *part) {
    const __m512i low_nibbles = _mm512_set1_epi8(0x0f), high_nibbles = _mm512_set1_epi8((char)0xf0);
    uint64_t ml = r->mask_low[w], mh = two ? r->mask_high[w] : 0;
    __m512i low = expand(ml, r->low, low_nibbles, _mm512_set1_epi8(8), even);
    __m512i high = two ? expand(mh, r->high, high_nibbles, _mm512_set1_epi8((char)0x80), even) : _mm512_setzero_si512();
    r->low += even ? even : (uint32_t)_mm_popcnt_u64(ml);
    if (two) r->high += even ? even : (uint32_t)_mm_popcnt_u64(mh);
    _mm_prefetch(r->ahead, _MM_HINT_T0);
    r->ahead += 64;
    for (int t = 0; t < tokens; t++) {
        __m512i codes = _mm512_load_si512(a->codes + (uint64_t)t * a->stride + 64 * (uint64_t)w);
        __m512 scale = _mm512_load_ps(a->spread + (uint64_t)t * (a->stride / 4) + 16 * (uint64_t)w);
        __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), low, codes);
        part->low[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, part->low[t]);
        if (!two) continue;
        dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), high, codes);
        part->high[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, part->high[t]);
    }
}

INLINE void zero(struct sums *s, int tokens) {
    for (int t = 0; t < tokens; t++) s->low[t] = s->high[t] = _mm512_setzero_ps();
}

/* Adds the products of n words from w on that share a scale, or two; word counts from the first of the scales at hand. */
INLINE void scale_products(struct pair *r, const struct activations *a, int tokens, int group, uint32_t even, uint32_t w, uint32_t word, uint32_t n,
                           bool two, const float *scales_low, const float *scales_high, struct sums *sum) {
    struct sums part;
    zero(&part, tokens);
    __m512 by_low = lane_scales(scales_low, word, group), by_high = lane_scales(scales_high, word, group);
    for (uint32_t i = 0; i < n; i++) word_products(r, a, tokens, even, w + i, two, &part);
    for (int t = 0; t < tokens; t++) {
        sum->low[t] = _mm512_fmadd_ps(part.low[t], by_low, sum->low[t]);
        if (two) sum->high[t] = _mm512_fmadd_ps(part.high[t], by_high, sum->high[t]);
    }
}

/*
 * The products of a tile: 16 lanes to be summed for each row, the low half's
 * rows in order, then the high half's.
 */
struct products {
    __m512 rows[TILE_ROWS];
};

/* The products of a pair of rows (of one, the low one, unless two). */
INLINE void pair_products(const struct plain *p, struct pair *r, const struct activations *a, int tokens, int group, uint32_t even, bool two,
                          struct products out[], uint32_t pair) {
    struct sums sum, bias;
    zero(&sum, tokens);
    zero(&bias, tokens);
    _Alignas(64) float dl[16], dh[16];
    const uint32_t words16 = (uint32_t)group / 4; /* words of 16 groups */
    for (uint32_t g = 0, w = 0; g < p->groups; g += 16) {
        uint32_t n = p->groups - g < 16 ? p->groups - g : 16, end = w + words16 < p->words ? w + words16 : p->words;
        __mmask16 m = (__mmask16)((1u << n) - 1);
        __m512 scale_low = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, r->scale_low + g));
        __m512 scale_high = two ? _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, r->scale_high + g)) : _mm512_setzero_ps();
        _mm512_store_ps(dl, scale_low);
        _mm512_store_ps(dh, scale_high);
        for (int t = 0; t < tokens; t++) {
            __m512 s = _mm512_load_ps(a->group_sum + (uint64_t)t * a->sums + g);
            bias.low[t] = _mm512_fmadd_ps(scale_low, s, bias.low[t]);
            if (two) bias.high[t] = _mm512_fmadd_ps(scale_high, s, bias.high[t]);
        }
        uint32_t per = group == 128 ? 2 : 1, full = (end - w) / per * per, word = 0;
        if (tokens == 1) {
            for (; word < full; word += per) scale_products(r, a, tokens, group, even, w + word, word, per, two, dl, dh, &sum);
        } else {
#pragma GCC unroll 2 /* a loop would copy every sum to another register and back; one token's fit */
            for (; word < full; word += per) scale_products(r, a, tokens, group, even, w + word, word, per, two, dl, dh, &sum);
        }
        if (w + word < end) scale_products(r, a, tokens, group, even, w + word, word, 1, two, dl, dh, &sum);
        w = end;
    }
    for (int t = 0; t < tokens; t++) {
        out[t].rows[pair] = _mm512_fnmadd_ps(bias.low[t], _mm512_set1_ps(8), sum.low[t]);
        out[t].rows[TILE_ROWS / 2 + pair] = two ? _mm512_fnmadd_ps(bias.high[t], _mm512_set1_ps(128), sum.high[t]) : _mm512_setzero_ps();
    }
}

/* Sums the lanes of 16 vectors, each in the order of _mm512_reduce_add_ps: distances 8, 4, 2, 1. */
INLINE __m512 sum_lanes(const __m512 v[TILE_ROWS]) {
    __m512 quarter[4];
    for (int k = 0; k < 4; k++) {
        __m512 a = v[k], b = v[4 + k], c = v[8 + k], d = v[12 + k];
        __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
        __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
        quarter[k] = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    }
    __m512 half[2];
    for (int k = 0; k < 2; k++) {
        __m512d a = _mm512_castps_pd(quarter[2 * k]), b = _mm512_castps_pd(quarter[2 * k + 1]);
        half[k] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    return _mm512_add_ps(_mm512_shuffle_ps(half[0], half[1], 0x88), _mm512_shuffle_ps(half[0], half[1], 0xdd));
}

INLINE void tiles(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, int tokens,
                  int group, uint32_t even) {
    for (uint32_t tile = from; tile < to; tile++) {
        struct tile v = tile_at(p, tile);
        uint64_t bytes = 8 * (uint64_t)(p->offsets[tile + 1] - p->offsets[tile]);
        struct pair r = {.low = v.stream, .high = v.stream};
        r.ahead = (const char *)v.masks + (bytes > PREFETCH_BYTES ? bytes : PREFETCH_BYTES);
        struct products out[FEW_TOKENS];
        for (uint32_t pair = 0; pair < TILE_ROWS / 2; pair++) {
            uint32_t slot = 2 * pair;
            r.mask_low = v.masks + (uint64_t)slot * p->words;
            r.mask_high = r.mask_low + p->words;
            r.scale_low = v.scales + (uint64_t)slot * p->groups;
            r.scale_high = r.scale_low + p->groups;
            if (slot + 1 < v.rows) {
                pair_products(p, &r, a, tokens, group, even, true, out, pair);
            } else if (slot < v.rows) {
                pair_products(p, &r, a, tokens, group, even, false, out, pair);
            } else {
                for (int t = 0; t < tokens; t++) out[t].rows[pair] = out[t].rows[TILE_ROWS / 2 + pair] = _mm512_setzero_ps();
            }
        }
        for (int t = 0; t < tokens; t++) {
            __m512 sums = sum_lanes(out[t].rows);
            sums = _mm512_mask_mul_ps(sums, 0xff00, sums, _mm512_set1_ps(1.0f / 16)); /* the high plane is 16 times too large */
            store_tile(&v, true, sums, y + (uint64_t)t * ld + (uint64_t)tile * TILE_ROWS);
        }
    }
}

#define VARIANT(tokens, group)                                                                                             \
    TARGET static void few_##tokens##_##group(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, \
                                              float *y, uint64_t ld) {                                                     \
        tiles(p, from, to, a, y, ld, tokens, group, 0);                                                                    \
    }                                                                                                                      \
    TARGET static void even_##tokens##_##group(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, \
                                               float *y, uint64_t ld) {                                                    \
        uint32_t n = p->per_word;                                                                                          \
        if (n == 0) __builtin_unreachable();                                                                               \
        tiles(p, from, to, a, y, ld, tokens, group, n);                                                                    \
    }
#define VARIANTS(tokens) VARIANT(tokens, 32) VARIANT(tokens, 64) VARIANT(tokens, 128)
VARIANTS(1)
VARIANTS(2)
VARIANTS(3)
VARIANTS(4)

void kernel_few(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, void *scratch) {
    typedef void variant(const struct plain *, uint32_t, uint32_t, const struct activations *, float *, uint64_t);
#define BY_GROUP(name) {name##_32, name##_64, name##_128}
    static variant *const counted[FEW_TOKENS][3] = {BY_GROUP(few_1), BY_GROUP(few_2), BY_GROUP(few_3), BY_GROUP(few_4)};
    static variant *const even[FEW_TOKENS][3] = {BY_GROUP(even_1), BY_GROUP(even_2), BY_GROUP(even_3), BY_GROUP(even_4)};
    (void)scratch;
    bool is_even = p->per_word > 0 && p->per_word <= 32;
    (is_even ? even : counted)[a->tokens - 1][p->group == 128 ? 2 : p->group == 64](p, from, to, a, y, ld);
}
