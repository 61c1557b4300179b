#pragma once
#include <microhttpd.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

// What the daemon calls, without the enums of libmicrohttpd: they are closed, so Swift would import them as
// enums of which every unknown value traps.
typedef struct {
    void *server;
    void *(*opened)(void *server, struct MHD_Connection *connection, int socket);
    void (*closed)(void *server, void *context);
    /// The request line's target, before anything has been split or decoded.
    void (*target)(void *context, struct MHD_Connection *connection, const char *target);
    /// 1 to go on, 0 to close the connection.
    int (*access)(void *context, struct MHD_Connection *connection, const char *method, const char *version,
                  const char *upload, size_t *upload_size);
    void (*completed)(void *context);
    void (*message)(void *server, const char *text);
} convoke_handlers;

static inline void *convoke_context(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : 0;
}

static inline size_t convoke_head_size(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    return info ? info->header_size : 0;
}

static inline void convoke_on_connection(void *handlers, struct MHD_Connection *connection, void **context,
                                         enum MHD_ConnectionNotificationCode code) {
    convoke_handlers *h = handlers;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *context = h->opened(h->server, connection, info ? info->connect_fd : -1);
    } else {
        h->closed(h->server, *context);
        *context = 0;
    }
}

static inline void *convoke_on_target(void *handlers, const char *target, struct MHD_Connection *connection) {
    void *context = convoke_context(connection);
    ((convoke_handlers *)handlers)->target(context, connection, target);
    return context;
}

static inline enum MHD_Result convoke_on_access(void *handlers, struct MHD_Connection *connection,
                                                const char *url, const char *method, const char *version,
                                                const char *upload, size_t *upload_size, void **context) {
    (void)url;
    return ((convoke_handlers *)handlers)
                   ->access(*context, connection, method, version, upload, upload_size)
               ? MHD_YES
               : MHD_NO;
}

static inline void convoke_on_completed(void *handlers, struct MHD_Connection *connection, void **context,
                                        enum MHD_RequestTerminationCode code) {
    (void)connection;
    (void)code;
    if (*context) ((convoke_handlers *)handlers)->completed(*context);
    *context = 0;
}

// Decoding is the router's: it has to tell `%2F` from `/`.
static inline size_t convoke_keep_escapes(void *cls, struct MHD_Connection *connection, char *text) {
    (void)cls;
    (void)connection;
    size_t length = 0;
    while (text[length]) length++;
    return length;
}

static inline void convoke_on_message(void *handlers, const char *format, va_list arguments) {
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    convoke_handlers *h = handlers;
    h->message(h->server, text);
}

/// Without a listening socket and without a thread: connections are handed over by `MHD_add_connection`, and
/// `convoke_run` is called whenever there is something to do.
static inline struct MHD_Daemon *convoke_start_daemon(const convoke_handlers *handlers, unsigned connections,
                                                      size_t memory, const char *certificate,
                                                      const char *key) {
    unsigned flags = MHD_USE_EPOLL | MHD_USE_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_TURBO |
                     MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
    if (certificate) flags |= MHD_USE_TLS;
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)certificate},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)key},
        {MHD_OPTION_END, 0, 0},
    };
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, 0}};
    return MHD_start_daemon(
        flags, 0, 0, 0, &convoke_on_access, (void *)handlers,
        // The logger comes first, so that mistakes in the other options reach it.
        MHD_OPTION_EXTERNAL_LOGGER, &convoke_on_message, (void *)handlers,
        MHD_OPTION_NOTIFY_CONNECTION, &convoke_on_connection, (void *)handlers,
        MHD_OPTION_NOTIFY_COMPLETED, &convoke_on_completed, (void *)handlers,
        MHD_OPTION_URI_LOG_CALLBACK, &convoke_on_target, (void *)handlers,
        MHD_OPTION_UNESCAPE_CALLBACK, &convoke_keep_escapes, (void *)0,
        MHD_OPTION_CONNECTION_LIMIT, connections,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory,
        MHD_OPTION_CONNECTION_TIMEOUT, 0u,
        // What is wrong with a head is ours to find and to answer; found by the library, it is answered twice.
        MHD_OPTION_STRICT_FOR_CLIENT, 0,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
        MHD_OPTION_ARRAY, certificate ? tls : none,
        MHD_OPTION_END);
}

