/* The native engine: MobileNetV2 from pixels to pooled features, one image on one thread, compiled for each width of
 * vectors that the processors of an architecture have. _kernels.h has the kernels. */

#ifndef EMBEDONCE_NO_PYTHON
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#endif

#if defined(__GNUC__) && defined(__x86_64__)
#define LANES 8
#define TARGET __attribute__((target("avx2,fma")))
#define MINIMUM __builtin_ia32_minps256
#define MAXIMUM __builtin_ia32_maxps256
#include "_kernels.h"

#define LANES 16
#define TARGET __attribute__((target("avx512f")))
#if defined(__clang__)
#define MINIMUM(a, b) __builtin_ia32_minps512(a, b, 4)
#define MAXIMUM(a, b) __builtin_ia32_maxps512(a, b, 4)
#else
#define MINIMUM(a, b) __builtin_ia32_minps512_mask(a, b, a, -1, 4)
#define MAXIMUM(a, b) __builtin_ia32_maxps512_mask(a, b, a, -1, 4)
#endif
#include "_kernels.h"

/* Whether this processor, and its operating system, can run the kernels for vectors of so many floats. */
EXPORT int embedonce_supported(int lanes)
{
    __builtin_cpu_init();
    if (lanes == 16) return __builtin_cpu_supports("avx512f") != 0;
    return lanes == 8 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#elif defined(__GNUC__) && defined(__aarch64__)
#define LANES 4
#define TARGET /* every such processor has NEON */
#include "_kernels.h"

EXPORT int embedonce_supported(int lanes) { return lanes == 4; }

#else /* another processor, or a compiler without vector types */

#if defined(_WIN32)
__declspec(dllexport)
#endif
int embedonce_supported(int lanes) { return (void)lanes, 0; }

#endif

#ifndef EMBEDONCE_NO_PYTHON
/* Python builds, installs and finds the library as a module; native.py calls the functions through ctypes. */
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_kernels", .m_size = 0};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&definition); }
#endif
