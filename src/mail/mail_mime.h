// SPDX-License-Identifier: MIT
//
// mail_mime - the fields that say how a body is built (RFC 2045), and a walk through its parts (RFC
// 2046)
//
// Limits: those below. A message that goes beyond them is E_LIMIT, never read halfway.
#pragma once

#include "base/arena.h"
#include "mail/mail_header.h"

#define MAIL_MIME_DEPTH_MAX 32
#define MAIL_MIME_PARTS_MAX 10000
#define MAIL_BOUNDARY_MAX 70    // RFC 2046 section 5.1.1
#define MAIL_PARAMETERS_MAX 100 // of one field

struct mail_parameter {
    struct bytes name, value; // value unquoted
};
struct mail_content_type {
    struct bytes type, subtype; // as written
    struct mail_parameter *parameters;
    size_t count;
};

// A Content-Type value (RFC 2045 section 5.1), comments and folding too. A broken parameter is left
// out. E_SYNTAX: no type/subtype; E_LIMIT: too many parameters.
int mail_content_type_parse(struct bytes value, struct arena *arena,
                            struct mail_content_type *out) MUST_USE;
// The parameter's value, or BYTES_NONE.
struct bytes mail_content_type_find(const struct mail_content_type *t, struct bytes name);

enum mail_encoding {
    ENCODING_7BIT,
    ENCODING_8BIT,
    ENCODING_BINARY,
    ENCODING_QP,
    ENCODING_BASE64,
    ENCODING_OTHER
};
// What the header block's Content-Transfer-Encoding says; 7bit if it is not there.
enum mail_encoding mail_encoding_of(struct bytes block);
