/*
 * The plugin's parts: loading and ABI checks (plugin.c), the buffer type that
 * llama.cpp puts weights into (buffer.c), products (matmul.c), the ACCEL device
 * (accel.c), offered tensors and statistics (offers.c).
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
    struct offer *offer;       /* whose blob plain lies in, or NULL: then it lies in the buffer's arena */
    struct ggml_tensor shadow; /* the tensor as ggml's own buffer type sees it */
    struct cxx_extra_buffer_type *stock;
};

/* The buffer type to insert; device is the CPU's. */
struct ggml_buft *besa_buffer_type(struct ggml_dev *device);

/* Whether a product can be ours; asked before there is data, and again for each graph. */
bool besa_supports(const struct ggml_tensor *op);

/* The weight a product multiplies, if it lies in our buffer; else NULL. */
struct weight *weight_of(const struct ggml_tensor *op);

/* ggml's tensor traits for our weights: work_size and compute_forward. */
struct cxx_tensor_traits *besa_traits(void);

/* One product: what all threads share. The arrays lie in memory of job_bytes bytes, aligned to 64. */
struct job {
    const struct weight *weight;
    const struct ggml_tensor *x;
    float *y;
    struct activations a;
    char *scratch;
};

uint64_t job_bytes(const struct weight *w, const struct ggml_tensor *x, int threads);
void job_open(struct job *j, const struct weight *w, const struct ggml_tensor *op, void *memory);

/* The two steps; all threads have finished the first before one begins the second. */
void job_quantise(struct job *j, int ith, int nth);

/* next returns, to each caller another, the chunks nth, nth+1, … */
void job_multiply(const struct job *j, int ith, int nth, int (*next)(void *), void *argument);

/* Route "accel": the device to register, and the number of threads of one of its backends. */
struct ggml_dev *accel_device(struct ggml_reg *reg);
void accel_set_threads(struct ggml_backend *backend, int threads);

/* A tensor on offer, with the models that use it. */
struct offer;
struct offer *offer_take(const char *name, uint64_t rows, uint64_t cols, int32_t type, struct plain *p);
void offer_release(struct offer *o);

/* What is on offer: nothing, other tensors, or the one that is asked for. */
enum offered { OFFER_NONE, OFFER_OTHERS, OFFER_THIS };
enum offered offer_find(const char *name, uint64_t rows, uint64_t cols, int32_t type);

/* Counts a weight that has found its state (+1) or leaves it (−1). */
void stats_count(const struct weight *w, uint64_t expanded_bytes, int sign);

/* What stats report as the kernel in use. */
void stats_kernel(const char *what);

/* One line on stderr. */
void besa_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
