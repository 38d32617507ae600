/*
 * The main function of a program for the sanitizers, which cannot be loaded
 * into a Go process. Compiled into the test library only.
 *
 *     PROGRAM FILE          products, with the results that the Go tests expect
 *     PROGRAM DIR PLUGIN    the plugin in ggml's libraries
 *
 * FILE holds records of a header, a blob, activations and, if expected is 1,
 * the products that every kernel must give exactly. Without, the blob may be
 * corrupt: then it is refused, or executed without harm.
 */
#include "plain.h"

#include <stdio.h>
#include <stdlib.h>

const char *besa_test_open(const void *blob, uint64_t bytes);
uint64_t besa_test_encode(const uint8_t *data, uint32_t coding, uint32_t rows, uint32_t cols, uint8_t *dst, uint32_t *group);
uint64_t besa_test_bound(uint32_t coding, uint32_t rows, uint32_t cols);
void besa_test_expand(const void *blob, uint64_t bytes, uint8_t *dst);
int besa_test_multiply(const void *blob, uint64_t bytes, int kernel, uint32_t tokens, const float *x, float *y, int at_start);
const char *besa_test_ggml(const char *dir, const char *plugin);
void *besa_test_weight(const char *buft, const char *name, int type, int64_t rows, int64_t cols, const void *data);
void besa_test_weight_free(void *w);
void besa_test_weight_get(const void *w, void *data);
int besa_test_products(void **w, int n, int tokens, const float *x, float *y, int threads, int repeats, double *seconds);

struct record {
    uint64_t blob_bytes;
    uint32_t coding, rows, cols, tokens, expected, reserved;
};

static void *get(FILE *f, uint64_t bytes) {
    void *m = malloc(bytes);
    if (!m || fread(m, 1, bytes, f) != bytes) {
        fprintf(stderr, "driver: the file is cut short\n");
        exit(2);
    }
    return m;
}

/* Runs a kernel; what it gives must be as expected, unless that is NULL. */
static bool product(const struct record *r, const uint8_t *blob, uint64_t bytes, int kernel, const float *x, const float *want) {
    float *y = malloc((uint64_t)r->tokens * r->rows * sizeof *y);
    bool right = y && besa_test_multiply(blob, bytes, kernel, r->tokens, x, y, 0) == 0;
    for (uint64_t i = 0; right && want && i < (uint64_t)r->tokens * r->rows; i++) right = y[i] == want[i];
    free(y);
    if (!right) fprintf(stderr, "driver: kernel %d, coding %u, %u×%u, %u tokens: wrong\n", kernel, r->coding, r->rows, r->cols, r->tokens);
    return right;
}

/* Expands a blob, encodes the result again, and multiplies that. */
static bool encoded_product(const struct record *r, const uint8_t *blob, const float *x, const float *want) {
    struct plain p;
    if (plain_open(&p, blob, r->blob_bytes)) return false;
    uint8_t *data = malloc(r->rows * plain_row_bytes(&p)), *again = calloc(1, besa_test_bound(r->coding, r->rows, r->cols));
    besa_test_expand(blob, r->blob_bytes, data);
    uint32_t group;
    uint64_t bytes = besa_test_encode(data, r->coding, r->rows, r->cols, again, &group);
    bool right = bytes && product(r, again, bytes, 1, x, want);
    free(data);
    free(again);
    return right;
}

static int run_records(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return 2;
    struct record r;
    bool right = true;
    int refused = 0, executed = 0;
    while (fread(&r, sizeof r, 1, f) == 1) {
        uint8_t *blob = get(f, r.blob_bytes);
        float *x = get(f, (uint64_t)r.tokens * r.cols * sizeof *x);
        float *want = r.expected ? get(f, (uint64_t)r.tokens * r.rows * sizeof *want) : NULL;
        struct plain p;
        if (besa_test_open(blob, r.blob_bytes)) {
            right = right && !r.expected;
            refused++;
        } else if (plain_open(&p, blob, r.blob_bytes) == NULL && p.rows == r.rows && p.cols == r.cols) {
            right = product(&r, blob, r.blob_bytes, 0, x, want) && product(&r, blob, r.blob_bytes, 1, x, want) && right;
            if (want) right = encoded_product(&r, blob, x, want) && right;
            executed++;
        }
        free(blob);
        free(x);
        free(want);
    }
    fclose(f);
    printf("%d executed, %d refused\n", executed, refused);
    return right && executed ? 0 : 1;
}

