/*
 * The part of ggml's binary interface that the plugin touches, in our own
 * declarations. Everything here is verified when the plugin is loaded
 * (plugin.c); a library that does not match is left alone.
 */
#ifndef BESA_GGML_ABI_H
#define BESA_GGML_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GGML_BACKEND_API_VERSION 2 /* of llama.cpp in 2026; later headers have 6 */

/* enum ggml_type */
enum { TYPE_F32 = 0, TYPE_F16 = 1, TYPE_Q4_0 = 2, TYPE_Q4_1 = 3, TYPE_Q8_0 = 8, TYPE_BF16 = 30 };

struct ggml_buffer;
struct ggml_buft;
struct ggml_reg;
struct ggml_dev;
struct ggml_backend;
struct ggml_context; /* opaque */
struct ggml_cgraph;  /* opaque */

struct ggml_tensor {
    int32_t type;
    struct ggml_buffer *buffer;
    int64_t ne[4]; /* elements */
    size_t nb[4];  /* strides in bytes */
    int32_t op;
    int32_t op_params[16];
    int32_t flags;
    struct ggml_tensor *src[10];
    struct ggml_tensor *view_src;
    size_t view_offs;
    void *data;
    char name[64];
    void *extra;
    char padding[8];
};
_Static_assert(sizeof(struct ggml_tensor) == 336, "ggml_tensor");

struct ggml_buft_iface {
    const char *(*get_name)(struct ggml_buft *);
    struct ggml_buffer *(*alloc_buffer)(struct ggml_buft *, size_t size);
    size_t (*get_alignment)(struct ggml_buft *);
    size_t (*get_max_size)(struct ggml_buft *);
    size_t (*get_alloc_size)(struct ggml_buft *, const struct ggml_tensor *);
    bool (*is_host)(struct ggml_buft *);
};

struct ggml_buft {
    struct ggml_buft_iface iface;
    struct ggml_dev *device;
    void *context;
};

struct ggml_buffer_iface {
    void (*free_buffer)(struct ggml_buffer *);
    void *(*get_base)(struct ggml_buffer *);
    int (*init_tensor)(struct ggml_buffer *, struct ggml_tensor *);
    void (*memset_tensor)(struct ggml_buffer *, struct ggml_tensor *, uint8_t, size_t, size_t);
    void (*set_tensor)(struct ggml_buffer *, struct ggml_tensor *, const void *, size_t, size_t);
    void (*get_tensor)(struct ggml_buffer *, const struct ggml_tensor *, void *, size_t, size_t);
    void (*set_tensor_2d)(void);
    void (*get_tensor_2d)(void);
    bool (*cpy_tensor)(struct ggml_buffer *, const struct ggml_tensor *, struct ggml_tensor *);
    void (*clear)(struct ggml_buffer *, uint8_t);
    void (*reset)(struct ggml_buffer *);
};

struct ggml_buffer {
    struct ggml_buffer_iface iface;
    struct ggml_buft *buft;
    void *context;
    size_t size;
    int32_t usage;
};

struct ggml_reg_iface {
    const char *(*get_name)(struct ggml_reg *);
    size_t (*get_device_count)(struct ggml_reg *);
    struct ggml_dev *(*get_device)(struct ggml_reg *, size_t);
    void *(*get_proc_address)(struct ggml_reg *, const char *);
};

struct ggml_reg {
    int api_version;
    struct ggml_reg_iface iface;
    void *context;
};

struct ggml_dev_props {
    const char *name, *description;
    size_t memory_free, memory_total;
    int32_t type;
    const char *device_id;
    bool caps[]; /* all false: asynchronous, host buffers, buffers from pointers, events */
};

enum { DEVICE_ACCEL = 3 }; /* of enum ggml_backend_dev_type */

struct ggml_dev_iface {
    const char *(*get_name)(struct ggml_dev *);
    const char *(*get_description)(struct ggml_dev *);
    void (*get_memory)(struct ggml_dev *, size_t *free, size_t *total);
    int (*get_type)(struct ggml_dev *);
    void (*get_props)(struct ggml_dev *, struct ggml_dev_props *);
    struct ggml_backend *(*init_backend)(struct ggml_dev *, const char *params);
    struct ggml_buft *(*get_buffer_type)(struct ggml_dev *);
    struct ggml_buft *(*get_host_buffer_type)(struct ggml_dev *);
    struct ggml_buffer *(*buffer_from_host_ptr)(struct ggml_dev *, void *, size_t, size_t);
    bool (*supports_op)(struct ggml_dev *, const struct ggml_tensor *);
    bool (*supports_buft)(struct ggml_dev *, struct ggml_buft *);
    bool (*offload_op)(struct ggml_dev *, const struct ggml_tensor *);
    void (*events[3])(void);
};

struct ggml_dev {
    struct ggml_dev_iface iface;
    struct ggml_reg *reg;
    void *context;
};

