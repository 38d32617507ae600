/* From ordinary types to the plain layout: what happens when llama.cpp loads an ordinary file. */
#include "plain.h"

/* The ordinary type a coding is encoded from. */
struct source {
    uint32_t coding;
    uint32_t block_bytes; /* bytes of 32 weights */
};

static struct source source_of(uint32_t coding) {
    return (struct source){coding, coding == CODING_Q4_SYM ? 18 : coding == CODING_Q8_SYM ? 34 : 64};
}

static uint16_t block_scale(const uint8_t *block) {
    uint16_t d;
    memcpy(&d, block, 2);
    return d;
}

static uint16_t value(const uint8_t *block, int i) {
    uint16_t v;
    memcpy(&v, block + 2 * i, 2);
    return v;
}

/* Bit i is set if weight i of a block is not zero. A 16-bit -0 is not: it has to come back. */
static uint32_t block_mask(const struct source *s, const uint8_t *block) {
    uint32_t m = 0;
    if (s->coding == CODING_Q4_SYM) {
        for (int i = 0; i < 16; i++) {
            m |= (uint32_t)((block[2 + i] & 15) != 8) << i;
            m |= (uint32_t)(block[2 + i] >> 4 != 8) << (i + 16);
        }
    } else if (s->coding == CODING_Q8_SYM) {
        for (int i = 0; i < 32; i++) m |= (uint32_t)(block[2 + i] != 0) << i;
    } else {
        for (int i = 0; i < 32; i++) m |= (uint32_t)(value(block, i) != 0) << i;
    }
    return m;
}

static bool block_finite(const struct source *s, const uint8_t *block) {
    if (!coding_is_16bit(s->coding)) return (block_scale(block) & 0x7c00) != 0x7c00;
    uint16_t exponent = s->coding == CODING_F16 ? 0x7c00 : 0x7f80;
    bool finite = true;
    for (int i = 0; i < 32; i++) finite &= (value(block, i) & exponent) != exponent;
    return finite;
}

/*
 * The largest group, at most limit, in which blocks b … agree about the scale.
 * Blocks without survivors agree with anything.
 */
static uint32_t row_group(const struct source *s, const uint8_t *row, const uint32_t *masks, uint32_t blocks, uint32_t limit) {
    for (uint32_t group = limit; group > Q4_BLOCK; group /= 2) {
        bool agree = true;
        for (uint32_t b = 0; b < blocks && agree; b += group / Q4_BLOCK) {
            int first = -1;
            for (uint32_t i = b; i < blocks && i < b + group / Q4_BLOCK; i++) {
                if (!masks[i]) continue;
                int d = block_scale(row + (uint64_t)i * s->block_bytes);
                if (first < 0) first = d;
                agree = agree && d == first;
            }
        }
        if (agree) return group;
    }
    return Q4_BLOCK;
}

/* Puts rows of similar counts into opposite halves; odd tiles leave the shortest row low. */
static uint16_t balance(const uint32_t *counts, uint32_t rows) {
    uint8_t order[TILE_ROWS];
    for (uint32_t i = 0; i < rows; i++) { /* by count, largest first */
        uint32_t j = i;
        for (; j > 0 && counts[order[j - 1]] < counts[i]; j--) order[j] = order[j - 1];
        order[j] = (uint8_t)i;
    }
    uint64_t low = 0, high = 0;
    uint16_t halves = 0;
    for (uint32_t i = 0; i + 1 < rows; i += 2) {
        uint8_t big = order[i], small = order[i + 1];
        bool big_is_high = high <= low;
        halves |= (uint16_t)(1u << (big_is_high ? big : small));
        high += counts[big_is_high ? big : small];
        low += counts[big_is_high ? small : big];
    }
    return halves;
}

