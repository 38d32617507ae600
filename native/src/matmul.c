/* Products, called by ggml's own threads. */
#include "plugin.h"

static uint32_t tokens_of(const struct ggml_tensor *x) { return (uint32_t)(x->ne[1] * x->ne[2] * x->ne[3]); }

/* The memory shared by all threads, then each thread's scratch. */
uint64_t job_bytes(const struct weight *w, const struct ggml_tensor *x, int threads) {
    uint32_t tokens = tokens_of(x);
    return activations_bytes(tokens, &w->plain) + (uint64_t)threads * kernel_scratch_bytes(&w->plain, tokens);
}

void job_open(struct job *j, const struct weight *w, const struct ggml_tensor *op, void *memory) {
    uint32_t tokens = tokens_of(op->src[1]);
    *j = (struct job){.weight = w, .x = op->src[1], .y = op->data};
    activations_place(&j->a, tokens, &w->plain, memory);
    j->scratch = (char *)memory + activations_bytes(tokens, &w->plain);
}

void job_quantise(struct job *j, int ith, int nth) {
    const struct ggml_tensor *x = j->x;
    for (uint32_t t = (uint32_t)ith; t < j->a.tokens; t += (uint32_t)nth) {
        int64_t i1 = t % x->ne[1], i2 = t / x->ne[1] % x->ne[2], i3 = t / x->ne[1] / x->ne[2];
        const char *row = (const char *)x->data + (size_t)i1 * x->nb[1] + (size_t)i2 * x->nb[2] + (size_t)i3 * x->nb[3];
        activations_set(&j->a, t, &j->weight->plain, (const float *)row);
    }
}

/*
 * Each thread has three quarters of its share of the tiles to itself, in one
 * piece, which suits the prefetching; the rest is dealt out in small chunks, so
 * that a thread that is held up does not hold up the others. next counts from nth.
 */
void job_multiply(const struct job *j, int ith, int nth, int (*next)(void *), void *argument) {
    const struct plain *p = &j->weight->plain;
    kernel_fn *kernel = kernel_for(p, j->a.tokens);
    char *scratch = j->scratch + (uint64_t)ith * kernel_scratch_bytes(p, j->a.tokens);
    if (nth == 1) {
        kernel(p, 0, p->tiles, &j->a, j->y, p->rows, scratch);
        return;
    }
    uint32_t n = (uint32_t)nth, own = (p->tiles * (uint64_t)3 / 4 / n) & ~UINT64_C(1), rest = p->tiles - n * own;
    if (own) kernel(p, (uint32_t)ith * own, ((uint32_t)ith + 1) * own, &j->a, j->y, p->rows, scratch);
    uint32_t size = ((rest + 4 * n - 1) / (4 * n) + 1) & ~1u;
    for (uint64_t from; (from = n * own + (uint64_t)(next(argument) - nth) * size) < p->tiles;) {
        uint64_t to = from + size < p->tiles ? from + size : p->tiles;
        kernel(p, (uint32_t)from, (uint32_t)to, &j->a, j->y, p->rows, scratch);
    }
}

/* The op as ggml's own buffer type is to see it. */
static struct ggml_tensor with_shadow(const struct ggml_tensor *op, struct weight *w) {
    struct ggml_tensor copy = *op;
    copy.src[0] = &w->shadow;
    return copy;
}

/* Quantised numbers that a thread makes in the time it would wait for the others. */
enum { WAIT_CODES = 4096 };

/*
 * Whether threads work without a word to each other: each quantises all
 * activations for itself and has an equal share of the rows. A token could be
 * quantised by one thread only, so that the others would wait as long; of several
 * each thread quantises more than its share. Products for many tokens take turns.
 */
static bool alone(const struct weight *w, const struct ggml_tensor *x, int threads) {
    uint32_t tokens = tokens_of(x), n = (uint32_t)threads, share = (tokens + n - 1) / n;
    return tokens <= FEW_TOKENS && (tokens - share) * (uint64_t)w->plain.cols <= WAIT_CODES;
}

static void multiply_alone(const struct weight *w, const struct ggml_tensor *op, char *memory, int ith, int nth) {
    const struct plain *p = &w->plain;
    uint32_t pairs = (p->tiles + 1) / 2, n = (uint32_t)nth, i = (uint32_t)ith; /* kernels begin at an even tile */
    uint32_t from = 2 * (uint32_t)((uint64_t)pairs * i / n), to = 2 * (uint32_t)((uint64_t)pairs * (i + 1) / n);
    if (to > p->tiles) to = p->tiles;
    if (from >= to) return;
    struct job job;
    job_open(&job, w, op, memory + (uint64_t)ith * job_bytes(w, op->src[1], 1));
    job_quantise(&job, 0, 1);
    kernel_for(p, job.a.tokens)(p, from, to, &job.a, job.y, p->rows, job.scratch);
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
    uint64_t shared = job_bytes(w, op->src[1], threads), apart = (uint64_t)threads * job_bytes(w, op->src[1], 1);
    bool few = tokens_of(op->src[1]) <= FEW_TOKENS; /* fewer threads may come than are announced */
    *size = 64 + (few && apart > shared ? apart : shared);
    return true;
}

static void *align_up(void *p) { return (void *)align64((uint64_t)(uintptr_t)p); }

static int next_chunk(void *threadpool) { return ggml.chunk_add(threadpool, 1); }

static bool compute_forward(struct cxx_tensor_traits *traits, struct ggml_compute_params *params, struct ggml_tensor *op) {
    (void)traits;
    struct weight *w = weight_of(op);
    if (!w) return false;
    if (w->state == WEIGHT_STOCK) {
        struct ggml_tensor copy = with_shadow(op, w);
        struct cxx_tensor_traits *stock = w->stock->vtable->get_tensor_traits(w->stock, &copy);
        return stock && stock->vtable->compute_forward(stock, params, &copy);
    }
    if (tokens_of(op->src[1]) == 0) return true;
    if (alone(w, op->src[1], params->nth)) {
        multiply_alone(w, op, align_up(params->wdata), params->ith, params->nth);
        return true;
    }
    struct job job;
    job_open(&job, w, op, align_up(params->wdata));
    job_quantise(&job, params->ith, params->nth);
    if (params->nth > 1) {
        if (params->ith == 0) ggml.chunk_set(params->threadpool, params->nth);
        ggml.barrier(params->threadpool);
    }
    job_multiply(&job, params->ith, params->nth, next_chunk, params->threadpool);
    return true;
}

/* ggml never destroys our object. */
static void destroy(struct cxx_tensor_traits *traits) { (void)traits; }

struct cxx_tensor_traits *besa_traits(void) {
    static const struct cxx_traits_vtable vtable = {destroy, destroy, work_size, compute_forward};
    static struct cxx_tensor_traits traits = {&vtable};
    return &traits;
}
