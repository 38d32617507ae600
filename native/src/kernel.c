/* Which kernel multiplies what. */
#include "kernel.h"

uint64_t kernel_scratch_bytes(const struct plain *p, uint32_t tokens) {
    kernel_fn *kernel = kernel_for(p, tokens);
    if (kernel == kernel_many) return align64(kernel_many_scratch(tokens));
    return kernel == kernel_floats_many || kernel == kernel_bf16_many ? align64(kernel_floats_scratch(tokens)) : 0;
}

kernel_fn *kernel_for(const struct plain *p, uint32_t tokens) {
    switch (p->coding) {
    case CODING_Q4_SYM:
    case CODING_Q8_SYM:
        return tokens <= FEW_TOKENS ? kernel_few : kernel_many;
    case CODING_BF16:
        if (kernel_bf16_supported()) return tokens <= BF16_FEW_TOKENS ? kernel_bf16 : kernel_bf16_many;
        /* fall through */
    case CODING_F16:
        return tokens <= FLOAT_FEW_TOKENS ? kernel_floats : kernel_floats_many;
    }
    return NULL;
}