/// What is readable when the daemon has something to do.
static inline int convoke_daemon_epoll(struct MHD_Daemon *daemon) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD);
    return info ? info->epoll_fd : -1;
}

/// Does what there is to do. 1 where there is more, such as what TLS has unpacked already and nobody has taken.
static inline int convoke_run(struct MHD_Daemon *daemon) {
    MHD_UNSIGNED_LONG_LONG milliseconds = 0;
    MHD_run(daemon);
    return MHD_get_timeout(daemon, &milliseconds) == MHD_YES && milliseconds == 0;
}

/// Has the daemon close a connection that has been without a sign of life for a second.
static inline void convoke_close_soon(struct MHD_Connection *connection) {
    MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, 1u);
}

static inline int convoke_queue(struct MHD_Connection *connection, unsigned status,
                                struct MHD_Response *response) {
    return MHD_queue_response(connection, status, response) == MHD_YES;
}

static inline int convoke_add_header(struct MHD_Response *response, const char *name, const char *value) {
    return MHD_add_response_header(response, name, value) == MHD_YES;
}

static inline int convoke_add_connection(struct MHD_Daemon *daemon, int socket, const struct sockaddr *address,
                                         socklen_t length) {
    return MHD_add_connection(daemon, socket, address, length) == MHD_YES;
}

static inline struct MHD_Response *convoke_copied_response(const void *bytes, size_t count) {
    return MHD_create_response_from_buffer(count, (void *)bytes, MHD_RESPMEM_MUST_COPY);
}

static inline ssize_t convoke_no_bytes(void *cls, uint64_t position, char *room, size_t size) {
    (void)cls, (void)position, (void)room, (void)size;
    return MHD_CONTENT_READER_END_OF_STREAM;
}

/// A head that says `size`, where no body may follow.
static inline struct MHD_Response *convoke_bodiless_response(uint64_t size) {
    struct MHD_Response *response = MHD_create_response_from_callback(size, 1, &convoke_no_bytes, 0, 0);
    // 0.9.75 sends the last chunk of a chunked answer even to HEAD, which would be read as the beginning of the
    // next answer. So such an answer is not chunked, and the connection ends with it.
    if (response && size == MHD_SIZE_UNKNOWN)
        MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    return response;
}

static const uint64_t convoke_size_unknown = MHD_SIZE_UNKNOWN;
static const ssize_t convoke_end_of_stream = MHD_CONTENT_READER_END_OF_STREAM;
static const ssize_t convoke_end_with_error = MHD_CONTENT_READER_END_WITH_ERROR;

/// Bytes written to the socket that the other side has not confirmed yet.
static inline int convoke_unconfirmed(int socket) {
    int count = 0;
    return ioctl(socket, SIOCOUTQ, &count) == 0 ? count : -1;
}

/// Bytes that have come and were not read yet.
static inline int convoke_unread(int socket) {
    int count = 0;
    return ioctl(socket, FIONREAD, &count) == 0 ? count : -1;
}

/// Bytes that the other side has confirmed since the connection began.
static inline int64_t convoke_confirmed(int socket) {
    // `tcpi_bytes_acked` at its place in the kernel's `struct tcp_info`: glibc's version of the struct ends
    // before it, and the kernel's header cannot be imported beside glibc's.
    uint64_t info[16] = {0};
    socklen_t length = sizeof info;
    if (getsockopt(socket, IPPROTO_TCP, 11 /* TCP_INFO */, info, &length) != 0) return -1;
    return (int64_t)info[15];
}

// glibc declares these for GNU sources only, which Swift's Glibc module is not.
extern int accept4(int listener, struct sockaddr *address, socklen_t *length, int flags);
static const short convoke_peer_closed = 0x2000; // POLLRDHUP

static inline int convoke_accept(int listener, struct sockaddr_storage *address, socklen_t *length) {
    return accept4(listener, (struct sockaddr *)address, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
}