/* A matrix of an ordinary type, two of three weights zero, or none. */
static uint8_t *matrix(int type, uint32_t rows, uint32_t cols, bool sparse) {
    static const uint16_t one[] = {[1] = 0x3c00, [2] = 0x2c00, [8] = 0x2c00, [30] = 0x3f80};
    uint64_t blocks = (uint64_t)rows * cols / Q4_BLOCK, block = type == 2 ? 18 : type == 8 ? 34 : 64;
    uint8_t *data = malloc(blocks * block);
    for (uint64_t b = 0; b < blocks; b++) {
        uint8_t *at = data + b * block;
        bool wide = block == 64;
        if (!wide) memcpy(at, &one[type], 2);
        for (uint32_t i = 0; i < Q4_BLOCK; i++) {
            bool zero = sparse && (b + i) % 3;
            if (wide) {
                uint16_t v = zero ? 0 : (uint16_t)(one[type] + i);
                memcpy(at + 2 * i, &v, 2);
            } else if (type == 8) {
                at[2 + i] = zero ? 0 : (uint8_t)(i - 40);
            } else {
                uint8_t code = zero ? 8 : (uint8_t)(i % 7);
                at[2 + i % 16] = (uint8_t)(i < 16 ? code : at[2 + i % 16] | code << 4);
            }
        }
    }
    return data;
}

static uint64_t matrix_bytes(int type, uint32_t rows, uint32_t cols) { return (uint64_t)rows * cols / Q4_BLOCK * (type == 2 ? 18 : type == 8 ? 34 : 64); }

/* Weights of every type in the plugin's buffer and in the CPU's give near results; they come and go. */
static int run_plugin(const char *dir, const char *plugin) {
    enum { ROWS = 72, COLS = 608, TOKENS = 13, CYCLES = 10 };
    const char *wrong = besa_test_ggml(dir, plugin);
    if (wrong) {
        fprintf(stderr, "driver: %s\n", wrong);
        return 2;
    }
    static const int types[] = {1, 2, 8, 30};
    float *x = malloc(TOKENS * COLS * sizeof *x), *y = malloc(TOKENS * ROWS * sizeof *y), *z = malloc(TOKENS * ROWS * sizeof *z);
    for (int i = 0; i < TOKENS * COLS; i++) x[i] = (float)(i * 37 % 101 - 50) / 50;
    bool right = true;
    for (int cycle = 0; cycle < CYCLES; cycle++) {
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            for (int sparse = 0; sparse < 2; sparse++) {
                uint8_t *data = matrix(types[i], ROWS, COLS, sparse), *back = malloc(matrix_bytes(types[i], ROWS, COLS));
                void *a = besa_test_weight("CPU_BESA", "w", types[i], ROWS, COLS, data);
                void *b = besa_test_weight("CPU", "w", types[i], ROWS, COLS, data);
                int tokens = 1 + cycle % 2 * (TOKENS - 1), threads = 1 + cycle / 2 % 2;
                right = right && a && b && besa_test_products(&a, 1, tokens, x, y, threads, 2, NULL) == 0 &&
                        besa_test_products(&b, 1, tokens, x, z, threads, 2, NULL) == 0;
                double far = 0, norm = 0;
                for (int k = 0; right && k < tokens * ROWS; k++) {
                    far += (y[k] - z[k]) * (y[k] - z[k]);
                    norm += z[k] * z[k];
                }
                if (right && !(far <= 1e-4 * norm)) {
                    fprintf(stderr, "driver: type %d, %s: squared distance from stock's product %g\n", types[i], sparse ? "sparse" : "dense", far / norm);
                    right = false;
                }
                if (right && sparse) {
                    besa_test_weight_get(a, back);
                    right = !memcmp(data, back, matrix_bytes(types[i], ROWS, COLS));
                }
                if (a) besa_test_weight_free(a);
                if (b) besa_test_weight_free(b);
                free(data);
                free(back);
            }
        }
    }
    free(x);
    free(y);
    free(z);
    printf("%d cycles\n", CYCLES);
    return right ? 0 : 1;
}

__attribute__((visibility("default"))) int besa_test_main(int argc, char **argv);
int besa_test_main(int argc, char **argv) {
    if (argc == 2) return run_records(argv[1]);
    return argc == 3 ? run_plugin(argv[1], argv[2]) : 2;
}
