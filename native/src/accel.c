/*
 * Route "accel": where ggml's extra buffer types are out of reach, an ACCEL
 * device. llama.cpp asks such devices first where to put weights, and its
 * scheduler hands our backend the products with them, as small graphs.
 *
 * Threads: we have none. Each small graph becomes a graph of custom operations
 * that ggml's own CPU backend, a second instance of it, computes.
 *
 * Two devices: the one that is registered names our buffer type, so that weights
 * come to us; the one that our backends belong to names the CPU's, so that
 * results go into ordinary memory.
 */
#include "plugin.h"

#include <stdatomic.h>
#include <stdlib.h>

static struct ggml_dev registered, working;

/* A product that our kernels compute. */
struct task {
    struct job job;
    atomic_int chunk; /* the next one that nobody has */
};

struct accel {
    struct ggml_backend *cpu;
    void *memory; /* for a graph */
    uint64_t memory_bytes;
    char *work; /* for activations and scratch of its products */
    uint64_t work_bytes;
    struct task *tasks;
    int threads, max_tasks;
};

static const char *name(struct ggml_dev *dev) {
    (void)dev;
    return "BESA";
}

static const char *description(struct ggml_dev *dev) {
    (void)dev;
    return "sparse weights on the CPU";
}

static void memory(struct ggml_dev *dev, size_t *free, size_t *total) {
    (void)dev;
    *free = *total = 0; /* nothing to report: it is the CPU's */
}

static int type(struct ggml_dev *dev) {
    (void)dev;
    return DEVICE_ACCEL;
}

static void props(struct ggml_dev *dev, struct ggml_dev_props *p) {
    *p = (struct ggml_dev_props){.name = name(dev), .description = description(dev), .type = DEVICE_ACCEL};
}

static struct ggml_buft *weights_type(struct ggml_dev *dev) {
    (void)dev;
    return besa_buffer_type(&registered);
}

static struct ggml_buft *results_type(struct ggml_dev *dev) {
    (void)dev;
    return ggml.cpu_buffer_type();
}

/* The weights themselves and views of them are no work, but the scheduler asks. */
static bool is_no_work(const struct ggml_tensor *op) {
    static const char *const names[] = {"NONE", "RESHAPE", "VIEW", "PERMUTE", "TRANSPOSE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!strcmp(ggml.op_name(op->op), names[i])) return true;
    }
    return false;
}

static bool supports_op(struct ggml_dev *dev, const struct ggml_tensor *op) {
    (void)dev;
    return besa_supports(op) || is_no_work(op);
}

static bool supports_buft(struct ggml_dev *dev, struct ggml_buft *buft) {
    return buft == weights_type(dev) || ggml.buft_is_host(buft);
}

static const char *backend_name(struct ggml_backend *backend) {
    (void)backend;
    return "BESA";
}

static void backend_free(struct ggml_backend *backend) {
    struct accel *a = backend->context;
    ggml.backend_free(a->cpu);
    free(a->memory);
    free(a->work);
    free(a->tasks);
    free(a);
    free(backend);
}

void accel_set_threads(struct ggml_backend *backend, int threads) {
    struct accel *a = backend->context;
    a->threads = threads;
    ggml.cpu_threads(a->cpu, threads);
}

static void quantise(struct ggml_tensor *dst, int ith, int nth, void *task) {
    (void)dst;
    job_quantise(&((struct task *)task)->job, ith, nth);
}

static int next_chunk(void *chunk) { return atomic_fetch_add((atomic_int *)chunk, 1); }

static void multiply(struct ggml_tensor *dst, int ith, int nth, void *task) {
    (void)dst;
    struct task *t = task;
    job_multiply(&t->job, ith, nth, next_chunk, &t->chunk);
}

/* Grows a block of memory; its contents are lost. */
static bool reserve(void *block, uint64_t *have, uint64_t want) {
    void **at = block;
    if (*have >= want) return true;
    free(*at);
    *at = aligned_alloc(64, align64(want));
    *have = *at ? want : 0;
    return *at != NULL;
}

/* A tensor with the same data that depends on nothing. */
static struct ggml_tensor *leaf(struct ggml_context *ctx, const struct ggml_tensor *t) {
    struct ggml_tensor *copy = ggml.new_2d(ctx, TYPE_F32, 1, 1);
    *copy = *t;
    copy->op = 0;
    copy->flags = 0;
    copy->view_src = NULL;
    memset(copy->src, 0, sizeof copy->src);
    return copy;
}

/* Adds a product to the graph. ready: the task whose activations are those this one needs, or NULL. */
static void add_sparse(struct ggml_context *ctx, struct ggml_cgraph *graph, struct task *task, const struct task *ready, int threads) {
    enum { ALL_THREADS = -1 };
    const struct job *j = &task->job;
    atomic_store(&task->chunk, threads);
    struct ggml_tensor *step[2] = {0};
    if (ready) {
        task->job.a = ready->job.a;
    } else {
        step[0] = ggml.custom(ctx, TYPE_F32, 1, 1, 1, 1, NULL, 0, quantise, ALL_THREADS, task);
        step[0]->data = j->scratch; /* never touched; a result without data would not be computed */
        ggml.graph_expand(graph, step[0]);
    }
    step[1] = ggml.custom(ctx, TYPE_F32, 1, 1, 1, 1, NULL, 0, multiply, ALL_THREADS, task);
    step[1]->data = j->y;
    ggml.graph_expand(graph, step[1]);
}

