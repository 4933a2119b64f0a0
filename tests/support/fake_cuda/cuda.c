// A libcuda.so.1 without a GPU: it checks and writes down what it is asked. The declarations are
// NVIDIA's own, of cuda.h, so that what Python gives is read as the real one reads it.
//
// A "cubin" is a text, a kernel a line: its name, then its arguments' sizes in bytes. A kernel has
// 40 registers, 16 local and 1,024 static shared bytes; a block has at most 512 threads.
#include <cuda.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define KERNELS 32
#define ARGUMENTS 16
#define CONTEXT ((CUcontext)0x1234)

typedef struct {
    char name[32];
    int sizes[ARGUMENTS], count, dynamic;
} Kernel;

static Kernel kernels[KERNELS];
static int loaded;
static char text[1 << 16];
static char failing[64];
static CUresult failure;
static __thread CUcontext current;
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;

// For the tests alone

const char *fake_log(void) { return text; }

void fake_reset(void) {
    loaded = 0;
    text[0] = failing[0] = 0;
    current = CONTEXT;
}

// From now on the function of this name, the test's next calls of it, give this status.
void fake_fail(const char *function, int status) {
    snprintf(failing, sizeof failing, "%s", function);
    failure = (CUresult)status;
}

void fake_forget_context(void) { current = NULL; }

static void note(const char *format, ...) {
    size_t used = strlen(text);
    va_list rest;
    va_start(rest, format);
    vsnprintf(text + used, sizeof text - used, format, rest);
    va_end(rest);
}

#define ENTER(function)                                                                            \
    do {                                                                                           \
        if (!strcmp(failing, #function))                                                           \
            return failure;                                                                        \
    } while (0)

// What the driver has

CUresult cuGetErrorString(CUresult error, const char **given) {
    *given = error == CUDA_ERROR_OUT_OF_MEMORY      ? "out of memory"
             : error == CUDA_ERROR_INVALID_VALUE    ? "invalid argument"
             : error == CUDA_ERROR_INVALID_CONTEXT  ? "invalid device context"
             : error == CUDA_ERROR_ILLEGAL_ADDRESS  ? "an illegal memory access was encountered"
             : error == CUDA_ERROR_NOT_FOUND        ? "named symbol not found"
             : error == CUDA_ERROR_NO_BINARY_FOR_GPU
                 ? "no kernel image is available for execution on the device"
                 : NULL;
    return *given ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorName(CUresult error, const char **given) {
    *given = error == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : NULL;
    return *given ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
    ENTER(cuCtxGetCurrent);
    *context = current;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
    ENTER(cuCtxSetCurrent);
    pthread_mutex_lock(&writing);
    note("context %p\n", (void *)context);
    pthread_mutex_unlock(&writing);
    current = context;
    return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    ENTER(cuModuleLoadData);
    if (current != CONTEXT)
        return CUDA_ERROR_INVALID_CONTEXT;
    const char *line = image;
    for (loaded = 0; loaded < KERNELS && *line; loaded++) {
        Kernel *kernel = &kernels[loaded];
        int used = 0, size, taken;
        if (sscanf(line, "%31s%n", kernel->name, &used) != 1)
            return CUDA_ERROR_INVALID_IMAGE;
        kernel->count = 0;
        kernel->dynamic = (48 << 10) - 1024;
        while (line[used] == ' ' && sscanf(line + used, "%d%n", &size, &taken) == 1) {
            kernel->sizes[kernel->count++] = size;
            used += taken;
        }
        line += used;
        line += *line == '\n';
    }
    *module = (CUmodule)kernels;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    ENTER(cuModuleGetFunction);
    if (module != (CUmodule)kernels)
        return CUDA_ERROR_INVALID_HANDLE;
    for (int k = 0; k < loaded; k++)
        if (!strcmp(kernels[k].name, name)) {
            *function = (CUfunction)&kernels[k];
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_NOT_FOUND;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
    ENTER(cuFuncGetAttribute);
    (void)function;
    switch (attribute) {
    case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = 40; break;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: *value = 16; break;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = 1024; break;
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 512; break;
    default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    ENTER(cuFuncSetAttribute);
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value > 100 << 10)
        return CUDA_ERROR_INVALID_VALUE;
    note("allow %s %d\n", ((Kernel *)function)->name, value);
    ((Kernel *)function)->dynamic = value;
    return CUDA_SUCCESS;
}

static CUresult launch(const CUlaunchConfig *config, CUfunction function, void **parameters,
                       void **extra) {
    const Kernel *kernel = (const Kernel *)function;
    if (current != CONTEXT)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (extra || kernel < kernels || kernel >= kernels + loaded ||
        (int)config->sharedMemBytes > kernel->dynamic)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&writing);
    note("launch %s grid %u,%u,%u block %u,%u,%u shared %u stream %p", kernel->name,
         config->gridDimX, config->gridDimY, config->gridDimZ, config->blockDimX,
         config->blockDimY, config->blockDimZ, config->sharedMemBytes, (void *)config->hStream);
    for (unsigned a = 0; a < config->numAttrs; a++)
        note(" attribute %d=%d", (int)config->attrs[a].id,
             config->attrs[a].value.programmaticStreamSerializationAllowed);
    for (int a = 0; a < kernel->count; a++) {
        note(" ");
        for (int b = 0; b < kernel->sizes[a]; b++)
            note("%02x", ((const unsigned char *)parameters[a])[b]);
        const int lowest = kernel->sizes[a] & -kernel->sizes[a]; // of a structure, at most
        if ((size_t)parameters[a] % (lowest < 8 ? lowest : 8))
            note("(unaligned)");
    }
    note("\n");
    pthread_mutex_unlock(&writing);
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                        unsigned by, unsigned bz, unsigned shared, CUstream stream,
                        void **parameters, void **extra) {
    ENTER(cuLaunchKernel);
    CUlaunchConfig config = {gx, gy, gz, bx, by, bz, shared, stream, NULL, 0};
    return launch(&config, f, parameters, extra);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **parameters,
                          void **extra) {
    ENTER(cuLaunchKernelEx);
    return launch(config, f, parameters, extra);
}
