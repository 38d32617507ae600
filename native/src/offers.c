/* Tensors on offer, and what the plugin is doing. */
#include "besa_native.h"
#include "plugin.h"

#include <pthread.h>
#include <stdlib.h>

_Static_assert(sizeof(struct besa_native_tensor) == 64, "besa_native_tensor");

struct offer {
    struct offer *next;
    char name[64];
    struct plain plain;
    unsigned users; /* weights that execute it */
    bool withdrawn; /* freed with its last user */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct offer *offers;
static struct besa_native_stats stats = {.kernel = "off: not loaded by llama.cpp"};

/* The ggml type a coding expands to. */
static int32_t type_of(uint32_t coding) {
    switch (coding) {
    case CODING_Q4_SYM:
        return TYPE_Q4_0;
    case CODING_Q4_ASYM:
        return TYPE_Q4_1;
    case CODING_Q8_SYM:
        return TYPE_Q8_0;
    case CODING_F16:
        return TYPE_F16;
    }
    return TYPE_BF16;
}

/* The offer that serves a tensor; the lock is held. */
static struct offer *find(const char *name, uint64_t rows, uint64_t cols, int32_t type) {
    for (struct offer *o = offers; o; o = o->next) {
        if (!o->withdrawn && o->plain.rows == rows && o->plain.cols == cols && type_of(o->plain.coding) == type && !strcmp(o->name, name)) return o;
    }
    return NULL;
}

int besa_native_abi(void) { return BESA_NATIVE_ABI; }

int besa_native_offer(const struct besa_native_tensor *t) {
    if (!t || t->struct_size != sizeof *t || !t->name || !t->name[0] || strlen(t->name) >= sizeof offers->name || !t->blob)
        return BESA_NATIVE_BAD_ARGUMENT;
    struct plain p;
    const char *wrong = plain_open(&p, t->blob, t->blob_bytes);
    if (!wrong && (p.rows != t->rows || p.cols != t->cols || p.coding != t->coding || p.group != t->group))
        wrong = "the blob is of another shape, coding or group size than stated";
    if (wrong) {
        besa_log("tensor %s refused: %s", t->name, wrong);
        return BESA_NATIVE_CORRUPT;
    }
    if (!kernel_for(&p, 1) || !kernel_supported()) return BESA_NATIVE_UNSUPPORTED;
    struct offer *o = calloc(1, sizeof *o);
    if (!o) return BESA_NATIVE_NO_MEMORY;
    memcpy(o->name, t->name, strlen(t->name));
    o->plain = p;
    pthread_mutex_lock(&lock);
    bool known = find(t->name, p.rows, p.cols, type_of(p.coding)) != NULL;
    if (!known) {
        o->next = offers;
        offers = o;
    }
    pthread_mutex_unlock(&lock);
    if (known) free(o);
    return known ? BESA_NATIVE_DUPLICATE : BESA_NATIVE_OK;
}

/* Frees offers that are withdrawn and unused; the lock is held. */
static void collect(void) {
    for (struct offer **at = &offers; *at;) {
        struct offer *o = *at;
        if (o->withdrawn && o->users == 0) {
            *at = o->next;
            free(o);
        } else {
            at = &o->next;
        }
    }
}

void besa_native_withdraw(const void *blob) {
    pthread_mutex_lock(&lock);
    for (struct offer *o = offers; o; o = o->next) o->withdrawn = o->withdrawn || o->plain.blob == blob;
    collect();
    pthread_mutex_unlock(&lock);
}

enum offered offer_find(const char *name, uint64_t rows, uint64_t cols, int32_t type) {
    enum offered found = OFFER_NONE;
    pthread_mutex_lock(&lock);
    for (const struct offer *o = offers; o && found == OFFER_NONE; o = o->next) found = o->withdrawn ? OFFER_NONE : OFFER_OTHERS;
    if (find(name, rows, cols, type)) found = OFFER_THIS;
    pthread_mutex_unlock(&lock);
    return found;
}

struct offer *offer_take(const char *name, uint64_t rows, uint64_t cols, int32_t type, struct plain *p) {
    pthread_mutex_lock(&lock);
    struct offer *o = find(name, rows, cols, type);
    if (o) {
        o->users++;
        *p = o->plain;
    }
    pthread_mutex_unlock(&lock);
    return o;
}

void offer_release(struct offer *o) {
    pthread_mutex_lock(&lock);
    o->users--;
    collect();
    pthread_mutex_unlock(&lock);
}

static void add(uint64_t *to, uint64_t n, int sign) { *to = sign > 0 ? *to + n : *to - n; }

void stats_count(const struct weight *w, uint64_t expanded_bytes, int sign) {
    pthread_mutex_lock(&lock);
    if (w->state == WEIGHT_SPARSE) {
        add(&stats.tensors_sparse, 1, sign);
        add(&stats.tensors_offered, w->offer != NULL, sign);
        add(w->offer ? &stats.bytes_offered : &stats.bytes_sparse, w->plain.bytes, sign);
        add(&stats.bytes_expanded, expanded_bytes, sign);
    } else {
        add(&stats.tensors_stock, 1, sign);
    }
    pthread_mutex_unlock(&lock);
}

void stats_kernel(const char *what) {
    pthread_mutex_lock(&lock);
    memset(stats.kernel, 0, sizeof stats.kernel);
    strncpy(stats.kernel, what, sizeof stats.kernel - 1);
    pthread_mutex_unlock(&lock);
}

int besa_native_stats(struct besa_native_stats *s) {
    if (!s || s->struct_size != sizeof *s) return BESA_NATIVE_BAD_ARGUMENT;
    pthread_mutex_lock(&lock);
    *s = stats;
    pthread_mutex_unlock(&lock);
    s->struct_size = sizeof *s;
    return BESA_NATIVE_OK;
}
