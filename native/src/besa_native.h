/*
 * The interface of libggml-besa.so for programs that hold sparse weights
 * themselves, such as `besa run`.
 *
 * llama.cpp needs none of this: it finds the plugin through GGML_BACKEND_PATH,
 * hands it ordinary tensors, and the plugin detects their zeros. A program that
 * has a tensor in the plain layout already (sparsefmt/SPEC.md, section 3) can
 * offer it before llama.cpp loads the model: when llama.cpp then fills a tensor
 * of that name and shape, the plugin executes the offered blob where it lies
 * and ignores the bytes it is handed.
 *
 * All functions may be called from any thread. The library is never unloaded
 * (it is linked with -z nodelete), so pointers to its functions stay valid.
 */
#ifndef BESA_NATIVE_H
#define BESA_NATIVE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BESA_NATIVE_ABI 1
#define BESA_NATIVE_API __attribute__((visibility("default")))

/* Results of besa_native_offer. */
enum {
    BESA_NATIVE_OK = 0,
    BESA_NATIVE_BAD_ARGUMENT = -1, /* a null pointer, an empty or overlong name, a struct of another size */
    BESA_NATIVE_CORRUPT = -2,      /* the blob breaks a rule of the format, or disagrees with the description */
    BESA_NATIVE_UNSUPPORTED = -3,  /* a valid blob, but no kernel executes it: expand the tensor instead */
    BESA_NATIVE_NO_MEMORY = -4,
    BESA_NATIVE_DUPLICATE = -5,    /* a tensor of this name and shape is on offer already */
};

/* A pruned tensor in the plain layout. */
struct besa_native_tensor {
    uint64_t struct_size; /* sizeof(struct besa_native_tensor): 64 */
    const char *name;     /* the tensor's name in the expanded model, at most 63 bytes; copied */
    uint64_t rows, cols;  /* output and input channels */
    uint32_t coding;      /* SPEC.md, section 4: 1 q4_sym, 2 q4_asym, 3 f16, 4 bf16, 5 q8_sym */
    uint32_t group;       /* weights per scale */
    const void *blob;     /* 8-byte aligned; readable until withdrawn */
    uint64_t blob_bytes;
    uint64_t reserved;    /* 0 */
};

struct besa_native_stats {
    uint64_t struct_size;     /* set by the caller: sizeof(struct besa_native_stats) */
    uint64_t tensors_sparse;  /* tensors executed from their sparse form now, offered ones included */
    uint64_t tensors_stock;   /* tensors left to llama.cpp's own kernels now */
    uint64_t tensors_offered; /* tensors executed from an offered blob now */
    uint64_t bytes_sparse;    /* memory the plugin allocated for sparse forms now */
    uint64_t bytes_offered;   /* bytes of offered blobs in use now */
    uint64_t bytes_expanded;  /* what all sparse tensors would occupy in their ggml type */
    char kernel[32];          /* "avx512-vbmi2", or "off: …" */
};

/* BESA_NATIVE_ABI of the library. Check it before any other call. */
BESA_NATIVE_API int besa_native_abi(void);

/*
 * Offers a tensor: 0, or one of the codes above, and nothing is offered then.
 * The blob is validated completely (every rule of the format that memory
 * safety and the result depend on) before it can reach a kernel; that reads it
 * once. Its memory must stay as it is until besa_native_withdraw, and longer
 * while a model that uses it is loaded. Works before and after llama.cpp has
 * loaded the plugin.
 */
BESA_NATIVE_API int besa_native_offer(const struct besa_native_tensor *t);

/*
 * Ends all offers of a blob. Tensors that were filled from it keep using it
 * until their model is freed.
 */
BESA_NATIVE_API void besa_native_withdraw(const void *blob);

/* Fills in what the plugin is doing; 0 or BESA_NATIVE_BAD_ARGUMENT. */
BESA_NATIVE_API int besa_native_stats(struct besa_native_stats *s);

#ifdef __cplusplus
}
#endif
#endif
