// SPDX-License-Identifier: MIT
//
// How it works: what happened to a message is folded from its events (law 8); only what has not been copied to the
// history yet, and the time of the next attempt, comes from the queue.
#include <stdio.h>
#include <stdlib.h>

#include "api/api_private.h"
#include "mail/mail_address.h"
#include "mail/preflight.h"

struct bytes api_text(const struct api_request *r, const char *name)
{
    return bytes_cstr(api_argument(r, name));
}

// ---- show --------------------------------------------------------------------------------------------------

struct shown_recipient {
    uint32_t number;
    struct json_object *object;
    enum recipient_state state;
};
struct show {
    struct api_request *request;
    struct message_id id;
    struct json_object *object, *recipients;
    struct shown_recipient *rows;
    size_t count, cap;
};

// "ID WHERE", as intake has noted it.
static struct json_object *finding_of(struct bytes noted)
{
    struct json_object *o = json_object_new_object();
    struct bytes name;
    enum preflight_id id;
    bytes_cut(&noted, ' ', &name);
    bool known = preflight_find(name, &id) == OK;
    const struct preflight_row *row = known ? preflight_row(id) : NULL;
    json_object_object_add(o, "id", api_json_text(name));
    json_object_object_add(
        o, "severity", row ? json_object_new_string(preflight_severity_name(row->severity)) : NULL);
    json_object_object_add(o, "where", api_json_text(noted));
    json_object_object_add(o, "text", row ? json_object_new_string(row->text) : NULL);
    json_object_object_add(o, "fix", row ? json_object_new_string(row->fix) : NULL);
    return o;
}

static struct json_object *findings_of(const struct history_message *m)
{
    struct json_object *list = json_object_new_array();
    for (uint32_t i = 0; i < m->metadata_count; i++)
        if (bytes_eq(m->metadata[i].name, BYTES("preflight")))
            json_object_array_add(list, finding_of(m->metadata[i].value));
    return list;
}

static const char *body_word(enum mail_body body)
{
    static const char *const words[] = {
        [BODY_7BIT] = "7bit", [BODY_8BITMIME] = "8bitmime", [BODY_BINARYMIME] = "binarymime"};
    return words[body];
}

static struct json_object *deliver_by_of(const struct envelope *e)
{
    if (e->by_mode == BY_NONE)
        return NULL;
    struct json_object *o = json_object_new_object();
    json_add_time(o, "until", e->deliver_by);
    json_object_object_add(o, "else",
                           json_object_new_string(e->by_mode == BY_RETURN ? "return" : "notify"));
    json_object_object_add(o, "trace", json_object_new_boolean(e->by_trace));
    return o;
}

static void on_message(void *ctx, const struct history_message *m)
{
    struct show *s = ctx;
    struct json_object *o = s->object;
    json_object_object_add(o, "id", api_json_id(m->id));
    json_object_object_add(o, "account", m->account.len ? api_json_text(m->account) : NULL);
    json_object_object_add(o, "credential",
                           m->envelope->credential.len ? api_json_text(m->envelope->credential)
                                                       : NULL);
    json_object_object_add(o, "class", api_json_text(m->class));
    json_object_object_add(o, "tag", m->tag.len ? api_json_text(m->tag) : NULL);
    json_object_object_add(o, "sender", api_json_text(m->sender));
    json_object_object_add(o, "message_id", api_json_text(m->message_id));
    json_object_object_add(o, "envid", m->envid.len ? api_json_text(m->envid) : NULL);
    json_object_object_add(o, "size", json_object_new_uint64(m->size));
    json_add_time(o, "accepted_at", m->accepted_at);
    json_object_object_add(o, "body", json_object_new_string(body_word(m->envelope->body)));
    json_object_object_add(o, "priority", json_object_new_int(m->envelope->priority));
    json_add_time(o, "not_before", m->envelope->not_before);
    json_object_object_add(o, "deliver_by", deliver_by_of(m->envelope));
    json_object_object_add(o, "preflight", findings_of(m));
}

