// SPDX-License-Identifier: MIT
//
// err - the one error enum: what the world did to us
//
// A function that can fail returns 0 or one of these, all negative. Protocol answers (451, NXDOMAIN)
// are values, not errors; our own bugs are CHECKs.
#pragma once

#define MUST_USE __attribute__((warn_unused_result))

enum err {
    OK = 0,
    E_SYNTAX = -1,       // malformed input
    E_LIMIT = -2,        // beyond a named limit
    E_FULL = -3,         // no room: disk, table, queue
    E_IO = -4,           // the system call failed for another reason
    E_NOT_FOUND = -5,    // no such thing
    E_EXISTS = -6,       // already there
    E_CLOSED = -7,       // the other side is gone, or we are stopping
    E_TIMEOUT = -8,      // time ran out
    E_BUSY = -9,         // locked or in use by another
    E_DENIED = -10,      // not permitted
    E_VERSION = -11,     // made by a newer release
    E_DAMAGED = -12,     // a checksum or structure does not hold
    E_TLS = -13,         // TLS failed
    E_REFUSED = -14,     // connection refused
    E_UNREACHABLE = -15, // no route to host or network
    E_AGAIN = -16,       // not now; try later
};

// The short English phrase for one of enum err, e.g. "no such thing"; never NULL.
const char *err_text(int err);

// The enum err that stands for a positive errno value; E_IO when none fits better.
int err_from_errno(int errno_value);
