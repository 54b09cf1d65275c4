// SPDX-License-Identifier: MIT
//
// api_private - a request on its way through the handlers
#pragma once

#include <json-c/json.h>
#include <microhttpd.h>

#include "api/api.h"
#include "api/api_access.h"
#include "base/json.h"
#include "base/list.h"

#define API_BODY_MAX ((size_t)1 << 20)
#define API_PAGE 1000

struct api {
    struct api_options options;
    struct MHD_Daemon *control, *http;
    int control_fd;
    char control_path[108];
    struct sys_loop *checks;        // where checks of domains wait for the DNS
    struct conf_snapshot *snapshot; // the current; main loop only
    struct list works;              // struct api_work; main loop only
    atomic_int waiting;             // suspended requests
    atomic_int open;                // requests begun and not yet answered to the last byte
    atomic_bool stopping;
    struct queue_now started;
    _Atomic(struct api_policy_kept *) policy;
    // control thread
    struct api_refusals refusals;
    struct mono trimmed_at; // the audit log
    int strangers;          // connected
};

struct api_policy_kept {
    struct api_policy policy;
    struct api_policy_kept *before;
};
// The one that holds now; stays what it is as long as the API lives.
const struct api_policy *api_policy_of(struct api *api);

// One request on the control socket, from its first byte to its answer.
struct api_request {
    struct api *api;
    struct MHD_Connection *connection;
    struct buf body;
    struct json_object *args; // the parsed body; NULL: none
    int fd;                   // of its connection, open until it is answered
    struct api_caller caller;
    struct bytes actor;        // the caller's
    const struct api_row *row; // NULL: there is no such request
    int64_t audit;             // the number of its row in the audit log; 0: it has none
    const char *outcome;       // for that; NULL: by the status
    char detail[512];          // for that
    unsigned status;           // HTTP; 0: not answered yet
    struct buf answer;
    bool started, suspended, counted; // counted: in api->waiting
    struct sys_task task;             // for work on the main loop
    void (*finish)(struct api_request
                       *r); // on the control thread, once resumed; may be NULL, may suspend again
    void *own;              // the handler's
};

// A query parameter, or NULL.
const char *api_argument(const struct api_request *r, const char *name);
struct bytes api_text(const struct api_request *r, const char *name); // empty: none
// Answers with an object (taken over), one object a line from `answer`, or an error that says what is wrong.
void api_reply(struct api_request *r, struct json_object *object);
void api_reply_error(struct api_request *r, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// The request goes to the main loop: run() there must end in api_resume().
void api_to_main(struct api_request *r, void (*run)(struct sys_task *task));
void api_resume(struct api_request *r);
// For what answers by api_resume() from elsewhere.
void api_suspend(struct api_request *r);

// Both clocks, on the control thread.
struct queue_now api_now(void);

// What is looked for in the history, from the query; what it borrows lives in `arena`. The times are read by
// api_take_times(): "", or what is wrong with them.
void api_take_filter(struct api_request *r, struct history_filter *out, struct arena *arena);
const char *api_take_times(struct api_request *r, struct history_filter *out);
// Why it failed or was deferred; nulls where it did not.
void api_add_class(struct json_object *to, struct bounce_class class);
// What came back.
struct json_object *api_feedback(const struct history_event *e);

// Values for JSON.
struct json_object *api_json_text(struct bytes text);
struct json_object *api_json_id(struct message_id id);
// An object as one line of `answer`; takes it over.
void api_add_line(struct api_request *r, struct json_object *object);
// The last line of a page of the queue: where the next begins, unless `cursor` is UINT64_MAX.
void api_add_next(struct api_request *r, uint64_t cursor);
// "id" of the query, or an error is answered.
bool api_take_id(struct api_request *r, struct message_id *out);

// Work of a request that takes long: told by GET /v1/work while it lasts. Main loop; done and of are also counted
// elsewhere.
struct api_work {
    struct list link;
    struct api_request *request;
    const char *unit; // "messages"
    struct wall began;
    _Atomic uint64_t done, of; // of 0: not known
    uint64_t changed;
};
void api_work_begin(struct api_work *work, struct api_request *r, const char *unit);
void api_work_end(struct api_work *work);
// Nobody waits for the answer any more. Any thread, while the request is suspended.
bool api_client_is_gone(const struct api_request *r);

// The store has changed: the request is suspended until every session goes by it.
void api_tell_change(struct api_request *r);

// The audit log: a row before an action, false: answered instead; its end before the answer; a row that is whole at
// once; one for what is refused; what came of it, from the answer.
bool api_audit_begin(struct api_request *r);
void api_audit_end(struct api_request *r);
void api_audit_add(struct api_request *r, const char *outcome, struct bytes detail);
void api_audit_refused(struct api_request *r, const char *method, const char *path);
void api_audit_note(struct api_request *r, struct json_object *object);
// What is asked, as an operation of the store; `who` must outlive it.
struct store_op api_audit_op(const struct api_request *r, struct store_who *who);

// What `message show` prints, or as much of it as there is; json_object_put(). As history_show().
int api_message_object(struct api_request *r, struct message_id id,
                       struct json_object **out) MUST_USE;

// Handlers.
void api_store_post(struct api_request *r);
void api_domain_check_get(struct api_request *r);
void api_dkim_post(struct api_request *r);
void api_message_get(struct api_request *r);
void api_messages_get(struct api_request *r);
void api_why_get(struct api_request *r);
void api_queue_get(struct api_request *r);
void api_mailq_get(struct api_request *r);
void api_lanes_get(struct api_request *r);
void api_holds_get(struct api_request *r);
void api_queue_post(struct api_request *r);
void api_events_get(struct api_request *r);
void api_history_get(struct api_request *r);
void api_trace_get(struct api_request *r);
void api_traces_get(struct api_request *r);
void api_trace_post(struct api_request *r);
void api_backup_post(struct api_request *r);
void api_service_get(struct api_request *r);
void api_work_get(struct api_request *r);
void api_alerts_get(struct api_request *r);
void api_reload_post(struct api_request *r);
void api_upgrade_post(struct api_request *r);
void api_suppress_post(struct api_request *r);
void api_metrics(struct api *api, struct buf *out);
bool api_is_ready(struct api *api, struct buf *out_why);
