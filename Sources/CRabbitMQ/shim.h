#pragma once
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>

// Variadic in C.
static inline amqp_rpc_reply_t convoke_amqp_login(
    amqp_connection_state_t state, const char *vhost, int heartbeat, const amqp_table_t *properties,
    const char *user, const char *password) {
    return amqp_login_with_properties(
        state, vhost, AMQP_DEFAULT_MAX_CHANNELS, AMQP_DEFAULT_FRAME_SIZE, heartbeat, properties,
        AMQP_SASL_METHOD_PLAIN, user, password);
}

// Macros with casts, which Swift does not see.
static const amqp_method_number_t convoke_basic_ack = AMQP_BASIC_ACK_METHOD;
static const amqp_method_number_t convoke_basic_nack = AMQP_BASIC_NACK_METHOD;
static const amqp_method_number_t convoke_basic_return = AMQP_BASIC_RETURN_METHOD;
static const amqp_method_number_t convoke_basic_cancel = AMQP_BASIC_CANCEL_METHOD;
static const amqp_method_number_t convoke_channel_close = AMQP_CHANNEL_CLOSE_METHOD;
static const amqp_method_number_t convoke_connection_close = AMQP_CONNECTION_CLOSE_METHOD;
static const amqp_method_number_t convoke_connection_blocked = AMQP_CONNECTION_BLOCKED_METHOD;
static const amqp_method_number_t convoke_connection_unblocked = AMQP_CONNECTION_UNBLOCKED_METHOD;

// In milliseconds and without waiting: `timeval` belongs to whichever C module the compiler met first.
static inline struct timeval convoke_timeval(int milliseconds) {
    struct timeval value = {milliseconds / 1000, (milliseconds % 1000) * 1000};
    return value;
}
static inline int convoke_amqp_open(amqp_socket_t *socket, const char *host, int port, int milliseconds) {
    struct timeval limit = convoke_timeval(milliseconds);
    return amqp_socket_open_noblock(socket, host, port, &limit);
}
static inline void convoke_amqp_limit_calls(amqp_connection_state_t state, int milliseconds) {
    struct timeval limit = convoke_timeval(milliseconds);
    amqp_set_handshake_timeout(state, &limit);
    amqp_set_rpc_timeout(state, &limit);
}
static inline int convoke_amqp_frame_now(amqp_connection_state_t state, amqp_frame_t *frame) {
    struct timeval now = {0, 0};
    return amqp_simple_wait_frame_noblock(state, frame, &now);
}
static inline amqp_rpc_reply_t convoke_amqp_message_now(
    amqp_connection_state_t state, amqp_envelope_t *envelope) {
    struct timeval now = {0, 0};
    return amqp_consume_message(state, envelope, &now, 0);
}

// A peer that neither reads nor answers ends the connection after this long, even in the middle of a send,
// which librabbitmq would otherwise wait for without end.
static inline int convoke_set_user_timeout(int socket, unsigned int milliseconds) {
    return setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds);
}
