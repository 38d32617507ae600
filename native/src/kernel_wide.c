/*
 * Generation with survivors of 8 and 16 bits: a few tokens, one row at a time,
 * AVX-512 VNNI + VBMI2. These weights take more bytes than time, so there is
 * nothing to gain from pairs of rows.
 */
#include "vector.h"

enum { AHEAD = 4 << 10 };

INLINE void q8_row(const struct plain *p, const uint64_t *mask, const uint16_t *scale, const uint8_t **stream, const struct activations *a,
                   int tokens, float *y) {
    const __m512i top = _mm512_set1_epi8((char)0x80);
    __m512 sum[FEW_TOKENS];
    for (int t = 0; t < tokens; t++) sum[t] = _mm512_setzero_ps();
    for (uint32_t w = 0; w < p->words; w++) {
        _mm_prefetch((const char *)*stream + AHEAD, _MM_HINT_T0);
        __m512i codes = _mm512_mask_expand_epi8(top, mask[w], _mm512_xor_si512(_mm512_loadu_si512(*stream), top));
        *stream += _mm_popcnt_u64(mask[w]);
        uint32_t first = 2 * w * ACT_BLOCK / p->group, second = (2 * w + 1) * ACT_BLOCK / p->group;
        if (second >= p->groups) second = first;
        __m512 d = _mm512_insertf32x8(_mm512_set1_ps(_cvtsh_ss(scale[first])), _mm256_set1_ps(_cvtsh_ss(scale[second])), 1);
        for (int t = 0; t < tokens; t++) {
            uint64_t at = (uint64_t)t * (a->stride / 4) + 16 * (uint64_t)w;
            __m512i x = _mm512_load_si512(a->codes + 4 * at), bias = _mm512_load_si512(a->lanes + at);
            __m512 dot = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(bias, codes, x));
            sum[t] = _mm512_fmadd_ps(dot, _mm512_mul_ps(_mm512_load_ps(a->spread + at), d), sum[t]);
        }
    }
    for (int t = 0; t < tokens; t++) y[t] = _mm512_reduce_add_ps(sum[t]);
}

/* 32 16-bit survivors over zeros. */
INLINE __m512i expand_halves(uint32_t mask, const uint8_t *stream, __m512i zero) {
    return _mm512_mask_expand_epi16(zero, mask, _mm512_loadu_si512(stream));
}

INLINE __m512 widen(__m256i v, bool bf16) {
    return bf16 ? _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)) : _mm512_cvtph_ps(v);
}

INLINE void float_row(const struct plain *p, const uint64_t *mask, const uint8_t **stream, const struct activations *a, int tokens, bool bf16,
                      float *y) {
    /* out of the compiler's sight: the zeroing form of VPEXPANDW waits for its destination's old value */
    __m512i zero = _mm512_setzero_si512();
    __asm__("" : "+v"(zero));
    __m512 even[FEW_TOKENS], odd[FEW_TOKENS];
    for (int t = 0; t < tokens; t++) even[t] = odd[t] = _mm512_setzero_ps();
    for (uint32_t i = 0; i < 2 * p->words; i++) {
        uint32_t m = (uint32_t)(mask[i / 2] >> i % 2 * 32);
        _mm_prefetch((const char *)*stream + AHEAD, _MM_HINT_T0);
        __m512i v = expand_halves(m, *stream, zero);
        *stream += 2 * _mm_popcnt_u32(m);
        __m512 lo = widen(_mm512_castsi512_si256(v), bf16), hi = widen(_mm512_extracti64x4_epi64(v, 1), bf16);
        for (int t = 0; t < tokens; t++) {
            const float *x = a->values + (uint64_t)t * a->stride + 32 * (uint64_t)i;
            even[t] = _mm512_fmadd_ps(lo, _mm512_load_ps(x), even[t]);
            odd[t] = _mm512_fmadd_ps(hi, _mm512_load_ps(x + 16), odd[t]);
        }
    }
    for (int t = 0; t < tokens; t++) y[t] = _mm512_reduce_add_ps(_mm512_add_ps(even[t], odd[t]));
}

INLINE void wide(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, int tokens, uint32_t coding) {
    for (uint32_t tile = from; tile < to; tile++) {
        struct tile v = tile_at(p, tile);
        const uint8_t *stream = v.stream;
        for (uint32_t row = 0; row < v.rows; row++) {
            const uint64_t *mask = v.masks + (uint64_t)row * p->words;
            float out[FEW_TOKENS];
            if (coding == CODING_Q8_SYM) {
                q8_row(p, mask, v.scales + (uint64_t)row * p->groups, &stream, a, tokens, out);
            } else {
                float_row(p, mask, &stream, a, tokens, coding == CODING_BF16, out);
            }
            for (int t = 0; t < tokens; t++) y[(uint64_t)t * ld + tile * (uint64_t)TILE_ROWS + row] = out[t];
        }
    }
}

typedef void variant(const struct plain *, uint32_t, uint32_t, const struct activations *, float *, uint64_t);

#define VARIANT(name, tokens, coding)                                                                                             \
    TARGET static void name##_##tokens(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, \
                                       uint64_t ld) {                                                                             \
        wide(p, from, to, a, y, ld, tokens, coding);                                                                              \
    }
#define VARIANTS(name, coding) \
    VARIANT(name, 1, coding)   \
    VARIANT(name, 2, coding)   \
    VARIANT(name, 3, coding)   \
    VARIANT(name, 4, coding)   \
    static variant *const name[FEW_TOKENS] = {name##_1, name##_2, name##_3, name##_4};
VARIANTS(q8, CODING_Q8_SYM)
VARIANTS(f16, CODING_F16)
VARIANTS(bf16, CODING_BF16)

void kernel_bytes(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, void *scratch) {
    (void)scratch;
    q8[a->tokens - 1](p, from, to, a, y, ld);
}

void kernel_floats(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, void *scratch) {
    (void)scratch;
    (p->coding == CODING_F16 ? f16 : bf16)[a->tokens - 1](p, from, to, a, y, ld);
}
