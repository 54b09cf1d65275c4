// SPDX-License-Identifier: MIT
//
// mail_mime_walk - a streaming walk through the parts of a message (RFC 2045, 2046)
//
// Fed the message in pieces cut anywhere, it tells of each part: its header, its content, its end;
// and hands on all other bytes (boundary lines, preambles, epilogues) as raw. Header blocks, their
// separators and what goes to on_body and on_raw are together the message, byte for byte and in
// order.
//
// Limits: mail_mime.h, and mail_header.h for the header of each part (but its lines may have any
// length). Fails:  E_LIMIT; E_SYNTAX (bare CR or LF, or NUL, in a header).
#pragma once

#include "mail/mail_mime.h"

enum mail_part_kind {
    PART_TEXT,      // text/*, or no type at all
    PART_MESSAGE,   // message/* other than rfc822: not walked into
    PART_OTHER,     // a leaf of another type
    PART_MULTIPART, // parts follow
    PART_RFC822,    // a whole message follows, header first
};

struct mail_part {
    size_t index; // from 0, the message itself, in order of their headers
    enum mail_part_kind kind;
    enum mail_encoding encoding;
    bool is_message;   // its header is a message's, not a body part's
    bool in_multipart; // a boundary ends it, not the end of the message
    bool is_signed;    // multipart/signed
    bool in_signed;    // within one, at any depth
    bool is_opaque;    // multipart or message that can't be walked into: bad boundary or encoding
};

struct mail_mime_events {
    // The part's fields; has_separator: an empty line stood behind them.
    void (*on_header)(void *ctx, const struct mail_part *part, struct bytes block,
                      bool has_separator);
    // A piece of the content of a leaf (TEXT, MESSAGE, OTHER).
    void (*on_body)(void *ctx, const struct mail_part *part, struct bytes piece);
    // Only leaves have an end.
    void (*on_end)(void *ctx, const struct mail_part *part);
    void (*on_raw)(void *ctx, struct bytes piece);
};

struct mail_mime_walk;

struct mail_mime_walk *mail_mime_walk_new(const struct mail_mime_events *events, void *ctx);
int mail_mime_walk_feed(struct mail_mime_walk *w, struct bytes piece) MUST_USE;
// The message ended. Once.
int mail_mime_walk_finish(struct mail_mime_walk *w) MUST_USE;
void mail_mime_walk_free(struct mail_mime_walk *w);
