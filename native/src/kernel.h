/*
 * Kernels: products of a sparse matrix in the plain layout with activations.
 * Nothing here depends on ggml.
 *
 * For 4- and 8-bit weights, activations are quantised in groups of 32 as in
 * ggml's Q8_0: a scale amax/127 and 32 codes −127…127. With q the unsigned code
 * of a weight, z the code of zero (8, or 128) and d its scale,
 *
 *     y = Σ over blocks b of 32:  d·s_b·( Σ q·a − z·Σ a )
 *
 * where pruned weights have q = z. The generation kernel takes the −z·Σa out of
 * the inner loop (it depends on the row's scales and the block sums alone); the
 * other starts its integer sums with it.
 *
 * 16-bit weights are multiplied with the activations as they are, in float32;
 * BF16 ones, where the processor can, with activations rounded to BF16, as ggml does.
 */
#ifndef BESA_KERNEL_H
#define BESA_KERNEL_H

#include "plain.h"

enum {
    ACT_BLOCK = 32,         /* activations per scale */
    FEW_TOKENS = 4,         /* up to so many tokens a row is decoded straight into the products … */
    FLOAT_FEW_TOKENS = 32,  /* … with 16-bit weights, … */
    BF16_FEW_TOKENS = 16,   /* … and where BF16 is multiplied as it is */
    PANEL_COLS = 512,       /* prefill: columns of the panel that is expanded and multiplied from the cache … */
    FLOAT_PANEL_COLS = 256, /* … and registers of one of 16-bit weights: columns as float32, or pairs of columns */
};

/*
 * Activations of some tokens, in the form that the kernel for their number and
 * the weights' coding wants. Columns are padded with zeros to a multiple of 64.
 * All arrays are aligned to 64 bytes and token-major; those that a kernel does
 * not use are NULL.
 */
struct activations {
    uint32_t tokens, cols;
    uint32_t stride;  /* columns from one token to the next */
    uint32_t blocks;  /* scales per token, padded to an even number */
    uint32_t sums;    /* group sums per token, padded to a multiple of 16 */
    float *values;    /* 16-bit weights: tokens × stride */
    uint16_t *halves; /* instead, for the BF16 kernels: tokens × stride, BF16 */
    int8_t *codes;    /* the others: tokens × stride */
    float *scales;    /* tokens × blocks */
    float *spread;    /* few tokens: tokens × stride/64 × 16: each scale eight times */
    float *group_sum; /* few tokens: tokens × sums: Σ over the weight group of s·a */
    int32_t *bias;    /* many tokens: tokens × blocks: −z·Σa */
};

static inline uint64_t align64(uint64_t n) { return (n + 63) & ~UINT64_C(63); }

/* Lays out the arrays in memory of activations_bytes bytes, aligned to 64. */
uint64_t activations_bytes(uint32_t tokens, const struct plain *p);
void activations_place(struct activations *a, uint32_t tokens, const struct plain *p, void *memory);

/* Sets token t from cols floats. */
void activations_set(struct activations *a, uint32_t t, const struct plain *p, const float *x);

/* Scratch that one thread needs, in bytes. */
uint64_t kernel_scratch_bytes(const struct plain *p, uint32_t tokens);

uint64_t kernel_many_scratch(uint32_t tokens);
uint64_t kernel_floats_scratch(uint32_t tokens);

/*
 * y[t·ld + r] for the rows r of tiles [from, to) and all tokens t. from is
 * even. scratch is aligned to 64 bytes, unused by few tokens.
 */
typedef void kernel_fn(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld,
                       void *scratch);

kernel_fn kernel_scalar; /* the definition */
kernel_fn kernel_few;    /* 4- and 8-bit weights, up to FEW_TOKENS tokens; AVX-512 VNNI + VBMI2, as all below */
kernel_fn kernel_many;   /* 4- and 8-bit weights, any number of tokens */
kernel_fn kernel_floats; /* 16-bit weights, up to FLOAT_FEW_TOKENS tokens */
kernel_fn kernel_floats_many;
kernel_fn kernel_bf16;      /* BF16 weights, up to BF16_FEW_TOKENS tokens; AVX-512 BF16, as below */
kernel_fn kernel_bf16_many;

/* The kernel for a coding and a number of tokens; NULL: there is none. */
kernel_fn *kernel_for(const struct plain *p, uint32_t tokens);

/* Whether this processor and operating system run the kernels, and those for BF16 too. */
bool kernel_supported(void);
bool kernel_bf16_supported(void);

#endif