static struct shown_recipient *find_row(struct show *s, const struct history_event *e)
{
    // Numbers come in order, so the row is nearly always at its number.
    if (e->recipient >= 1 && e->recipient <= s->count &&
        s->rows[e->recipient - 1].number == e->recipient)
        return &s->rows[e->recipient - 1];
    for (size_t i = 0; i < s->count; i++)
        if (s->rows[i].number == e->recipient)
            return &s->rows[i];
    if (s->count == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 16;
        s->rows = mem_resize(s->rows, s->cap * sizeof *s->rows);
    }
    struct shown_recipient *row = &s->rows[s->count++];
    *row = (struct shown_recipient){e->recipient, json_object_new_object(), RECIPIENT_QUEUED};
    json_object_object_add(row->object, "address", api_json_text(e->address));
    json_object_object_add(row->object, "state", json_object_new_string("queued"));
    json_object_object_add(row->object, "attempts", json_object_new_int(0));
    json_object_object_add(row->object, "next_attempt_at", NULL);
    json_object_object_add(row->object, "last", NULL);
    json_object_array_add(s->recipients, row->object);
    return row;
}

// "relayed" is our word for how it was delivered; the state is delivered either way.
static const char *state_word(enum recipient_state state)
{
    return state == RECIPIENT_RELAYED ? "delivered" : recipient_state_name(state);
}

// Why it failed or was deferred; nulls where it did not.
void api_add_class(struct json_object *to, struct bounce_class class)
{
    const char *name = bounce_reason_name(class.reason);
    json_object_object_add(to, "reason", name[0] ? json_object_new_string(name) : NULL);
    json_object_object_add(to, "hard", name[0] ? json_object_new_boolean(class.hard) : NULL);
}

// Is it what the last attempt came to? Of an expiry only where there was none.
static bool is_answer(const struct history_event *e, bool has_one)
{
    return e->type == SPOOL_EVENT_DEFERRED || e->type == SPOOL_EVENT_DELIVERED ||
           e->type == SPOOL_EVENT_BOUNCED || (e->type == SPOOL_EVENT_EXPIRED && !has_one) ||
           (e->type == SPOOL_EVENT_REMOVED && e->text.len);
}

static struct json_object *last_of(const struct history_event *e)
{
    struct json_object *last = json_object_new_object();
    json_add_time(last, "at", e->at);
    json_object_object_add(last, "mx", e->mx.len ? api_json_text(e->mx) : NULL);
    json_object_object_add(last, "ip", e->ip.len ? api_json_text(e->ip) : NULL);
    json_object_object_add(last, "tls", e->tls.len ? api_json_text(e->tls) : NULL);
    json_object_object_add(last, "code", e->code ? json_object_new_int(e->code) : NULL);
    json_object_object_add(last, "enhanced", e->enhanced.len ? api_json_text(e->enhanced) : NULL);
    json_object_object_add(last, "text", e->text.len ? api_json_text(e->text) : NULL);
    api_add_class(last, e->class);
    return last;
}

struct json_object *api_feedback(const struct history_event *e)
{
    const struct spool_feedback *f = e->feedback;
    struct json_object *o = json_object_new_object();
    json_add_time(o, "at", e->at);
    json_object_object_add(o, "kind", json_object_new_string(feedback_kind_name(f->kind)));
    json_object_object_add(
        o, "reason",
        f->class.reason ? json_object_new_string(bounce_reason_name(f->class.reason)) : NULL);
    json_object_object_add(o, "hard", json_object_new_boolean(f->class.hard));
    json_object_object_add(o, "code", e->code ? json_object_new_int(e->code) : NULL);
    json_object_object_add(o, "status", e->enhanced.len ? api_json_text(e->enhanced) : NULL);
    json_object_object_add(o, "diagnostic", e->text.len ? api_json_text(e->text) : NULL);
    json_object_object_add(o, "detail", f->detail.len ? api_json_text(f->detail) : NULL);
    json_object_object_add(o, "from", e->ip.len ? api_json_text(e->ip) : NULL);
    return o;
}

static void add_feedback(struct shown_recipient *row, const struct history_event *e)
{
    struct json_object *list = NULL;
    if (!json_object_object_get_ex(row->object, "feedback", &list)) {
        list = json_object_new_array();
        json_object_object_add(row->object, "feedback", list);
    }
    json_object_array_add(list, api_feedback(e));
}

