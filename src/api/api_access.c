// SPDX-License-Identifier: MIT
#include "api/api_access.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api_private.h"
#include "base/check.h"

#define MINUTE_US INT64_C(60000000)

// ---- the table of requests -----------------------------------------------------------------------------

#define READS(method, path, handle)                                                                \
    {                                                                                              \
        method, path, NULL, API_READER, handle, NULL, false                                        \
    }
#define STORE_READS(op)                                                                            \
    {                                                                                              \
        "POST", "/v1/store", op, API_READER, api_store_post, NULL, false                           \
    }
#define STORE_ACTS(op)                                                                             \
    {                                                                                              \
        "POST", "/v1/store", op, API_OPERATOR, api_store_post, op, true                            \
    }
#define SUPPRESS_READS(op)                                                                         \
    {                                                                                              \
        "POST", "/v1/suppress", op, API_READER, api_suppress_post, NULL, false                     \
    }
#define SUPPRESS_ACTS(op)                                                                          \
    {                                                                                              \
        "POST", "/v1/suppress", op, API_OPERATOR, api_suppress_post, op, false                     \
    }
#define TRACE_ACTS(op)                                                                             \
    {                                                                                              \
        "POST", "/v1/trace", op, API_OPERATOR, api_trace_post, op, false                           \
    }
#define QUEUE_ACTS(op)                                                                             \
    {                                                                                              \
        "POST", "/v1/queue", op, API_OPERATOR, api_queue_post, "queue." op, false                  \
    }
#define ACTS(path, handle, action)                                                                 \
    {                                                                                              \
        "POST", path, NULL, API_OPERATOR, handle, action, false                                    \
    }

// clang-format off
const struct api_row api_rows[] = {
    STORE_ACTS("account.add"),
    STORE_ACTS("account.suspend"),
    STORE_ACTS("account.activate"),
    STORE_ACTS("account.close"),
    STORE_READS("account.list"),
    STORE_READS("account.show"),
    STORE_ACTS("account.set"),
    STORE_ACTS("credential.add"),
    STORE_ACTS("credential.remove"),
    STORE_READS("credential.list"),
    STORE_ACTS("domain.add"),
    STORE_ACTS("domain.verified"),
    STORE_ACTS("domain.return_path"),
    STORE_ACTS("domain.remove"),
    STORE_READS("domain.list"),
    STORE_READS("domain.show"),
    STORE_ACTS("dkim.add"),
    STORE_ACTS("dkim.seen"),
    STORE_ACTS("dkim.rotate"),
    STORE_ACTS("dkim.remove"),
    STORE_READS("dkim.list"),
    STORE_READS("audit.list"),

    SUPPRESS_ACTS("suppress.add"),
    SUPPRESS_ACTS("suppress.remove"),
    SUPPRESS_READS("suppress.check"),
    SUPPRESS_READS("suppress.list"),
    SUPPRESS_ACTS("suppress.import"),

    QUEUE_ACTS("hold"),
    QUEUE_ACTS("release"),
    QUEUE_ACTS("retry"),
    QUEUE_ACTS("bounce"),
    QUEUE_ACTS("delete"),
    {"POST", "/v1/queue", "dry-run", API_READER, api_queue_post, NULL, false}, // of any of them

    READS("GET", "/v1/message", api_message_get),
    READS("GET", "/v1/messages", api_messages_get),
    READS("GET", "/v1/why", api_why_get),
    READS("GET", "/v1/queue", api_queue_get),
    {"GET", "/v1/mailq", NULL, API_ANYBODY, api_mailq_get, NULL, false}, // each sees the own
    READS("GET", "/v1/lanes", api_lanes_get),
    READS("GET", "/v1/holds", api_holds_get),
    READS("GET", "/v1/alerts", api_alerts_get),
    READS("GET", "/v1/events", api_events_get),
    READS("GET", "/v1/history", api_history_get),
    READS("GET", "/v1/trace", api_trace_get),
    READS("GET", "/v1/traces", api_traces_get),
    TRACE_ACTS("trace.add"),
    TRACE_ACTS("trace.remove"),
    READS("GET", "/v1/service", api_service_get),
    READS("GET", "/v1/work", api_work_get),
    READS("GET", "/v1/domain-check", api_domain_check_get), // what a reader finds is not kept
    ACTS("/v1/backup", api_backup_post, "backup"),
    ACTS("/v1/upgrade", api_upgrade_post, "upgrade"),
    ACTS("/v1/reload", api_reload_post, "config.reload"),
    ACTS("/v1/dkim", api_dkim_post, "keys.look"),
};
// clang-format on
const size_t api_rows_count = COUNT_OF(api_rows);

