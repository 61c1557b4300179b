#pragma once
#include <zlib.h>

// A macro that Swift does not import. 15 bits of window; 16 more ask for gzip's frame instead of zlib's.
static inline int convoke_gzip_begin(z_stream *stream, int level) {
    return deflateInit2(stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
}

static inline int convoke_gzip_read(z_stream *stream) {
    return inflateInit2(stream, 15 + 16);
}
