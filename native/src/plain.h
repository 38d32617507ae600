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

enum { CODING_Q4_SYM = 1, CODING_Q4_ASYM = 2, CODING_F16 = 3, CODING_BF16 = 4 };

enum {
    TILE_ROWS = 16,
    TAIL_PADDING = 64,
    PLAIN_HEADER = 32,
    MAX_DIM = 1073741823,
    Q4_BLOCK = 32, /* weights of a Q4_0 block */
};
#define MAX_BLOB (UINT64_C(1) << 35)

/* A blob whose header, tables and tile lengths have been checked. */
struct plain {
    const uint8_t *blob;
    uint64_t bytes, survivors;
    uint32_t rows, cols, group, coding;
    uint32_t words, groups, tiles; /* mask words and scales per row; tiles */
    const uint32_t *offsets;       /* tiles + 1, in units of 8 bytes */
    const uint16_t *halves;        /* by tile; NULL for 16-bit codings */
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

/*
 * Reads a blob's header and tables and checks every rule of the format that
 * memory safety or the result depends on (R11 to R16 and R18's unused nibbles
 * are irrelevant to both). Returns NULL, or what is wrong.
 */
const char *plain_open(struct plain *p, const void *blob, uint64_t bytes);

/* Survivors of a slot's row. */
uint64_t plain_count(const uint64_t *masks, uint32_t words);

/*
 * Writes row r in the type the matrix expands to: Q4_0 blocks for q4_sym.
 * The scalar definition that kernels are tested against.
 */
void plain_expand_row_q4_0(const struct plain *p, uint32_t r, uint8_t *dst);

/* What there is to encode in a Q4_0 matrix. */
struct q4_survey {
    uint64_t survivors; /* weights whose code is not 8 */
    uint32_t group;     /* largest scale group that represents it: 128, 64 or 32; 0: a scale is not finite */
};

struct q4_survey q4_0_survey(const uint8_t *blocks, uint32_t rows, uint32_t cols);

/* An upper bound of the bytes that q4_0_encode writes. */
uint64_t q4_0_encoded_bound(uint32_t rows, uint32_t cols, uint32_t group);

/* Encodes a Q4_0 matrix; dst is zero and 8-byte aligned. Returns the size of the blob. */
uint64_t q4_0_encode(const uint8_t *blocks, uint32_t rows, uint32_t cols, uint32_t group, uint8_t *dst);

#endif
