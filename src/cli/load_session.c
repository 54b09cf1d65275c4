// SPDX-License-Identifier: MIT
//
// load_session - how it works: the session is an owner of one net_conn and one smtp_client at a
// time. A message is its header, made anew, and the run's body. When a connection ends with
// messages left to send, the next one is opened.
#include "cli/load_session.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/check.h"
#include "net/net_conn.h"

#define LINE_BYTES 76

struct load_session {
    struct load_run *run;
    struct list link;
    struct net_conn *net;
    struct smtp_client *smtp;
    struct smtp_client_config config; // borrowed by smtp
    struct sys_timer timer;           // waits for the rate, or before the next connection
    struct sys_turn_end reap;
    struct arena arena; // of the message
    struct smtp_transaction transaction;
    struct bytes load_id;
    struct bytes *addresses;
    struct buf header;
    uint64_t sent_bytes; // of the content
    uint64_t on_this_connection;
    struct mono started;
    uint32_t accepted, refused, broken, retries;
    uint16_t refused_code; // of the last recipient refused
    struct buf queued_id;
    bool has_message, ready, ended, waits, idles;
};

static void connection_open(struct load_session *s);
static void connection_over(struct load_session *s, bool abort);
static void act(struct load_session *s);

// ---- the run -----------------------------------------------------------------------------------

void load_run_init(struct load_run *run)
{
    list_init(&run->sessions);
    struct buf body;
    buf_init(&body, LOAD_SIZE_MAX + LINE_BYTES);
    static const char text[] = "The quick brown fox jumps over the lazy dog; 0123456789 is what "
                               "it counted ..\r\n";
    while (body.len + sizeof text - 1 <= run->size)
        buf_add(&body, bytes_of(text, sizeof text - 1));
    if (body.len + 2 <= run->size || !body.len) {
        while (body.len + 2 < run->size)
            buf_add_byte(&body, 'x');
        buf_add(&body, BYTES("\r\n"));
    }
    size_t len = body.len;
    run->body = bytes_of(buf_take(&body), len);
}

void load_run_done(struct load_run *run)
{
    free((char *)(uintptr_t)run->body.at);
    EVP_MD_CTX_free(run->digest);
}

// When the run's next message may start.
static struct mono next_start(const struct load_run *run)
{
    if (!run->rate_milli)
        return run->began;
    return (struct mono){run->began.us +
                         (int64_t)((double)run->taken * 1e9 / (double)run->rate_milli)};
}

// ---- messages ----------------------------------------------------------------------------------

static struct bytes expand(struct load_session *s, struct bytes pattern, uint64_t message,
                           uint32_t number)
{
    struct buf out = {0};
    for (size_t i = 0; i < pattern.len; i++)
        if (pattern.at[i] == '%' && i + 1 < pattern.len && pattern.at[i + 1] == 'n') {
            buf_add_u64(&out, number);
            i++;
        } else if (pattern.at[i] == '%' && i + 1 < pattern.len && pattern.at[i + 1] == 'm') {
            buf_add_u64(&out, message);
            i++;
        } else {
            buf_add_byte(&out, pattern.at[i]);
        }
    struct bytes address = arena_dup(&s->arena, buf_bytes(&out));
    buf_done(&out);
    return address;
}

static int give_content(void *ctx, size_t max, struct bytes *out, bool *out_end)
{
    struct load_session *s = ctx;
    struct bytes header = buf_bytes(&s->header);
    if (s->sent_bytes < header.len)
        *out = bytes_mid(header, s->sent_bytes, max);
    else
        *out = bytes_mid(s->run->body, s->sent_bytes - header.len, max);
    s->sent_bytes += out->len;
    *out_end = s->sent_bytes == header.len + s->run->body.len;
    return OK;
}

