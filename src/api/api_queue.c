// SPDX-License-Identifier: MIT
//
// How it works: questions (list, lanes, why) are asked of the queue at once. An action runs on the main loop: it
// leases what matches, a message at a time, records the change, and settles when the record is flushed, until
// nothing more matches; so it is durable when it is answered, and what it changes others see at once.
#include <stdlib.h>

#include "api/api_private.h"
#include "deliver/batch_load.h"
#include "deliver/report.h"
#include "mail/mail_address.h"
#include "store/store_audit.h"
#include "store/suppress.h"

#define IN_FLIGHT_MAX 64    // leased batches whose records are not flushed yet
#define LOADING_LOOK_MS 50  // while the queue is being loaded after a start
#define REPORT_LOOK_MS 5    // between two looks whether the last reports are flushed
#define RECORDS_MAX 100     // in one frame
#define FOUND_MAX 1000000   // messages in the history that are looked at for it
#define SELECTED_MAX 100000 // recipients that --recipient can select

// ---- questions -------------------------------------------------------------------------------------------

static bool take_filter(struct api_request *r, const char *id, const char *domain,
                        const char *account, struct buf *domain_buf, struct queue_filter *out)
{
    *out = (struct queue_filter){.by = QUEUE_SELECT_ALL};
    if (id) {
        out->by = QUEUE_SELECT_ID;
        if (message_id_parse(bytes_cstr(id), &out->id) == OK)
            return true;
        api_reply_error(r, E_NOT_FOUND, "no message has the id \"%.60s\"", id);
        return false;
    }
    if (domain) {
        out->by = QUEUE_SELECT_DOMAIN;
        if (mail_domain_route(bytes_cstr(domain), domain_buf) == OK) {
            out->domain = buf_bytes(domain_buf);
            return true;
        }
        api_reply_error(r, E_SYNTAX, "\"%.255s\" is no domain", domain);
        return false;
    }
    if (account) {
        struct store_directory *directory = NULL;
        out->by = QUEUE_SELECT_ACCOUNT;
        if (store_directory_load(r->api->options.store, &directory) == OK) {
            const struct store_account *found =
                store_directory_account(directory, bytes_cstr(account));
            out->account = found ? found->number : 0;
        }
        store_directory_free(directory);
        if (out->account)
            return true;
        api_reply_error(r, E_NOT_FOUND, "there is no account \"%.100s\"", account);
        return false;
    }
    return true;
}

static struct json_object *queue_row_json(const struct queue_row *row,
                                          const struct store_directory *directory)
{
    const struct store_account *account = store_directory_account_number(directory, row->account);
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "id", api_json_id(row->id));
    json_object_object_add(o, "account", account ? api_json_text(account->name) : NULL);
    json_object_object_add(o, "class", json_object_new_string(mail_class_name(row->class)));
    json_object_object_add(o, "domain", api_json_text(bytes_cstr(row->domain)));
    json_object_object_add(o, "state", json_object_new_string(queue_state_name(row->state)));
    json_object_object_add(o, "recipients", json_object_new_int64(row->recipients));
    json_object_object_add(o, "attempts", json_object_new_int64(row->attempts));
    json_add_time(o, "next_attempt_at", row->next_attempt_at);
    json_object_object_add(o, "size", json_object_new_uint64(row->size));
    return o;
}

