// SPDX-License-Identifier: MIT
//
// How it works: both answers are made of the history's events: all in the order of the journal, to be followed, or those
// that are looked for, the newest first.
#include <stdio.h>

#include "api/api_private.h"

#define HISTORY_LINES 100 // events of a page, unless it is said

struct history_query {
    struct history_filter filter;
    struct bytes before;
    uint64_t max;
    struct arena arena; // what the filter borrows from
};

// ---- events ------------------------------------------------------------------------------------------------

// What an event says, but for its cursor.
static void add_event(struct json_object *o, const struct history_event *e, enum spool_event type,
                      struct bytes text)
{
    bool reply = type == e->type; // an attempt has none yet
    json_add_time(o, "at", e->at);
    json_object_object_add(o, "type", json_object_new_string(spool_event_name(type)));
    json_object_object_add(o, "id", api_json_id(e->id));
    json_object_object_add(o, "recipient", e->address.len ? api_json_text(e->address) : NULL);
    json_object_object_add(o, "lane", e->lane.len ? api_json_text(e->lane) : NULL);
    json_object_object_add(o, "code", reply && e->code ? json_object_new_int(e->code) : NULL);
    json_object_object_add(o, "enhanced",
                           reply && e->enhanced.len ? api_json_text(e->enhanced) : NULL);
    json_object_object_add(o, "text", text.len ? api_json_text(text) : NULL);
    api_add_class(o, reply ? e->class : (struct bounce_class){0});
    if (e->feedback)
        json_object_object_add(o, "feedback", api_feedback(e));
}

static struct json_object *event_line(const struct history_event *e, enum spool_event type,
                                      struct bytes text)
{
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "cursor", json_object_new_uint64(e->cursor));
    add_event(o, e, type, text);
    return o;
}

// An attempt and what came of it are one record (law 8) with one cursor, told as two events.
static void add_attempt_line(struct api_request *r, const struct history_event *e)
{
    struct buf text = {0};
    buf_printf(&text, "%.*s [%.*s], TLS %.*s", BYTES_FMT(e->mx), BYTES_FMT(e->ip),
               BYTES_FMT(e->tls.len ? e->tls : BYTES("none")));
    api_add_line(r, event_line(e, SPOOL_EVENT_ATTEMPTED, buf_bytes(&text)));
    buf_done(&text);
}

// What MAIL asked of the queue, if anything: "priority 3, not before TIME, by TIME or returned".
static void add_asked(const struct envelope *e, struct buf *out)
{
    if (e->priority)
        buf_printf(out, "priority %d", e->priority);
    if (e->not_before.us) {
        buf_add_cstr(out, out->len ? ", not before " : "not before ");
        wall_format(e->not_before, out);
    }
    if (e->by_mode != BY_NONE) {
        buf_add_cstr(out, out->len ? ", by " : "by ");
        wall_format(e->deliver_by, out);
        buf_add_cstr(out, e->by_mode == BY_RETURN ? " or returned" : " or its sender is told");
    }
}

static void add_event_text(const struct history_event *e, struct buf *out)
{
    if (e->envelope) {
        add_asked(e->envelope, out);
    } else if (e->text.len) {
        buf_add(out, e->text);
    } else if (e->related.high) {
        char id[MESSAGE_ID_CHARS + 1];
        message_id_format(e->related, id);
        buf_printf(out, "the sender is told by message %s", id);
    } else {
        buf_add(out, e->reason);
    }
    if (e->actor.len)
        buf_printf(out, "%sby %.*s", out->len ? " " : "", BYTES_FMT(e->actor));
}

static void on_event_line(void *ctx, const struct history_event *e)
{
    struct api_request *r = ctx;
    struct buf text = {0};
    if (e->mx.len && e->type != SPOOL_EVENT_ATTEMPTED)
        add_attempt_line(r, e);
    add_event_text(e, &text);
    api_add_line(r, event_line(e, e->type, buf_bytes(&text)));
    buf_done(&text);
}