struct survey matrix_survey(const uint8_t *data, uint32_t coding, uint32_t rows, uint32_t cols) {
    enum { PIECE = 64 }; /* blocks looked at together: a multiple of the largest group */
    const struct source src = source_of(coding);
    struct survey s = {.group = coding_is_16bit(coding) ? 0 : 128, .finite = true};
    uint32_t per_row = cols / Q4_BLOCK, masks[PIECE], most = 0; /* survivors of a word */
    for (uint32_t r = 0; r < rows; r++) {
        const uint8_t *row = data + (uint64_t)r * per_row * src.block_bytes;
        for (uint32_t b = 0; b < per_row; b += PIECE) {
            uint32_t n = per_row - b < PIECE ? per_row - b : PIECE;
            const uint8_t *piece = row + (uint64_t)b * src.block_bytes;
            for (uint32_t i = 0; i < n; i++) {
                const uint8_t *block = piece + (uint64_t)i * src.block_bytes;
                masks[i] = block_mask(&src, block);
                s.survivors += (uint32_t)__builtin_popcount(masks[i]);
                s.finite = s.finite && block_finite(&src, block);
                uint32_t word = (uint32_t)__builtin_popcount(masks[i]) + (i % 2 ? (uint32_t)__builtin_popcount(masks[i - 1]) : 0);
                most = word > most ? word : most;
            }
            if (s.group) s.group = row_group(&src, piece, masks, n, s.group);
        }
    }
    /* Survivors that were rounded to zero are missing from masks of a fixed shape. */
    uint64_t even = (uint64_t)most * rows * (cols / 64);
    if (coding == CODING_Q4_SYM && cols % 64 == 0 && most <= 32 && s.survivors < even && even - s.survivors <= s.survivors / 8) s.per_word = most;
    return s;
}

static uint64_t first_tile(uint32_t coding, uint32_t tiles) {
    return (PLAIN_HEADER + 4 + (coding == CODING_Q4_SYM ? 6 : 4) * (uint64_t)tiles + 7) & ~UINT64_C(7);
}

uint64_t matrix_encoded_bound(uint32_t coding, uint32_t rows, uint32_t cols, uint32_t group) {
    uint64_t words = (cols + 63) / 64, groups = group ? (cols + group - 1) / group : 0;
    uint64_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    uint64_t half_bytes = coding == CODING_Q4_SYM ? 1 : coding == CODING_Q8_SYM ? 2 : 4; /* of a survivor */
    return first_tile(coding, (uint32_t)tiles) + tiles * (TILE_ROWS * (8 * words + 2 * groups) + TILE_ROWS / 2 * half_bytes * cols + 8) +
           TAIL_PADDING;
}

/* One tile being written. */
struct tile_writer {
    struct source src;
    const uint8_t *blocks; /* of the tile's first row */
    uint32_t rows, per_row, words, groups, group, per_word;
    uint16_t halves;
};

static const uint8_t *block_at(const struct tile_writer *w, uint32_t row, uint32_t b) {
    return w->blocks + ((uint64_t)row * w->per_row + b) * w->src.block_bytes;
}

/* Mask word of a row: its weights that are not zero, and the first zeros where that makes the word even. */
static uint64_t word_mask(const struct tile_writer *w, uint32_t row, uint32_t word) {
    uint64_t m = block_mask(&w->src, block_at(w, row, 2 * word));
    if (2 * word + 1 < w->per_row) m |= (uint64_t)block_mask(&w->src, block_at(w, row, 2 * word + 1)) << 32;
    for (uint32_t n = (uint32_t)__builtin_popcountll(m); n < w->per_word; n++) m |= m + 1;
    return m;
}

/* The scale of group g: that of its first block with survivors, or of its first block. */
static uint16_t group_scale(const struct tile_writer *w, uint32_t row, uint32_t g) {
    uint32_t first = g * (w->group / Q4_BLOCK), end = first + w->group / Q4_BLOCK;
    if (end > w->per_row) end = w->per_row;
    for (uint32_t b = first; b < end; b++) {
        if (block_mask(&w->src, block_at(w, row, b))) return block_scale(block_at(w, row, b));
    }
    return block_scale(block_at(w, row, first));
}

/* Writes survivor i of a block at place at of the stream. */
static void put_survivor(const struct tile_writer *w, const uint8_t *block, int i, int high, uint8_t *stream, uint64_t at) {
    if (w->src.coding == CODING_Q4_SYM) {
        uint8_t code = i < 16 ? block[2 + i] & 15 : block[2 + i - 16] >> 4;
        stream[at] |= (uint8_t)(high ? code << 4 : code);
    } else if (w->src.coding == CODING_Q8_SYM) {
        stream[at] = block[2 + i];
    } else {
        memcpy(stream + 2 * at, block + 2 * i, 2);
    }
}

