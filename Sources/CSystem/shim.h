#pragma once
#include <pthread.h>
#include <spawn.h>

// glibc declares these for GNU sources only, which Swift's Glibc module is not.
extern int pthread_setname_np(pthread_t thread, const char *name);
extern int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *path);
extern int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int from);

static inline void convoke_name_this_thread(const char *name) {
    pthread_setname_np(pthread_self(), name);
}

static inline int convoke_spawn_in_folder(posix_spawn_file_actions_t *actions, const char *path) {
    return posix_spawn_file_actions_addchdir_np(actions, path);
}

static inline int convoke_spawn_without_files_from(posix_spawn_file_actions_t *actions, int from) {
    return posix_spawn_file_actions_addclosefrom_np(actions, from);
}
