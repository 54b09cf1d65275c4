// SPDX-License-Identifier: MIT
//
// How it works: a dialogue comes from memory (deliver/trace.h). Where there is none any more, the record still says
// how the last attempt ended.
#include <stdio.h>

#include "api/api_private.h"
#include "deliver/trace.h"
#include "mail/mail_address.h"

#define WATCH_INITIAL_MS ((int64_t)3600 * 1000)
#define WATCH_MAX_MS ((int64_t)7 * 86400 * 1000)

// ---- one attempt -------------------------------------------------------------------------------------------

struct answer {
    struct json_object *object, *recipients, *lines;
    struct bytes wanted;     // a recipient's address; empty: by number, or any
    uint64_t number;         // 0: any
    const uint32_t *numbers; // those of the attempt
    uint32_t numbers_count;
    struct history_event last; // its texts are in `arena`
    struct arena arena;
    bool has_last, has_message;
};

static void add_text(struct json_object *to, const char *key, struct bytes text)
{
    json_object_object_add(to, key, text.len ? api_json_text(text) : NULL);
}

static void add_enhanced(struct json_object *to, unsigned code, struct bytes text)
{
    struct smtp_enhanced e;
    char shown[16];
    size_t used;
    if (!smtp_enhanced_parse(text, (uint8_t)(code / 100), &e, &used)) {
        json_object_object_add(to, "enhanced", NULL);
        return;
    }
    snprintf(shown, sizeof shown, "%u.%u.%u", e.class, e.subject, e.detail);
    json_object_object_add(to, "enhanced", json_object_new_string(shown));
}

static void add_line(struct json_object *list, const struct dialogue_line *line)
{
    struct json_object *o = json_object_new_object();
    struct bytes text = line->text, word;
    uint64_t code = 0;
    const char *from = line->from == DIALOGUE_US       ? "us"
                       : line->from == DIALOGUE_SERVER ? "server"
                                                       : "note";
    if (line->from == DIALOGUE_SERVER && bytes_cut(&text, ' ', &word))
        (void)!bytes_to_u64(word, 999, &code);
    json_object_object_add(o, "ms", json_object_new_int64(line->ms));
    json_object_object_add(o, "from", json_object_new_string(from));
    json_object_object_add(o, "code", code ? json_object_new_int((int)code) : NULL);
    add_enhanced(o, (unsigned)code, code ? text : BYTES_NONE);
    json_object_object_add(o, "text", api_json_text(code ? text : line->text));
    json_object_array_add(list, o);
}

static void add_lines(struct json_object *list, struct bytes part)
{
    struct dialogue_line line;
    while (dialogue_take(&part, &line))
        add_line(list, &line);
}

static void on_attempt(void *ctx, const struct trace_attempt *t)
{
    struct answer *a = ctx;
    struct json_object *o = a->object;
    json_add_time(o, "at", t->at);
    json_object_object_add(o, "result", json_object_new_string(trace_result_name(t->result)));
    json_object_object_add(o, "recorded", json_object_new_boolean(t->recorded));
    add_text(o, "lane", t->lane);
    add_text(o, "mx", t->mx);
    add_text(o, "ip", t->ip);
    add_text(o, "tls", t->tls);
    json_object_object_add(o, "left_out", json_object_new_int64(t->left_out));
    a->lines = json_object_new_array();
    add_lines(a->lines, t->opening);
    add_lines(a->lines, t->first);
    add_lines(a->lines, t->last);
    uint32_t *numbers = arena_new(&a->arena, (t->numbers_count + 1) * sizeof *numbers);
    memcpy(numbers, t->numbers, t->numbers_count * sizeof *numbers);
    a->numbers = numbers;
    a->numbers_count = t->numbers_count;
}

static void on_message(void *ctx, const struct history_message *m)
{
    struct answer *a = ctx;
    a->has_message = true;
    for (uint32_t i = 0; a->wanted.len && i < m->envelope->recipients_count; i++)
        if (bytes_eq_nocase(a->wanted, m->envelope->recipients[i].address))
            a->number = m->envelope->recipients[i].number;
}

static bool is_told_of(const struct answer *a, const struct history_event *e)
{
    for (uint32_t i = 0; i < a->numbers_count; i++)
        if (a->numbers[i] == e->recipient)
            return true;
    return false;
}

// The last that was tried, for where no dialogue is left of it; and whom the attempt was for.
static void on_event(void *ctx, const struct history_event *e)
{
    struct answer *a = ctx;
    if (e->envelope && is_told_of(a, e))
        json_object_array_add(a->recipients, api_json_text(e->address));
    if (!e->mx.len || (a->number && e->recipient != a->number))
        return;
    a->has_last = true;
    a->last = *e;
    a->last.address = arena_dup(&a->arena, e->address);
    a->last.lane = arena_dup(&a->arena, e->lane);
    a->last.mx = arena_dup(&a->arena, e->mx);
    a->last.ip = arena_dup(&a->arena, e->ip);
    a->last.tls = arena_dup(&a->arena, e->tls);
}

static void add_last(struct answer *a)
{
    const struct history_event *e = &a->last;
    struct json_object *o = a->object;
    json_add_time(o, "at", e->at);
    json_object_object_add(o, "result", json_object_new_string(spool_event_name(e->type)));
    json_object_object_add(o, "recorded", json_object_new_boolean(false));
    add_text(o, "lane", e->lane);
    add_text(o, "mx", e->mx);
    add_text(o, "ip", e->ip);
    add_text(o, "tls", e->tls);
    json_object_object_add(o, "left_out", NULL);
    json_object_array_add(a->recipients, api_json_text(e->address));
}

