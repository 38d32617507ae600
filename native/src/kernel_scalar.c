/*
 * The scalar twin of the kernels: what they compute, one weight at a time. The
 * kernels for many tokens give the same bits; those for a few sum in another
 * order, and agree where every order gives the same sum.
 */
#include "kernel.h"

#define TARGET __attribute__((target("fma"))) /* one rounding */

static float half_to_float(uint16_t h) {
    uint32_t exp = h >> 10 & 31, frac = h & 0x3ff;
    float magnitude = exp ? (float)(frac | 0x400) * 0x1p-25f : (float)frac * 0x1p-24f;
    for (; exp; exp--) magnitude *= 2;
    return h >> 15 ? -magnitude : magnitude;
}

static float bf16_to_float(uint16_t b) {
    uint32_t bits = (uint32_t)b << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Survivor at of a slot's plane: the code less that of zero. */
static int32_t code(const struct plain *p, const struct tile *v, uint32_t slot, uint64_t at) {
    if (p->coding == CODING_Q8_SYM) return (int8_t)v->stream[at];
    return (slot & 1 ? v->stream[at] >> 4 : v->stream[at] & 15) - 8;
}

/* Product of the row in a slot with token t; at is the row's place in its plane. */
TARGET static float row_product(const struct plain *p, const struct tile *v, uint32_t slot, uint64_t at, const struct activations *a, uint32_t t) {
    const uint64_t *mask = v->masks + (uint64_t)slot * p->words;
    const int8_t *codes = a->codes + (uint64_t)t * a->stride;
    float y = 0;
    for (uint32_t b = 0; b < p->cols / ACT_BLOCK; b++) {
        int32_t dot = 0;
        for (uint32_t col = b * ACT_BLOCK; col < (b + 1) * ACT_BLOCK; col++) {
            if (mask[col / 64] >> col % 64 & 1) dot += code(p, v, slot, at++) * codes[col];
        }
        float d = half_to_float(v->scales[(uint64_t)slot * p->groups + b * ACT_BLOCK / p->group]);
        y = __builtin_fmaf((float)dot, d * a->scales[(uint64_t)t * a->blocks + b], y);
    }
    return y;
}

/*
 * The same for 16-bit weights. BF16 activations come in pairs, of which the
 * instruction adds the second product first.
 */
TARGET static float float_product(const struct plain *p, const struct tile *v, uint32_t slot, uint64_t at, const struct activations *a, uint32_t t) {
    const uint64_t *mask = v->masks + (uint64_t)slot * p->words;
    float y = 0;
    for (uint32_t col = 0; col < p->cols; col += 2) {
        float w[2] = {0, 0}, x[2];
        for (uint32_t i = 0; i < 2; i++) {
            uint64_t k = (uint64_t)t * a->stride + col + i;
            x[i] = a->halves ? bf16_to_float(a->halves[k]) : a->values[k];
            if (!(mask[col / 64] >> (col + i) % 64 & 1)) continue;
            uint16_t h;
            memcpy(&h, v->stream + 2 * at++, sizeof h);
            w[i] = p->coding == CODING_F16 ? half_to_float(h) : bf16_to_float(h);
        }
        int first = a->halves != NULL;
        y = __builtin_fmaf(w[1 - first], x[1 - first], __builtin_fmaf(w[first], x[first], y));
    }
    return y;
}

void kernel_scalar(const struct plain *p, uint32_t from, uint32_t to, const struct activations *a, float *y, uint64_t ld, void *scratch) {
    (void)scratch;
    for (uint32_t tile = from; tile < to; tile++) {
        struct tile v = tile_at(p, tile);
        for (uint32_t row = 0; row < v.rows; row++) {
            uint32_t slot = tile_slot(p, &v, row), step = p->halves ? 2 : 1;
            uint64_t at = 0;
            for (uint32_t s = slot % step; s < slot; s += step) at += plain_count(v.masks + (uint64_t)s * p->words, p->words);
            for (uint32_t t = 0; t < a->tokens; t++)
                y[t * ld + tile * (uint64_t)TILE_ROWS + row] = (coding_is_16bit(p->coding) ? float_product : row_product)(p, &v, slot, at, a, t);
        }
    }
}
