// SPDX-License-Identifier: MIT
//
// dialogue - what was said on one outgoing connection: its opening, and its last transaction
//
// One for each connection, its memory is used again for each transaction. Lines come without secrets from smtp_client
// (on_line); of content there is never more than its size. Where there are too many, those in the middle are left out:
// how it began and how it ended are what matters.
//
// Limits: DIALOGUE_LINE_MAX bytes of a line; DIALOGUE_PART_BYTES for the opening, and for the first and the last lines
//         of a transaction each, sixteen times that where all is wanted.
#pragma once

#include "base/buf.h"
#include "base/clock.h"
#include "smtp/smtp_client.h"

#define DIALOGUE_LINE_MAX 1024
#define DIALOGUE_PART_BYTES 4096

enum dialogue_from {
    DIALOGUE_US = 'c',     // a command of ours
    DIALOGUE_SERVER = 's', // a reply, perhaps of several lines, parted by LF
    DIALOGUE_NOTE = 'n',   // what happened beside: connected, TLS, closed, content sent
};

struct dialogue {
    struct mono began;
    struct buf opening, first, last;
    uint32_t left_out; // lines
    bool opened, all;
};

// A new connection.
void dialogue_begin(struct dialogue *d, struct mono now);
// From here on lines are of the next transaction. all: as much as there may be.
void dialogue_next(struct dialogue *d, bool all);
void dialogue_add(struct dialogue *d, struct mono now, enum dialogue_from from, struct bytes text);
// As smtp_client tells it.
void dialogue_add_line(struct dialogue *d, struct mono now, enum smtp_client_line kind,
                       uint64_t number, struct bytes text);
void dialogue_done(struct dialogue *d);

// Takes a line of one of its parts.
struct dialogue_line {
    uint32_t ms; // since the connection was begun
    enum dialogue_from from;
    struct bytes text;
};
bool dialogue_take(struct bytes *in, struct dialogue_line *out);
