#include "kernel.h"

#include <stdlib.h>

/* Hides features of this processor, to test what happens without: "bf16" its BF16 products, "none" all. */
static bool masked(const char *what) {
    const char *hidden = getenv("BESA_NATIVE_CPU");
    return hidden && !strcmp(hidden, what);
}

bool kernel_supported(void) {
    if (masked("none")) return false;
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}

bool kernel_bf16_supported(void) {
    static int known; /* 1: no, 2: yes. Threads that find out at once find the same. */
    int k = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (!k) {
        __builtin_cpu_init();
        k = __builtin_cpu_supports("avx512bf16") && !masked("bf16") ? 2 : 1;
        __atomic_store_n(&known, k, __ATOMIC_RELAXED);
    }
    return k == 2;
}
