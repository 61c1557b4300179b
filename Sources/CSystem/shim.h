#pragma once
#include <pthread.h>

// glibc declares it for GNU sources only, which Swift's Glibc module is not.
extern int pthread_setname_np(pthread_t thread, const char *name);

static inline void convoke_name_this_thread(const char *name) {
    pthread_setname_np(pthread_self(), name);
}
