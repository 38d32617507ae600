/*
 * How the plugin gets into llama.cpp. ggml loads the library named in
 * GGML_BACKEND_PATH after its own backends and calls ggml_backend_init. We find
 * ggml's functions through the caller, check that its structures are the ones
 * we know, and put our buffer type in front of the CPU backend's own. ggml's
 * threads then call our products like any other.
 *
 * Whatever is not as expected ends in one line on stderr and a null result:
 * llama.cpp runs as if the plugin were not there.
 */
#include "plugin.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct ggml_api ggml;

void besa_log(const char *format, ...) {
    va_list args;
    va_start(args, format);
    char line[512];
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    fprintf(stderr, "besa: %s\n", line);
}

/* The library that contains an address. */
static void *library_of(void *address) {
    Dl_info info;
    if (!dladdr(address, &info) || !info.dli_fname) return NULL;
    return dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
}

struct symbol {
    const char *name;
    void *to; /* a pointer to function */
};

/* Looks symbols up; the first that is missing is named in the result. */
static const char *find_symbols(void *library, const struct symbol *symbols, size_t n) {
    for (size_t i = 0; i < n; i++) {
        void *found = dlsym(library, symbols[i].name);
        if (!found) return symbols[i].name;
        memcpy(symbols[i].to, &found, sizeof found);
    }
    return NULL;
}

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static const char *find_registry(void *libggml) {
    const struct symbol symbols[] = {
        {"ggml_backend_reg_by_name", &ggml.reg_by_name},
        {"ggml_backend_reg_dev_get", &ggml.reg_dev_get},
        {"ggml_backend_buffer_init", &ggml.buffer_init},
        {"ggml_backend_buft_alloc_buffer", &ggml.buft_alloc_buffer},
        {"ggml_backend_buft_get_alloc_size", &ggml.buft_get_alloc_size},
        {"ggml_backend_buft_is_host", &ggml.buft_is_host},
        {"ggml_backend_buffer_free", &ggml.buffer_free},
        {"ggml_backend_buffer_get_base", &ggml.buffer_get_base},
        {"ggml_nbytes", &ggml.nbytes},
        {"ggml_init", &ggml.init},
        {"ggml_free", &ggml.release},
        {"ggml_new_tensor_2d", &ggml.new_2d},
        {"ggml_set_name", &ggml.set_name},
        {"ggml_mul_mat", &ggml.mul_mat},
        {"ggml_op_name", &ggml.op_name},
    };
    return find_symbols(libggml, symbols, COUNT(symbols));
}

/* What the extra buffer type needs of the CPU backend. */
static const char *find_extra(void *libcpu) {
    const struct symbol symbols[] = {
        {"_Z39ggml_backend_cpu_get_extra_buffer_typesv", &ggml.extra_buffer_types},
        {"ggml_barrier", &ggml.barrier},
        {"ggml_threadpool_chunk_set", &ggml.chunk_set},
        {"ggml_threadpool_chunk_add", &ggml.chunk_add},
    };
    return find_symbols(libcpu, symbols, COUNT(symbols));
}

/* What the ACCEL device needs. */
static const char *find_accel(void *libggml, void *libcpu) {
    const struct symbol base[] = {
        {"ggml_custom_4d", &ggml.custom},
        {"ggml_new_graph_custom", &ggml.new_graph},
        {"ggml_graph_overhead_custom", &ggml.graph_overhead},
        {"ggml_build_forward_expand", &ggml.graph_expand},
        {"ggml_graph_n_nodes", &ggml.graph_nodes},
        {"ggml_graph_node", &ggml.graph_node},
        {"ggml_backend_graph_compute", &ggml.graph_compute},
        {"ggml_backend_free", &ggml.backend_free},
    };
    const struct symbol cpu[] = {
        {"ggml_backend_cpu_init", &ggml.cpu_init},
        {"ggml_backend_cpu_set_n_threads", &ggml.cpu_threads},
    };
    const char *missing = find_symbols(libggml, base, COUNT(base));
    return missing ? missing : find_symbols(libcpu, cpu, COUNT(cpu));
}

