/*
 * The buffer type llama.cpp puts weights into. Which tensors come here is
 * decided by type and shape, before their data is known; what becomes of each
 * is decided when its data arrives: sparse enough, and it is kept in the plain
 * layout; else it goes to ggml's own buffer type for it, or stays as it is.
 *
 * The addresses ggml computes tensor->data from are reserved, not memory: only
 * tensors that stay as they are have pages there. Everything else that touched
 * them by mistake would fault instead of reading nonsense.
 */
#include "plugin.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

/*
 * The least sparsity at which our kernels are worth it. At 15.6 % the plain
 * layout has as many bytes as Q4_0; measured break-even in docs/native.md.
 * BESA_NATIVE_SPARSITY sets another, for measurements.
 */
static double least_sparsity(void) {
    const char *set = getenv("BESA_NATIVE_SPARSITY");
    return set ? atof(set) : 0.25;
}

/*
 * Encoded tensors lie one after the other in an arena of large pages: with 4 KiB
 * pages a model of 1.1 billion weights generated a third slower (docs/native.md).
 */
struct arena {
    char *base;
    size_t capacity; /* address space to reserve */
    size_t size, used;
};

struct buffer {
    char *base;
    size_t size;
    struct weight *weights;
    struct arena arena;
};

/* Before the memory is written; without it: slower, not wrong. */
static void prefer_large_pages(char *memory, size_t size) {
    enum { PAGE = 4096 };
    char *from = (char *)(((uintptr_t)memory + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
    if (size > 2 * PAGE) madvise(from, (size - (size_t)(from - memory)) & ~(size_t)(PAGE - 1), MADV_HUGEPAGE);
}

static struct ggml_buft *our_type(void);

static const char *get_name(struct ggml_buft *buft) {
    (void)buft;
    return "CPU_BESA";
}

static size_t get_alignment(struct ggml_buft *buft) {
    (void)buft;
    return 64;
}

/* Frees what a weight holds. */
static void weight_clear(struct weight *w) {
    if (w->state != WEIGHT_EMPTY) stats_count(w, ggml.nbytes(&w->shadow), -1);
    if (w->state == WEIGHT_SPARSE && w->offer) offer_release(w->offer);
    if (w->state == WEIGHT_STOCK) ggml.buffer_free(w->shadow.buffer);
    w->state = WEIGHT_EMPTY;
    w->offer = NULL;
}

static void free_buffer(struct ggml_buffer *buffer) {
    struct buffer *b = buffer->context;
    while (b->weights) {
        struct weight *w = b->weights;
        b->weights = w->next;
        weight_clear(w);
        free(w);
    }
    munmap(b->base, b->size);
    if (b->arena.size) munmap(b->arena.base, b->arena.size);
    free(b);
}

static void *get_base(struct ggml_buffer *buffer) { return ((struct buffer *)buffer->context)->base; }

static int init_tensor(struct ggml_buffer *buffer, struct ggml_tensor *tensor) {
    enum { STATUS_ALLOC_FAILED = -2, STATUS_SUCCESS = 0 };
    if (tensor->view_src) return STATUS_SUCCESS; /* supports_op refuses views */
    struct buffer *b = buffer->context;
    struct weight *w = calloc(1, sizeof *w);
    if (!w) return STATUS_ALLOC_FAILED;
    w->next = b->weights;
    b->weights = w;
    w->shadow = *tensor;
    tensor->extra = w;
    return STATUS_SUCCESS;
}

/* Keeps the data at tensor->data, for ggml's own kernels. */
static void keep_raw(struct weight *w, struct ggml_tensor *tensor, const void *data, size_t offset, size_t size) {
    enum { PAGE = 4096 };
    uintptr_t from = (uintptr_t)tensor->data & ~(uintptr_t)(PAGE - 1);
    uintptr_t to = ((uintptr_t)tensor->data + ggml.nbytes(tensor) + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
    if (mprotect((void *)from, to - from, PROT_READ | PROT_WRITE)) {
        besa_log("no memory for tensor %s", tensor->name);
        abort(); /* set_tensor cannot fail; ggml's own allocations end the same way */
    }
    memcpy((char *)tensor->data + offset, data, size);
    w->state = WEIGHT_RAW;
}

/* Hands the data to the first of ggml's extra buffer types that multiplies this tensor. */
static bool give_to_stock(struct weight *w, const struct ggml_tensor *tensor, const void *data) {
    if (!ggml.extra_buffer_types) return false;
    struct cxx_vector *types = ggml.extra_buffer_types();
    for (struct ggml_buft **it = types->begin; it != types->end; it++) {
        struct ggml_buft *stock = *it;
        if (stock == our_type() || !stock || !stock->context) continue;
        w->shadow = *tensor;
        w->shadow.extra = NULL;
        w->shadow.data = NULL;
        struct ggml_buffer none = {.buft = stock};
        w->shadow.buffer = &none;
        struct ggml_tensor x = {.type = TYPE_F32, .ne = {tensor->ne[0], 512, 1, 1}};
        struct ggml_tensor op = {.op = ggml.op_mul_mat, .type = TYPE_F32, .src = {&w->shadow, &x}};
        struct cxx_extra_buffer_type *extra = stock->context;
        if (!extra->vtable->supports_op(extra, ggml.cpu_device, &op)) continue;
        struct ggml_buffer *buffer = ggml.buft_alloc_buffer(stock, ggml.buft_get_alloc_size(stock, tensor));
        if (!buffer) continue;
        buffer->usage = 1; /* weights */
        prefer_large_pages(ggml.buffer_get_base(buffer), ggml.buft_get_alloc_size(stock, tensor));
        w->shadow.buffer = buffer;
        w->shadow.data = ggml.buffer_get_base(buffer);
        if (buffer->iface.init_tensor) buffer->iface.init_tensor(buffer, &w->shadow);
        buffer->iface.set_tensor(buffer, &w->shadow, data, 0, ggml.nbytes(tensor));
        w->stock = extra;
        w->state = WEIGHT_STOCK;
        return true;
    }
    return false;
}

static bool take_offer(struct weight *w, const struct ggml_tensor *t) {
    w->offer = offer_take(t->name, (uint64_t)t->ne[1], (uint64_t)t->ne[0], t->type, &w->plain);
    if (w->offer) w->state = WEIGHT_SPARSE;
    return w->offer != NULL;
}

/* The coding of an ordinary type; 0: none that a kernel executes. */
static uint32_t coding_of(int32_t type) {
    switch (type) {
    case TYPE_Q4_0:
        return CODING_Q4_SYM;
    case TYPE_Q8_0:
        return CODING_Q8_SYM;
    case TYPE_F16:
        return CODING_F16;
    case TYPE_BF16:
        return CODING_BF16;
    }
    return 0;
}

/* Zeroed memory of so many bytes, aligned to 64; arena_keep keeps the first of them. */
static void *arena_tail(struct arena *a, uint64_t bytes) {
    enum { LARGE_PAGE = 2 << 20 };
    if (!a->size) {
        void *m = mmap(NULL, a->capacity + LARGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (m == MAP_FAILED) return NULL;
        a->base = m;
        a->size = a->capacity + LARGE_PAGE;
        a->used = (LARGE_PAGE - (uintptr_t)m % LARGE_PAGE) % LARGE_PAGE;
        prefer_large_pages(a->base + a->used, a->size - a->used);
    }
    return bytes <= a->size - a->used ? a->base + a->used : NULL;
}

static void arena_keep(struct arena *a, uint64_t bytes) { a->used += align64(bytes); }

/* Encodes the data if it is sparse enough. A tensor that is written again leaves its old place unused. */
static bool encode(struct arena *arena, struct weight *w, const struct ggml_tensor *t, const void *data) {
    uint32_t coding = coding_of(t->type), rows = (uint32_t)t->ne[1], cols = (uint32_t)t->ne[0];
    if (!coding) return false;
    struct survey s = matrix_survey(data, coding, rows, cols);
    double sparsity = 1 - (double)s.survivors / ((double)rows * (double)cols);
    if (!s.finite || sparsity < least_sparsity()) return false;
    uint64_t bound = matrix_encoded_bound(coding, rows, cols, s.group);
    void *blob = bound <= MAX_BLOB ? arena_tail(arena, bound) : NULL;
    if (!blob) return false;
    uint64_t bytes = matrix_encode(data, coding, rows, cols, &s, blob);
    const char *wrong = plain_open(&w->plain, blob, bytes);
    if (wrong) { /* cannot happen; costs one pass at load */
        besa_log("tensor %s: %s", t->name, wrong);
        arena->used = arena->size;
        return false;
    }
    arena_keep(arena, bytes);
    w->state = WEIGHT_SPARSE;
    return true;
}

static void set_tensor(struct ggml_buffer *buffer, struct ggml_tensor *tensor, const void *data, size_t offset, size_t size) {
    struct arena *arena = &((struct buffer *)buffer->context)->arena;
    struct weight *w = tensor->extra;
    if (!w) {
        besa_log("tensor %s: views of weights cannot be written", tensor->name);
        return;
    }
    if (w->state == WEIGHT_RAW && !(offset == 0 && size == ggml.nbytes(tensor))) {
        memcpy((char *)tensor->data + offset, data, size);
        return;
    }
    if (offset != 0 || size != ggml.nbytes(tensor)) {
        if (w->state != WEIGHT_EMPTY) {
            besa_log("tensor %s: written in part after it was encoded", tensor->name);
            abort(); /* as ggml's own buffer types do */
        }
        keep_raw(w, tensor, data, offset, size);
    } else {
        weight_clear(w);
        if (!take_offer(w, tensor) && !encode(arena, w, tensor, data) && !give_to_stock(w, tensor, data)) keep_raw(w, tensor, data, 0, size);
    }
    if (w->state != WEIGHT_STOCK) w->shadow = *tensor;
    stats_count(w, ggml.nbytes(tensor), 1);
}

/* Reads back; only what is there in ggml's own form or expands to it. */
static void get_tensor(struct ggml_buffer *buffer, const struct ggml_tensor *tensor, void *data, size_t offset, size_t size) {
    (void)buffer;
    const struct weight *w = tensor->extra;
    if (w && w->state == WEIGHT_RAW) {
        memcpy(data, (const char *)tensor->data + offset, size);
        return;
    }
    size_t row_bytes = tensor->nb[1];
    char *row = w && w->state == WEIGHT_SPARSE && plain_row_bytes(&w->plain) == row_bytes ? malloc(row_bytes) : NULL;
    memset(data, 0, size);
    if (!row) {
        besa_log("tensor %s cannot be read back", tensor->name);
        return;
    }
    for (size_t done = 0; done < size;) {
        size_t at = (offset + done) % row_bytes, n = row_bytes - at < size - done ? row_bytes - at : size - done;
        plain_expand_row(&w->plain, (uint32_t)((offset + done) / row_bytes), (uint8_t *)row);
        memcpy((char *)data + done, row + at, n);
        done += n;
    }
    free(row);
}

static void clear(struct ggml_buffer *buffer, uint8_t value) {
    (void)buffer;
    (void)value; /* weights are always written in full after this */
}

static struct ggml_buffer *alloc_buffer(struct ggml_buft *buft, size_t size) {
    static const struct ggml_buffer_iface iface = {
        .free_buffer = free_buffer,
        .get_base = get_base,
        .init_tensor = init_tensor,
        .set_tensor = set_tensor,
        .get_tensor = get_tensor,
        .clear = clear,
    };
    struct buffer *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->size = (size + 4095) & ~(size_t)4095;
    b->arena.capacity = 2 * b->size + (1 << 20); /* more than any tensors of that size encode to */
    b->base = mmap(NULL, b->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (b->base == MAP_FAILED) {
        free(b);
        return NULL;
    }
    struct ggml_buffer *buffer = ggml.buffer_init(buft, iface, b, size);
    if (!buffer) {
        munmap(b->base, b->size);
        free(b);
    }
    return buffer;
}

struct weight *weight_of(const struct ggml_tensor *op) {
    const struct ggml_tensor *t = op->src[0];
    if (op->op != ggml.op_mul_mat || !t || !t->buffer || t->buffer->buft != our_type()) return NULL;
    struct weight *w = t->extra;
    return w && (w->state == WEIGHT_SPARSE || w->state == WEIGHT_STOCK) ? w : NULL;
}

static struct cxx_tensor_traits *get_tensor_traits(struct cxx_extra_buffer_type *extra, const struct ggml_tensor *op) {
    (void)extra;
    return weight_of(op) ? besa_traits() : NULL;
}

/*
 * Whether we multiply this tensor, asked for every weight before it is loaded:
 * matrices of the types that may turn out to be sparse, and whatever is on
 * offer. Other types stay in the mapped file. A program that makes offers knows
 * what is sparse: its other tensors are dense, and a head that is also the
 * embedding, dense in two buffers, would be in memory twice.
 */
bool besa_supports(const struct ggml_tensor *op) {
    const struct ggml_tensor *t = op->src[0], *x = op->src[1];
    if (op->op != ggml.op_mul_mat || !t || !x || t->view_src || !t->buffer || t->buffer->buft != our_type()) return false;
    if (t->ne[2] != 1 || t->ne[3] != 1 || t->ne[0] % Q4_BLOCK || t->ne[0] > MAX_DIM || t->ne[1] > MAX_DIM) return false;
    if (x->type != TYPE_F32 || op->type != TYPE_F32 || (x->buffer && !ggml.buft_is_host(x->buffer->buft))) return false;
    if (t->extra) return coding_of(t->type) != 0;
    switch (offer_find(t->name, (uint64_t)t->ne[1], (uint64_t)t->ne[0], t->type)) {
    case OFFER_NONE:
        return coding_of(t->type) != 0;
    case OFFER_OTHERS:
        return t->type == TYPE_Q4_0; /* dense, but stock may repack it */
    case OFFER_THIS:
        break;
    }
    return true;
}

static bool supports_op(struct cxx_extra_buffer_type *extra, struct ggml_dev *device, const struct ggml_tensor *op) {
    (void)extra;
    (void)device;
    return besa_supports(op);
}

static void destroy(struct cxx_extra_buffer_type *extra) { (void)extra; }

static struct cxx_extra_buffer_type *our_extra(void) {
    static const struct cxx_extra_vtable vtable = {destroy, destroy, supports_op, get_tensor_traits};
    static struct cxx_extra_buffer_type extra = {&vtable};
    return &extra;
}

static struct ggml_buft *our_type(void) {
    static struct ggml_buft type = {.iface = {.get_name = get_name, .alloc_buffer = alloc_buffer, .get_alignment = get_alignment}};
    return &type;
}

struct ggml_buft *besa_buffer_type(struct ggml_dev *device) {
    struct ggml_buft *type = our_type();
    type->device = device;
    type->context = our_extra();
    return type;
}
