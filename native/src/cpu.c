#include "kernel.h"

#include <stdlib.h>

bool kernel_supported(void) {
    const char *masked = getenv("BESA_NATIVE_CPU"); /* "none" hides this processor's features, to test what happens without */
    if (masked && !strcmp(masked, "none")) return false;
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}