/* Whether a C++ class has as many virtual functions as we know of, by the size of its table. */
static bool vtable_has(void *library, const char *symbol, size_t functions) {
    void *table = dlsym(library, symbol);
    Dl_info info;
    ElfW(Sym) *sym = NULL;
    if (!table || !dladdr1(table, &info, (void **)&sym, RTLD_DL_SYMENT) || !sym) return false;
    return sym->st_size == (2 + functions) * sizeof(void *); /* offset to top, type information */
}

/* The CPU backend: its registration, device, buffer type, and one buffer. */
static const char *check_backend(struct ggml_reg *reg) {
    ggml.cpu_device = ggml.reg_dev_get(reg, 0);
    struct ggml_buft *buft = ggml.cpu_buffer_type();
    if (!ggml.cpu_device || !buft || !reg->iface.get_device || reg->iface.get_device(reg, 0) != ggml.cpu_device) return "its registration is laid out differently";
    struct ggml_buffer *buffer = ggml.buft_alloc_buffer(buft, 4096);
    if (!buffer) return "it has no memory";
    bool same = buffer->buft == buft && buffer->size >= 4096 && buffer->size <= 8192 && buffer->usage == 0 && buffer->iface.get_base &&
                buffer->iface.get_base(buffer) == ggml.buffer_get_base(buffer);
    ggml.buffer_free(buffer);
    return same ? NULL : "its buffers are laid out differently";
}

/* A product of two small tensors, built by ggml and read through our declarations. */
static const char *check_tensors(void) {
    struct ggml_context *ctx = ggml.init((struct ggml_init_params){.bytes = 1 << 16, .no_alloc = true});
    if (!ctx) return "it has no memory";
    struct ggml_tensor *w = ggml.set_name(ggml.new_2d(ctx, TYPE_Q4_0, 64, 48), "besa"), *x = ggml.new_2d(ctx, TYPE_F32, 64, 3);
    struct ggml_tensor *y = ggml.mul_mat(ctx, w, x);
    bool same = w->type == TYPE_Q4_0 && w->ne[0] == 64 && w->ne[1] == 48 && w->ne[2] == 1 && w->ne[3] == 1 && w->nb[0] == 18 &&
                w->nb[1] == 36 && !w->buffer && !w->data && !w->extra && !w->view_src && !strcmp(w->name, "besa") && x->nb[0] == 4 &&
                y->src[0] == w && y->src[1] == x && !y->src[2] && y->ne[0] == 48 && y->ne[1] == 3 && y->type == TYPE_F32 &&
                y->op > 0 && !strcmp(ggml.op_name(y->op), "MUL_MAT");
    if (same) ggml.op_mul_mat = y->op;
    ggml.release(ctx);
    return same ? NULL : "its tensors are laid out differently";
}

/* The CPU backend's device and one of its backends, read through our declarations. */
static const char *check_device(struct ggml_reg *reg) {
    const struct ggml_dev *dev = ggml.cpu_device;
    bool same = dev->reg == reg && dev->iface.get_buffer_type && dev->iface.supports_buft && dev->iface.get_buffer_type(ggml.cpu_device) == ggml.cpu_buffer_type() &&
                dev->iface.supports_buft(ggml.cpu_device, ggml.cpu_buffer_type());
    struct ggml_backend *b = same ? ggml.cpu_init() : NULL;
    if (!b) return "its devices are laid out differently";
    same = b->device == ggml.cpu_device && b->iface.graph_compute && b->iface.get_name && !strcmp(b->iface.get_name(b), "CPU");
    ggml.backend_free(b);
    return same ? NULL : "its backends are laid out differently";
}