// One page; its last line is {"next": CURSOR} while there is more.
void api_queue_get(struct api_request *r)
{
    struct queue_filter filter;
    struct buf domain = {0};
    uint64_t cursor = 0;
    struct bytes text = bytes_cstr(api_argument(r, "cursor"));
    if (text.len && bytes_to_u64(text, UINT64_MAX, &cursor) != OK) {
        api_reply_error(r, E_SYNTAX, "cursor must be what the last page ended with");
        return;
    }
    if (!take_filter(r, api_argument(r, "id"), api_argument(r, "domain"),
                     api_argument(r, "account"), &domain, &filter)) {
        buf_done(&domain);
        return;
    }
    struct store_directory *directory;
    if (store_directory_load(r->api->options.store, &directory) != OK)
        directory = store_directory_empty();
    struct queue_row *rows = mem_new(API_PAGE * sizeof *rows);
    size_t total = 0;
    while (total == 0 && cursor != UINT64_MAX) {
        total =
            queue_list(r->api->options.port->queue, &filter, &cursor, api_now(), rows, API_PAGE);
        for (size_t i = 0; i < total; i++)
            api_add_line(r, queue_row_json(&rows[i], directory));
    }
    api_add_next(r, cursor);
    r->status = MHD_HTTP_OK;
    free(rows);
    store_directory_free(directory);
    buf_done(&domain);
}

static void add_remote_limit(struct json_object *to, const char *name, uint32_t value)
{
    json_object_object_add(to, name, value ? json_object_new_int64(value) : NULL);
}

// What the server spoken to last said that it takes; null: nothing.
static struct json_object *remote_json(const struct queue_remote *remote)
{
    if (!remote->messages_per_connection && !remote->recipients_per_transaction &&
        !remote->domains_per_connection)
        return NULL;
    struct json_object *o = json_object_new_object();
    add_remote_limit(o, "messages_per_connection", remote->messages_per_connection);
    add_remote_limit(o, "recipients_per_transaction", remote->recipients_per_transaction);
    add_remote_limit(o, "domains_per_connection", remote->domains_per_connection);
    return o;
}

void api_lanes_get(struct api_request *r)
{
    struct queue_lane_row rows[16];
    queue_look_for_oldest(r->api->options.port->queue, api_now());
    uint64_t cursor = 0;
    size_t count;
    do {
        count = queue_lanes(r->api->options.port->queue, &cursor, api_now(), rows, COUNT_OF(rows));
        for (size_t i = 0; i < count; i++) {
            const struct queue_lane_row *row = &rows[i];
            struct json_object *o = json_object_new_object();
            json_object_object_add(o, "lane", api_json_text(bytes_cstr(row->name)));
            json_object_object_add(o, "ready", json_object_new_uint64(row->ready));
            json_add_time(o, "oldest_at", row->oldest_at);
            json_object_object_add(o, "connections", json_object_new_int64(row->connections));
            json_object_object_add(o, "connecting", json_object_new_int64(row->connecting));
            json_object_object_add(o, "busy", json_object_new_int64(row->busy));
            json_object_object_add(o, "connections_max",
                                   json_object_new_int64(row->connections_max));
            json_object_object_add(o, "hour_used", json_object_new_uint64(row->hour_used));
            json_object_object_add(o, "day_used", json_object_new_uint64(row->day_used));
            json_object_object_add(o, "remote_limits", remote_json(&row->remote));
            json_add_time(o, "backoff_until", row->backoff_until);
            json_object_object_add(o, "text",
                                   row->text[0] ? api_json_text(bytes_cstr(row->text)) : NULL);
            api_add_line(r, o);
        }
    } while (count > 0);
    r->status = MHD_HTTP_OK;
}

static struct json_object *hold_json(const struct queue_hold_row *row,
                                     const struct store_directory *directory)
{
    static const char *const scopes[] = {[QUEUE_SELECT_ALL] = "all",
                                         [QUEUE_SELECT_DOMAIN] = "domain",
                                         [QUEUE_SELECT_ACCOUNT] = "account"};
    const struct store_account *account = store_directory_account_number(directory, row->account);
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "scope",
                           json_object_new_string(row->restored ? "backup" : scopes[row->by]));
    json_object_object_add(o, "domain",
                           row->domain[0] ? api_json_text(bytes_cstr(row->domain)) : NULL);
    json_object_object_add(o, "account", account ? api_json_text(account->name) : NULL);
    json_add_time(o, "since", row->since);
    json_object_object_add(o, "actor", row->who[0] ? api_json_text(bytes_cstr(row->who)) : NULL);
    json_object_object_add(o, "reason", row->why[0] ? api_json_text(bytes_cstr(row->why)) : NULL);
    json_object_object_add(o, "messages", json_object_new_uint64(row->messages));
    json_object_object_add(o, "recipients", json_object_new_uint64(row->recipients));
    return o;
}