/* Adds a product that ggml computes, from its own form of the weight. */
static void add_stock(struct ggml_context *ctx, struct ggml_cgraph *graph, const struct ggml_tensor *node) {
    const struct weight *w = node->src[0]->extra;
    struct ggml_tensor *matrix = leaf(ctx, w && w->state == WEIGHT_STOCK ? &w->shadow : node->src[0]);
    if (!w || w->state != WEIGHT_STOCK) matrix->buffer = NULL;
    struct ggml_tensor *y = ggml.mul_mat(ctx, matrix, leaf(ctx, node->src[1]));
    memcpy(y->op_params, node->op_params, sizeof y->op_params);
    y->data = node->data;
    ggml.graph_expand(graph, y);
}

static bool is_sparse(const struct ggml_tensor *node) {
    const struct weight *w = weight_of(node);
    return w && w->state == WEIGHT_SPARSE;
}

/* Whether two products need the same activations in the same form. */
static bool same_activations(const struct task *t, const struct ggml_tensor *node) {
    const struct plain *a = &t->job.weight->plain, *b = &weight_of(node)->plain;
    return t->job.x == node->src[1] && a->coding == b->coding && a->group == b->group && a->cols == b->cols;
}

static int graph_compute(struct ggml_backend *backend, struct ggml_cgraph *given) {
    enum { SUCCESS = 0, ALLOC_FAILED = -2 };
    struct accel *a = backend->context;
    int n = ggml.graph_nodes(given);
    uint64_t work = 0;
    for (int i = 0; i < n; i++) {
        const struct ggml_tensor *node = ggml.graph_node(given, i);
        if (node->op == ggml.op_mul_mat && is_sparse(node)) work += job_bytes(weight_of(node), node->src[1], a->threads) + 64;
    }
    uint64_t task_bytes = (uint64_t)a->max_tasks * sizeof *a->tasks;
    size_t nodes = 2 * (size_t)n + 1, graph_bytes = ggml.graph_overhead(nodes, false) + 4 * (size_t)n * (sizeof(struct ggml_tensor) + 256) + 4096;
    if (!reserve(&a->memory, &a->memory_bytes, graph_bytes) || !reserve(&a->work, &a->work_bytes, work) ||
        !reserve(&a->tasks, &task_bytes, (uint64_t)n * sizeof *a->tasks))
        return ALLOC_FAILED;
    if (n > a->max_tasks) a->max_tasks = n;

    struct ggml_context *ctx = ggml.init((struct ggml_init_params){a->memory_bytes, a->memory, true});
    if (!ctx) return ALLOC_FAILED;
    struct ggml_cgraph *graph = ggml.new_graph(ctx, nodes, false);
    const struct task *ready = NULL;
    char *at = a->work;
    for (int i = 0; i < n; i++) {
        struct ggml_tensor *node = ggml.graph_node(given, i);
        if (node->op != ggml.op_mul_mat || node->ne[1] == 0 || node->ne[2] == 0 || node->ne[3] == 0) continue; /* views */
        if (!is_sparse(node)) {
            add_stock(ctx, graph, node);
            continue;
        }
        job_open(&a->tasks[i].job, weight_of(node), node, at);
        at += align64(job_bytes(weight_of(node), node->src[1], a->threads));
        if (ready && !same_activations(ready, node)) ready = NULL;
        add_sparse(ctx, graph, &a->tasks[i], ready, a->threads);
        ready = &a->tasks[i];
    }
    int status = ggml.graph_nodes(graph) ? ggml.graph_compute(a->cpu, graph) : SUCCESS;
    ggml.release(ctx);
    return status;
}

static struct ggml_backend *init_backend(struct ggml_dev *dev, const char *params) {
    static uint8_t guid[16] = "besa sparse cpu";
    (void)dev;
    (void)params;
    struct ggml_backend *b = calloc(1, sizeof *b);
    struct accel *a = calloc(1, sizeof *a);
    struct ggml_backend *cpu = ggml.cpu_init();
    if (!b || !a || !cpu) {
        free(b);
        free(a);
        if (cpu) ggml.backend_free(cpu);
        return NULL;
    }
    a->cpu = cpu;
    *b = (struct ggml_backend){
        .guid = &guid,
        .iface = {.get_name = backend_name, .free = backend_free, .graph_compute = graph_compute},
        .device = &working,
        .context = a,
    };
    accel_set_threads(b, 4); /* ggml's default; llama.cpp sets it for each context */
    return b;
}

struct ggml_dev *accel_device(struct ggml_reg *reg) {
    registered = (struct ggml_dev){
        .iface = {.get_name = name,
                  .get_description = description,
                  .get_memory = memory,
                  .get_type = type,
                  .get_props = props,
                  .init_backend = init_backend,
                  .get_buffer_type = weights_type,
                  .supports_op = supports_op,
                  .supports_buft = supports_buft},
        .reg = reg,
    };
    working = registered;
    working.iface.get_buffer_type = results_type;
    return &registered;
}
