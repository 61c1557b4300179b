#pragma once
// The macros that check argument types know constants only; our wrappers below are typed themselves.
#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

// Swift calls no variadic C function: one wrapper for each kind of argument.

static inline CURLcode convoke_curl_set_number(CURL *easy, CURLoption option, long value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode convoke_curl_set_size(CURL *easy, CURLoption option, int64_t value) {
    return curl_easy_setopt(easy, option, (curl_off_t)value);
}
static inline CURLcode convoke_curl_set_text(CURL *easy, CURLoption option, const char *value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode convoke_curl_set_pointer(CURL *easy, CURLoption option, void *value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode convoke_curl_set_list(CURL *easy, struct curl_slist *list) {
    return curl_easy_setopt(easy, CURLOPT_HTTPHEADER, list);
}

typedef size_t (*convoke_curl_bytes)(char *bytes, size_t size, size_t count, void *owner);
static inline void convoke_curl_set_transfer_callbacks(
    CURL *easy, void *owner, convoke_curl_bytes head, convoke_curl_bytes body, convoke_curl_bytes upload,
    int (*seek)(void *owner, curl_off_t offset, int origin),
    int (*prerequest)(void *owner, char *ours, char *theirs, int our_port, int their_port)) {
    curl_easy_setopt(easy, CURLOPT_PRIVATE, owner);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, head);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, owner);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, owner);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, upload);
    curl_easy_setopt(easy, CURLOPT_READDATA, owner);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, seek);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, owner);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, prerequest);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, owner);
}
static inline void convoke_curl_set_socket_callbacks(
    CURL *easy, void *opener,
    curl_socket_t (*open)(void *opener, curlsocktype purpose, struct curl_sockaddr *address),
    void *closer, int (*close)(void *closer, curl_socket_t socket)) {
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, opener);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, closer);
}
static inline void *convoke_curl_owner(CURL *easy) {
    char *owner = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &owner);
    return owner;
}

static inline void convoke_curl_multi_set_number(CURLM *multi, CURLMoption option, long value) {
    curl_multi_setopt(multi, option, value);
}
static inline void convoke_curl_multi_set_callbacks(
    CURLM *multi, void *owner,
    int (*socket)(CURL *easy, curl_socket_t socket, int what, void *owner, void *socket_owner),
    int (*timer)(CURLM *multi, long milliseconds, void *owner)) {
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, owner);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, owner);
}
/// The next transfer that has ended, and how; NULL when there is none.
static inline CURL *convoke_curl_next_ended(CURLM *multi, CURLcode *result) {
    int left = 0;
    CURLMsg *message;
    while ((message = curl_multi_info_read(multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            *result = message->data.result;
            return message->easy_handle;
        }
    }
    return NULL;
}

static const size_t CONVOKE_CURL_WRITE_PAUSE = CURL_WRITEFUNC_PAUSE;
static const size_t CONVOKE_CURL_READ_PAUSE = CURL_READFUNC_PAUSE;
static const size_t CONVOKE_CURL_READ_ABORT = CURL_READFUNC_ABORT;

/// `epoll_event` is a packed union, which Swift sees badly: the descriptor is all we keep in it.
static inline int convoke_epoll_set(int epoll, int operation, int descriptor, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = descriptor};
    return epoll_ctl(epoll, operation, descriptor, &event);
}
#define CONVOKE_EPOLL_BATCH 128
static inline int convoke_epoll_wait(int epoll, int *descriptors, uint32_t *events, int milliseconds) {
    struct epoll_event ready[CONVOKE_EPOLL_BATCH];
    int count = epoll_wait(epoll, ready, CONVOKE_EPOLL_BATCH, milliseconds);
    for (int i = 0; i < count; i++) {
        descriptors[i] = ready[i].data.fd;
        events[i] = ready[i].events;
    }
    return count;
}
/// What tells two sockets apart that have had the same descriptor; 0 when it is open no more.
static inline uint64_t convoke_socket_identity(int descriptor) {
    struct stat status;
    return fstat(descriptor, &status) == 0 && S_ISSOCK(status.st_mode) ? status.st_ino : 0;
}
static const uint32_t CONVOKE_EPOLL_IN = EPOLLIN;
static const uint32_t CONVOKE_EPOLL_OUT = EPOLLOUT;
static const uint32_t CONVOKE_EPOLL_BROKEN = EPOLLERR | EPOLLHUP;
static const uint32_t CONVOKE_EPOLL_EDGE = EPOLLET;
