/*
 * Generation with weights of 4 and 8 bits: a few tokens, AVX-512 VNNI + VBMI2.
 * The rows of a tile run in pairs, which share the activations; survivors are
 * expanded in registers straight into the products.
 *
 * Per 64 weights of a row: 64 bytes from the stream's current place, of nibbles
 * the plane's masked out, expanded over the code of zero (merging: the zeroing
 * form of VPEXPANDB waits for its destination's old value), VPDPBUSD, and the
 * place advances by the popcount of the mask. Where every word has the same
 * number of survivors, at most 32, the places are known without counting, and
 * 32 bytes, half as likely to cross a line, do.
 *
 * A pair of 4-bit rows is one of each half of the tile. The high plane is used
 * as 16·q, over 8·16, and its sum divided by 16 at the end, which is exact. A
 * pair of 8-bit rows is one and the next; the second begins in the stream where
 * counting the first one's survivors ends.
 */
#include "vector.h"

/* What is fixed where a kernel is compiled; even: survivors of every word, or 0 if they differ. */
struct form {
    int tokens, bits, group;
    uint32_t even;
};

/* Where a pair of rows, the low one and the high one, is in its tile. */
struct pair {
    const uint64_t *mask_low, *mask_high;
    const uint16_t *scale_low, *scale_high;
    const uint8_t *low, *high; /* stream */
    const char *ahead;         /* next line to prefetch */
};

/* 64 unsigned codes of a row: its survivors over pruned weights. */
INLINE __m512i expand(uint64_t mask, const uint8_t *stream, struct form f, bool high) {
    __m512i b = f.even ? _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)stream)) : _mm512_loadu_si512(stream);
    if (f.bits == 8) {
        const __m512i zero = _mm512_set1_epi8((char)0x80);
        return _mm512_mask_expand_epi8(zero, mask, _mm512_xor_si512(b, zero));
    }
    const __m512i plane = _mm512_set1_epi8((char)(high ? 0xf0 : 0x0f)), zero = _mm512_set1_epi8((char)(high ? 0x80 : 8));
    return _mm512_mask_expand_epi8(zero, mask, _mm512_and_si512(b, plane));
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

/* One word (64 columns) of both rows for all tokens; part collects products of one weight scale. */
INLINE void word_products(struct pair *r, const struct activations *a, struct form f, uint32_t w, bool two, struct sums *part) {
    uint64_t ml = r->mask_low[w], mh = two ? r->mask_high[w] : 0;
    __m512i low = expand(ml, r->low, f, false);
    __m512i high = two ? expand(mh, r->high, f, true) : _mm512_setzero_si512();
    r->low += f.even ? f.even : (uint32_t)_mm_popcnt_u64(ml);
    if (two) r->high += f.even ? f.even : (uint32_t)_mm_popcnt_u64(mh);
    for (int i = 0; i < f.bits / 4; i++, r->ahead += 64) _mm_prefetch(r->ahead, _MM_HINT_T0);
    for (int t = 0; t < f.tokens; t++) {
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
INLINE void scale_products(struct pair *r, const struct activations *a, struct form f, uint32_t w, uint32_t word, uint32_t n, bool two,
                           const float *scales_low, const float *scales_high, struct sums *sum) {
    struct sums part;
    zero(&part, f.tokens);
    __m512 by_low = lane_scales(scales_low, word, f.group), by_high = lane_scales(scales_high, word, f.group);
    for (uint32_t i = 0; i < n; i++) word_products(r, a, f, w + i, two, &part);
    for (int t = 0; t < f.tokens; t++) {
        sum->low[t] = _mm512_fmadd_ps(part.low[t], by_low, sum->low[t]);
        if (two) sum->high[t] = _mm512_fmadd_ps(part.high[t], by_high, sum->high[t]);
    }
}

/* The products of a pair of rows (of one, the low one, unless two): low ones of pairs first, then the high ones. */
INLINE void pair_products(const struct plain *p, struct pair *r, const struct activations *a, struct form f, bool two, struct products out[],
                          uint32_t pair) {
    struct sums sum, bias;
    zero(&sum, f.tokens);
    zero(&bias, f.tokens);
    _Alignas(64) float dl[16], dh[16];
    const uint32_t words16 = (uint32_t)f.group / 4; /* words of 16 groups */
    for (uint32_t g = 0, w = 0; g < p->groups; g += 16) {
        uint32_t n = p->groups - g < 16 ? p->groups - g : 16, end = w + words16 < p->words ? w + words16 : p->words;
        __mmask16 m = (__mmask16)((1u << n) - 1);
        __m512 scale_low = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, r->scale_low + g));
        __m512 scale_high = two ? _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, r->scale_high + g)) : _mm512_setzero_ps();
        _mm512_store_ps(dl, scale_low);
        _mm512_store_ps(dh, scale_high);
        for (int t = 0; t < f.tokens; t++) {
            __m512 s = _mm512_load_ps(a->group_sum + (uint64_t)t * a->sums + g);
            bias.low[t] = _mm512_fmadd_ps(scale_low, s, bias.low[t]);
            if (two) bias.high[t] = _mm512_fmadd_ps(scale_high, s, bias.high[t]);
        }
        uint32_t per = f.group == 128 ? 2 : 1, full = (end - w) / per * per, word = 0;
        if (f.tokens == 1) {
            for (; word < full; word += per) scale_products(r, a, f, w + word, word, per, two, dl, dh, &sum);
        } else {
#pragma GCC unroll 2 /* a loop would copy every sum to another register and back; one token's fit */
            for (; word < full; word += per) scale_products(r, a, f, w + word, word, per, two, dl, dh, &sum);
        }
        if (w + word < end) scale_products(r, a, f, w + word, word, 1, two, dl, dh, &sum);
        w = end;
    }
    const __m512 zero_low = _mm512_set1_ps(f.bits == 4 ? 8 : 128), zero_high = _mm512_set1_ps(128);
    for (int t = 0; t < f.tokens; t++) {
        out[t].rows[pair] = _mm512_fnmadd_ps(bias.low[t], zero_low, sum.low[t]);
        out[t].rows[TILE_ROWS / 2 + pair] = two ? _mm512_fnmadd_ps(bias.high[t], zero_high, sum.high[t]) : _mm512_setzero_ps();
    }
}