static void on_event(void *ctx, const struct history_event *e)
{
    struct show *s = ctx;
    if (e->recipient == 0)
        return;
    struct shown_recipient *row = find_row(s, e);
    if (e->type == SPOOL_EVENT_FEEDBACK) {
        add_feedback(row, e);
        return;
    }
    if (e->type == SPOOL_EVENT_DSN)
        return;
    row->state = e->state;
    json_object_object_add(row->object, "state", json_object_new_string(state_word(e->state)));
    if (e->attempts)
        json_object_object_add(row->object, "attempts", json_object_new_int64(e->attempts));
    struct json_object *last = NULL;
    json_object_object_get_ex(row->object, "last", &last);
    if (is_answer(e, last != NULL))
        json_object_object_add(row->object, "last", last_of(e));
}

static void add_places(struct show *s)
{
    struct queue_now now = api_now();
    for (size_t i = 0; i < s->count; i++) {
        struct queue_place place;
        if (!recipient_state_is_live(s->rows[i].state) ||
            queue_find(s->request->api->options.port->queue, s->id, s->rows[i].number, now,
                       &place) != OK)
            continue;
        if (place.state == QUEUE_STATE_HELD)
            json_object_object_add(s->rows[i].object, "state", json_object_new_string("held"));
        json_object_object_add(s->rows[i].object, "next_attempt_at",
                               place.state == QUEUE_STATE_HELD ? NULL
                               : place.next_attempt_at.us ? json_new_time(place.next_attempt_at)
                                                          : json_new_time(now.wall));
    }
}

static int show_message(struct api_request *r, struct history_asking *asking, struct message_id id,
                        struct json_object **out)
{
    struct show s = {.request = r,
                     .id = id,
                     .object = json_object_new_object(),
                     .recipients = json_object_new_array()};
    struct history_reader reader = {&s, on_message, on_event};
    int err = history_show_next(asking, id, &reader);
    json_object_object_add(s.object, "recipients", s.recipients);
    if (!err)
        add_places(&s);
    free(s.rows);
    *out = s.object;
    return err;
}

int api_message_object(struct api_request *r, struct message_id id, struct json_object **out)
{
    struct history_asking *asking = history_begin(r->api->options.history);
    int err = show_message(r, asking, id, out);
    history_end(asking);
    return err;
}

void api_message_get(struct api_request *r)
{
    struct message_id id;
    if (!api_take_id(r, &id))
        return;
    struct json_object *object;
    history_wait(r->api->options.history);
    int err = api_message_object(r, id, &object);
    if (!err) {
        api_reply(r, object);
        return;
    }
    json_object_put(object);
    if (err == E_NOT_FOUND)
        api_reply_error(r, err, "no message has this id (history is kept for events.keep)");
    else
        api_reply_error(r, err, "history not readable: %s", err_text(err));
}

// ---- why ---------------------------------------------------------------------------------------------------

// The recipient asked for, by number or address (neither: any), and what last became of it.
struct why {
    uint64_t number; // 0: any
    struct bytes address;
    uint32_t found; // its number
    enum recipient_state state;
    struct wall at;
    struct json_object *last; // what its last attempt came to
};

static void ignore_message(void *ctx, const struct history_message *m)
{
    (void)ctx;
    (void)m;
}

static void on_why_event(void *ctx, const struct history_event *e)
{
    struct why *w = ctx;
    bool is_it = w->number ? e->recipient == w->number
                           : !w->address.len || bytes_eq_nocase(e->address, w->address);
    if (!w->found && e->recipient && is_it)
        w->found = e->recipient;
    if (e->recipient == 0 || e->recipient != w->found || e->type == SPOOL_EVENT_FEEDBACK)
        return;
    w->state = e->state;
    w->at = e->at;
    if (!is_answer(e, w->last != NULL))
        return;
    json_object_put(w->last);
    w->last = last_of(e);
}

static void reply_reason(struct api_request *r, const struct queue_reason *reason, struct why *w)
{
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "limit", json_object_new_string(queue_limit_name(reason->limit)));
    json_add_time(o, "until", reason->until);
    json_object_object_add(o, "setting",
                           reason->setting[0] ? json_object_new_string(reason->setting) : NULL);
    json_object_object_add(o, "text", api_json_text(bytes_cstr(reason->text)));
    json_object_object_add(o, "last", w->last);
    w->last = NULL;
    api_reply(r, o);
}

// Nothing holds back what is no longer there.
static void reply_settled(struct api_request *r, struct why *w)
{
    struct queue_reason reason = {.limit = QUEUE_LIMIT_NONE};
    struct buf at = {0};
    wall_format(w->at, &at);
    snprintf(reason.text, sizeof reason.text, "it waits for nothing: %s at %s",
             state_word(w->state), buf_cstr(&at));
    buf_done(&at);
    reply_reason(r, &reason, w);
}