void api_holds_get(struct api_request *r)
{
    struct queue_hold_row rows[16];
    struct queue *queue = r->api->options.port->queue;
    struct store_directory *directory;
    uint64_t counted = 0, cursor = 0;
    size_t count;
    if (store_directory_load(r->api->options.store, &directory) != OK)
        directory = store_directory_empty();
    while (queue_count_held(queue, &counted))
        ;
    do {
        count = queue_holds(queue, &cursor, rows, COUNT_OF(rows));
        for (size_t i = 0; i < count; i++)
            api_add_line(r, hold_json(&rows[i], directory));
    } while (count > 0);
    r->status = MHD_HTTP_OK;
    store_directory_free(directory);
}

// ---- actions -----------------------------------------------------------------------------------------------

enum action { ACTION_HOLD, ACTION_RELEASE, ACTION_RETRY, ACTION_BOUNCE, ACTION_DELETE, ACTIONS };

static const struct action_row {
    const char *name;
    enum queue_outcome outcome;
    enum recipient_state state;
    enum spool_event event;
    bool recorded; // RETRY changes no state
} ACTION_ROWS[ACTIONS] = {
    [ACTION_HOLD] = {"hold", QUEUE_HELD, RECIPIENT_HELD, SPOOL_EVENT_HELD, true},
    [ACTION_RELEASE] = {"release", QUEUE_RELEASED, RECIPIENT_QUEUED, SPOOL_EVENT_RELEASED, true},
    [ACTION_RETRY] = {"retry", QUEUE_RETRIED, RECIPIENT_QUEUED, SPOOL_EVENT_RELEASED, false},
    [ACTION_BOUNCE] = {"bounce", QUEUE_DONE, RECIPIENT_FAILED, SPOOL_EVENT_BOUNCED, true},
    [ACTION_DELETE] = {"delete", QUEUE_DONE, RECIPIENT_REMOVED, SPOOL_EVENT_REMOVED, true},
};

struct selected {
    struct message_id id;
    uint32_t number;
};

struct act {
    struct api_request *request;
    enum action action;
    bool dry_run, released_hold;
    struct queue_filter filter;
    struct buf domain;
    struct bytes reason;       // the operator's, or the action's name
    struct selected *selected; // by recipient address; NULL: the filter alone
    size_t selected_count, selected_next;
    uint64_t cursor;
    bool no_more;
    uint64_t matched, changed;
    struct api_work work;
    bool stopped; // who asked is gone
    int err;      // the last of what could not be recorded
    uint32_t in_flight;
    bool posted;              // on_more() is on its way
    bool going;               // in act_claim(): what is answered at once must not enter it again
    struct reporter reporter; // BOUNCE
    struct conf_snapshot *snapshot; // the reporter's
    struct sys_timer look;          // while reports are being flushed
};

struct act_batch {
    struct act *act;
    struct queue_batch *batch;
    struct batch_load load;
};

static void act_go_on(struct act *a);

static struct intake_port *port_of(struct act *a)
{
    return a->request->api->options.port;
}

static void settle(struct act_batch *b)
{
    struct act *a = b->act;
    uint64_t kicks = 0;
    struct queue_result *results = mem_new(b->batch->count * sizeof *results);
    for (uint32_t i = 0; i < b->batch->count; i++)
        results[i].outcome =
            b->batch->recipients[i].covered ? QUEUE_EXEMPTED : ACTION_ROWS[a->action].outcome;
    a->changed += b->batch->count;
    queue_settle(port_of(a)->queue, b->batch, results, acceptance_now(), &kicks);
    port_of(a)->kick(port_of(a)->kick_ctx, kicks);
    free(results);
    a->in_flight--;
    free(b);
}

