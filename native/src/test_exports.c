/*
 * What the Go tests call: the parts of the plugin that need no llama.cpp, one
 * function each with plain arguments. Compiled into the test library only.
 */
#include "kernel.h"

#include <stdlib.h>
#include <sys/mman.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT const char *besa_test_open(const void *blob, uint64_t bytes);
EXPORT uint64_t besa_test_encode(const uint8_t *data, uint32_t coding, uint32_t rows, uint32_t cols, uint8_t *dst, uint32_t *group);
EXPORT uint64_t besa_test_bound(uint32_t coding, uint32_t rows, uint32_t cols);
EXPORT void besa_test_expand(const void *blob, uint64_t bytes, uint8_t *dst);
EXPORT int besa_test_multiply(const void *blob, uint64_t bytes, int kernel, uint32_t tokens, const float *x, float *y, int at_start);
EXPORT int besa_test_supported(void);
EXPORT uint32_t besa_test_few(uint32_t coding);

/* NULL, or what is wrong with a blob. */
const char *besa_test_open(const void *blob, uint64_t bytes) {
    struct plain p;
    return plain_open(&p, blob, bytes);
}

/* The most bytes that besa_test_encode writes. */
uint64_t besa_test_bound(uint32_t coding, uint32_t rows, uint32_t cols) {
    return matrix_encoded_bound(coding, rows, cols, coding_is_16bit(coding) ? 0 : Q4_BLOCK);
}

/* Encodes an ordinary matrix: the bytes written to dst, 0 if it has a scale that is not finite. */
uint64_t besa_test_encode(const uint8_t *data, uint32_t coding, uint32_t rows, uint32_t cols, uint8_t *dst, uint32_t *group) {
    struct survey s = matrix_survey(data, coding, rows, cols);
    *group = s.group;
    return s.finite ? matrix_encode(data, coding, rows, cols, &s, dst) : 0;
}

/* Expands a valid blob to its ordinary type. */
void besa_test_expand(const void *blob, uint64_t bytes, uint8_t *dst) {
    struct plain p;
    if (plain_open(&p, blob, bytes)) return;
    for (uint32_t r = 0; r < p.rows; r++) plain_expand_row(&p, r, dst + r * plain_row_bytes(&p));
}

/*
 * Every array of a product lies alone between unreadable pages: at the end of
 * its memory, or with at_start at the beginning. Under AddressSanitizer, whose
 * redzones do the same, it comes from malloc.
 */
struct fenced {
    void *map;
    uint64_t bytes;
};

static void *fence(struct fenced *f, uint64_t bytes, bool at_start) {
#ifdef __SANITIZE_ADDRESS__
    (void)at_start;
    return f->map = aligned_alloc(64, align64(bytes));
#else
    enum { PAGE = 4096 };
    uint64_t pages = (bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    f->bytes = pages + 2 * PAGE;
    char *m = mmap(NULL, f->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED) return f->map = NULL;
    f->map = m;
    if (mprotect(m + PAGE, pages, PROT_READ | PROT_WRITE)) return NULL;
    memset(m + PAGE, 0xff, pages); /* no kernel may count on zeros */
    return m + PAGE + (at_start ? 0 : pages - align64(bytes));
#endif
}

static void unfence(struct fenced *f) {
#ifdef __SANITIZE_ADDRESS__
    free(f->map);
#else
    if (f->map) munmap(f->map, f->bytes);
#endif
}

enum { ARRAYS = 7 };

/* Moves the arrays of activations that were placed in one piece of memory apart. */
static bool scatter(struct activations *a, const char *memory, uint64_t bytes, struct fenced *f, bool at_start) {
    void **arrays[ARRAYS] = {(void **)&a->values, (void **)&a->halves, (void **)&a->codes, (void **)&a->scales, (void **)&a->spread,
                             (void **)&a->group_sum, (void **)&a->bias};
    uint64_t from[ARRAYS], size[ARRAYS];
    for (int i = 0; i < ARRAYS; i++) from[i] = *arrays[i] ? (uint64_t)((const char *)*arrays[i] - memory) : bytes;
    for (int i = 0; i < ARRAYS; i++) {
        uint64_t end = bytes;
        for (int j = 0; j < ARRAYS; j++) end = from[j] > from[i] && from[j] < end ? from[j] : end;
        size[i] = end - from[i];
    }
    for (int i = 0; i < ARRAYS; i++) {
        if (size[i] && !(*arrays[i] = fence(&f[i], size[i], at_start))) return false;
    }
    return true;
}

/* Kernels: 0 scalar, 1 the one for so many tokens. x: tokens × cols, y: tokens × rows. */
int besa_test_multiply(const void *blob, uint64_t bytes, int kernel, uint32_t tokens, const float *x, float *y, int at_start) {
    struct plain p;
    if (plain_open(&p, blob, bytes) || !kernel_for(&p, tokens) || tokens == 0) return -1;
    kernel_fn *multiply = kernel == 0 ? kernel_scalar : kernel_for(&p, tokens);
    struct fenced arrays[ARRAYS] = {0}, rest = {0};
    uint64_t activations = activations_bytes(tokens, &p), scratch_bytes = kernel_scratch_bytes(&p, tokens);
    char *memory = aligned_alloc(64, align64(activations));
    struct activations a;
    int status = -2;
    if (memory) {
        activations_place(&a, tokens, &p, memory);
        void *scratch = scratch_bytes ? fence(&rest, scratch_bytes, at_start) : NULL;
        if (scatter(&a, memory, activations, arrays, at_start) && (scratch || !scratch_bytes)) status = 0;
        if (status == 0) {
            for (uint32_t t = 0; t < tokens; t++) activations_set(&a, t, &p, x + (uint64_t)t * p.cols);
            /* in two calls, as two threads would */
            uint32_t half = p.tiles / 2 & ~1u;
            multiply(&p, 0, half, &a, y, p.rows, scratch);
            multiply(&p, half, p.tiles, &a, y, p.rows, scratch);
        }
    }
    for (int i = 0; i < ARRAYS; i++) unfence(&arrays[i]);
    unfence(&rest);
    free(memory);
    return status;
}

int besa_test_supported(void) { return kernel_supported(); }

/* Up to how many tokens a coding's kernel sums lanes of columns. */
uint32_t besa_test_few(uint32_t coding) {
    const struct plain p = {.coding = coding};
    uint32_t n = 0;
    while (kernel_for(&p, n + 1) == kernel_for(&p, 1)) n++;
    return n;
}