struct ggml_backend_iface {
    const char *(*get_name)(struct ggml_backend *);
    void (*free)(struct ggml_backend *);
    void (*transfers[5])(void);
    void (*synchronize)(struct ggml_backend *);
    void (*plans[4])(void);
    int (*graph_compute)(struct ggml_backend *, struct ggml_cgraph *);
    void (*events[2])(void);
    void (*graph_optimize)(void);
};

struct ggml_backend {
    uint8_t (*guid)[16];
    struct ggml_backend_iface iface;
    struct ggml_dev *device;
    void *context;
};

struct ggml_init_params {
    size_t bytes;
    void *memory;
    bool no_alloc;
};

typedef void ggml_custom_fn(struct ggml_tensor *dst, int ith, int nth, void *userdata);

struct ggml_compute_params {
    int ith, nth; /* this thread, number of threads */
    size_t wsize;
    void *wdata; /* work buffer, shared by all threads */
    void *threadpool;
};

/*
 * ggml's C++ classes extra_buffer_type and tensor_traits, as the Itanium ABI
 * lays them out: a pointer to a table of virtual functions, destructors first.
 */
struct cxx_extra_buffer_type;
struct cxx_tensor_traits;

struct cxx_extra_vtable {
    void (*destroy)(struct cxx_extra_buffer_type *);
    void (*destroy_and_free)(struct cxx_extra_buffer_type *);
    bool (*supports_op)(struct cxx_extra_buffer_type *, struct ggml_dev *, const struct ggml_tensor *);
    struct cxx_tensor_traits *(*get_tensor_traits)(struct cxx_extra_buffer_type *, const struct ggml_tensor *);
};

struct cxx_traits_vtable {
    void (*destroy)(struct cxx_tensor_traits *);
    void (*destroy_and_free)(struct cxx_tensor_traits *);
    bool (*work_size)(struct cxx_tensor_traits *, int threads, const struct ggml_tensor *op, size_t *size);
    bool (*compute_forward)(struct cxx_tensor_traits *, struct ggml_compute_params *, struct ggml_tensor *op);
};

struct cxx_extra_buffer_type {
    const struct cxx_extra_vtable *vtable;
};

struct cxx_tensor_traits {
    const struct cxx_traits_vtable *vtable;
};

/* std::vector<ggml_backend_buffer_type_t> in libstdc++ and libc++. */
struct cxx_vector {
    struct ggml_buft **begin, **end, **capacity;
};

/* ggml's exported functions, found at load. */
struct ggml_api {
    struct ggml_buft *(*cpu_buffer_type)(void);
    struct cxx_vector *(*extra_buffer_types)(void);
    struct ggml_buffer *(*buffer_init)(struct ggml_buft *, struct ggml_buffer_iface, void *context, size_t size);
    struct ggml_buffer *(*buft_alloc_buffer)(struct ggml_buft *, size_t);
    size_t (*buft_get_alloc_size)(struct ggml_buft *, const struct ggml_tensor *);
    bool (*buft_is_host)(struct ggml_buft *);
    void (*buffer_free)(struct ggml_buffer *);
    void *(*buffer_get_base)(struct ggml_buffer *);
    int (*buffer_init_tensor)(struct ggml_buffer *, struct ggml_tensor *);
    bool (*dev_supports_op)(struct ggml_dev *, const struct ggml_tensor *);
    struct ggml_dev *(*reg_dev_get)(struct ggml_reg *, size_t);
    struct ggml_reg *(*reg_by_name)(const char *);
    size_t (*nbytes)(const struct ggml_tensor *);
    void (*barrier)(void *threadpool);
    void (*chunk_set)(void *threadpool, int value);
    int (*chunk_add)(void *threadpool, int value);
    /* making graphs, and computing them on the CPU backend: route "accel" */
    struct ggml_context *(*init)(struct ggml_init_params);
    void (*release)(struct ggml_context *);
    struct ggml_tensor *(*new_2d)(struct ggml_context *, int type, int64_t, int64_t);
    struct ggml_tensor *(*set_name)(struct ggml_tensor *, const char *);
    struct ggml_tensor *(*mul_mat)(struct ggml_context *, struct ggml_tensor *, struct ggml_tensor *);
    const char *(*op_name)(int);
    struct ggml_tensor *(*custom)(struct ggml_context *, int type, int64_t, int64_t, int64_t, int64_t, struct ggml_tensor **args, int n,
                                  ggml_custom_fn *, int tasks, void *userdata);
    struct ggml_cgraph *(*new_graph)(struct ggml_context *, size_t nodes, bool grads);
    size_t (*graph_overhead)(size_t nodes, bool grads);
    void (*graph_expand)(struct ggml_cgraph *, struct ggml_tensor *);
    int (*graph_nodes)(struct ggml_cgraph *);
    struct ggml_tensor *(*graph_node)(struct ggml_cgraph *, int);
    int (*graph_compute)(struct ggml_backend *, struct ggml_cgraph *);
    void (*backend_free)(struct ggml_backend *);
    struct ggml_backend *(*cpu_init)(void);
    void (*cpu_threads)(struct ggml_backend *, int);
    struct ggml_dev *cpu_device;
    int32_t op_mul_mat; /* enum values differ between versions: looked up by name */
};

#endif