static void on_recorded(void *ctx, int err)
{
    struct act_batch *b = ctx;
    struct act *a = b->act;
    if (err) {
        log_warn("action not recorded", LOG_ERR(err));
        a->err = err;
    }
    settle(b);
    act_go_on(a);
}

static void record(struct act_batch *b)
{
    struct act *a = b->act;
    const struct action_row *row = &ACTION_ROWS[a->action];
    struct spool_frame *frame = spool_frame_new(SPOOL_OUTCOME);
    for (uint32_t i = 0; i < b->batch->count; i++) {
        struct spool_outcome outcome = {
            .id = b->batch->id,
            .recipient = b->batch->recipients[i].number,
            .state = row->state,
            .event = row->event,
            .attempts = b->batch->recipients[i].attempts,
            .next_attempt_at = b->batch->recipients[i].next_attempt_at,
            .exempt = b->batch->recipients[i].covered,
            .at = sys_wall(),
            .actor = a->request->actor,
            .reason = a->reason,
        };
        spool_frame_add_outcome(frame, &outcome);
        if ((i + 1) % RECORDS_MAX == 0 && i + 1 < b->batch->count) {
            spool_commit(port_of(a)->spool, frame, NULL, NULL);
            frame = spool_frame_new(SPOOL_OUTCOME);
        }
    }
    spool_commit(port_of(a)->spool, frame, on_recorded, b);
}

