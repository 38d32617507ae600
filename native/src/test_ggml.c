/*
 * What the Go tests call to multiply in a real ggml: a session loads ggml's
 * libraries and the plugin the way llama.cpp does; weights are put into a
 * buffer type by name; products run as a graph on ggml's CPU backend with
 * threads of its own. Compiled into the test library only.
 */
#include "ggml_abi.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

struct ggml_context;
struct ggml_cgraph;
struct ggml_backend;
struct init_params {
    size_t bytes;
    void *memory;
    bool no_alloc;
};
struct threadpool_params {
    bool mask[512];
    int threads, priority;
    uint32_t poll;
    bool strict, paused;
};

struct lib {
    struct ggml_context *(*init)(struct init_params);
    void (*release)(struct ggml_context *);
    struct ggml_tensor *(*new_2d)(struct ggml_context *, int, int64_t, int64_t);
    struct ggml_tensor *(*set_name)(struct ggml_tensor *, const char *);
    struct ggml_tensor *(*mul_mat)(struct ggml_context *, struct ggml_tensor *, struct ggml_tensor *);
    struct ggml_cgraph *(*new_graph)(struct ggml_context *);
    void (*expand)(struct ggml_cgraph *, struct ggml_tensor *);
    struct ggml_buffer *(*alloc_buft)(struct ggml_context *, struct ggml_buft *);
    void (*set_usage)(struct ggml_buffer *, int);
    void (*free_buffer)(struct ggml_buffer *);
    void (*set)(struct ggml_tensor *, const void *, size_t, size_t);
    void (*get)(const struct ggml_tensor *, void *, size_t, size_t);
    size_t (*nbytes)(const struct ggml_tensor *);
    int (*compute)(struct ggml_backend *, struct ggml_cgraph *);
    void (*params_init)(struct threadpool_params *, int);
    void *(*load)(const char *);
    void (*load_all)(const char *);
    struct ggml_reg *(*reg_by_name)(const char *);
    struct ggml_dev *(*reg_dev_get)(struct ggml_reg *, size_t);
    bool (*dev_supports_op)(struct ggml_dev *, const struct ggml_tensor *);
    /* of the CPU backend's library */
    struct ggml_buft *(*cpu_buft)(void);
    struct ggml_backend *(*cpu_init)(void);
    void (*cpu_threads)(struct ggml_backend *, int);
    void (*cpu_pool)(struct ggml_backend *, void *);
    void *(*pool_new)(struct threadpool_params *);
    struct cxx_vector *(*extra)(void);
};

static struct lib lib;
static struct ggml_backend *backend;
static struct ggml_dev *cpu;

struct wanted {
    const char *name;
    void *to;
};

static const char *find(void *handle, const struct wanted *w, size_t n) {
    for (size_t i = 0; i < n; i++) {
        void *f = dlsym(handle, w[i].name);
        if (!f) return w[i].name;
        memcpy(w[i].to, &f, sizeof f);
    }
    return NULL;
}

#define N(a) (sizeof(a) / sizeof(a)[0])

/* Loads ggml from a folder, then the plugin. NULL, or what is wrong. */
EXPORT const char *besa_test_ggml(const char *dir, const char *plugin);
const char *besa_test_ggml(const char *dir, const char *plugin) {
    if (backend) return NULL;
    char path[4096];
    snprintf(path, sizeof path, "%s/libggml.so", dir);
    void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!h) return dlerror();
    const struct wanted base[] = {
        {"ggml_init", &lib.init},
        {"ggml_free", &lib.release},
        {"ggml_new_tensor_2d", &lib.new_2d},
        {"ggml_set_name", &lib.set_name},
        {"ggml_mul_mat", &lib.mul_mat},
        {"ggml_new_graph", &lib.new_graph},
        {"ggml_build_forward_expand", &lib.expand},
        {"ggml_backend_alloc_ctx_tensors_from_buft", &lib.alloc_buft},
        {"ggml_backend_buffer_set_usage", &lib.set_usage},
        {"ggml_backend_buffer_free", &lib.free_buffer},
        {"ggml_backend_tensor_set", &lib.set},
        {"ggml_backend_tensor_get", &lib.get},
        {"ggml_nbytes", &lib.nbytes},
        {"ggml_backend_graph_compute", &lib.compute},
        {"ggml_threadpool_params_init", &lib.params_init},
        {"ggml_backend_load", &lib.load},
        {"ggml_backend_load_all_from_path", &lib.load_all},
        {"ggml_backend_reg_by_name", &lib.reg_by_name},
        {"ggml_backend_reg_dev_get", &lib.reg_dev_get},
        {"ggml_backend_dev_supports_op", &lib.dev_supports_op},
    };
    const char *missing = find(h, base, N(base));
    if (missing) return missing;
    if (!lib.reg_by_name("CPU")) lib.load_all(dir);
    struct ggml_reg *reg = lib.reg_by_name("CPU");
    if (!reg) return "no CPU backend";
    cpu = lib.reg_dev_get(reg, 0);
    Dl_info info;
    void *address;
    memcpy(&address, &reg->iface.get_name, sizeof address);
    if (!dladdr(address, &info)) return "no library of the CPU backend";
    void *c = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    const struct wanted cpus[] = {
        {"ggml_backend_cpu_buffer_type", &lib.cpu_buft},       {"ggml_backend_cpu_init", &lib.cpu_init},
        {"ggml_backend_cpu_set_n_threads", &lib.cpu_threads},  {"ggml_backend_cpu_set_threadpool", &lib.cpu_pool},
        {"ggml_threadpool_new", &lib.pool_new},                {"_Z39ggml_backend_cpu_get_extra_buffer_typesv", &lib.extra},
    };
    missing = find(c, cpus, N(cpus));
    if (missing) return missing;
    if (plugin[0] && !lib.load(plugin)) return "the plugin was refused";
    backend = lib.cpu_init();
    return backend ? NULL : "no backend";
}

