/*
 * The plugin's parts: loading and ABI checks (plugin.c), the buffer type that
 * llama.cpp puts weights into (buffer.c), products (matmul.c), offered tensors
 * and statistics (offers.c).
 */
#ifndef BESA_PLUGIN_H
#define BESA_PLUGIN_H

#include "ggml_abi.h"
#include "kernel.h"

/* ggml's functions; complete before anything below is called. */
extern struct ggml_api ggml;

/* How a weight tensor in our buffer is executed. */
enum weight_state {
    WEIGHT_EMPTY,  /* no data yet */
    WEIGHT_SPARSE, /* by our kernels, from plain */
    WEIGHT_STOCK,  /* by one of ggml's own extra buffer types, from shadow */
    WEIGHT_RAW,    /* by ggml, from tensor->data */
};

/* What tensor->extra of a weight in our buffer points to. */
struct weight {
    struct weight *next; /* in its buffer */
    enum weight_state state;
    struct plain plain;
    struct offer *offer;       /* whose blob plain lies in, or NULL: then the blob is ours */
    uint64_t mapped;           /* bytes of our mapping */
    struct ggml_tensor shadow; /* the tensor as ggml's own buffer type sees it */
    struct cxx_extra_buffer_type *stock;
};

/* The buffer type to insert; device is the CPU's. */
struct ggml_buft *besa_buffer_type(struct ggml_dev *device);

/* The weight a product multiplies, if it lies in our buffer; else NULL. */
struct weight *weight_of(const struct ggml_tensor *op);

/* ggml's tensor traits for our weights: work_size and compute_forward. */
struct cxx_tensor_traits *besa_traits(void);

/* A tensor on offer, with the models that use it. */
struct offer;
struct offer *offer_take(const char *name, uint64_t rows, uint64_t cols, int32_t type, struct plain *p);
void offer_release(struct offer *o);
bool offer_exists(const char *name, uint64_t rows, uint64_t cols, int32_t type);

/* Counts a weight that has found its state (+1) or leaves it (−1). */
void stats_count(const struct weight *w, uint64_t expanded_bytes, int sign);

/* What stats report as the kernel in use. */
void stats_kernel(const char *what);

/* One line on stderr. */
void besa_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
