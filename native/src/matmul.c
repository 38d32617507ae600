/* Products, called by ggml's own threads. */
#include "plugin.h"

static uint64_t tokens_of(const struct ggml_tensor *op) {
    return (uint64_t)op->src[1]->ne[1] * (uint64_t)op->src[1]->ne[2] * (uint64_t)op->src[1]->ne[3];
}

/* The memory shared by all threads, then each thread's scratch. */
static uint64_t work_bytes(const struct weight *w, uint64_t tokens, int threads) {
    return 64 + activations_bytes((uint32_t)tokens, &w->plain) + (uint64_t)threads * kernel_scratch_bytes(&w->plain, (uint32_t)tokens);
}

/* The op as ggml's own buffer type is to see it. */
static struct ggml_tensor with_shadow(const struct ggml_tensor *op, struct weight *w) {
    struct ggml_tensor copy = *op;
    copy.src[0] = &w->shadow;
    return copy;
}

static bool work_size(struct cxx_tensor_traits *traits, int threads, const struct ggml_tensor *op, size_t *size) {
    (void)traits;
    struct weight *w = weight_of(op);
    if (!w) return false;
    if (w->state == WEIGHT_STOCK) {
        struct ggml_tensor copy = with_shadow(op, w);
        struct cxx_tensor_traits *stock = w->stock->vtable->get_tensor_traits(w->stock, &copy);
        return stock && stock->vtable->work_size(stock, threads, &copy, size);
    }
    *size = work_bytes(w, tokens_of(op), threads);
    return true;
}

static void *align_up(void *p) { return (void *)align64((uint64_t)(uintptr_t)p); }

static void quantise(struct activations *a, const struct plain *p, const struct ggml_tensor *x, int ith, int nth) {
    for (uint32_t t = (uint32_t)ith; t < a->tokens; t += (uint32_t)nth) {
        int64_t i1 = t % x->ne[1], i2 = t / x->ne[1] % x->ne[2], i3 = t / x->ne[1] / x->ne[2];
        const char *row = (const char *)x->data + (size_t)i1 * x->nb[1] + (size_t)i2 * x->nb[2] + (size_t)i3 * x->nb[3];
        activations_set(a, t, p, (const float *)row);
    }
}

/*
 * Tiles are dealt out in chunks, several per thread, so that a thread that is
 * held up does not hold up the others; each starts with the chunk of its number.
 */
static void multiply(struct ggml_compute_params *params, const struct weight *w, const struct activations *a, float *y, char *scratch) {
    const struct plain *p = &w->plain;
    uint32_t chunks = params->nth == 1 ? 1 : 8 * (uint32_t)params->nth;
    uint32_t size = ((p->tiles + chunks - 1) / chunks + 1) & ~1u;
    kernel_fn *kernel = kernel_for(p, a->tokens);
    uint64_t from = (uint64_t)params->ith * size;
    while (from < p->tiles) {
        uint64_t to = from + size < p->tiles ? from + size : p->tiles;
        kernel(p, (uint32_t)from, (uint32_t)to, a, y, p->rows, scratch);
        if (params->nth == 1) break;
        from = (uint64_t)ggml.chunk_add(params->threadpool, 1) * size;
    }
}

static bool compute_forward(struct cxx_tensor_traits *traits, struct ggml_compute_params *params, struct ggml_tensor *op) {
    (void)traits;
    struct weight *w = weight_of(op);
    if (!w) return false;
    if (w->state == WEIGHT_STOCK) {
        struct ggml_tensor copy = with_shadow(op, w);
        struct cxx_tensor_traits *stock = w->stock->vtable->get_tensor_traits(w->stock, &copy);
        return stock && stock->vtable->compute_forward(stock, params, &copy);
    }
    uint32_t tokens = (uint32_t)tokens_of(op);
    if (tokens == 0) return true;
    struct activations a;
    activations_place(&a, tokens, &w->plain, align_up(params->wdata));
    quantise(&a, &w->plain, op->src[1], params->ith, params->nth);
    if (params->nth > 1) {
        if (params->ith == 0) ggml.chunk_set(params->threadpool, params->nth);
        ggml.barrier(params->threadpool);
    }
    char *scratch = (char *)align_up(params->wdata) + activations_bytes(tokens, &w->plain);
    multiply(params, w, &a, op->data, scratch + (uint64_t)params->ith * kernel_scratch_bytes(&w->plain, tokens));
    return true;
}

/* ggml never destroys our object. */
static void destroy(struct cxx_tensor_traits *traits) { (void)traits; }

struct cxx_tensor_traits *besa_traits(void) {
    static const struct cxx_traits_vtable vtable = {destroy, destroy, work_size, compute_forward};
    static struct cxx_tensor_traits traits = {&vtable};
    return &traits;
}
