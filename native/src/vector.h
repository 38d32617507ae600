/* What the AVX-512 kernels share. */
#ifndef BESA_VECTOR_H
#define BESA_VECTOR_H

#include "kernel.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx512vbmi2,f16c,popcnt,bmi2")))
#define INLINE TARGET static inline __attribute__((always_inline))

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
