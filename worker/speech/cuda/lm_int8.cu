/* A layer's products of lm.cu for weights in 8 bits: half the bytes, which is half the time where a
   step waits for memory. All other kernels of such a model are lm.cu's. */
#include "lm_products.cuh"

#define FOR_TOKENS(name, Arguments, warps) \
    KERNEL(name##_8_int8, Arguments, warps *WARP, (name<1, Int8>)) \
    KERNEL(name##_16_int8, Arguments, warps *WARP, (name<2, Int8>)) \
    KERNEL(name##_32_int8, Arguments, warps *WARP, (name<4, Int8>)) \
    KERNEL(name##_64_int8, Arguments, warps *WARP, (name<8, Int8>))

FOR_TOKENS(project, Project, MOST_WARPS)
FOR_TOKENS(add, Add, 2 * MOST_WARPS)
FOR_TOKENS(gate, Gate, MOST_WARPS)