/* The buffer type of a name, "CPU" among them. */
static struct ggml_buft *buft_named(const char *name) {
    if (!strcmp(name, "CPU")) return lib.cpu_buft();
    const struct cxx_vector *types = lib.extra();
    for (struct ggml_buft **it = types->begin; it != types->end; it++) {
        if (!strcmp((*it)->iface.get_name(*it), name)) return *it;
    }
    return NULL;
}

struct test_weight {
    struct ggml_context *ctx;
    struct ggml_buffer *buffer;
    struct ggml_tensor *t;
};

/* A weight in a buffer type; NULL if that does not take it. */
EXPORT void *besa_test_weight(const char *buft, const char *name, int type, int64_t rows, int64_t cols, const void *data);
void *besa_test_weight(const char *buft, const char *name, int type, int64_t rows, int64_t cols, const void *data) {
    struct ggml_buft *b = buft_named(buft);
    if (!b) return NULL;
    struct test_weight *w = calloc(1, sizeof *w);
    w->ctx = lib.init((struct init_params){.bytes = 1 << 14, .no_alloc = true});
    w->t = lib.set_name(lib.new_2d(w->ctx, type, cols, rows), name);
    struct ggml_tensor *op = lib.mul_mat(w->ctx, w->t, lib.new_2d(w->ctx, TYPE_F32, cols, 512));
    struct ggml_buffer none = {.buft = b};
    w->t->buffer = &none;
    bool taken = lib.dev_supports_op(cpu, op);
    w->t->buffer = NULL;
    lib.release(w->ctx);
    w->ctx = NULL;
    if (taken) {
        w->ctx = lib.init((struct init_params){.bytes = 1 << 14, .no_alloc = true});
        w->t = lib.set_name(lib.new_2d(w->ctx, type, cols, rows), name);
        w->buffer = lib.alloc_buft(w->ctx, b);
    }
    if (!w->buffer) {
        if (w->ctx) lib.release(w->ctx);
        free(w);
        return NULL;
    }
    lib.set_usage(w->buffer, 1);
    lib.set(w->t, data, 0, lib.nbytes(w->t));
    return w;
}

EXPORT void besa_test_weight_free(struct test_weight *w);
void besa_test_weight_free(struct test_weight *w) {
    lib.free_buffer(w->buffer);
    lib.release(w->ctx);
    free(w);
}

/* Reads a weight back. */
EXPORT void besa_test_weight_get(const struct test_weight *w, void *data);
void besa_test_weight_get(const struct test_weight *w, void *data) { lib.get(w->t, data, 0, lib.nbytes(w->t)); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/*
 * y_i = w_i·x for n weights of one shape as one graph, repeated; the seconds of
 * each run go to seconds. Returns 0, or ggml's status.
 */
EXPORT int besa_test_products(struct test_weight **w, int n, int tokens, const float *x, float *y, int threads, int repeats, double *seconds);
int besa_test_products(struct test_weight **w, int n, int tokens, const float *x, float *y, int threads, int repeats, double *seconds) {
    static void *pools[65];
    if (threads < 1 || threads > 64) return -1;
    if (!pools[threads]) {
        struct threadpool_params params;
        lib.params_init(&params, threads);
        pools[threads] = lib.pool_new(&params);
    }
    lib.cpu_pool(backend, pools[threads]);
    lib.cpu_threads(backend, threads);
    struct ggml_context *ctx = lib.init((struct init_params){.bytes = 1 << 22, .no_alloc = true});
    struct ggml_tensor *in = lib.new_2d(ctx, TYPE_F32, w[0]->t->ne[0], tokens), **out = calloc((size_t)n, sizeof *out);
    struct ggml_cgraph *graph = lib.new_graph(ctx);
    for (int i = 0; i < n; i++) {
        out[i] = lib.mul_mat(ctx, w[i]->t, in);
        lib.expand(graph, out[i]);
    }
    struct ggml_buffer *buffer = lib.alloc_buft(ctx, lib.cpu_buft());
    lib.set(in, x, 0, lib.nbytes(in));
    int status = 0;
    for (int r = 0; r < repeats && status == 0; r++) {
        double from = now();
        status = lib.compute(backend, graph);
        if (seconds) seconds[r] = now() - from;
    }
    for (int i = 0; i < n && status == 0; i++) {
        size_t bytes = lib.nbytes(out[i]);
        lib.get(out[i], y, 0, bytes);
        y += bytes / sizeof *y;
    }
    lib.free_buffer(buffer);
    lib.release(ctx);
    free(out);
    return status;
}