static void make_header(struct load_session *s)
{
    static const char *const days[] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = sys_wall().us / 1000000;
    struct tm tm;
    gmtime_r(&now, &tm);
    buf_clear(&s->header);
    buf_printf(&s->header,
               "X-Load-Id: %.*s\r\nMessage-ID: <%.*s@load.invalid>\r\nFrom: <%.*s>\r\n"
               "To: <%.*s>\r\nSubject: load %.*s\r\n"
               "Date: %s, %d %s %d %02d:%02d:%02d +0000\r\n\r\n",
               BYTES_FMT(s->load_id), BYTES_FMT(s->load_id), BYTES_FMT(s->run->sender),
               BYTES_FMT(s->addresses[0]), BYTES_FMT(s->load_id), days[now / 86400 % 7], tm.tm_mday,
               months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static void make_message(struct load_session *s)
{
    struct load_run *run = s->run;
    uint64_t number = run->taken++;
    arena_done(&s->arena);
    s->load_id =
        arena_printf(&s->arena, "%.*s-%llu", BYTES_FMT(run->name), (unsigned long long)number);
    struct smtp_client_rcpt *rcpts = arena_new(&s->arena, run->recipients * sizeof *rcpts);
    s->addresses = arena_new(&s->arena, run->recipients * sizeof *s->addresses);
    for (uint32_t i = 0; i < run->recipients; i++)
        rcpts[i].path = s->addresses[i] = expand(s, run->rcpt_pattern, number, i);
    make_header(s);
    s->transaction = (struct smtp_transaction){
        .reverse_path = run->sender,
        .rcpts = rcpts,
        .rcpts_count = run->recipients,
        .size = s->header.len + run->body.len,
        .content = give_content,
        .content_ctx = s,
    };
    s->sent_bytes = 0;
    s->accepted = s->refused = s->broken = 0;
    s->has_message = true;
}

static void add_digest(struct load_session *s, struct buf *out)
{
    uint8_t digest[32];
    struct load_run *run = s->run;
    if (!run->digest)
        run->digest = EVP_MD_CTX_new();
    CHECK(run->digest && EVP_DigestInit_ex(run->digest, EVP_sha256(), NULL) &&
          EVP_DigestUpdate(run->digest, s->header.at, s->header.len) &&
          EVP_DigestUpdate(run->digest, run->body.at, run->body.len) &&
          EVP_DigestFinal_ex(run->digest, digest, NULL));
    for (size_t i = 0; i < sizeof digest; i++)
        buf_printf(out, "%02x", digest[i]);
}

static void add_id_line(struct load_session *s)
{
    struct buf *out = s->run->ids;
    buf_add_cstr(out, "{\"at\":\"");
    wall_format(sys_wall(), out);
    buf_printf(out, "\",\"load_id\":\"%.*s\",\"id\":\"", BYTES_FMT(s->load_id));
    buf_add_json(out, buf_bytes(&s->queued_id));
    buf_printf(out, "\",\"size\":%zu,\"sha256\":\"", s->header.len + s->run->body.len);
    add_digest(s, out);
    buf_add_cstr(out, "\",\"recipients\":[");
    for (uint32_t i = 0; i < s->transaction.rcpts_count; i++) {
        buf_add_cstr(out, i ? ",\"" : "\"");
        buf_add_json(out, s->addresses[i]);
        buf_add_byte(out, '"');
    }
    buf_add_cstr(out, "]}\n");
    sys_at_turn_end(s->run->ids_end);
}

static void add_refused_line(struct load_session *s)
{
    buf_printf(s->run->refused, "{\"load_id\":\"%.*s\",\"code\":%u}\n", BYTES_FMT(s->load_id),
               s->refused_code);
    sys_at_turn_end(s->run->refused_end);
}

static void message_over(struct load_session *s)
{
    struct load_report *r = &s->run->report;
    struct mono now = sys_mono();
    s->has_message = false;
    r->last = now;
    r->messages++;
    r->bytes += s->sent_bytes;
    r->recipients_accepted += s->accepted;
    r->recipients_refused += s->refused;
    if (s->accepted) {
        r->accepted++;
        load_report_latency(r, (uint64_t)(now.us - s->started.us));
    } else if (s->broken) {
        r->messages_broken++;
    } else {
        r->messages_refused++;
    }
    if (s->accepted && s->run->ids)
        add_id_line(s);
    // With a recipient that was told nothing, nobody knows what became of the message.
    if (!s->accepted && !s->broken && s->run->refused)
        add_refused_line(s);
}

// ---- the session's handlers --------------------------------------------------------------------

static void quit(struct load_session *s)
{
    s->ready = false;
    smtp_client_quit(s->smtp, sys_mono());
}

static void leave_idlers(struct load_session *s)
{
    s->run->idle_count -= s->idles;
    s->idles = false;
}

static void join_idlers(struct load_session *s)
{
    struct load_run *run = s->run;
    s->idles = true;
    if (run->idle_opened < run->idle) {
        run->idle_opened++;
        load_session_start(run);
    }
    if (++run->idle_count == run->idle && run->on_idle) {
        run->on_idle(run);
        run->on_idle = NULL;
    }
}

// Sends the next message, waits for its time, or says goodbye.
static void next_message(struct load_session *s)
{
    struct load_run *run = s->run;
    struct mono now = sys_mono(), start = next_start(run);
    bool enough =
        run->messages_per_connection && s->on_this_connection >= run->messages_per_connection;
    if (run->taken >= run->count || enough) {
        quit(s);
        return;
    }
    if (!mono_reached(start, now)) {
        s->waits = true;
        sys_timer_set(&s->timer, start);
        return;
    }
    make_message(s);
    s->on_this_connection++;
    s->started = now;
    if (!run->report.first.us)
        run->report.first = now;
    smtp_client_send(s->smtp, &s->transaction, now);
}

static void on_ready(void *ctx, const struct smtp_caps *caps)
{
    struct load_session *s = ctx;
    s->ready = true;
    s->retries = 0;
    if (s->run->idle && s->run->taken < s->run->count)
        join_idlers(s);
    else
        next_message(s);
}

// The relay names the message in the last word of its reply.
static void keep_queued_id(struct load_session *s, struct bytes text)
{
    ptrdiff_t space = bytes_find_last(text, ' ');
    buf_clear(&s->queued_id);
    buf_add(&s->queued_id, bytes_skip(text, (size_t)(space + 1)));
}

static void on_outcome(void *ctx, uint32_t rcpt, const struct smtp_outcome *outcome)
{
    struct load_session *s = ctx;
    struct load_report *r = &s->run->report;
    if (outcome->err) {
        s->broken++;
        if (-outcome->err < LOAD_ERRORS)
            r->errors[-outcome->err]++;
        return;
    }
    uint16_t code = outcome->reply->code;
    r->replies[code < COUNT_OF(r->replies) ? code : 0]++;
    if (code < 300) {
        s->accepted++;
        keep_queued_id(s, outcome->reply->text);
    } else {
        s->refused++;
        s->refused_code = code;
    }
}

static void on_done(void *ctx, bool reusable)
{
    struct load_session *s = ctx;
    message_over(s);
    if (reusable)
        next_message(s);
}

static void on_failed(void *ctx, const struct smtp_outcome *why)
{
    struct load_session *s = ctx;
    struct load_report *r = &s->run->report;
    bool never_open = !s->ready;
    s->ready = false;
    s->retries += never_open;
    r->connections_failed += never_open;
    if (never_open && why->err && -why->err < LOAD_ERRORS)
        r->errors[-why->err]++;
    if (never_open && why->reply)
        r->replies[why->reply->code < COUNT_OF(r->replies) ? why->reply->code : 0]++;
}

static const struct smtp_client_handlers handlers = {on_ready, on_outcome, on_done, on_failed};

// ---- the connection ----------------------------------------------------------------------------

static void session_free(struct sys_turn_end *end)
{
    struct load_session *s = container_of(end, struct load_session, reap);
    struct load_run *run = s->run;
    arena_done(&s->arena);
    buf_done(&s->header);
    buf_done(&s->queued_id);
    list_remove(&s->link);
    free(s);
    if (list_is_empty(&run->sessions) && run->on_over)
        run->on_over(run);
}

// The connection is closed: the next one, or the end.
static void connection_over(struct load_session *s, bool abort)
{
    sys_timer_stop(&s->timer);
    s->waits = false;
    leave_idlers(s);
    if (s->net)
        net_conn_close(s->net, abort);
    if (s->smtp)
        smtp_client_free(s->smtp);
    s->net = NULL;
    s->smtp = NULL;
    if (s->run->taken < s->run->count && s->retries < LOAD_RETRIES) {
        sys_timer_set(&s->timer, mono_add_ms(sys_mono(), s->retries ? LOAD_RETRY_MS : 0));
    } else {
        s->ended = true;
        sys_at_turn_end(&s->reap);
    }
}

static void start_tls(struct load_session *s)
{
    struct net_tls_client_params params = {.server_name = s->run->server_name};
    if (s->run->resume)
        params.session_key = BYTES("load");
    net_conn_start_tls_client(s->net, s->run->tls_client, &params);
}

static void start_smtp(struct load_session *s)
{
    const struct load_run *run = s->run;
    s->config = (struct smtp_client_config){
        .helo_name = run->helo,
        .lmtp = run->lmtp,
        .tls = run->tls == LOAD_TLS_NONE       ? SMTP_CLIENT_TLS_NEVER
               : run->tls == LOAD_TLS_STARTTLS ? SMTP_CLIENT_TLS_REQUIRED
                                               : SMTP_CLIENT_TLS_ACTIVE,
        .login = run->login,
        .password = run->password,
        .auth_without_tls = true,
        // no random: PLAIN, which goes with every password
    };
    s->smtp = smtp_client_new(&s->config, &handlers, s, sys_mono());
    s->run->report.connections++;
    act(s);
}

// Writes what the session has, does what it wants.
static void act(struct load_session *s)
{
    struct buf *out = smtp_client_output(s->smtp);
    while (out->len && !net_conn_is_full(s->net)) {
        net_conn_write(s->net, buf_bytes(out));
        buf_clear(out);
        smtp_client_more(s->smtp, sys_mono());
    }
    net_conn_deadline(s->net, smtp_client_deadline(s->smtp));
    switch (smtp_client_wants(s->smtp)) {
    case SMTP_CLIENT_INPUT:
        break;
    case SMTP_CLIENT_TLS:
        start_tls(s);
        break;
    case SMTP_CLIENT_CLOSE:
        connection_over(s, false);
        break;
    }
}

static void on_connected(void *ctx)
{
    struct load_session *s = ctx;
    if (s->run->tls == LOAD_TLS_IMPLICIT)
        start_tls(s);
    else
        start_smtp(s);
}

static size_t on_data(void *ctx, struct bytes data)
{
    struct load_session *s = ctx;
    if (!s->smtp)
        return 0;
    size_t len = data.len;
    smtp_client_feed(s->smtp, data, sys_mono());
    act(s);
    return len;
}

static void on_drained(void *ctx)
{
    struct load_session *s = ctx;
    if (s->smtp)
        act(s);
}

static void connection_failed(struct load_session *s, int err)
{
    struct load_report *r = &s->run->report;
    r->connections_failed++;
    if (-err < LOAD_ERRORS)
        r->errors[-err]++;
    s->retries++;
    connection_over(s, false);
}

static void on_tls_done(void *ctx, const struct net_tls_result *result)
{
    struct load_session *s = ctx;
    s->run->report.resumed += result->resumed;
    if (!s->smtp && result->err) {
        connection_failed(s, result->err);
    } else if (!s->smtp) {
        start_smtp(s);
    } else {
        if (result->err)
            smtp_client_tls_failed(s->smtp);
        else
            smtp_client_tls_started(s->smtp, sys_mono());
        act(s);
    }
}

static void on_deadline(void *ctx)
{
    struct load_session *s = ctx;
    if (!s->smtp)
        return;
    smtp_client_tick(s->smtp, sys_mono());
    act(s);
}

static void on_end(void *ctx, int err)
{
    struct load_session *s = ctx;
    if (!s->smtp) {
        connection_failed(s, err);
        return;
    }
    smtp_client_hangup(s->smtp, err);
    connection_over(s, false);
}

static const struct net_conn_events events = {.on_connected = on_connected,
                                              .on_data = on_data,
                                              .on_drained = on_drained,
                                              .on_tls_done = on_tls_done,
                                              .on_deadline = on_deadline,
                                              .on_end = on_end};

static void connection_open(struct load_session *s)
{
    s->ready = false;
    s->on_this_connection = 0;
    s->net = net_conn_connect(&s->run->to, NULL, &events, s);
}

static void on_timer(struct sys_timer *timer)
{
    struct load_session *s = container_of(timer, struct load_session, timer);
    if (!s->net) {
        connection_open(s);
    } else if (s->waits) {
        s->waits = false;
        next_message(s);
        act(s);
    }
}

void load_session_start(struct load_run *run)
{
    struct load_session *s = mem_new(sizeof *s);
    s->run = run;
    s->timer.fire = on_timer;
    s->reap.fn = session_free;
    list_push_back(&run->sessions, &s->link);
    connection_open(s);
}

static void end_idling(struct load_session *s)
{
    leave_idlers(s);
    quit(s);
    act(s);
}

// A server that does not greet, or is away, has no message of ours.
void load_run_stop(struct load_run *run)
{
    run->count = run->taken;
    list_each(link, &run->sessions)
    {
        struct load_session *s = list_get(link, struct load_session, link);
        if (s->idles)
            end_idling(s);
        else if (!s->ready && !s->has_message && !s->ended)
            connection_over(s, true);
    }
}
