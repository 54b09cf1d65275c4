// SPDX-License-Identifier: MIT
//
// local_submit - hands a message to the running service over its submission socket, and waits for the answer
//
// What sendmail(1) and the pickup directory share: SMTP over a Unix socket, whose other end knows by the kernel who
// we are. All recipients are taken or none: a message with a bad one is not sent at all.
//
// Thread: any that may block.
// Limits: LOCAL_SUBMIT_TIMEOUT_S for each reply.
#pragma once

#include "base/buf.h"
#include "base/bytes.h"

#define LOCAL_SUBMIT_TIMEOUT_S 300
#define LOCAL_SUBMIT_TEXT 512

enum local_result {
    LOCAL_SENT,
    LOCAL_REFUSED, // for good: code and text say why
    LOCAL_LATER,   // not now
    LOCAL_DOWN,    // nobody serves the socket
    LOCAL_DENIED,  // the socket is not ours to use
};

struct local_answer {
    enum local_result result;
    int code;                      // of SMTP; 0: it never came to a reply
    char enhanced[20];             // "5.1.1"
    char text[LOCAL_SUBMIT_TEXT];  // the reply's, or a sentence; SENT: the message's id
    char about[LOCAL_SUBMIT_TEXT]; // the recipient that is refused; else empty
};

struct local_session;

// Connects and greets. NULL: `out` says why.
struct local_session *local_submit_open(struct bytes socket, struct local_answer *out);
// The same on a connection that local_submit_connect() has made; it is the session's from now on.
struct local_session *local_submit_begin(int fd, struct local_answer *out);
// What the service calls its host; valid until close.
struct bytes local_submit_hostname(const struct local_session *s);
// The service's own process says for whom it speaks (the pickup directory).
bool local_submit_speak_for(struct local_session *s, uint32_t uid, struct local_answer *out);

struct local_message {
    struct bytes sender;            // "<a@b>" and parameters of MAIL
    const struct bytes *recipients; // the same of RCPT
    size_t count;                   // at least 1
    struct bytes header;            // with its empty line
    // The next piece of the body, CRLF lines, empty at its end. A negative enum err: the message is given up.
    int (*next)(void *ctx, struct bytes *out);
    void *ctx;
};
// Sends it. False: it is not sent, and `out` says why; SENT means that it is durable. `verify`: asks for the recipients
// only, `told` is called with the answer for each; true where all are taken.
bool local_submit_send(struct local_session *s, const struct local_message *m,
                       struct local_answer *out);
bool local_submit_verify(struct local_session *s, const struct local_message *m,
                         void (*told)(struct bytes recipient, const struct local_answer *answer),
                         struct local_answer *out);
// Says goodbye and frees.
void local_submit_close(struct local_session *s);
// The connection, for who speaks SMTP by itself. -1: `out` says why.
int local_submit_connect(struct bytes socket, struct local_answer *out);
