#pragma once
#include <sodium.h>

// Cast macros that Swift does not import, as functions.
static inline size_t convoke_pwhash_strbytes(void) { return crypto_pwhash_STRBYTES; }
static inline unsigned long long convoke_pwhash_opslimit_min(void) { return crypto_pwhash_OPSLIMIT_MIN; }
static inline size_t convoke_pwhash_memlimit_min(void) { return crypto_pwhash_MEMLIMIT_MIN; }