void api_events_get(struct api_request *r)
{
    uint64_t after = 0, max = API_PAGE, last;
    struct bytes after_text = api_text(r, "after"), max_text = api_text(r, "max");
    if ((after_text.len && bytes_to_u64(after_text, INT64_MAX, &after) != OK) ||
        (max_text.len && bytes_to_u64(max_text, HISTORY_PAGE_MAX, &max) != OK)) {
        api_reply_error(r, E_SYNTAX, "after and max must be numbers (max at most %d)",
                        HISTORY_PAGE_MAX);
        return;
    }
    history_wait(r->api->options.history);
    int err = history_events(r->api->options.history, after, max, on_event_line, r, &last);
    if (err)
        api_reply_error(r, err, "history not readable: %s", err_text(err));
    else
        r->status = MHD_HTTP_OK;
}

// ---- history -----------------------------------------------------------------------------------------------

static void add_message(struct json_object *o, const struct envelope *e)
{
    json_object_object_add(o, "sender", e ? api_json_text(e->reverse_path) : NULL);
    json_object_object_add(o, "message_id",
                           e && e->message_id.len ? api_json_text(e->message_id) : NULL);
    json_object_object_add(o, "account",
                           e && e->account_name.len ? api_json_text(e->account_name) : NULL);
    json_object_object_add(o, "tag", e && e->tag.len ? api_json_text(e->tag) : NULL);
}

static void on_history_line(void *ctx, const struct history_event *e)
{
    char cursor[HISTORY_CURSOR_BYTES];
    struct buf text = {0};
    struct json_object *o = json_object_new_object();
    history_cursor_format(e, cursor);
    add_event_text(e, &text);
    json_object_object_add(o, "cursor", json_object_new_string(cursor));
    add_event(o, e, e->type, buf_bytes(&text));
    json_object_object_add(o, "mx", e->mx.len ? api_json_text(e->mx) : NULL);
    json_object_object_add(o, "ip", e->ip.len ? api_json_text(e->ip) : NULL);
    json_object_object_add(o, "tls", e->tls.len ? api_json_text(e->tls) : NULL);
    add_message(o, e->message);
    api_add_line(ctx, o);
    buf_done(&text);
}

static int take_type(struct bytes text, struct history_filter *out)
{
    for (int i = 0; i < SPOOL_EVENTS; i++)
        if (i != SPOOL_EVENT_ATTEMPTED && bytes_eq(text, bytes_cstr(spool_event_name(i)))) {
            out->typed = true;
            out->type = i;
            return OK;
        }
    return text.len ? E_SYNTAX : OK;
}

// "", or what is wrong.
static const char *take_history_query(struct api_request *r, struct history_query *out)
{
    struct history_filter *f = &out->filter;
    struct bytes max = api_text(r, "max");
    out->before = api_text(r, "before");
    out->max = HISTORY_LINES;
    api_take_filter(r, f, &out->arena);
    if ((max.len && bytes_to_u64(max, HISTORY_PAGE_MAX, &out->max) != OK) || !out->max)
        return "max must be a number from 1 to 10000";
    if (take_type(api_text(r, "type"), f))
        return "type must be one of accepted, deferred, delivered, bounced, expired, held, "
               "released, "
               "removed, dsn, feedback";
    return api_take_times(r, f);
}

void api_history_get(struct api_request *r)
{
    struct history_query query = {0};
    const char *wrong = take_history_query(r, &query);
    if (wrong[0]) {
        api_reply_error(r, E_SYNTAX, "%s", wrong);
    } else {
        history_wait(r->api->options.history);
        int err = history_search(r->api->options.history, &query.filter, query.before, query.max,
                                 on_history_line, r);
        if (err == E_SYNTAX)
            api_reply_error(r, err, "before must be the cursor of an event");
        else if (err)
            api_reply_error(r, err, "history not readable: %s", err_text(err));
        else
            r->status = MHD_HTTP_OK;
    }
    arena_done(&query.arena);
}