static void ignore_event(void *ctx, const struct history_event *e)
{
    (void)ctx;
    (void)e;
}

// E_NOT_FOUND, and `*out_why`.
static int answer(struct api_request *r, struct message_id id, struct answer *a,
                  const char **out_why)
{
    struct history *h = r->api->options.history;
    struct history_reader names = {a, on_message, ignore_event}, events = {a, on_message, on_event};
    *out_why = "no message has this id (history is kept for events.keep)";
    history_wait(h);
    int err = history_show(h, id, &names);
    if (!err && a->wanted.len && !a->number) {
        *out_why = "the message has no such recipient";
        return E_NOT_FOUND;
    }
    bool found = trace_find(r->api->options.trace, id, (uint32_t)a->number, on_attempt, a) == OK;
    if (!err)
        err = history_show(h, id, &events);
    if (err == E_NOT_FOUND && found)
        err = OK; // its history is gone
    if (!err && !found && !a->has_last) {
        *out_why = "it has not been tried yet (`message why` says what it waits for)";
        return E_NOT_FOUND;
    }
    if (!err && !found)
        add_last(a);
    return err;
}

void api_trace_get(struct api_request *r)
{
    struct message_id id;
    struct answer a = {.wanted = api_text(r, "recipient")};
    const char *why;
    if (!api_take_id(r, &id))
        return;
    if (a.wanted.len && bytes_to_u64(a.wanted, UINT32_MAX, &a.number) == OK)
        a.wanted = BYTES_NONE;
    a.object = json_object_new_object();
    a.recipients = json_object_new_array();
    json_object_object_add(a.object, "id", api_json_id(id));
    int err = answer(r, id, &a, &why);
    json_object_object_add(a.object, "recipients", a.recipients);
    json_object_object_add(a.object, "dialogue", a.lines);
    if (!err) {
        api_reply(r, a.object);
    } else {
        json_object_put(a.object);
        api_reply_error(r, err, "%s", err == E_NOT_FOUND ? why : "history not readable");
    }
    arena_done(&a.arena);
}

// ---- who is watched ----------------------------------------------------------------------------------------

void api_traces_get(struct api_request *r)
{
    static struct trace_watch watches[TRACE_WATCHES_MAX]; // the control thread's
    size_t count = trace_watches(r->api->options.trace, api_now().wall, watches);
    for (size_t i = 0; i < count; i++) {
        struct json_object *o = json_object_new_object();
        json_object_object_add(o, "address", api_json_text(bytes_cstr(watches[i].pattern)));
        json_add_time(o, "until", watches[i].until);
        api_add_line(r, o);
    }
    r->status = MHD_HTTP_OK;
}

static struct bytes text_of(struct api_request *r, const char *key)
{
    struct json_object *args = NULL;
    (void)!json_object_object_get_ex(r->args, "args", &args);
    return json_find_text(args, key);
}

// As it is compared: an address as it is, a domain as A-labels.
static int take_pattern(struct bytes address, struct buf *out)
{
    ptrdiff_t at = bytes_find_last(address, '@');
    struct buf domain = {0};
    int err = at < 0 || address.len > TRACE_PATTERN_MAX || !bytes_is_utf8(address) ||
                      bytes_has_control(address, "")
                  ? E_SYNTAX
                  : mail_domain_route(bytes_skip(address, (size_t)at + 1), &domain);
    if (!err && at == 0)
        buf_add_all(out, BYTES("@"), buf_bytes(&domain));
    else if (!err)
        buf_add(out, address);
    buf_done(&domain);
    return err;
}

static const char *take_until(struct api_request *r, struct wall *out)
{
    struct wall now = api_now().wall;
    struct bytes text = text_of(r, "until");
    *out = wall_add_ms(now, WATCH_INITIAL_MS);
    if (text.len && wall_parse(text, out) != OK)
        return "until must be a time like 2026-11-22T05:57:00Z";
    int64_t ms = wall_ms_between(now, *out);
    return ms > 0 && ms <= WATCH_MAX_MS ? "" : "until must be a time within the next 7 days";
}

static void change(struct api_request *r, bool add, struct bytes pattern, struct wall until)
{
    struct trace *t = r->api->options.trace;
    int err = add ? trace_watch_add(t, pattern, until) : trace_watch_remove(t, pattern);
    if (err == E_FULL) {
        api_reply_error(r, err, "at most %d addresses can be traced at a time", TRACE_WATCHES_MAX);
    } else if (err == E_NOT_FOUND && !add) {
        api_reply_error(r, err, "this address is not traced");
    } else if (err) {
        api_reply_error(r, err,
                        "it holds only until the service ends: the file was not written: %s",
                        err_text(err));
    } else {
        struct json_object *o = json_object_new_object();
        json_object_object_add(o, "address", api_json_text(pattern));
        json_object_object_add(o, "until", add ? json_new_time(until) : NULL);
        api_reply(r, o);
    }
}

void api_trace_post(struct api_request *r)
{
    struct json_object *op = NULL;
    struct buf pattern = {0};
    struct wall until;
    json_object_object_get_ex(r->args, "op", &op);
    bool add = bytes_eq(bytes_cstr(json_object_get_string(op)), BYTES("trace.add"));
    const char *wrong = add ? take_until(r, &until) : "";
    if (wrong[0])
        api_reply_error(r, E_SYNTAX, "%s", wrong);
    else if (take_pattern(text_of(r, "address"), &pattern))
        api_reply_error(r, E_SYNTAX,
                        "address must be like bob@example.org, or @example.org for "
                        "all of a domain");
    else
        change(r, add, buf_bytes(&pattern), until);
    buf_done(&pattern);
}
