// SPDX-License-Identifier: MIT
//
// api_access - who asks at the control socket, and what they may
//
// Who asks is told by the kernel (SO_PEERCRED, SO_PEERGROUPS). Operators are root, the user that the service runs as,
// and the members of the group `roles.operators`; readers those of `roles.readers`. What a request needs stands in
// the one table of requests: what is not in it cannot be asked, so nothing can be added without saying which it is.
//
// Thread: the control thread.
#pragma once

#include <json-c/json.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/clock.h"

struct api_request;

// What a request needs is READER or OPERATOR; or ANYBODY, where the handler itself looks at who asks. A row that says
// nothing has NOBODY, which the tests refuse.
enum api_role { API_ANYBODY = -1, API_NOBODY, API_READER, API_OPERATOR };

// What the configuration says of it.
struct api_policy {
    int64_t operators, readers; // groups; -1: none
    char operators_name[64], readers_name[64];
    bool users; // who has no role may ask for the mail that he sent (sendmail.socket)
    int64_t audit_keep_ms;
};

struct api_caller {
    uid_t uid;
    gid_t gid;
    pid_t pid;
    enum api_role role;
    char actor[80]; // "cli:root"
};

// Who is at the other end of a Unix socket. False: that can't be known.
bool api_caller_find(int fd, const struct api_policy *policy, struct api_caller *out);
// "root, the user that the service runs as and the members of the group mailops".
void api_policy_describe(const struct api_policy *policy, enum api_role role, struct buf *out);

// A request: its path, and where it has several, what its body asks for.
struct api_row {
    const char *method, *path;
    const char *op; // "op" of the body, or "action" of /v1/queue; NULL: there is one only
    enum api_role needs;
    void (*handle)(struct api_request *r);
    const char *action; // what it is called in the audit log; NULL: it changes nothing
    bool records;       // the handler writes the audit log itself
};
extern const struct api_row api_rows[];
extern const size_t api_rows_count;

// NULL: there is no such request; *out_known: but the path with another `op`. `args` NULL: no body.
const struct api_row *api_row_find(const char *method, const char *path, struct json_object *args,
                                   bool *out_known);

// ---- refused attempts --------------------------------------------------------------------------------

// Who is refused is recorded, but may not fill the disk so: API_REFUSALS_BURST of one user at once, then one a minute.
#define API_REFUSALS_BURST 20
#define API_REFUSALS_USERS                                                                         \
    16 // further ones take the place of whom nothing was heard from for longest
struct api_refusals {
    struct api_refusals_user {
        uid_t uid;
        bool used;
        uint32_t left;   // that may be recorded now
        uint64_t passed; // over since the last that was
        struct mono since, seen;
    } users[API_REFUSALS_USERS];
};
// Is this one to be recorded? *out_passed: how many were not, before it.
bool api_refusals_take(struct api_refusals *r, uid_t uid, struct mono now, uint64_t *out_passed);
