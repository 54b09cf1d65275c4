// SPDX-License-Identifier: MIT
//
// dkim_verify - the DKIM signatures of a message judged (RFC 6376 section 6, 8301, 8463, 8616)
//
// Asks nobody: it is fed the message and the keys, in this order.
//
//     v = dkim_verify_new(header, now);
//     dkim_verify_body(v, piece);                    for every piece of the body
//     dkim_verify_body_end(v);
//     for each i below dkim_verify_count(v):
//         name = dkim_verify_key_name(v, i);         empty: the verdict stands without a key
//         dkim_verify_key(v, i, DKIM_KEY_FOUND, texts, count);
//     dkim_verify_verdict(v, i)
//     dkim_verify_free(v);
//
// Results are those of RFC 8601 section 2.7.1; docs/INTERFACE.md has the table of what leads to
// which:
// a signature that can't be read is neutral, one without a usable key a permerror, one that is
// refuted (or too weak by RFC 8301, or expired) fails.
//
// Owner:  the header is borrowed until the end.
// Limits: DKIM_SIGNATURES_MAX are judged, from the top, the rest is DKIM_POLICY; DKIM_KEYS_MAX
//         records of a name are tried.
// Cost:   linear in the message for each signature that is judged.
#pragma once

#include "sign/dkim_key.h"

#define DKIM_SIGNATURES_MAX 10
#define DKIM_KEYS_MAX 4

enum dkim_result {
    DKIM_PASS,
    DKIM_FAIL,
    DKIM_NEUTRAL,
    DKIM_POLICY,
    DKIM_TEMPERROR,
    DKIM_PERMERROR,
};
// "pass", "fail", ...
const char *dkim_result_text(enum dkim_result result);

struct dkim_verdict {
    // As they stand in the signature, without folding; empty where it does not say.
    struct bytes domain, selector, algorithm;
    enum dkim_result result; // DKIM_TEMPERROR until the key has been given
    const char *reason;      // for people; "" for a plain pass
    bool is_testing;         // the key says t=y: to be treated as if it were not signed
    uint64_t unsigned_bytes; // of the body, beyond l=
};

struct dkim_verify;
// `header`: the header block without the empty line (mail_header.h).
struct dkim_verify *dkim_verify_new(struct bytes header, struct wall now);
void dkim_verify_free(struct dkim_verify *v);

// The body in pieces, cut anywhere.
void dkim_verify_body(struct dkim_verify *v, struct bytes piece);
// There is no more of it; once.
void dkim_verify_body_end(struct dkim_verify *v);

// How many DKIM-Signature fields there are, from the top.
size_t dkim_verify_count(const struct dkim_verify *v);
// The name whose TXT records are the key, in A-labels.
struct bytes dkim_verify_key_name(const struct dkim_verify *v, size_t i);

enum dkim_key_lookup {
    DKIM_KEY_FOUND,
    DKIM_KEY_ABSENT,      // no such name, or no TXT record there
    DKIM_KEY_UNAVAILABLE, // no answer, or none to be trusted: later perhaps
};
// What DNS says; behind dkim_verify_body_end(). `records`: each TXT record, its strings joined.
void dkim_verify_key(struct dkim_verify *v, size_t i, enum dkim_key_lookup lookup,
                     const struct bytes *records, size_t count);

// Final once the key has been given; lives as long as v.
const struct dkim_verdict *dkim_verify_verdict(const struct dkim_verify *v, size_t i);
