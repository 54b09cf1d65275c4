// SPDX-License-Identifier: MIT
//
// channel - what the guard and the relay say to each other, over a socket pair
//
// The guard opens what needs privileges (listening sockets, certificate and key files, the configuration)
// and hands it over as descriptors; the relay answers with its state. One message is one datagram: a kind, a
// short text, at most one descriptor.
//
// Fails: E_CLOSED when the other process is gone, E_IO otherwise.
#pragma once

#include "base/bytes.h"

enum channel_kind {
    // guard to relay: the parts of a configuration, then COMMIT to apply them together
    CHANNEL_CONFIG = 1,  // fd: the configuration text; text: its file name
    CHANNEL_STARTED,     // fd: the configuration text of the service's start, if that has changed
    CHANNEL_HOST,        // text: this host's own full name, if the configuration needs it
    CHANNEL_CERTIFICATE, // fd: PEM chain; text: the number of its key, which the guard keeps
    CHANNEL_LISTENER,    // fd: bound, listening socket; text: the listener's name
    CHANNEL_HTTP,        // fd: bound, listening socket; text: "", or which (guard_sockets.h)
    CHANNEL_FILE,  // fd: a file that the configuration names, none: not readable; text: its path
    CHANNEL_ROLES, // text: who may use the control socket (roles.h)
    CHANNEL_USER,  // text: which of sendmail.accounts, and its user id
    CHANNEL_COMMIT,
    CHANNEL_STOP,            // drain and exit; text: milliseconds for it, or "" for shutdown_grace
    CHANNEL_UPGRADE_REFUSED, // text: why
    CHANNEL_RELOADED, // a reload has ended; text: by whom, how; why not, or what needs a restart (relay_reload.c)
    // relay to guard
    CHANNEL_READY,   // serving; text: path of the control socket
    CHANNEL_APPLIED, // a COMMIT after the first was taken over
    CHANNEL_REFUSED, // it was not; text: why
    CHANNEL_SIGN, // fd: a worker's line to the private keys (sign_wire.h); the guard hands it on to the signer
    CHANNEL_UPGRADE, // asks for the installed program: STOP or UPGRADE_REFUSED follows
    CHANNEL_RELOAD,  // asks for a reload; text: what RELOADED is to begin with
    CHANNEL_ALERT,   // text: a line of JSON for alerts.command
    // guard to signer, beside SIGN
    CHANNEL_KEY, // fd: the private key of a certificate, in DER; text: its number
};

#define CHANNEL_TEXT_MAX 4096

struct channel_message {
    enum channel_kind kind;
    int fd; // -1: none; the receiver owns it
    bool
        cut; // what came with it was not taken: more than one descriptor, or no room for it in this process
    char text[CHANNEL_TEXT_MAX];
};

// Makes the pair; close-on-exec. E_IO.
int channel_pair(int out_fds[2]) MUST_USE;
// Sends; `fd` stays the caller's (-1: none). Longer texts are cut at CHANNEL_TEXT_MAX - 1.
int channel_send(int channel, enum channel_kind kind, struct bytes text, int fd) MUST_USE;
// Sends `contents` as a sealed, read-only memory file.
int channel_send_contents(int channel, enum channel_kind kind, struct bytes text,
                          struct bytes contents) MUST_USE;
// Waits for one message.
int channel_receive(int channel, struct channel_message *out) MUST_USE;
// Reads all of a received memory file (at most max bytes, else E_LIMIT) and closes it. *out: free().
struct buf;
int channel_read_contents(int fd, size_t max, struct buf *out) MUST_USE;