void api_why_get(struct api_request *r)
{
    struct message_id id;
    struct bytes text = api_text(r, "recipient");
    struct why w = {0};
    struct history_reader reader = {&w, ignore_message, on_why_event};
    struct queue_reason reason;
    if (!api_take_id(r, &id))
        return;
    if (text.len && bytes_to_u64(text, UINT32_MAX, &w.number) != OK)
        w.address = text;
    bool first =
        !text.len && queue_why(r->api->options.port->queue, id, 0, api_now(), &reason) == OK;
    if (first)
        w.number = reason.number;
    history_wait(r->api->options.history);
    int err = history_show(r->api->options.history, id, &reader);
    if (first) // whatever the history knows of it
        reply_reason(r, &reason, &w);
    else if (!err && w.found &&
             queue_why(r->api->options.port->queue, id, w.found, api_now(), &reason) == OK)
        reply_reason(r, &reason, &w);
    else if (!err && w.found)
        reply_settled(r, &w);
    else if (err && err != E_NOT_FOUND)
        api_reply_error(r, err, "history not readable: %s", err_text(err));
    else
        api_reply_error(r, E_NOT_FOUND,
                        err ? "no message has this id" : "this message has no such recipient");
    json_object_put(w.last);
}

// ---- find --------------------------------------------------------------------------------------------------

struct found {
    struct message_id ids[API_PAGE];
    size_t count;
};

static void on_found(void *ctx, struct message_id id)
{
    struct found *f = ctx;
    if (f->count < API_PAGE)
        f->ids[f->count++] = id;
}

// "@example.org" is everybody there; people may write it in letters of any kind.
static void take_domain(struct bytes *recipient, struct arena *arena)
{
    struct buf domain = {0};
    if (bytes_starts(*recipient, BYTES("@")) &&
        mail_domain_route(bytes_skip(*recipient, 1), &domain) == OK)
        *recipient = arena_printf(arena, "@%.*s", BYTES_FMT(buf_bytes(&domain)));
    buf_done(&domain);
}

void api_take_filter(struct api_request *r, struct history_filter *out, struct arena *arena)
{
    *out = (struct history_filter){.recipient = api_text(r, "recipient"),
                                   .sender = api_text(r, "sender"),
                                   .message_id = api_text(r, "message_id"),
                                   .envid = api_text(r, "envid"),
                                   .tag = api_text(r, "tag"),
                                   .account = api_text(r, "account")};
    // People copy a Message-ID with or without its brackets.
    if (out->message_id.len && out->message_id.at[0] != '<')
        out->message_id = arena_printf(arena, "<%.*s>", BYTES_FMT(out->message_id));
    take_domain(&out->recipient, arena);
}

const char *api_take_times(struct api_request *r, struct history_filter *out)
{
    struct bytes since = api_text(r, "since"), until = api_text(r, "until");
    if (since.len && wall_parse(since, &out->since) != OK)
        return "since must be a time like 2026-11-22T05:57:00Z";
    if (until.len && wall_parse(until, &out->until) != OK)
        return "until must be a time like 2026-11-22T05:57:00Z";
    return "";
}

void api_messages_get(struct api_request *r)
{
    struct arena arena = {0};
    struct history_filter filter;
    api_take_filter(r, &filter, &arena);
    const char *wrong = api_take_times(r, &filter);
    if (wrong[0]) {
        api_reply_error(r, E_SYNTAX, "%s", wrong);
        arena_done(&arena);
        return;
    }
    struct found *found = mem_new(sizeof *found);
    history_wait(r->api->options.history);
    int err = history_find(r->api->options.history, &filter, API_PAGE, on_found, found);
    struct history_asking *asking = history_begin(r->api->options.history);
    for (size_t i = 0; i < found->count && !err; i++) {
        struct json_object *object;
        err = show_message(r, asking, found->ids[i], &object);
        if (!err)
            api_add_line(r, object);
        else
            json_object_put(object);
        err = err == E_NOT_FOUND ? OK : err; // forgotten meanwhile
    }
    history_end(asking);
    if (err)
        api_reply_error(r, err, "history not readable: %s", err_text(err));
    else
        r->status = MHD_HTTP_OK;
    free(found);
    arena_done(&arena);
}