/* Writes a row's masks, scales and survivors; at is its place in the plane. Returns the survivors. */
static uint64_t put_row(const struct tile_writer *w, uint32_t r, uint64_t *mask, uint16_t *scales, uint8_t *stream, uint64_t at) {
    uint64_t from = at;
    for (uint32_t g = 0; g < w->groups; g++) scales[g] = group_scale(w, r, g);
    for (uint32_t i = 0; i < w->words; i++) {
        mask[i] = word_mask(w, r, i);
        for (uint64_t m = mask[i]; m; m &= m - 1) {
            int bit = __builtin_ctzll(m);
            put_survivor(w, block_at(w, r, 2 * i + (uint32_t)bit / 32), bit % 32, w->halves >> r & 1, stream, at++);
        }
    }
    return at - from;
}

/* Writes a tile to dst, which is zero; returns its bytes. */
static uint64_t put_tile(const struct tile_writer *w, uint8_t *dst) {
    struct tile v = {.rows = w->rows, .halves = w->halves};
    uint8_t row_of_slot[TILE_ROWS];
    bool planes = w->src.coding == CODING_Q4_SYM;
    if (planes) tile_slots(&v, row_of_slot);
    uint64_t *masks = (uint64_t *)dst;
    uint16_t *scales = (uint16_t *)(dst + 8 * (uint64_t)w->words * w->rows);
    uint8_t *stream = (uint8_t *)(scales + (uint64_t)w->groups * w->rows);
    uint64_t plane[2] = {0, 0};
    for (uint32_t s = 0; s < w->rows; s++) {
        uint64_t *at = &plane[planes ? s & 1 : 0];
        *at += put_row(w, planes ? row_of_slot[s] : s, masks + (uint64_t)s * w->words, scales + (uint64_t)s * w->groups, stream, *at);
    }
    stream += coding_is_16bit(w->src.coding) ? 2 * plane[0] : plane[0] > plane[1] ? plane[0] : plane[1];
    return ((uint64_t)(stream - dst) + 7) & ~UINT64_C(7);
}

static void put_header(uint8_t *dst, uint32_t coding, uint32_t rows, uint32_t cols, uint32_t group, uint64_t survivors, uint64_t bytes) {
    memcpy(dst, "BESA\1", 5);
    dst[5] = (uint8_t)coding;
    dst[6] = (uint8_t)group;
    memcpy(dst + 8, &cols, 4);
    memcpy(dst + 12, &rows, 4);
    memcpy(dst + 16, &survivors, 8);
    memcpy(dst + 24, &bytes, 8);
}

uint64_t matrix_encode(const uint8_t *data, uint32_t coding, uint32_t rows, uint32_t cols, const struct survey *s, uint8_t *dst) {
    const uint32_t group = s->group;
    struct tile_writer w = {.src = source_of(coding), .per_row = cols / Q4_BLOCK, .words = (cols + 63) / 64, .group = group, .per_word = s->per_word};
    w.groups = group ? (cols + group - 1) / group : 0;
    uint32_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    uint32_t *offsets = (uint32_t *)(dst + PLAIN_HEADER);
    uint16_t *halves = (uint16_t *)(offsets + tiles + 1);
    uint64_t at = first_tile(coding, tiles), survivors = 0;
    for (uint32_t t = 0; t < tiles; t++) {
        uint32_t counts[TILE_ROWS];
        w.blocks = data + (uint64_t)t * TILE_ROWS * w.per_row * w.src.block_bytes;
        w.rows = rows - t * TILE_ROWS < TILE_ROWS ? rows - t * TILE_ROWS : TILE_ROWS;
        for (uint32_t r = 0; r < w.rows; r++) {
            counts[r] = 0;
            for (uint32_t i = 0; i < w.words; i++) counts[r] += (uint32_t)__builtin_popcountll(word_mask(&w, r, i));
            survivors += counts[r];
        }
        if (coding == CODING_Q4_SYM) w.halves = halves[t] = balance(counts, w.rows);
        offsets[t] = (uint32_t)(at / 8);
        at += put_tile(&w, dst + at);
    }
    offsets[tiles] = (uint32_t)(at / 8);
    at += TAIL_PADDING;
    put_header(dst, coding, rows, cols, group, survivors, at);
    return at;
}
