/*
 * The plain layout (sparsefmt/SPEC.md, section 3): reading, checking, writing.
 * Nothing here depends on ggml.
 */
#ifndef BESA_PLAIN_H
#define BESA_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { CODING_Q4_SYM = 1, CODING_Q4_ASYM = 2, CODING_F16 = 3, CODING_BF16 = 4, CODING_Q8_SYM = 5 };

enum {
    TILE_ROWS = 16,
    TAIL_PADDING = 64,
    PLAIN_HEADER = 32,
    MAX_DIM = 1073741823,
    Q4_BLOCK = 32, /* weights of a Q4_0 or Q8_0 block */
};
#define MAX_BLOB (UINT64_C(1) << 35)

/* A blob whose header, tables and tile lengths have been checked. */
struct plain {
    const uint8_t *blob;
    uint64_t bytes, survivors;
    uint32_t rows, cols, group, coding;
    uint32_t words, groups, tiles; /* mask words and scales per row; tiles */
    uint32_t per_word;             /* survivors of every mask word, if all have the same; else 0 */
    const uint32_t *offsets;       /* tiles + 1, in units of 8 bytes */
    const uint16_t *halves;        /* by tile; NULL but for 4-bit codings */
};

/* The sections of one tile. */
struct tile {
    uint32_t rows;
    uint16_t halves;
    const uint64_t *masks;  /* rows × words */
    const uint16_t *scales; /* rows × groups */
    const uint8_t *zeros;   /* q4_asym */
    const uint8_t *stream;
};

static inline bool coding_is_4bit(uint32_t coding) { return coding == CODING_Q4_SYM || coding == CODING_Q4_ASYM; }

static inline bool coding_is_16bit(uint32_t coding) { return coding == CODING_F16 || coding == CODING_BF16; }

static inline uint32_t tile_rows(const struct plain *p, uint32_t t) {
    uint32_t left = p->rows - t * TILE_ROWS;
    return left < TILE_ROWS ? left : TILE_ROWS;
}

static inline struct tile tile_at(const struct plain *p, uint32_t t) {
    struct tile v;
    const uint8_t *at = p->blob + 8 * (uint64_t)p->offsets[t];
    v.rows = tile_rows(p, t);
    v.halves = p->halves ? p->halves[t] : 0;
    v.masks = (const uint64_t *)at;
    at += 8 * (uint64_t)p->words * v.rows;
    v.scales = (const uint16_t *)at;
    at += 2 * (uint64_t)p->groups * v.rows;
    v.zeros = at;
    if (p->coding == CODING_Q4_ASYM) at += ((uint64_t)p->groups * v.rows + 1) / 2;
    v.stream = at;
    return v;
}

/*
 * The rows of a 4-bit tile by slot: slots 0, 2, 4 … are the low half's rows in
 * order, slots 1, 3, 5 … the high half's.
 */
static inline void tile_slots(const struct tile *v, uint8_t row_of_slot[TILE_ROWS]) {
    int low = 0, high = 1;
    for (uint32_t r = 0; r < v->rows; r++) {
        if (v->halves >> r & 1) {
            row_of_slot[high] = (uint8_t)r;
            high += 2;
        } else {
            row_of_slot[low] = (uint8_t)r;
            low += 2;
        }
    }
}

/* The slot of a tile's row. */
static inline uint32_t tile_slot(const struct plain *p, const struct tile *v, uint32_t row) {
    if (!p->halves) return row;
    uint32_t below = (uint32_t)__builtin_popcount(v->halves & ((1u << row) - 1));
    return v->halves >> row & 1 ? 2 * below + 1 : 2 * (row - below);
}

/*
 * Reads a blob's header and tables and checks every rule of the format that
 * memory safety or the result depends on (R11 to R16 and R18's unused nibbles
 * are irrelevant to both). Returns NULL, or what is wrong.
 */
const char *plain_open(struct plain *p, const void *blob, uint64_t bytes);

/* Survivors of a slot's row. */
uint64_t plain_count(const uint64_t *masks, uint32_t words);

/* Bytes of a row in the ggml type the matrix expands to; 0: the type has no kernel (Q4_1). */
uint64_t plain_row_bytes(const struct plain *p);

/*
 * Writes row r in the type the matrix expands to: Q4_0, Q8_0, F16 or BF16.
 * The scalar definition that kernels are tested against.
 */
void plain_expand_row(const struct plain *p, uint32_t r, uint8_t *dst);

/* What there is to encode in a matrix of an ordinary type. */
struct survey {
    uint64_t survivors; /* weights that are not zero */
    uint32_t group;     /* largest scale group that represents it: 128, 64 or 32; 0 for 16-bit types */
    uint32_t per_word;  /* not 0: few zeros more as survivors, and every mask word has so many */
    bool finite;        /* otherwise it cannot be encoded */
};

struct survey matrix_survey(const uint8_t *data, uint32_t coding, uint32_t rows, uint32_t cols);

/* An upper bound of the bytes that matrix_encode writes. */
uint64_t matrix_encoded_bound(uint32_t coding, uint32_t rows, uint32_t cols, uint32_t group);

/* Encodes a matrix; dst is zero and 8-byte aligned. Returns the size of the blob. */
uint64_t matrix_encode(const uint8_t *data, uint32_t coding, uint32_t rows, uint32_t cols, const struct survey *s, uint8_t *dst);

#endif