/* Where the pair of rows in slots slot and slot+1 begins, after the pair before. */
INLINE void pair_open(struct pair *r, const struct plain *p, const struct tile *v, uint32_t slot, struct form f) {
    r->mask_low = v->masks + (uint64_t)slot * p->words;
    r->mask_high = r->mask_low + p->words;
    r->scale_low = v->scales + (uint64_t)slot * p->groups;
    r->scale_high = r->scale_low + p->groups;
    if (f.bits == 4) return; /* each plane goes on where it was */
    r->low = r->high;
    if (slot + 1 < v->rows) r->high = r->low + count_survivors(r->mask_low, p->words);
}

INLINE void tiles(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, struct form f) {
    const __m512i in_order = _mm512_set_epi32(15, 7, 14, 6, 13, 5, 12, 4, 11, 3, 10, 2, 9, 1, 8, 0);
    for (uint32_t tile = from; tile < to; tile++) {
        struct tile v = tile_at(p, tile);
        struct pair r = {.low = v.stream, .high = v.stream, .ahead = fetch_ahead(&v, tile_bytes(p, tile))};
        struct products out[FEW_TOKENS];
        for (uint32_t pair = 0; pair < TILE_ROWS / 2; pair++) {
            uint32_t slot = 2 * pair;
            if (slot < v.rows) pair_open(&r, p, &v, slot, f);
            if (slot + 1 < v.rows) {
                pair_products(p, &r, a, f, true, out, pair);
            } else if (slot < v.rows) {
                pair_products(p, &r, a, f, false, out, pair);
            } else {
                for (int t = 0; t < f.tokens; t++) out[t].rows[pair] = out[t].rows[TILE_ROWS / 2 + pair] = _mm512_setzero_ps();
            }
        }
        for (int t = 0; t < f.tokens; t++) {
            __m512 sums = sum_lanes(out[t].rows);
            if (f.bits == 4) {
                sums = _mm512_mask_mul_ps(sums, 0xff00, sums, _mm512_set1_ps(1.0f / 16)); /* the high plane is 16 times too large */
            } else {
                sums = _mm512_permutexvar_ps(in_order, sums);
            }
            store_tile(&v, f.bits == 4, sums, y + (uint64_t)t * ld + (uint64_t)tile * TILE_ROWS);
        }
    }
}

#define VARIANT(name, tokens, bits, group, even)                                                                                       \
    TARGET static void name##_##tokens##_##group(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, \
                                                 uint64_t ld) {                                                                        \
        if (p->per_word == 0 && (even)) __builtin_unreachable();                                                                       \
        tiles(p, from, to, a, y, ld, (struct form){tokens, bits, group, even});                                                        \
    }
#define VARIANTS(name, bits, even)                                                                                                     \
    GROUPS(name, 1, bits, even) GROUPS(name, 2, bits, even) GROUPS(name, 3, bits, even) GROUPS(name, 4, bits, even)                    \
    static variant *const name[FEW_TOKENS][3] = {BY_GROUP(name##_1), BY_GROUP(name##_2), BY_GROUP(name##_3), BY_GROUP(name##_4)};
#define GROUPS(name, tokens, bits, even) \
    VARIANT(name, tokens, bits, 32, even) VARIANT(name, tokens, bits, 64, even) VARIANT(name, tokens, bits, 128, even)
#define BY_GROUP(name) {name##_32, name##_64, name##_128}

typedef void variant(const struct plain *, uint32_t, uint32_t, const struct activations *, float *, uint64_t);

VARIANTS(nibbles, 4, 0)
VARIANTS(nibbles_even, 4, p->per_word)
VARIANTS(bytes, 8, 0)

void kernel_few(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, void *scratch) {
    (void)scratch;
    bool even = p->per_word > 0 && p->per_word <= 32;
    variant *const(*by)[3] = p->coding == CODING_Q8_SYM ? bytes : even ? nibbles_even : nibbles;
    by[a->tokens - 1][p->group == 128 ? 2 : p->group == 64](p, from, to, a, y, ld);
}
