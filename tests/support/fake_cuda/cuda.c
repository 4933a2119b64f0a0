// A libcuda.so.1 without a GPU: it checks and writes down what it is asked. The declarations are
// NVIDIA's own, of cuda.h, so that what Python gives is read as the real one reads it.
//
// A "cubin" is a text, a kernel a line: its name, then the bytes of the structure that it takes.
#include <cuda.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define KERNELS 32
#define CONTEXT ((CUcontext)0x1234)

typedef struct {
    char name[32];
    int bytes;
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
        int used = 0;
        if (sscanf(line, "%31s %d%n", kernel->name, &kernel->bytes, &used) != 2)
            return CUDA_ERROR_INVALID_IMAGE;
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

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters,
                          void **extra) {
    ENTER(cuLaunchKernelEx);
    const Kernel *kernel = (const Kernel *)function;
    if (current != CONTEXT)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (extra || kernel < kernels || kernel >= kernels + loaded)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&writing);
    note("launch %s grid %u,%u,%u block %u,%u,%u shared %u stream %p", kernel->name,
         config->gridDimX, config->gridDimY, config->gridDimZ, config->blockDimX,
         config->blockDimY, config->blockDimZ, config->sharedMemBytes, (void *)config->hStream);
    for (unsigned a = 0; a < config->numAttrs; a++)
        note(" attribute %d=%d", (int)config->attrs[a].id,
             config->attrs[a].value.programmaticStreamSerializationAllowed);
    note(" ");
    for (int b = 0; b < kernel->bytes; b++)
        note("%02x", ((const unsigned char *)parameters[0])[b]);
    note("\n");
    pthread_mutex_unlock(&writing);
    return CUDA_SUCCESS;
}