static const char *text_of(struct api_request *r, const char *name)
{
    struct json_object *value = NULL;
    json_object_object_get_ex(r->args, name, &value);
    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

// A bounce is a failure that the operator declares: recorded and reported as his.
static void on_loaded(struct batch_load *load, struct stored_message *message)
{
    struct act_batch *b = container_of(load, struct act_batch, load);
    struct act *a = b->act;
    if (message) {
        const struct report_facts facts = {.actor = a->request->actor, .reason = a->reason};
        struct verdict *verdicts = mem_new(b->batch->count * sizeof *verdicts);
        for (uint32_t i = 0; i < b->batch->count; i++)
            verdicts[i] = verdict_of_return(bytes_cstr(text_of(a->request, "reason")));
        a->changed += b->batch->count;
        report_batch(&a->reporter, b->batch, message, verdicts, &facts);
        stored_message_unref(message);
        free(verdicts);
    }
    a->in_flight--;
    free(b);
    act_go_on(a);
}

static void act_on(struct act *a, struct queue_batch *batch)
{
    struct act_batch *b = mem_new(sizeof *b);
    b->act = a;
    b->batch = batch;
    a->in_flight++;
    if (a->action == ACTION_BOUNCE) {
        b->load = (struct batch_load){
            .port = port_of(a), .batch = batch, .done = on_loaded, .claimed = true};
        batch_load_start(&b->load);
    } else if (ACTION_ROWS[a->action].recorded) {
        record(b);
    } else {
        settle(b);
    }
}

static void act_finish(struct act *a)
{
    struct api_request *r = a->request;
    struct json_object *o = json_object_new_object();
    a->changed -= a->reporter.put_off;
    a->err = a->reporter.put_off ? E_FULL : a->err;
    api_work_end(&a->work);
    if (a->stopped)
        r->outcome = STORE_AUDIT_STOPPED;
    json_object_object_add(o, "matched", json_object_new_uint64(a->matched));
    json_object_object_add(o, "changed", json_object_new_uint64(a->changed));
    json_object_object_add(o, "dry_run", json_object_new_boolean(a->dry_run));
    log_info("operator", LOG_STR("actor", r->actor),
             LOG_CSTR("action", ACTION_ROWS[a->action].name), LOG_INT("matched", a->matched),
             LOG_INT("changed", a->changed), LOG_INT("dry_run", a->dry_run),
             LOG_INT("stopped", a->stopped));
    if (a->err) {
        json_object_put(o);
        api_reply_error(r, a->err, "not all of it was recorded, and what was not will not last: %s",
                        err_text(a->err));
    } else {
        api_reply(r, o);
    }
    conf_snapshot_release(a->snapshot);
    free(a->selected);
    buf_done(&a->domain);
    free(a);
    api_resume(r);
}

// The next part of what is to be searched: the filter itself, or the next selected recipient.
static bool next_search(struct act *a)
{
    if (!a->selected || a->selected_next == a->selected_count)
        return false;
    a->filter = (struct queue_filter){.by = QUEUE_SELECT_ID,
                                      .id = a->selected[a->selected_next].id,
                                      .recipient = a->selected[a->selected_next].number,
                                      .held_only = a->filter.held_only,
                                      .unheld_only = a->filter.unheld_only,
                                      .covered = a->filter.covered};
    a->selected_next++;
    a->cursor = 0;
    return true;
}

static void on_more(struct sys_task *task);

static void on_look(struct sys_timer *timer)
{
    act_go_on(container_of(timer, struct act, look));
}

// How far the search is. A client that left wants no more: what is claimed comes to its end, the rest stays as it is.
static void look_around(struct act *a)
{
    atomic_store(&a->work.done, a->selected ? a->selected_next : a->cursor);
    atomic_store(&a->work.of, a->selected ? a->selected_count : queue_scan_end(port_of(a)->queue));
    a->work.changed = a->changed;
    if (!a->no_more && api_client_is_gone(a->request))
        a->stopped = a->no_more = true;
}

// Claims until enough is under way. True: others on this loop first.
static bool act_claim(struct act *a)
{
    look_around(a);
    for (int steps = 0; !a->no_more && a->in_flight < IN_FLIGHT_MAX; steps++) {
        if (steps == IN_FLIGHT_MAX)
            return true;
        struct queue_batch *batch = NULL;
        bool more = a->dry_run ? queue_match(port_of(a)->queue, &a->filter, &a->cursor, &a->matched)
                               : queue_claim(port_of(a)->queue, &a->filter, &a->cursor,
                                             acceptance_now(), &batch);
        if (batch) {
            a->matched += batch->count;
            act_on(a, batch);
        }
        if (!more && !next_search(a))
            a->no_more = true;
    }
    return false;
}

static void act_go_on(struct act *a)
{
    if (a->going || a->posted)
        return; // a batch was answered at once, and the loop above goes on; or on_more() does
    a->going = true;
    bool later = act_claim(a);
    a->going = false;
    if (later) {
        a->posted = true;
        a->request->task.run = on_more;
        sys_post(a->request->api->options.main, &a->request->task);
    } else if (a->no_more && a->in_flight == 0 && a->reporter.open == 0) {
        act_finish(a);
    } else if (a->no_more && a->in_flight == 0) { // reports are being flushed
        a->look.fire = on_look;
        sys_timer_set(&a->look, mono_add_ms(sys_mono(), REPORT_LOOK_MS));
    }
}

static struct act *act_of(struct api_request *r)
{
    struct act *a;
    memcpy(&a, r->body.at, sizeof a); // the body has been parsed; its memory carries the action
    return a;
}

static void on_more(struct sys_task *task)
{
    struct act *a = act_of(container_of(task, struct api_request, task));
    a->posted = false;
    act_go_on(a);
}

static void on_rule_kept(void *ctx, int err)
{
    struct act *a = ctx;
    if (err) {
        log_warn("rule for mail to come not recorded", LOG_ERR(err));
        a->err = err;
    }
    a->in_flight--;
    act_go_on(a);
}

// It is answered once the rule would last.
static void keep_rule(struct act *a, const struct queue_note *note)
{
    struct spool_frame *frame = spool_frame_new(SPOOL_OUTCOME);
    spool_frame_add_note(frame, bytes_cstr(note->name), bytes_of(note->value, note->value_len));
    a->in_flight++;
    spool_commit(port_of(a)->spool, frame, on_rule_kept, a);
}

static void set_rules(struct act *a)
{
    if ((a->action != ACTION_HOLD && a->action != ACTION_RELEASE) || a->dry_run || a->selected)
        return;
    bool on = a->action == ACTION_HOLD;
    const struct queue_hold_facts facts = {sys_wall(), a->request->actor,
                                           bytes_cstr(text_of(a->request, "reason"))};
    struct queue *q = port_of(a)->queue;
    struct queue_note note = {.name = ""};
    uint64_t kicks = 0;
    if (a->filter.by == QUEUE_SELECT_DOMAIN)
        queue_hold_domain(q, a->filter.domain, on, &facts, &note, &kicks);
    else if (a->filter.by == QUEUE_SELECT_ACCOUNT)
        queue_hold_account(q, a->filter.account, on, &facts, &note, &kicks);
    else if (a->filter.by == QUEUE_SELECT_ALL)
        queue_hold_all(q, on, &facts, &note, &kicks);
    if (note.name[0])
        keep_rule(a, &note);
    port_of(a)->kick(port_of(a)->kick_ctx, kicks);
}

static void on_act(struct sys_task *task);

static void on_loading(struct sys_timer *timer)
{
    on_act(&container_of(timer, struct act, look)->request->task);
}

static void on_act(struct sys_task *task)
{
    struct act *a = act_of(container_of(task, struct api_request, task));
    if (spool_is_telling(port_of(a)->spool)) { // or it would miss what is not in the queue yet
        a->look.fire = on_loading;
        sys_timer_set(&a->look, mono_add_ms(sys_mono(), LOADING_LOOK_MS));
        return;
    }
    a->snapshot = conf_snapshot_hold(a->request->api->snapshot); // a reload may replace it
    a->reporter = (struct reporter){.port = port_of(a), .snapshot = a->snapshot};
    api_work_begin(&a->work, a->request, "messages");
    set_rules(a);
    // What ends mail is not for mail to come, least of all for the notifications that it makes.
    if (a->action == ACTION_BOUNCE || a->action == ACTION_DELETE)
        a->filter.made_before = spool_next_id(port_of(a)->spool, acceptance_now().wall);
    if (a->selected && !next_search(a))
        a->no_more = true;
    act_go_on(a);
}

// ---- taking an action in -----------------------------------------------------------------------------------

struct selection {
    struct act *act;
    struct bytes address;
    struct message_id id;
};

static void on_selected_message(void *ctx, const struct history_message *m)
{
    (void)ctx;
    (void)m;
}

static void on_selected_event(void *ctx, const struct history_event *e)
{
    struct selection *s = ctx;
    struct act *a = s->act;
    if (e->type == SPOOL_EVENT_ACCEPTED && bytes_eq_nocase(e->address, s->address) &&
        a->selected_count < SELECTED_MAX)
        a->selected[a->selected_count++] = (struct selected){s->id, e->recipient};
}

struct ids {
    struct queue *queue;
    struct message_id *at; // SELECTED_MAX
    size_t count;
};

// Of all the mail that address ever got, what is still queued.
static void on_id(void *ctx, struct message_id id)
{
    struct ids *ids = ctx;
    struct queue_filter one = {.by = QUEUE_SELECT_ID, .id = id};
    uint64_t cursor = 0, matched = 0;
    while (queue_match(ids->queue, &one, &cursor, &matched))
        ;
    if (matched && ids->count < SELECTED_MAX)
        ids->at[ids->count++] = id;
}

// Addresses are not in memory: the history knows which messages had this recipient.
static int select_by_address(struct act *a, struct bytes address)
{
    struct history *h = a->request->api->options.history;
    struct history_filter filter = {.recipient = address};
    struct ids ids = {port_of(a)->queue, mem_new(SELECTED_MAX * sizeof *ids.at), 0};
    a->selected = mem_new(SELECTED_MAX * sizeof *a->selected);
    int err = history_wait(h); // what it lacks would be left out without a word
    if (!err)
        err = history_find(h, &filter, FOUND_MAX, on_id, &ids);
    struct history_asking *asking = history_begin(h);
    for (size_t i = 0; i < ids.count && !err; i++) {
        struct selection s = {a, address, ids.at[i]};
        struct history_reader reader = {&s, on_selected_message, on_selected_event};
        err = history_show_next(asking, ids.at[i], &reader);
        err = err == E_NOT_FOUND ? OK : err; // forgotten meanwhile
    }
    history_end(asking);
    free(ids.at);
    return err;
}

static bool flag_of(struct api_request *r, const char *name)
{
    struct json_object *value = NULL;
    json_object_object_get_ex(r->args, name, &value);
    return json_object_get_boolean(value);
}

static bool take_action(struct api_request *r, enum action *out)
{
    const char *name = text_of(r, "action");
    for (int i = 0; name && i < ACTIONS; i++)
        if (strcmp(name, ACTION_ROWS[i].name) == 0) {
            *out = (enum action)i;
            return true;
        }
    api_reply_error(r, E_SYNTAX, "action must be hold, release, retry, bounce or delete");
    return false;
}

// It is shown in many places, and to the senders of what is bounced.
static bool is_one_line(struct bytes reason)
{
    for (size_t i = 0; i < reason.len; i++)
        if ((unsigned char)reason.at[i] < 0x20 || reason.at[i] == 0x7f)
            return false;
    return reason.len <= QUEUE_HOLD_WHY_MAX;
}

void api_queue_post(struct api_request *r)
{
    enum action action;
    if (!take_action(r, &action))
        return;
    const char *id = text_of(r, "id"), *domain = text_of(r, "domain"),
               *account = text_of(r, "account"), *recipient = text_of(r, "recipient");
    if (!!id + !!domain + !!account + !!recipient + flag_of(r, "all") != 1) {
        api_reply_error(r, E_SYNTAX, "name exactly one of id, domain, account, recipient and all");
        return;
    }
    const char *reason = text_of(r, "reason");
    if (reason && !is_one_line(bytes_cstr(reason))) {
        api_reply_error(r, E_SYNTAX, "the reason must be one line of at most %d bytes",
                        QUEUE_HOLD_WHY_MAX);
        return;
    }
    struct act *a = mem_new(sizeof *a);
    a->request = r;
    a->action = action;
    a->reason = bytes_cstr(reason && reason[0] ? reason : ACTION_ROWS[action].name);
    a->dry_run = strcmp(r->row->op, "dry-run") == 0; // who may only look has come by that row
    bool ok = take_filter(r, id, domain, account, &a->domain, &a->filter);
    if (ok && recipient && select_by_address(a, bytes_cstr(recipient)) != OK) {
        api_reply_error(r, E_IO, "history not readable, or not up to date; try again");
        ok = false;
    }
    if (ok && action == ACTION_RELEASE && id && !a->dry_run &&
        spool_is_on_hold(r->api->options.port->spool)) {
        api_reply_error(r, E_EXISTS,
                        "not released: all mail of a restored backup is held until "
                        "`posthaste queue release --all`");
        ok = false;
    }
    if (ok && action == ACTION_RELEASE && flag_of(r, "all") && !a->dry_run &&
        spool_release_hold(r->api->options.port->spool) != OK) {
        api_reply_error(r, E_IO, "the mark of a restored backup cannot be removed from the spool");
        ok = false;
    }
    if (!ok) {
        free(a->selected);
        buf_done(&a->domain);
        free(a);
        return;
    }
    a->filter.unheld_only =
        action == ACTION_HOLD || action == ACTION_RETRY; // what is held stays so
    a->filter.held_only = action == ACTION_RELEASE;
    a->filter.covered = &a->matched; // which stay held
    a->filter.through = action == ACTION_RELEASE && id;
    buf_clear(&r->body);
    buf_add(&r->body, bytes_of(&a, sizeof a));
    api_to_main(r, on_act);
}

// ---- backup --------------------------------------------------------------------------------------------------

#define BACKUP_LOOK_MS 200

struct backup_work {
    struct api_work work;
    struct spool_backup_watch watch;
    struct sys_timer look;
};

static void on_backup_look(struct sys_timer *timer)
{
    struct backup_work *b = container_of(timer, struct backup_work, look);
    atomic_store(&b->work.done, atomic_load(&b->watch.copied));
    atomic_store(&b->work.of, atomic_load(&b->watch.size));
    if (api_client_is_gone(b->work.request))
        atomic_store(&b->watch.stop, true);
    sys_timer_set(&b->look, mono_add_ms(sys_mono(), BACKUP_LOOK_MS));
}

// On the control thread again. The accounts come last: no message of the copy belongs to an account it lacks.
static void copy_accounts(struct api_request *r)
{
    struct buf path = {0};
    const char *to = text_of(r, "to");
    if (r->status != MHD_HTTP_OK)
        return; // another copy has failed
    buf_printf(&path, "%s/accounts.db", to);
    int err = store_copy(r->api->options.store, buf_cstr(&path));
    buf_done(&path);
    if (err) {
        api_reply_error(r, err, "accounts not copied to %.400s: %s", to, err_text(err));
        return;
    }
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "backup", json_object_new_string(to));
    api_reply(r, o);
}

