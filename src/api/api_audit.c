// SPDX-License-Identifier: MIT
//
// api_audit - what is asked at the control socket, in the audit log (store_audit.h); on the control thread
//
// How it works: an action has its row on disk before its handler is called, and the row's end before the answer goes
// out. Operations of the store write theirs themselves, in the transaction that makes the change.
#include <stdio.h>

#include "api/api_private.h"
#include "store/store_audit.h"

#define TRIM_EVERY_US INT64_C(3600000000)

struct store_op api_audit_op(const struct api_request *r, struct store_who *who)
{
    struct json_object *inner = NULL;
    bool named = r->row && r->row->op && strcmp(r->row->path, "/v1/queue") != 0;
    *who = (struct store_who){"control", r->caller.uid, r->caller.gid, r->caller.pid};
    if (named && json_object_object_get_ex(r->args, "args", &inner) &&
        !json_object_is_type(inner, json_type_object))
        inner = NULL;
    return (struct store_op){.name = r->row && r->row->action ? r->row->action : "control",
                             .args = named ? inner : r->args,
                             .actor = r->actor,
                             .time = api_now().wall,
                             .who = who};
}

// The log of the service has what the audit log could not take.
static void tell_unwritten(const struct api_request *r, int err)
{
    log_error("the audit log cannot be written", LOG_STR("actor", r->actor),
              LOG_CSTR("action", r->row && r->row->action ? r->row->action : "control"),
              LOG_INT("pid", r->caller.pid), LOG_ERR(err));
}

static void trim(struct api_request *r)
{
    struct api *api = r->api;
    struct queue_now now = api_now();
    const struct api_policy *policy = api_policy_of(api);
    if (api->trimmed_at.us && now.mono.us - api->trimmed_at.us < TRIM_EVERY_US)
        return;
    api->trimmed_at = now.mono;
    int err = store_audit_trim(api->options.store, wall_add_ms(now.wall, -policy->audit_keep_ms));
    if (err)
        log_error("old rows of the audit log are not removed", LOG_ERR(err));
}

bool api_audit_begin(struct api_request *r)
{
    struct store_who who;
    if (!r->row->action || r->row->records)
        return true;
    trim(r);
    struct store_op op = api_audit_op(r, &who);
    int err = store_audit_begin(r->api->options.store, &op, &r->audit);
    if (!err)
        return true;
    tell_unwritten(r, err);
    if (strcmp(r->row->path, "/v1/queue") == 0)
        return true; // on a full disk this makes room, and the history says who did it
    api_reply_error(r, err, "not done: the audit log cannot be written (%s)", err_text(err));
    return false;
}

void api_audit_end(struct api_request *r)
{
    if (!r->audit)
        return;
    const char *outcome = r->outcome                 ? r->outcome
                          : r->status == MHD_HTTP_OK ? STORE_AUDIT_DONE
                                                     : STORE_AUDIT_FAILED;
    int err = store_audit_end(r->api->options.store, r->audit, api_now().wall, outcome,
                              bytes_cstr(r->detail));
    if (err)
        tell_unwritten(r, err);
    r->audit = 0;
}

void api_audit_add(struct api_request *r, const char *outcome, struct bytes detail)
{
    struct store_who who;
    struct store_op op = api_audit_op(r, &who);
    trim(r);
    int err = store_audit_add(r->api->options.store, &op, outcome, detail);
    if (err)
        tell_unwritten(r, err);
}

void api_audit_refused(struct api_request *r, const char *method, const char *path)
{
    uint64_t passed;
    if (!api_refusals_take(&r->api->refusals, r->caller.uid, api_now().mono, &passed))
        return;
    char detail[256];
    int n = snprintf(detail, sizeof detail, "%.10s %.100s", method, path);
    if (passed && n > 0 && (size_t)n < sizeof detail)
        snprintf(detail + n, sizeof detail - (size_t)n, "; %llu more before were not recorded",
                 (unsigned long long)passed);
    api_audit_add(r, STORE_AUDIT_REFUSED, bytes_cstr(detail));
}

// What came of it, in a few words: the numbers of the answer, or its error.
void api_audit_note(struct api_request *r, struct json_object *object)
{
    static const char *const NUMBERS[] = {"matched", "changed", "added", "unchanged", "removed"};
    struct json_object *value = NULL;
    size_t at = 0;
    if (json_object_object_get_ex(object, "error", &value)) {
        snprintf(r->detail, sizeof r->detail, "%.400s", json_object_get_string(value));
        return;
    }
    r->detail[0] = 0;
    for (size_t i = 0; i < COUNT_OF(NUMBERS) && at < sizeof r->detail; i++)
        if (json_object_object_get_ex(object, NUMBERS[i], &value) &&
            json_object_is_type(value, json_type_int))
            at +=
                (size_t)snprintf(r->detail + at, sizeof r->detail - at, "%s%s %llu", at ? ", " : "",
                                 NUMBERS[i], (unsigned long long)json_object_get_uint64(value));
}
