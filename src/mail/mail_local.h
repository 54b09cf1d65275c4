// SPDX-License-Identifier: MIT
//
// mail_local - the header of a message that a program of this host hands over, and the envelope that stands in it
//
// Pure. What a header from anywhere else would be refused for is mended here, because cron, mail(1) and PHP write it:
//   completed  addresses without a domain, in the fields that have addresses
//   added      From, where there is none
//   removed    Bcc, Resent-Bcc, Return-Path, Content-Length, and the envelope's own fields (below)
//   encoded    8-bit bytes in unstructured fields (RFC 2047); those that are no UTF-8 are read as ISO 8859-1
//
// A file of the pickup directory may begin with its envelope, as PowerMTA's and IIS's do:
//
//     X-Sender: <user@example.org> [parameters of MAIL]
//     X-Receiver: <someone@example.net> [parameters of RCPT]         any number
//     X-Dropped: anything                                            optional: ends the envelope
//
// These count in the first lines only; brackets may be left out where there are no parameters. Without X-Receiver the
// recipients are those of the header; without X-Sender the sender is that of Sender, or the first of From.
//
// Limits:   MAIL_LOCAL_RECIPIENTS_MAX; mail_header.h's.
#pragma once

#include "base/arena.h"
#include "base/buf.h"

#define MAIL_LOCAL_RECIPIENTS_MAX 50000

struct mail_local {
    // given
    struct bytes header; // the block, lines ended by CRLF
    struct bytes domain; // of addresses that have none
    struct bytes from; // the address of a From field that is missing; empty: the envelope's sender
    struct bytes from_name; // and its name; empty: none
    bool has_envelope;      // the first lines may be the envelope's
    bool take_recipients;   // those of the header, beside the ones there are
    // found, in the arena
    struct bytes *recipients; // "<a@b>" and, where the envelope had some, parameters
    size_t count, cap;
    bool has_sender;
    struct bytes sender;        // the same, of the envelope
    struct bytes header_sender; // the address in Sender, or the first in From; empty: none
    bool is_utf8;               // there is 8-bit text left that only SMTPUTF8 can carry
    struct buf out;             // the new header, its empty line included; the caller's: buf_done()
    struct bytes why;           // what is wrong, for people
};

// E_SYNTAX, E_LIMIT: `why` says it.
int mail_local_read(struct mail_local *m, struct arena *arena) MUST_USE;
// Adds the addresses of `text`, a list as in To ("a, B <b@c>"), completed with m->domain, to the recipients. As above.
int mail_local_add_recipients(struct mail_local *m, struct bytes text,
                              struct arena *arena) MUST_USE;
// The one address of `text`, completed; empty for "" and "<>". As above.
int mail_local_one_address(struct mail_local *m, struct bytes text, struct arena *arena,
                           struct bytes *out) MUST_USE;
// Appends the value of a field with addresses; those without a domain get this one. What is no address stays as it is.
void mail_local_complete(struct bytes value, struct bytes domain, struct buf *out);
