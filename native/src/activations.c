#include "kernel.h"

#include <immintrin.h>

/* Gives out pieces of memory; without memory it only counts. */
struct place {
    char *memory;
    uint64_t used;
};

static void *take(struct place *p, uint64_t n, uint64_t size) {
    char *at = p->memory ? p->memory + p->used : NULL;
    p->used += align64(n * size);
    return at;
}

static uint64_t place(struct activations *a, uint32_t tokens, const struct plain *p, void *memory) {
    struct place m = {.memory = memory};
    uint64_t n = tokens;
    *a = (struct activations){.tokens = tokens, .cols = p->cols, .stride = p->words * 64, .blocks = 2 * p->words, .sums = (p->groups + 15) & ~15u};
    if (p->coding == CODING_BF16 && kernel_bf16_supported()) {
        a->halves = take(&m, n * a->stride, sizeof *a->halves);
        return m.used;
    }
    if (coding_is_16bit(p->coding)) {
        a->values = take(&m, n * a->stride, sizeof *a->values);
        return m.used;
    }
    a->codes = take(&m, n * a->stride, 1);
    a->scales = take(&m, n * a->blocks, sizeof *a->scales);
    if (tokens > FEW_TOKENS) {
        a->bias = take(&m, n * a->blocks, sizeof *a->bias);
        return m.used;
    }
    a->spread = take(&m, n * a->stride / 4, sizeof *a->spread);
    a->group_sum = take(&m, n * a->sums, sizeof *a->group_sum);
    return m.used;
}

uint64_t activations_bytes(uint32_t tokens, const struct plain *p) {
    struct activations a;
    return place(&a, tokens, p, NULL);
}

void activations_place(struct activations *a, uint32_t tokens, const struct plain *p, void *memory) { place(a, tokens, p, memory); }

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,f16c")))

/* Quantises a block as ggml's Q8_0 does: codes from the exact scale, the scale kept in fp16. Returns the codes' sum. */
TARGET static int32_t quantise_block(__m512 a, __m512 b, int8_t *q, float *scale) {
    float amax = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
    __m512 inverse = _mm512_set1_ps(amax != 0 ? 127.0f / amax : 0.0f);
    __m512i ia = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)), ib = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
    _mm_storeu_si128((__m128i *)q, _mm512_cvtsepi32_epi8(ia));
    _mm_storeu_si128((__m128i *)(q + 16), _mm512_cvtsepi32_epi8(ib));
    *scale = _cvtsh_ss(_cvtss_sh(amax / 127.0f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    return _mm512_reduce_add_epi32(_mm512_add_epi32(ia, ib));
}

/* Rounds to BF16 as ggml does: to nearest, ties to even; what is not a number stays so. */
TARGET static void round_to_bf16(const float *x, uint32_t n, uint16_t *y) {
    for (uint32_t i = 0; i < n; i += 16) {
        __mmask16 m = n - i >= 16 ? 0xffff : (__mmask16)((1u << (n - i)) - 1);
        __m512i v = _mm512_maskz_loadu_epi32(m, x + i);
        __m512i odd = _mm512_and_si512(_mm512_srli_epi32(v, 16), _mm512_set1_epi32(1));
        __m512i rounded = _mm512_add_epi32(v, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        __mmask16 nan = _mm512_cmp_ps_mask(_mm512_castsi512_ps(v), _mm512_castsi512_ps(v), _CMP_UNORD_Q);
        rounded = _mm512_mask_or_epi32(rounded, nan, v, _mm512_set1_epi32(1 << 22));
        _mm512_mask_cvtepi32_storeu_epi16(y + i, m, _mm512_srli_epi32(rounded, 16));
    }
}

TARGET void activations_set(struct activations *a, uint32_t t, const struct plain *p, const float *x) {
    if (a->halves) {
        uint16_t *h = a->halves + (uint64_t)t * a->stride;
        round_to_bf16(x, a->cols, h);
        memset(h + a->cols, 0, (a->stride - a->cols) * sizeof *h);
        return;
    }
    if (a->values) {
        float *v = a->values + (uint64_t)t * a->stride;
        memcpy(v, x, a->cols * sizeof *v);
        memset(v + a->cols, 0, (a->stride - a->cols) * sizeof *v);
        return;
    }
    int8_t *codes = a->codes + (uint64_t)t * a->stride;
    float *scales = a->scales + (uint64_t)t * a->blocks;
    float *spread = a->spread ? a->spread + (uint64_t)t * (a->stride / 4) : NULL;
    float *sums = a->group_sum ? a->group_sum + (uint64_t)t * a->sums : NULL;
    if (sums) memset(sums, 0, a->sums * sizeof *sums);
    for (uint32_t b = 0; b < a->blocks; b++) {
        uint32_t col = b * ACT_BLOCK, left = col < p->cols ? p->cols - col : 0;
        __mmask16 m0 = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
        __mmask16 m1 = left >= 32 ? 0xffff : left <= 16 ? 0 : (__mmask16)((1u << (left - 16)) - 1);
        int32_t sum = quantise_block(_mm512_maskz_loadu_ps(m0, x + col), _mm512_maskz_loadu_ps(m1, x + col + 16), codes + col, scales + b);
        if (a->bias) a->bias[(uint64_t)t * a->blocks + b] = (p->coding == CODING_Q8_SYM ? -128 : -8) * sum;
        if (spread) _mm256_store_ps(spread + b * 8, _mm256_set1_ps(scales[b]));
        if (sums && left) sums[col / p->group] += scales[b] * (float)sum;
    }
}
