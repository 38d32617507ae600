/* The scalar twin of the kernels: what they compute, one weight at a time. */
#include "kernel.h"

static float half_to_float(uint16_t h) {
    uint32_t exp = h >> 10 & 31, frac = h & 0x3ff;
    float magnitude = exp ? (float)(frac | 0x400) * 0x1p-25f : (float)frac * 0x1p-24f;
    for (; exp; exp--) magnitude *= 2;
    return h >> 15 ? -magnitude : magnitude;
}

/* Product of the row in a slot with token t; at is the row's place in its plane. */
static float row_product(const struct plain *p, const struct tile *v, uint32_t slot, uint64_t at, const struct activations *a, uint32_t t) {
    const uint64_t *mask = v->masks + (uint64_t)slot * p->words;
    const int8_t *codes = a->codes + (uint64_t)t * a->stride;
    float y = 0;
    for (uint32_t b = 0; b < p->cols / ACT_BLOCK; b++) {
        int32_t dot = 0;
        for (uint32_t col = b * ACT_BLOCK; col < (b + 1) * ACT_BLOCK; col++) {
            if (!(mask[col / 64] >> col % 64 & 1)) continue;
            uint8_t byte = v->stream[at++];
            dot += ((slot & 1 ? byte >> 4 : byte & 15) - 8) * codes[col];
        }
        float d = half_to_float(v->scales[(uint64_t)slot * p->groups + b * ACT_BLOCK / p->group]);
        y += (float)dot * d * a->scales[(uint64_t)t * a->blocks + b];
    }
    return y;
}

void kernel_scalar(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, void *scratch) {
    (void)scratch;
    for (uint32_t tile = from; tile < to; tile++) {
        struct tile v = tile_at(p, tile);
        uint8_t rows[TILE_ROWS];
        tile_slots(&v, rows);
        uint64_t at[2] = {0, 0};
        for (uint32_t slot = 0; slot < v.rows; slot++) {
            for (uint32_t t = 0; t < a->tokens; t++)
                y[t * ld + tile * TILE_ROWS + rows[slot]] = row_product(p, &v, slot, at[slot & 1], a, t);
            at[slot & 1] += plain_count(v.masks + (uint64_t)slot * p->words, p->words);
        }
    }
}
