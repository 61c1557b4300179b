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

// Waiting for sockets, without <sys/epoll.h> for the same reason. The kernel's struct is packed on one machine
// and not on the others.
typedef struct {
    unsigned events;
    unsigned long long tag;
}
#ifdef __x86_64__
__attribute__((packed))
#endif
convoke_epoll_record;
extern int convoke_epoll_control(int epoll, int operation, int file, void *record) __asm__("epoll_ctl");
extern int convoke_epoll_collect(int epoll, void *records, int count, int milliseconds) __asm__("epoll_wait");

extern int convoke_epoll_make(int flags) __asm__("epoll_create1");
extern int convoke_event_counter(unsigned count, int flags) __asm__("eventfd");
extern int convoke_add_event(int counter, unsigned long long count) __asm__("eventfd_write");

/// What wakes a thread that waits; -1 where the system gives none. Not kept by programs that are started.
static inline int convoke_loop_bell(void) { return convoke_event_counter(0, 02000000 | 04000); }

/// Where descriptors are watched; -1 where the system gives none.
static inline int convoke_loop_epoll(void) { return convoke_epoll_make(02000000); }

#define convoke_loop_add 1
#define convoke_loop_drop 2

static inline int convoke_loop_watch(int epoll, int operation, int file, unsigned events, unsigned long long tag) {
    convoke_epoll_record record = {events, tag};
    return convoke_epoll_control(epoll, operation, file, &record);
}

#define convoke_loop_batch 256

/// Waits, and tells what happened to which: at most `convoke_loop_batch` at a time.
static inline int convoke_loop_wait(int epoll, unsigned long long *tags, unsigned *events, int milliseconds) {
    convoke_epoll_record records[convoke_loop_batch];
    int count = convoke_epoll_collect(epoll, records, convoke_loop_batch, milliseconds);
    for (int i = 0; i < count; i++) {
        tags[i] = records[i].tag;
        events[i] = records[i].events;
    }
    return count;
}
