/* Which sanitizers this build has, for gcc and clang alike: OXBOW_ASAN and OXBOW_TSAN are 0 or 1. */
#ifndef OXBOW_RT_SANITIZER_H
#define OXBOW_RT_SANITIZER_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OXBOW_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define OXBOW_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(OXBOW_ASAN)
#define OXBOW_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__) && !defined(OXBOW_TSAN)
#define OXBOW_TSAN 1
#endif
#ifndef OXBOW_ASAN
#define OXBOW_ASAN 0
#endif
#ifndef OXBOW_TSAN
#define OXBOW_TSAN 0
#endif

#if OXBOW_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#if OXBOW_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#endif
