/* What the AVX-512 kernels share. */
#ifndef BESA_VECTOR_H
#define BESA_VECTOR_H

#include "kernel.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx512vbmi2,f16c,popcnt,bmi2")))
#define INLINE TARGET static inline __attribute__((always_inline))

/* plain_count with the processor's own instruction. */
INLINE uint64_t count_survivors(const uint64_t *masks, uint32_t words) {
    uint64_t n = 0;
    for (uint32_t w = 0; w < words; w++) n += (uint64_t)_mm_popcnt_u64(masks[w]);
    return n;
}

static inline uint64_t tile_bytes(const struct plain *p, uint32_t tile) { return 8 * (uint64_t)(p->offsets[tile + 1] - p->offsets[tile]); }

/*
 * Where fetching begins when a tile does that is executed as it is read: a tile
 * ahead (of bytes), because its sections are read side by side, and at least so much.
 */
enum { PREFETCH_BYTES = 16 << 10 };

static inline const char *fetch_ahead(const struct tile *v, uint64_t bytes) {
    return (const char *)v->masks + (bytes > PREFETCH_BYTES ? bytes : PREFETCH_BYTES);
}

/*
 * Fetches the tile that comes after the next while a tile is expanded, word by
 * word: 16 places in the stream are too many for the processor to follow.
 */
struct fetcher {
    const char *line;
    uint32_t per_word;
};

static inline struct fetcher fetch_after(const struct plain *p, uint32_t tile) {
    uint32_t next = tile + 2 < p->tiles ? tile + 2 : tile;
    uint64_t bytes = tile_bytes(p, next), words = 64 * (uint64_t)p->words;
    return (struct fetcher){(const char *)p->blob + 8 * (uint64_t)p->offsets[next], (uint32_t)((bytes + words - 1) / words)};
}

INLINE void fetch_word(struct fetcher *f) {
    for (uint32_t i = 0; i < f->per_word; i++, f->line += 64) _mm_prefetch(f->line, _MM_HINT_T0);
}

/* Stores a row's sum each: in order, or (halves) those of the low half's rows, then the high half's. */
INLINE void store_tile(const struct tile *v, bool halves, __m512 sums, float *y) {
    if (halves) {
        __mmask16 high = v->halves;
        sums = _mm512_mask_expand_ps(_mm512_maskz_expand_ps((__mmask16)~high, sums), high, _mm512_shuffle_f32x4(sums, sums, 0xee));
    }
    _mm512_mask_storeu_ps(y, (__mmask16)((1u << v->rows) - 1), sums);
}

/*
 * Zeros that the compiler does not know to be any: it would use the zeroing form
 * of VPEXPANDW, which waits for its destination's old value.
 */
INLINE __m512i opaque_zero(void) {
    __m512i zero = _mm512_setzero_si512();
    __asm__("" : "+v"(zero));
    return zero;
}

/*
 * How 16-bit weights are multiplied: as float32, or, of BF16 where the processor
 * can, in pairs as they are; activations are then rounded to BF16, as ggml does.
 */
enum half_form { F16, BF16, BF16_PAIRS };

/* 16 16-bit weights as float32. */
INLINE __m512i widen(__m256i v, enum half_form f) {
    return f == BF16 ? _mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16) : _mm512_castps_si512(_mm512_cvtph_ps(v));
}

/* sum + w·x: of a float32, or of both halves of a pair. Older compilers have no intrinsic for the latter, assemblers do. */
INLINE __m512 add_product(__m512 sum, __m512i w, __m512i x, enum half_form f) {
    if (f != BF16_PAIRS) return _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), sum);
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
}

/* The products of a tile with a token: 16 lanes to be summed for each row. */
struct products {
    __m512 rows[TILE_ROWS];
};

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

/* Transposes 16 × 16 dwords. */
INLINE void transpose(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 4) {
        __m512i a = _mm512_unpacklo_epi32(r[i], r[i + 1]), b = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        __m512i c = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]), d = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int j = 0; j < 4; j++) {
        __m512i a = _mm512_shuffle_i32x4(t[j], t[j + 4], 0x88), b = _mm512_shuffle_i32x4(t[j], t[j + 4], 0xdd);
        __m512i c = _mm512_shuffle_i32x4(t[j + 8], t[j + 12], 0x88), d = _mm512_shuffle_i32x4(t[j + 8], t[j + 12], 0xdd);
        r[j] = _mm512_shuffle_i32x4(a, c, 0x88);
        r[j + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        r[j + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        r[j + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

#endif
