#pragma once
#include <pthread.h>

// glibc declares it for GNU sources only, which Swift's Glibc module is not.
extern int pthread_setname_np(pthread_t thread, const char *name);

static inline void convoke_name_this_thread(const char *name) {
    pthread_setname_np(pthread_self(), name);
}

// The same for these two. They have names of ours and take a bare pointer, so that <spawn.h> need not be
// included: this module would then own half of the system's types, and whoever uses one had to import it.
extern int convoke_spawn_in_folder(void *actions, const char *path)
    __asm__("posix_spawn_file_actions_addchdir_np");
extern int convoke_spawn_without_files_from(void *actions, int from)
    __asm__("posix_spawn_file_actions_addclosefrom_np");
