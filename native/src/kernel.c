/* Which kernel multiplies what. */
#include "kernel.h"

uint64_t kernel_scratch_bytes(const struct plain *p, uint32_t tokens) {
    if (tokens <= FEW_TOKENS) return 0;
    return align64(coding_is_16bit(p->coding) ? kernel_floats_scratch(tokens) : kernel_many_scratch(tokens));
}

kernel_fn *kernel_for(const struct plain *p, uint32_t tokens) {
    bool few = tokens <= FEW_TOKENS;
    switch (p->coding) {
    case CODING_Q4_SYM:
        return few ? kernel_few : kernel_many;
    case CODING_Q8_SYM:
        return few ? kernel_bytes : kernel_many;
    case CODING_F16:
    case CODING_BF16:
        return few ? kernel_floats : kernel_floats_many;
    }
    return NULL;
}
