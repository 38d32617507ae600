/*
 * Kernels: products of a sparse matrix in the plain layout (q4_sym) with
 * quantised activations. Nothing here depends on ggml.
 *
 * Activations are quantised in groups of 32 as in ggml's Q8_0: a scale
 * amax/127 and 32 codes −127…127. With q the code of a weight and d its scale,
 *
 *     y = Σ over blocks b of 32:  d·s_b·( Σ q·a − 8·Σ a )
 *
 * where pruned weights have q = 8. The generation kernels take the −8·Σa out of
 * the inner loop (it depends on the row's scales and the block sums alone); the
 * prefill kernel starts its integer sums with it.
 */
#ifndef BESA_KERNEL_H
#define BESA_KERNEL_H

#include "plain.h"

enum {
    ACT_BLOCK = 32,   /* activations per scale */
    FEW_TOKENS = 4,   /* up to so many tokens a row is decoded straight into the products */
    PANEL_ROWS = 32,  /* prefill: rows (two tiles) … */
    PANEL_COLS = 512, /* … and columns of the u8 panel that is multiplied from the cache */
};

/*
 * Quantised activations of some tokens. Columns are padded with zeros to a
 * multiple of 64. All arrays are aligned to 64 bytes and token-major.
 */
struct activations {
    uint32_t tokens, cols;
    uint32_t stride;  /* bytes from one token's codes to the next's */
    uint32_t blocks;  /* scales per token, padded to an even number */
    uint32_t sums;    /* group sums per token, padded to a multiple of 16 */
    int8_t *codes;    /* tokens × stride */
    float *scales;    /* tokens × blocks */
    float *spread;    /* few tokens: tokens × stride/64 × 16: each scale eight times */
    float *group_sum; /* few tokens: tokens × sums: Σ over the weight group of s·a */
    int32_t *bias;    /* many tokens: tokens × blocks: −8·Σa */
};

static inline uint64_t align64(uint64_t n) { return (n + 63) & ~UINT64_C(63); }

/* Lays out the arrays in memory of activations_bytes bytes, aligned to 64. */
uint64_t activations_bytes(uint32_t tokens, const struct plain *p);
void activations_place(struct activations *a, uint32_t tokens, const struct plain *p, void *memory);

/* Quantises token t from cols floats. */
void activations_set(struct activations *a, uint32_t t, const struct plain *p, const float *x);

/* Scratch that one thread of the prefill kernel needs, in bytes. */
uint64_t kernel_scratch_bytes(uint32_t tokens);

/*
 * y[t·ld + r] for the rows r of tiles [from, to) and all tokens t. from is
 * even. scratch is aligned to 64 bytes, unused by few tokens.
 */
typedef void kernel_fn(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld,
                       void *scratch);

kernel_fn kernel_scalar;  /* the definition */
kernel_fn kernel_few;     /* AVX-512 VNNI + VBMI2, up to FEW_TOKENS tokens */
kernel_fn kernel_many;    /* the same, any number of tokens */

/* Whether this processor and operating system run kernel_few and kernel_many. */
bool kernel_supported(void);

#endif
