#pragma once
#include <postgresql/libpq-fe.h>

// libpq prints notices to standard error unless it is told otherwise.
static inline void convoke_ignore_notice(void *context, const char *message) {
    (void)context;
    (void)message;
}
static inline void convoke_ignore_notices(PGconn *connection) {
    PQsetNoticeProcessor(connection, convoke_ignore_notice, 0);
}
