// SPDX-License-Identifier: MIT
//
// mail_address - the addresses of the envelope (RFC 5321 section 4.1.2, RFC 6531) and their domains
//
//     Path     = "<" [ A-d-l ":" ] Mailbox ">"           A-d-l (source route) is read and dropped
//     Mailbox  = Local-part "@" ( Domain / address-literal )
//     Local-part = Dot-string / Quoted-string            with UTF-8 where RFC 6531 section 3.3 has
//     it
//
// Non-ASCII is accepted here and told (is_utf8): whether SMTPUTF8 was asked for is the session's to
// know.
//
// Owner:  a struct mail_address borrows from the text it was parsed from.
// Limits: the three below. RFC 5321 section 4.5.3.1.
// Fails:  E_SYNTAX; E_LIMIT (a part is too long).
#pragma once

#include "base/buf.h"
#include "base/bytes.h"

#define MAIL_LOCAL_MAX 64   // octets of a local-part, quotes included
#define MAIL_DOMAIN_MAX 255 // octets of a domain or literal as written
#define MAIL_PATH_MAX 256   // octets of a path with its brackets, also with A-labels
#define MAIL_ROUTE_MAX 1024 // octets of a source route, which is dropped
#define MAIL_LABEL_MAX 63
#define MAIL_NAME_MAX 253 // octets of a routing domain

struct mail_address {
    struct bytes text;   // the mailbox as written, without <> and source route; empty for <>
    struct bytes local;  // as written, with quotes
    struct bytes domain; // as written; empty for <> and for a bare postmaster
    bool is_utf8;        // something in it is not ASCII
    bool is_literal;     // domain is [..]
};

// What a path may be beside a mailbox.
#define MAIL_PATH_NULL 1u       // "<>", the null sender
#define MAIL_PATH_POSTMASTER 2u // "<postmaster>", any case, no domain

// Reads a path from the start of `text` (MAIL FROM:, RCPT TO:) and tells how many bytes it has;
// what follows is the caller's (parameters).
int mail_path_parse(struct bytes text, unsigned allowed, struct mail_address *out,
                    size_t *out_used) MUST_USE;
// A mailbox without brackets, the whole of `text`.
int mail_address_parse(struct bytes text, struct mail_address *out) MUST_USE;

// The local-part's value: quotes and quoted-pairs taken off.
void mail_address_local(const struct mail_address *a, struct buf *out);
// One spelling for every way to write the address: local-part quoted only where it must be, its
// case kept; domain as mail_domain_route() gives it. Empty for the null sender.
int mail_address_canonical(const struct mail_address *a, struct buf *out) MUST_USE;
// Appends a local-part value, quoted only where it must be.
void mail_local_format(struct bytes value, struct buf *out);

// The routing form: lower-case, U-labels to A-labels by IDNA2008 (RFC 5891; letters are lower-cased
// first, no other mapping), one trailing dot removed; "[192.0.2.1]" and "[IPv6:2001:db8::1]" in
// their shortest spelling. E_SYNTAX: an empty label, a label that is no LDH label or U-label, a bad
// literal; E_LIMIT: label over 63 or name over 253 octets.
int mail_domain_route(struct bytes domain, struct buf *out) MUST_USE;
// For people: A-labels as U-labels, where they are valid ones; else as it is.
void mail_domain_show(struct bytes domain, struct buf *out);
// Is `domain` (routing form) equal to `zone`, or below it?
bool mail_domain_is_within(struct bytes domain, struct bytes zone);

// Shortens what RFC 5952 shortens. text: what stands between the brackets. E_SYNTAX.
int mail_literal_route(struct bytes text, struct buf *out) MUST_USE;
