// SPDX-License-Identifier: MIT
//
// signature - the DKIM-Signature fields of a rendering
//
// Made once for each distinct rendering of a message in memory and kept with it (spool/stored_message.h), so that all
// recipients and lanes share them; a rendering with fields of its own (`added`) has signatures of its own. Who signs:
// the From domain, if it is verified for the account and has active keys, else the nearest parent of it that is and
// has; and the service's own domain, where configured. The keys are behind the port `sign` (net/sign_port.h). What is
// to be signed of an identity rendering is known from intake; a body is read here only where it is changed (7 bits),
// or came before there was a key.
//
// Owner:  the asker; signature_done() once it has answered. A message is asked about by any number of loops at once.
// Thread: the asker's loop; done() runs there, never inside signature_start().
// Fails:  E_CLOSED: there are keys, and no signature is to be had now: the message must wait. What render_next()
//         fails with, when the body has to be read.
#pragma once

#include "conf/conf_snapshot.h"
#include "deliver/render.h"
#include "sys/sys.h"

// Relaxed atomics.
struct signature_counters {
    _Atomic uint64_t rsa, ed25519, failed; // signatures made; renderings left without
    _Atomic uint64_t bodies_read; // read for their hash: not for identity, if intake knew of a key
};

struct signature_ask {
    // given; borrowed until the answer
    struct spool *spool;
    struct stored_message *message;
    struct conf_snapshot *snapshot;
    struct signature_counters *counters;
    enum render_kind kind;
    struct bytes added; // header fields that come above the stored ones
    void (*done)(struct signature_ask *ask);
    // the answer
    int err;
    bool has_8bit_header; // with E_DENIED, as render's plan
    struct bytes fields;  // to stand above `added`; empty: nobody signs. Until signature_done()
    // its own
    struct signature_ask *next;
    struct sys_loop *loop;
    struct sys_task task;
    struct buf own;
};

// True: answered already. False: done() follows.
bool signature_start(struct signature_ask *ask);
void signature_done(struct signature_ask *ask); // harmless twice, and on a zeroed one