/* The C++ side: list of buffer types and the classes behind them. */
static const char *check_extra(void *libcpu) {
    if (!vtable_has(libcpu, "_ZTVN4ggml3cpu17extra_buffer_typeE", 4) || !vtable_has(libcpu, "_ZTVN4ggml3cpu13tensor_traitsE", 4))
        return "its extra buffer types have other functions";
    const struct cxx_vector *list = ggml.extra_buffer_types();
    if (list->begin > list->end || list->end > list->capacity || list->capacity - list->begin > 64 || (list->end && !list->begin))
        return "its list of buffer types is laid out differently";
    for (struct ggml_buft **it = list->begin; it != list->end; it++) {
        if (!*it || (*it)->device != ggml.cpu_device) return "its buffer types are laid out differently";
    }
    return NULL;
}

/*
 * C++'s allocator as the CPU backend's library sees it: the program's, if it
 * has one, before the library's own.
 */
static bool find_allocator(void *libcpu, void *(**allocate)(size_t), void (**release)(void *)) {
    const struct symbol symbols[] = {{"_Znwm", allocate}, {"_ZdlPv", release}};
    return !find_symbols(RTLD_DEFAULT, symbols, COUNT(symbols)) || !find_symbols(libcpu, symbols, COUNT(symbols));
}

/* Puts our buffer type in front. The list's memory comes from C++'s allocator, which will free it. */
static const char *insert(void *libcpu) {
    struct cxx_vector *list = ggml.extra_buffer_types();
    struct ggml_buft *ours = besa_buffer_type(ggml.cpu_device);
    size_t n = (size_t)(list->end - list->begin);
    for (size_t i = 0; i < n; i++) {
        if (list->begin[i] == ours) return NULL; /* loaded a second time */
    }
    void *(*allocate)(size_t);
    void (*release)(void *);
    if (!find_allocator(libcpu, &allocate, &release)) return "C++'s allocator is out of reach";
    struct ggml_buft **grown = allocate((n + 1) * sizeof *grown);
    grown[0] = ours;
    if (n) memcpy(grown + 1, list->begin, n * sizeof *grown);
    if (list->begin) release(list->begin);
    list->begin = grown;
    list->end = list->capacity = grown + n + 1;
    return NULL;
}

/* How BESA_NATIVE lets us in. */
enum route { ROUTE_ANY, ROUTE_EXTRA, ROUTE_ACCEL, ROUTE_OFF, ROUTE_UNKNOWN };

static enum route wanted_route(void) {
    const char *mode = getenv("BESA_NATIVE");
    if (!mode || !*mode) return ROUTE_ANY;
    if (!strcmp(mode, "extra")) return ROUTE_EXTRA;
    if (!strcmp(mode, "accel")) return ROUTE_ACCEL;
    return strcmp(mode, "off") ? ROUTE_UNKNOWN : ROUTE_OFF;
}

/* Why the extra buffer type cannot be used, or NULL: then it is in place. */
static const char *try_extra(void *libcpu) {
    static char missing[128];
    const char *symbol = find_extra(libcpu);
    if (symbol) {
        snprintf(missing, sizeof missing, "it lacks %s", symbol);
        ggml.extra_buffer_types = NULL;
        return missing;
    }
    const char *wrong = check_extra(libcpu);
    if (!wrong) wrong = insert(libcpu);
    if (wrong) ggml.extra_buffer_types = NULL;
    return wrong;
}

static const char *try_accel(void *libggml, void *libcpu, struct ggml_reg *cpu) {
    static char missing[128];
    const char *symbol = find_accel(libggml, libcpu);
    if (!symbol) return check_device(cpu);
    snprintf(missing, sizeof missing, "it lacks %s", symbol);
    return missing;
}

/* Nothing to say about it: a program may look for backends in several places. */
static const char no_cpu[] = "it has no CPU backend";

