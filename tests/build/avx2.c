/* Loaded before a program: what OpenVINO asks of the CPU is answered as by one with AVX2, and another file is read for
   /proc/cpuinfo. What oneDNN and torch ask, which is within them, has variables (avx2.py). */
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define NO(question) \
  int question(void) { return 0; }
NO(_ZN2ov20with_cpu_x86_avx512fEv)
NO(_ZN2ov21with_cpu_x86_bfloat16Ev)
NO(_ZN2ov22with_cpu_x86_avx2_vnniEv)
NO(_ZN2ov24with_cpu_x86_avx2_vnni_2Ev)
NO(_ZN2ov24with_cpu_x86_avx512_coreEv)
NO(_ZN2ov28with_cpu_x86_avx512_core_amxEv)
NO(_ZN2ov29with_cpu_x86_avx512_core_fp16Ev)
NO(_ZN2ov29with_cpu_x86_avx512_core_vnniEv)
NO(_ZN2ov33with_cpu_x86_avx512_core_amx_fp16Ev)
NO(_ZN2ov33with_cpu_x86_avx512_core_amx_int8Ev)

int open64(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  int mode = va_arg(rest, int);
  va_end(rest);
  return openat(AT_FDCWD, strcmp(path, "/proc/cpuinfo") ? path : getenv("CPUINFO"), flags, mode);
}
