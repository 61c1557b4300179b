#pragma once
#include <pthread.h>

// glibc declares it for GNU sources only, which Swift's Glibc module is not.
extern int pthread_setname_np(pthread_t thread, const char *name);

static inline void convoke_name_this_thread(const char *name) {
    pthread_setname_np(pthread_self(), name);
}

// The same for these. They have names of ours and take a bare pointer, so that <spawn.h> need not be
// included: this module would then own half of the system's types, and whoever uses one had to import it.
extern int convoke_spawn_in_folder(void *actions, const char *path)
    __asm__("posix_spawn_file_actions_addchdir_np");
extern int convoke_spawn_without_files_from(void *actions, int from)
    __asm__("posix_spawn_file_actions_addclosefrom_np");
extern int convoke_accept(int listener, void *address, void *size, int flags) __asm__("accept4");

extern void (*convoke_signal(int number, void (*handler)(int)))(int) __asm__("signal");
extern long convoke_write(int file, const void *bytes, unsigned long count) __asm__("write");
extern int *__errno_location(void);

static int convoke_signal_pipe = -1;

// Runs between any two instructions of any thread, so it is C and does what POSIX allows there, no more.
static void convoke_note_signal(int number) {
    int before = *__errno_location();
    unsigned char byte = (unsigned char)number;
    (void)!convoke_write(convoke_signal_pipe, &byte, 1);
    *__errno_location() = before;
}

// From now on each of these signals is a byte in the pipe, its number. To be called from one place: every object file that
// calls it has a pipe of its own.
static inline void convoke_signals_to_pipe(int pipe, const int *numbers, int count) {
    convoke_signal_pipe = pipe;
    for (int i = 0; i < count; i++) convoke_signal(numbers[i], convoke_note_signal);
}