/* Finds ggml from an address in it, checks it, and joins by one of the routes. Returns NULL or why not. */
static const char *join(void *caller, bool *accel) {
    static char missing[128];
    const struct symbol buffer_type[] = {{"ggml_backend_cpu_buffer_type", &ggml.cpu_buffer_type}};
    void *libggml = library_of(caller);
    const char *wrong = libggml ? find_registry(libggml) : "the caller's library";
    struct ggml_reg *cpu = wrong ? NULL : ggml.reg_by_name("CPU");
    if (!wrong && !cpu) return no_cpu;
    if (!wrong && cpu->api_version != GGML_BACKEND_API_VERSION) return "its backend API has another version";
    void *libcpu = wrong ? NULL : library_of((void *)cpu->iface.get_name);
    if (!wrong) wrong = libcpu ? find_symbols(libcpu, buffer_type, 1) : "the CPU backend's library";
    if (wrong) {
        snprintf(missing, sizeof missing, "it lacks %s", wrong);
        return missing;
    }
    if ((wrong = check_backend(cpu)) || (wrong = check_tensors())) return wrong;
    enum route route = wanted_route();
    if (route == ROUTE_EXTRA) return try_extra(libcpu);
    if (route == ROUTE_ANY && !(wrong = try_extra(libcpu))) return NULL;
    const char *no_accel = try_accel(libggml, libcpu, cpu);
    *accel = !no_accel;
    if (wrong && *accel) besa_log("this llama.cpp has no extra buffer types (%s): an ACCEL device is used instead", wrong);
    return no_accel;
}

static const char *reg_name(struct ggml_reg *reg) {
    (void)reg;
    return "BESA";
}

static size_t reg_device_count(struct ggml_reg *reg) { return reg->context ? 1 : 0; }

static struct ggml_dev *reg_device(struct ggml_reg *reg, size_t i) { return i == 0 ? reg->context : NULL; }

static void *reg_proc_address(struct ggml_reg *reg, const char *name) {
    void (*set_threads)(struct ggml_backend *, int) = accel_set_threads;
    void *found = NULL;
    if (reg->context && !strcmp(name, "ggml_backend_set_n_threads")) memcpy(&found, &set_threads, sizeof found);
    return found;
}

/* What BESA_NATIVE and the processor allow: NULL to go on, else why not. */
static const char *forbidden(void) {
    enum route route = wanted_route();
    if (route == ROUTE_OFF) return "off: BESA_NATIVE=off";
    if (route == ROUTE_UNKNOWN) return "off: BESA_NATIVE is none of extra, accel and off";
    if (!kernel_supported()) return "off: no AVX-512 VBMI2";
    return NULL;
}

/* Called by ggml. */
__attribute__((visibility("default"))) int ggml_backend_score(void) {
    static atomic_flag said = ATOMIC_FLAG_INIT; /* some programs load backends twice */
    const char *why = forbidden();
    if (!why) return 1;
    if (!atomic_flag_test_and_set(&said)) besa_log("native execution is %s", why);
    stats_kernel(why);
    return 0;
}

__attribute__((visibility("default"), noinline)) struct ggml_reg *ggml_backend_init(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    /* context: the ACCEL device, or NULL when the CPU's device does the work */
    static struct ggml_reg reg = {GGML_BACKEND_API_VERSION, {reg_name, reg_device_count, reg_device, reg_proc_address}, NULL};
    void *caller = __builtin_return_address(0);
    if (forbidden()) return NULL;
    bool accel = false;
    pthread_mutex_lock(&lock);
    const char *wrong = join(caller, &accel);
    if (!wrong && accel) reg.context = accel_device(&reg);
    pthread_mutex_unlock(&lock);
    if (wrong == no_cpu) return NULL;
    if (wrong) {
        besa_log("native execution is off: this llama.cpp is not supported, %s", wrong);
        stats_kernel("off: unknown llama.cpp");
        return NULL;
    }
    stats_kernel(accel ? "avx512-vbmi2, accel" : "avx512-vbmi2");
    return &reg;
}
