// SPDX-License-Identifier: MIT
//
// How it works: what happened to a message is folded from its events (law 8); only what has not been copied to the
// history yet, and the time of the next attempt, comes from the queue.
#include <stdlib.h>

#include "api/api_private.h"

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

static void on_message(void *ctx, const struct history_message *m)
{
    struct show *s = ctx;
    struct json_object *o = s->object;
    json_object_object_add(o, "id", api_json_id(m->id));
    json_object_object_add(o, "account", m->account.len ? api_json_text(m->account) : NULL);
    json_object_object_add(o, "class", api_json_text(m->class));
    json_object_object_add(o, "tag", m->tag.len ? api_json_text(m->tag) : NULL);
    json_object_object_add(o, "sender", api_json_text(m->sender));
    json_object_object_add(o, "message_id", api_json_text(m->message_id));
    json_object_object_add(o, "envid", m->envid.len ? api_json_text(m->envid) : NULL);
    json_object_object_add(o, "size", json_object_new_uint64(m->size));
    json_object_object_add(o, "accepted_at", api_json_time(m->accepted_at));
}

static struct shown_recipient *find_row(struct show *s, const struct history_event *e)
{
    // Numbers come in order, so the row is nearly always at its number.
    if (e->recipient >= 1 && e->recipient <= s->count && s->rows[e->recipient - 1].number == e->recipient)
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

static struct json_object *last_of(const struct history_event *e)
{
    struct json_object *last = json_object_new_object();
    json_object_object_add(last, "at", api_json_time(e->at));
    json_object_object_add(last, "mx", e->mx.len ? api_json_text(e->mx) : NULL);
    json_object_object_add(last, "ip", e->ip.len ? api_json_text(e->ip) : NULL);
    json_object_object_add(last, "tls", e->tls.len ? api_json_text(e->tls) : NULL);
    json_object_object_add(last, "code", e->code ? json_object_new_int(e->code) : NULL);
    json_object_object_add(last, "enhanced", e->enhanced.len ? api_json_text(e->enhanced) : NULL);
    json_object_object_add(last, "text", e->text.len ? api_json_text(e->text) : NULL);
    return last;
}

static void on_event(void *ctx, const struct history_event *e)
{
    struct show *s = ctx;
    if (e->recipient == 0)
        return;
    struct shown_recipient *row = find_row(s, e);
    if (e->type == SPOOL_EVENT_ACCEPTED || e->type == SPOOL_EVENT_DSN)
        return;
    row->state = e->state;
    json_object_object_add(row->object, "state", json_object_new_string(state_word(e->state)));
    if (e->attempts)
        json_object_object_add(row->object, "attempts", json_object_new_int64(e->attempts));
    if (e->type == SPOOL_EVENT_DEFERRED || e->type == SPOOL_EVENT_DELIVERED || e->type == SPOOL_EVENT_BOUNCED ||
        e->type == SPOOL_EVENT_EXPIRED)
        json_object_object_add(row->object, "last", last_of(e));
}

static void add_places(struct show *s)
{
    struct queue_now now = api_now();
    for (size_t i = 0; i < s->count; i++) {
        struct queue_place place;
        if (!recipient_state_is_live(s->rows[i].state) ||
            queue_find(s->request->api->options.port->queue, s->id, s->rows[i].number, now, &place) != OK)
            continue;
        if (place.state == QUEUE_STATE_HELD)
            json_object_object_add(s->rows[i].object, "state", json_object_new_string("held"));
        json_object_object_add(s->rows[i].object, "next_attempt_at",
                               place.state == QUEUE_STATE_HELD ? NULL
                               : place.next_attempt_at.us      ? api_json_time(place.next_attempt_at)
                                                               : api_json_time(now.wall));
    }
}

static int show_message(struct api_request *r, struct message_id id, struct json_object **out)
{
    struct show s = {.request = r, .id = id, .object = json_object_new_object(), .recipients = json_object_new_array()};
    struct history_reader reader = {&s, on_message, on_event};
    int err = history_show(r->api->options.history, id, &reader);
    json_object_object_add(s.object, "recipients", s.recipients);
    if (!err)
        add_places(&s);
    free(s.rows);
    *out = s.object;
    return err;
}

void api_message_get(struct api_request *r)
{
    struct message_id id;
    if (!api_take_id(r, &id))
        return;
    struct json_object *object;
    int err = show_message(r, id, &object);
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

static struct bytes argument(struct api_request *r, const char *name)
{
    return bytes_cstr(api_argument(r, name));
}

void api_messages_get(struct api_request *r)
{
    struct history_filter filter = {.recipient = argument(r, "recipient"),
                                    .sender = argument(r, "sender"),
                                    .message_id = argument(r, "message_id"),
                                    .envid = argument(r, "envid"),
                                    .tag = argument(r, "tag")};
    struct bytes since = argument(r, "since");
    if (since.len && wall_parse(since, &filter.since) != OK) {
        api_reply_error(r, E_SYNTAX, "since must be a time like 2026-11-22T05:57:00Z");
        return;
    }
    struct found *found = mem_new(sizeof *found);
    int err = history_find(r->api->options.history, &filter, API_PAGE, on_found, found);
    for (size_t i = 0; i < found->count && !err; i++) {
        struct json_object *object;
        err = show_message(r, found->ids[i], &object);
        if (!err)
            api_add_line(r, object);
        else
            json_object_put(object);
    }
    if (err)
        api_reply_error(r, err, "history not readable: %s", err_text(err));
    else
        r->status = MHD_HTTP_OK;
    free(found);
}

// ---- events ------------------------------------------------------------------------------------------------

static void on_event_line(void *ctx, const struct history_event *e)
{
    struct api_request *r = ctx;
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "cursor", json_object_new_uint64(e->cursor));
    json_object_object_add(o, "at", api_json_time(e->at));
    json_object_object_add(o, "type", json_object_new_string(spool_event_name(e->type)));
    json_object_object_add(o, "id", api_json_id(e->id));
    json_object_object_add(o, "recipient", e->address.len ? api_json_text(e->address) : NULL);
    json_object_object_add(o, "lane", e->lane.len ? api_json_text(e->lane) : NULL);
    json_object_object_add(o, "code", e->code ? json_object_new_int(e->code) : NULL);
    json_object_object_add(o, "enhanced", e->enhanced.len ? api_json_text(e->enhanced) : NULL);
    struct bytes text = e->text.len ? e->text : e->reason;
    json_object_object_add(o, "text", text.len ? api_json_text(text) : NULL);
    api_add_line(r, o);
}

void api_events_get(struct api_request *r)
{
    uint64_t after = 0, max = API_PAGE, last;
    struct bytes after_text = argument(r, "after"), max_text = argument(r, "max");
    if ((after_text.len && bytes_to_u64(after_text, INT64_MAX, &after) != OK) ||
        (max_text.len && bytes_to_u64(max_text, HISTORY_PAGE_MAX, &max) != OK)) {
        api_reply_error(r, E_SYNTAX, "after and max must be numbers (max at most %d)", HISTORY_PAGE_MAX);
        return;
    }
    int err = history_events(r->api->options.history, after, max, on_event_line, r, &last);
    if (err)
        api_reply_error(r, err, "history not readable: %s", err_text(err));
    else
        r->status = MHD_HTTP_OK;
}
