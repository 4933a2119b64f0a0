// Where cuda.h has the members of the structures that the worker fills.
#include <cuda.h>
#include <stddef.h>
#include <stdio.h>

#define MEMBER(structure, member)                                                                  \
    printf(#structure "." #member " %zu\n", offsetof(structure, member))
#define NUMBER(name) printf(#name " %d\n", (int)name)

int main(void) {
    MEMBER(CUlaunchConfig, gridDimX);
    MEMBER(CUlaunchConfig, gridDimY);
    MEMBER(CUlaunchConfig, gridDimZ);
    MEMBER(CUlaunchConfig, blockDimX);
    MEMBER(CUlaunchConfig, blockDimY);
    MEMBER(CUlaunchConfig, blockDimZ);
    MEMBER(CUlaunchConfig, sharedMemBytes);
    MEMBER(CUlaunchConfig, hStream);
    MEMBER(CUlaunchConfig, attrs);
    MEMBER(CUlaunchConfig, numAttrs);
    MEMBER(CUlaunchAttribute, id);
    MEMBER(CUlaunchAttribute, pad);
    MEMBER(CUlaunchAttribute, value);
    printf("CUlaunchConfig %zu\n", sizeof(CUlaunchConfig));
    printf("CUlaunchAttribute %zu\n", sizeof(CUlaunchAttribute));
    NUMBER(CUDA_ERROR_INVALID_CONTEXT);
    NUMBER(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
    return 0;
}
