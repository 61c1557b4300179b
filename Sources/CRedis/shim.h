#pragma once
#include <hiredis/hiredis.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

// What one reply is made of, in the order it is read: hiredis calls these as it parses, and Swift builds its
// own values from them. hiredis' own reply objects would cost an allocation a node and, for an array that
// claims two thousand million elements, sixteen gigabytes before the first of them has arrived.
typedef struct convoke_redis_sink {
    void *owner;
    void (*bytes)(void *owner, int type, const char *start, size_t length);
    void (*array)(void *owner, int64_t count);
    void (*integer)(void *owner, int64_t value);
    void (*null)(void *owner);
} convoke_redis_sink;

static void *convoke_redis_string(const redisReadTask *task, char *start, size_t length) {
    convoke_redis_sink *sink = task->privdata;
    sink->bytes(sink->owner, task->type, start, length);
    return sink;
}
static void *convoke_redis_array(const redisReadTask *task, int count) {
    convoke_redis_sink *sink = task->privdata;
    sink->array(sink->owner, count);
    return sink;
}
static void *convoke_redis_integer(const redisReadTask *task, long long value) {
    convoke_redis_sink *sink = task->privdata;
    sink->integer(sink->owner, value);
    return sink;
}
static void *convoke_redis_null(const redisReadTask *task) {
    convoke_redis_sink *sink = task->privdata;
    sink->null(sink->owner);
    return sink;
}
// The nodes belong to Swift.
static void convoke_redis_free(void *object) { (void)object; }

static inline redisReader *convoke_redis_reader(convoke_redis_sink *sink) {
    static redisReplyObjectFunctions functions = {
        convoke_redis_string, convoke_redis_array, convoke_redis_integer, convoke_redis_null, convoke_redis_free,
    };
    redisReader *reader = redisReaderCreateWithFunctions(&functions);
    if (reader != NULL) reader->privdata = sink;
    return reader;
}

static inline int convoke_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }
