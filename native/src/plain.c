#include "plain.h"

static uint32_t u32_at(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t u64_at(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

uint64_t plain_count(const uint64_t *masks, uint32_t words) {
    uint64_t n = 0;
    for (uint32_t w = 0; w < words; w++) n += (uint64_t)__builtin_popcountll(masks[w]);
    return n;
}

static const char *check_shape(const struct plain *p) {
    if (p->rows < 1 || p->cols < 1 || p->rows > MAX_DIM || p->cols > MAX_DIM) return "rows or columns out of range";
    switch (p->coding) {
    case CODING_Q4_SYM:
    case CODING_Q4_ASYM:
    case CODING_Q8_SYM:
        if (p->group != 32 && p->group != 64 && p->group != 128) return "group size";
        if (p->cols % Q4_BLOCK) return "columns are no multiple of 32";
        return NULL;
    case CODING_F16:
    case CODING_BF16:
        return p->group ? "group size" : NULL;
    }
    return "unknown coding";
}

/* Fixed bytes of a tile: everything but its stream. */
static uint64_t fixed_bytes(const struct plain *p, uint64_t rows) {
    uint64_t n = 8 * (uint64_t)p->words * rows + 2 * (uint64_t)p->groups * rows;
    if (p->coding == CODING_Q4_ASYM) n += ((uint64_t)p->groups * rows + 1) / 2;
    return n;
}

static bool finite_scales(const struct plain *p, const struct tile *v) {
    for (uint64_t i = 0; i < (uint64_t)p->groups * v->rows; i++) {
        if ((v->scales[i] & 0x7c00) == 0x7c00) return false;
    }
    return true;
}

/* What the masks of the tiles so far have in common. */
struct tally {
    uint64_t total;       /* survivors */
    uint32_t least, most; /* of a word */
};

/* Counts the survivors of a row. */
static uint64_t tally_row(struct tally *c, const uint64_t *masks, uint32_t words) {
    uint64_t total = 0;
    for (uint32_t w = 0; w < words; w++) {
        uint32_t n = (uint32_t)__builtin_popcountll(masks[w]);
        c->least = n < c->least ? n : c->least;
        c->most = n > c->most ? n : c->most;
        total += n;
    }
    c->total += total;
    return total;
}

static const char *check_tile(const struct plain *p, uint32_t t, struct tally *count) {
    struct tile v = tile_at(p, t);
    uint64_t plane[2] = {0, 0};
    uint64_t tail = p->cols % 64 ? ~UINT64_C(0) << p->cols % 64 : 0;
    for (uint32_t s = 0; s < v.rows; s++) {
        const uint64_t *m = v.masks + (uint64_t)s * p->words;
        if (m[p->words - 1] & tail) return "mask bits beyond the last column";
        plane[p->halves ? s & 1 : 0] += tally_row(count, m, p->words);
    }
    uint64_t stream = p->halves ? (plane[0] > plane[1] ? plane[0] : plane[1]) : coding_is_16bit(p->coding) ? 2 * plane[0] : plane[0];
    uint64_t size = (fixed_bytes(p, v.rows) + stream + 7) & ~UINT64_C(7);
    if (size != 8 * (uint64_t)(p->offsets[t + 1] - p->offsets[t])) return "the length of a tile does not follow from its masks";
    if (p->halves) {
        if (v.halves >> v.rows) return "halves name rows that are not there";
        if ((uint32_t)__builtin_popcount(v.halves) != v.rows / 2) return "halves are not halves";
    }
    if (p->groups && !finite_scales(p, &v)) return "a scale is not finite";
    return NULL;
}

const char *plain_open(struct plain *p, const void *blob, uint64_t bytes) {
    memset(p, 0, sizeof *p);
    const uint8_t *b = blob;
    if ((uintptr_t)b % 8) return "not aligned to 8 bytes";
    if (bytes < PLAIN_HEADER || bytes > MAX_BLOB) return "size out of range";
    if (memcmp(b, "BESA", 4) || b[4] != 1) return "no blob in the plain layout";
    p->blob = b;
    p->bytes = bytes;
    p->coding = b[5];
    p->group = (uint32_t)b[6] | (uint32_t)b[7] << 8;
    p->cols = u32_at(b + 8);
    p->rows = u32_at(b + 12);
    p->survivors = u64_at(b + 16);
    if (u64_at(b + 24) != bytes) return "size disagrees with the header";
    const char *wrong = check_shape(p);
    if (wrong) return wrong;

    bool q4 = coding_is_4bit(p->coding);
    p->words = ceil_div(p->cols, 64);
    p->groups = p->group ? ceil_div(p->cols, p->group) : 0;
    p->tiles = ceil_div(p->rows, TILE_ROWS);
    uint64_t first = (PLAIN_HEADER + 4 + (q4 ? 6 : 4) * (uint64_t)p->tiles + 7) & ~UINT64_C(7);
    if (first + TAIL_PADDING > bytes) return "too short for its tables";
    p->offsets = (const uint32_t *)(b + PLAIN_HEADER);
    p->halves = q4 ? (const uint16_t *)(b + PLAIN_HEADER + 4 + 4 * (uint64_t)p->tiles) : NULL;
    if (8 * (uint64_t)p->offsets[0] != first || 8 * (uint64_t)p->offsets[p->tiles] != bytes - TAIL_PADDING)
        return "tiles do not fill the blob";
    struct tally count = {.least = 64};
    for (uint32_t t = 0; t < p->tiles; t++) {
        uint64_t from = 8 * (uint64_t)p->offsets[t], to = 8 * (uint64_t)p->offsets[t + 1];
        if (to < from || to > bytes - TAIL_PADDING || to - from < fixed_bytes(p, tile_rows(p, t)))
            return "tile offsets are out of order";
        if ((wrong = check_tile(p, t, &count))) return wrong;
    }
    if (count.least == count.most) p->per_word = count.most;
    return count.total == p->survivors ? NULL : "number of survivors disagrees with the header";
}

/* Nibble i of a plane of a stream. */
static uint8_t nibble(const uint8_t *stream, uint64_t i, int high) { return high ? stream[i] >> 4 : stream[i] & 15; }

uint64_t plain_row_bytes(const struct plain *p) {
    switch (p->coding) {
    case CODING_Q4_SYM:
        return p->cols / Q4_BLOCK * 18;
    case CODING_Q8_SYM:
        return p->cols / Q4_BLOCK * 34;
    case CODING_Q4_ASYM:
        return 0;
    }
    return 2 * (uint64_t)p->cols;
}

static bool kept(const uint64_t *mask, uint32_t col) { return mask[col / 64] >> col % 64 & 1; }

static void expand_q4_0(const struct plain *p, const struct tile *v, uint32_t slot, uint64_t at, uint8_t *dst) {
    const uint64_t *mask = v->masks + (uint64_t)slot * p->words;
    for (uint32_t b = 0; b < p->cols / Q4_BLOCK; b++, dst += 18) {
        memcpy(dst, &v->scales[(uint64_t)slot * p->groups + b * Q4_BLOCK / p->group], 2);
        uint8_t codes[Q4_BLOCK];
        for (uint32_t i = 0; i < Q4_BLOCK; i++) codes[i] = kept(mask, b * Q4_BLOCK + i) ? nibble(v->stream, at++, slot & 1) : 8;
        for (int i = 0; i < 16; i++) dst[2 + i] = (uint8_t)(codes[i] | codes[i + 16] << 4);
    }
}

static void expand_q8_0(const struct plain *p, const struct tile *v, uint32_t slot, uint64_t at, uint8_t *dst) {
    const uint64_t *mask = v->masks + (uint64_t)slot * p->words;
    for (uint32_t b = 0; b < p->cols / Q4_BLOCK; b++, dst += 34) {
        memcpy(dst, &v->scales[(uint64_t)slot * p->groups + b * Q4_BLOCK / p->group], 2);
        for (uint32_t i = 0; i < Q4_BLOCK; i++) dst[2 + i] = kept(mask, b * Q4_BLOCK + i) ? v->stream[at++] : 0;
    }
}

void plain_expand_row(const struct plain *p, uint32_t r, uint8_t *dst) {
    struct tile v = tile_at(p, r / TILE_ROWS);
    uint32_t slot = tile_slot(p, &v, r % TILE_ROWS), step = p->halves ? 2 : 1;
    uint64_t at = 0;
    for (uint32_t s = slot % step; s < slot; s += step) at += plain_count(v.masks + (uint64_t)s * p->words, p->words);
    if (p->coding == CODING_Q4_SYM) {
        expand_q4_0(p, &v, slot, at, dst);
    } else if (p->coding == CODING_Q8_SYM) {
        expand_q8_0(p, &v, slot, at, dst);
    } else {
        const uint64_t *mask = v.masks + (uint64_t)slot * p->words;
        memset(dst, 0, 2 * (uint64_t)p->cols);
        for (uint32_t i = 0; i < p->cols; i++) {
            if (kept(mask, i)) memcpy(dst + 2 * (uint64_t)i, v.stream + 2 * at++, 2);
        }
    }
}