static const char *text_of(struct json_object *args, const char *key)
{
    struct json_object *value = NULL;
    bool there = args && json_object_object_get_ex(args, key, &value) &&
                 json_object_is_type(value, json_type_string);
    return there ? json_object_get_string(value) : "";
}

static const char *op_of(const char *path, struct json_object *args)
{
    struct json_object *dry = NULL;
    if (strcmp(path, "/v1/queue") != 0)
        return text_of(args, "op");
    if (args && json_object_object_get_ex(args, "dry_run", &dry) && json_object_get_boolean(dry))
        return "dry-run";
    return text_of(args, "action");
}

const struct api_row *api_row_find(const char *method, const char *path, struct json_object *args,
                                   bool *out_known)
{
    const char *op = op_of(path, args);
    *out_known = false;
    for (size_t i = 0; i < api_rows_count; i++) {
        const struct api_row *row = &api_rows[i];
        if (strcmp(row->method, method) != 0 || strcmp(row->path, path) != 0)
            continue;
        if (!row->op || strcmp(row->op, op) == 0)
            return row;
        *out_known = true;
    }
    return NULL;
}

// ---- who asks --------------------------------------------------------------------------------------------

static bool has_group(const gid_t *groups, size_t count, int64_t group)
{
    for (size_t i = 0; i < count && group >= 0; i++)
        if ((int64_t)groups[i] == group)
            return true;
    return false;
}

static enum api_role role_by(const struct api_policy *policy, const gid_t *groups, size_t count)
{
    return has_group(groups, count, policy->operators) ? API_OPERATOR
           : has_group(groups, count, policy->readers) ? API_READER
                                                       : API_NOBODY;
}

static enum api_role role_of(int fd, const struct ucred *peer, const struct api_policy *policy)
{
    gid_t few[64], *groups = few;
    socklen_t len = sizeof few;
    if (peer->uid == 0 || peer->uid == geteuid())
        return API_OPERATOR;
    int rc = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len);
    if (rc != 0 && errno == ERANGE) { // len is what is needed
        groups = mem_new(len);
        rc = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len);
    }
    enum api_role primary = role_by(policy, &peer->gid, 1);
    enum api_role other = rc == 0 ? role_by(policy, groups, len / sizeof *groups) : API_NOBODY;
    if (groups != few)
        free(groups);
    return primary > other ? primary : other;
}

bool api_caller_find(int fd, const struct api_policy *policy, struct api_caller *out)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    struct passwd entry, *found = NULL;
    char space[4096];
    *out = (struct api_caller){.role = API_NOBODY};
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1)
        return false;
    out->uid = peer.uid;
    out->gid = peer.gid;
    out->pid = peer.pid;
    out->role = role_of(fd, &peer, policy);
    if (getpwuid_r(peer.uid, &entry, space, sizeof space, &found) == 0 && found)
        snprintf(out->actor, sizeof out->actor, "cli:%.64s", found->pw_name);
    else
        snprintf(out->actor, sizeof out->actor, "cli:uid %u", (unsigned)peer.uid);
    return true;
}

void api_policy_describe(const struct api_policy *policy, enum api_role role, struct buf *out)
{
    bool operators = policy->operators >= 0, readers = role == API_READER && policy->readers >= 0;
    buf_printf(out, "root%s the user that the service runs as",
               operators || readers ? "," : " and");
    if (operators)
        buf_printf(out, "%s members of the group %s", readers ? "," : " and",
                   policy->operators_name);
    if (readers)
        buf_printf(out, " and members of the group %s", policy->readers_name);
}

// ---- refused attempts --------------------------------------------------------------------------------------

static struct api_refusals_user *user_of(struct api_refusals *r, uid_t uid, struct mono now)
{
    struct api_refusals_user *oldest = &r->users[0];
    for (size_t i = 0; i < API_REFUSALS_USERS; i++) {
        struct api_refusals_user *u = &r->users[i];
        if (u->used && u->uid == uid)
            return u;
        if (oldest->used && (!u->used || u->seen.us < oldest->seen.us))
            oldest = u;
    }
    *oldest = (struct api_refusals_user){
        .uid = uid, .used = true, .left = API_REFUSALS_BURST, .since = now};
    return oldest;
}

bool api_refusals_take(struct api_refusals *r, uid_t uid, struct mono now, uint64_t *out_passed)
{
    struct api_refusals_user *u = user_of(r, uid, now);
    int64_t minutes = (now.us - u->since.us) / MINUTE_US;
    u->seen = now;
    u->since.us += minutes * MINUTE_US;
    u->left = minutes >= API_REFUSALS_BURST - (int64_t)u->left ? API_REFUSALS_BURST
                                                               : u->left + (uint32_t)minutes;
    *out_passed = u->passed;
    if (!u->left) {
        u->passed++;
        return false;
    }
    u->left--;
    u->passed = 0;
    return true;
}
