// SPDX-License-Identifier: MIT
//
// How it works: pages of the queue, and of each message in it what the history knows. Who has no role sees the mail that
// was sent by the own user id (sendmail.socket) and no other.
#include <stdio.h>
#include <stdlib.h>

#include "api/api_private.h"

#define MAILQ_PAGE 100 // rows of the queue in one answer: each is looked up

// May the caller see a message with that credential?
static bool is_visible(const struct api_request *r, struct json_object *message)
{
    struct json_object *credential;
    char own[32];
    if (r->caller.role >= API_READER)
        return true;
    snprintf(own, sizeof own, "uid:%u", (unsigned)r->caller.uid);
    return r->caller.actor[0] && json_object_object_get_ex(message, "credential", &credential) &&
           credential && strcmp(json_object_get_string(credential), own) == 0;
}

static const char *text_of(struct json_object *object, const char *key)
{
    struct json_object *value;
    return json_object_object_get_ex(object, key, &value) && value ? json_object_get_string(value)
                                                                   : NULL;
}

// Why it is still there: the hold that keeps it, else what the last attempt was answered, else what the queue waits for.
static struct json_object *reason_of(struct api_request *r, const struct queue_row *row,
                                     uint32_t number, struct json_object *recipient)
{
    struct json_object *last;
    const char *text =
        json_object_object_get_ex(recipient, "last", &last) && last ? text_of(last, "text") : NULL;
    struct queue_reason reason = {0};
    int err = queue_why(r->api->options.port->queue, row->id, number, api_now(), &reason);
    if (text && reason.limit != QUEUE_LIMIT_HOLD)
        return json_object_new_string(text);
    if (err || reason.limit == QUEUE_LIMIT_NONE)
        return NULL;
    return api_json_text(bytes_cstr(reason.text));
}

static struct json_object *recipients_of(struct api_request *r, const struct queue_row *row,
                                         struct json_object *message)
{
    struct json_object *all, *list = json_object_new_array();
    if (!json_object_object_get_ex(message, "recipients", &all))
        return list;
    for (size_t i = 0; i < json_object_array_length(all); i++) {
        struct json_object *one = json_object_array_get_idx(all, i);
        const char *state = text_of(one, "state");
        if (!state || (strcmp(state, "queued") != 0 && strcmp(state, "held") != 0))
            continue;
        struct json_object *o = json_object_new_object();
        json_object_object_add(o, "address", json_object_new_string(text_of(one, "address")));
        json_object_object_add(o, "reason", reason_of(r, row, (uint32_t)i + 1, one));
        json_object_array_add(list, o);
    }
    return list;
}

// Active where any of it is under way, held where all of it is.
static enum queue_state state_of(const struct queue_row *rows, size_t count)
{
    bool held = true;
    for (size_t i = 0; i < count; i++) {
        if (rows[i].state == QUEUE_STATE_ACTIVE)
            return QUEUE_STATE_ACTIVE;
        held = held && rows[i].state == QUEUE_STATE_HELD;
    }
    return held                                     ? QUEUE_STATE_HELD
           : rows[0].state == QUEUE_STATE_SCHEDULED ? QUEUE_STATE_SCHEDULED
                                                    : QUEUE_STATE_QUEUED;
}

// `row` begins the rows of one message, `count` of them.
static void add_message(struct api_request *r, const struct queue_row *row, size_t count)
{
    static const char *const same[] = {"id", "size", "accepted_at", "sender"};
    struct json_object *message, *value;
    if (api_message_object(r, row->id, &message) == OK && is_visible(r, message)) {
        struct json_object *o = json_object_new_object();
        for (size_t i = 0; i < COUNT_OF(same); i++)
            if (json_object_object_get_ex(message, same[i], &value))
                json_object_object_add(o, same[i], json_object_get(value));
        json_object_object_add(o, "state",
                               json_object_new_string(queue_state_name(state_of(row, count))));
        json_object_object_add(o, "recipients", recipients_of(r, row, message));
        api_add_line(r, o);
    }
    json_object_put(message);
}

void api_mailq_get(struct api_request *r)
{
    struct queue_filter filter = {.by = QUEUE_SELECT_ALL};
    struct bytes text = bytes_cstr(api_argument(r, "cursor"));
    uint64_t cursor = 0;
    if (text.len && bytes_to_u64(text, UINT64_MAX, &cursor) != OK) {
        api_reply_error(r, E_SYNTAX, "cursor must be what the last page ended with");
        return;
    }
    history_wait(r->api->options.history);
    struct queue_row *rows = mem_new(MAILQ_PAGE * sizeof *rows);
    size_t count =
        queue_list(r->api->options.port->queue, &filter, &cursor, api_now(), rows, MAILQ_PAGE);
    for (size_t i = 0, n; i < count; i += n) { // a message's rows follow each other
        for (n = 1; i + n < count && memcmp(&rows[i].id, &rows[i + n].id, sizeof rows[i].id) == 0;)
            n++;
        add_message(r, &rows[i], n);
    }
    api_add_next(r, cursor);
    r->status = MHD_HTTP_OK;
    free(rows);
}
