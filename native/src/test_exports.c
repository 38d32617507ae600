/*
 * What the Go tests call: the parts of the plugin that need no llama.cpp, one
 * function each with plain arguments. Compiled into the test library only.
 */
#include "kernel.h"

#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT const char *besa_test_open(const void *blob, uint64_t bytes);
EXPORT uint64_t besa_test_encode(const uint8_t *data, uint32_t coding, uint32_t rows, uint32_t cols, uint8_t *dst, uint32_t *group);
EXPORT uint64_t besa_test_bound(uint32_t rows, uint32_t cols);
EXPORT void besa_test_expand(const void *blob, uint64_t bytes, uint8_t *dst);
EXPORT int besa_test_multiply(const void *blob, uint64_t bytes, int kernel, uint32_t tokens, const float *x, float *y);
EXPORT int besa_test_supported(void);

/* NULL, or what is wrong with a blob. */
const char *besa_test_open(const void *blob, uint64_t bytes) {
    struct plain p;
    return plain_open(&p, blob, bytes);
}

uint64_t besa_test_bound(uint32_t rows, uint32_t cols) { return matrix_encoded_bound(CODING_F16, rows, cols, 0); }

/* Encodes an ordinary matrix: the bytes written to dst, 0 if it has a scale that is not finite. */
uint64_t besa_test_encode(const uint8_t *data, uint32_t coding, uint32_t rows, uint32_t cols, uint8_t *dst, uint32_t *group) {
    struct survey s = matrix_survey(data, coding, rows, cols);
    *group = s.group;
    return s.finite ? matrix_encode(data, coding, rows, cols, s.group, dst) : 0;
}

/* Expands a valid blob to its ordinary type. */
void besa_test_expand(const void *blob, uint64_t bytes, uint8_t *dst) {
    struct plain p;
    if (plain_open(&p, blob, bytes)) return;
    for (uint32_t r = 0; r < p.rows; r++) plain_expand_row(&p, r, dst + r * plain_row_bytes(&p));
}

/* Kernels: 0 scalar, 1 the one for so many tokens. x: tokens × cols, y: tokens × rows. */
int besa_test_multiply(const void *blob, uint64_t bytes, int kernel, uint32_t tokens, const float *x, float *y) {
    struct plain p;
    if (plain_open(&p, blob, bytes) || !kernel_for(&p, tokens) || tokens == 0) return -1;
    kernel_fn *multiply = kernel == 0 ? kernel_scalar : kernel_for(&p, tokens);
    void *memory = aligned_alloc(64, align64(activations_bytes(tokens, &p)));
    void *scratch = aligned_alloc(64, align64(kernel_scratch_bytes(&p, tokens) + 1));
    int status = memory && scratch ? 0 : -2;
    if (status == 0) {
        struct activations a;
        activations_place(&a, tokens, &p, memory);
        for (uint32_t t = 0; t < tokens; t++) activations_set(&a, t, &p, x + (uint64_t)t * p.cols);
        /* in two calls, as two threads would */
        uint32_t half = p.tiles / 2 & ~1u;
        multiply(&p, 0, half, &a, y, p.rows, scratch);
        multiply(&p, half, p.tiles, &a, y, p.rows, scratch);
    }
    free(memory);
    free(scratch);
    return status;
}

int besa_test_supported(void) { return kernel_supported(); }
