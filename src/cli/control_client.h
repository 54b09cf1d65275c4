// SPDX-License-Identifier: MIT
//
// control_client - HTTP and JSON to the running service, over its Unix socket
//
// Limits:   CONTROL_REPLY_MAX bytes of a reply; CONTROL_TIMEOUT_S for one that is no stream.
#pragma once

#include "base/buf.h"

#define CONTROL_REPLY_MAX ((size_t)256 << 20)
#define CONTROL_TIMEOUT_S 60

struct json_object;

struct control_reply {
    long status;              // 200, 404, ...
    struct json_object *body; // NULL when it is no JSON; json_object_put() by the caller
};

// `path` with its query, already percent-encoded; `body` NULL: GET, else POST. Sets *out to the
// reply, whatever its status. E_CLOSED: nobody listens there (not running); E_DENIED: the socket is
// not ours to use; E_TIMEOUT, E_IO. `error` gets a sentence.
int control_request(struct bytes socket, const char *path, struct json_object *body,
                    struct control_reply *out, struct buf *error) MUST_USE;

// Whether the service answers: OK, or as above.
int control_ping(struct bytes socket) MUST_USE;

// The same as control_request() without a limit of time. on_tick() (may be NULL) is called several times a second while it lasts, and may ask
// other things; false there ends it: E_AGAIN.
int control_request_long(struct bytes socket, const char *path, struct json_object *body,
                         bool (*on_tick)(void *ctx), void *ctx, struct control_reply *out,
                         struct buf *error) MUST_USE;

// A GET that answers with one JSON object a line: on_line() for each line, without its newline;
// return false there to end. 0 when the stream ended or was ended. A status other than 200 comes as
// *out.
int control_stream(struct bytes socket, const char *path,
                   bool (*on_line)(void *ctx, struct bytes line), void *ctx,
                   struct control_reply *out, struct buf *error) MUST_USE;

// What the service says about a failure: "error" of the body, else the status.
void control_reply_error(const struct control_reply *reply, struct buf *out);
// The exit code for a status: 200 0, 400, 409, 422 data, 403 permission, 404 no such thing, else
// temporary.
int control_reply_exit(const struct control_reply *reply);
// Appends text percent-encoded (RFC 3986 unreserved characters as they are).
void control_add_encoded(struct buf *path, struct bytes text);