static void on_list_copied(void *ctx, int err)
{
    struct api_request *r = ctx;
    r->status = MHD_HTTP_OK;
    if (err)
        api_reply_error(r, err, "the suppression list is not copied to %.400s: %s",
                        text_of(r, "to"), err_text(err));
    api_resume(r);
}

// The list behind the spool: what it then has read of the journal beyond the copy's end it has in it, too.
static void on_backed_up(void *ctx, int err)
{
    struct api_request *r = ctx;
    struct suppress *suppress = r->api->options.port->suppress;
    struct backup_work *b = r->own;
    struct buf path = {0};
    r->status = MHD_HTTP_OK;
    sys_timer_stop(&b->look);
    api_work_end(&b->work);
    if (atomic_load(&b->watch.stop))
        r->outcome = STORE_AUDIT_STOPPED;
    free(b);
    if (err) {
        api_reply_error(r, err, "the spool is not copied to %.400s: %s", text_of(r, "to"),
                        err_text(err));
        api_resume(r);
        return;
    }
    buf_printf(&path, "%s/suppressions.db", text_of(r, "to"));
    suppress_copy(suppress, buf_cstr(&path), on_list_copied, r);
    buf_done(&path);
}

static void on_backup(struct sys_task *task)
{
    struct api_request *r = container_of(task, struct api_request, task);
    struct buf path = {0};
    struct backup_work *b = r->own = mem_new(sizeof *b);
    api_work_begin(&b->work, r, "bytes");
    b->look.fire = on_backup_look;
    sys_timer_set(&b->look, mono_add_ms(sys_mono(), BACKUP_LOOK_MS));
    buf_printf(&path, "%s/spool", text_of(r, "to"));
    spool_backup(r->api->options.port->spool, buf_cstr(&path), &b->watch, on_backed_up, r);
    buf_done(&path);
}

void api_backup_post(struct api_request *r)
{
    const char *to = text_of(r, "to");
    if (!to || to[0] != '/') {
        api_reply_error(r, E_SYNTAX,
                        "\"to\" must be an absolute path of a folder that is new or empty");
        return;
    }
    r->finish = copy_accounts;
    api_to_main(r, on_backup);
}
