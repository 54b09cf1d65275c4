// SPDX-License-Identifier: MIT
#include "sim_site.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/list.h"
#include "mail/mail_encode.h"
#include "net/net_conn.h"
#include "net/tls_certificate.h"
#include "sim.h"

#define LOG_BYTES 16384

struct session {
    struct list link; // of the site's
    struct sim_site *site;
    struct net_conn *conn;
    struct sys_timer greeting;
    bool data, over, secure, deaf;
    uint32_t strikes;
    char who[128];
};

struct sim_site {
    struct sim_site_options options;
    struct sys_addr address;
    struct net_tls_server *tls;
    struct list sessions;
    struct sys_task start;
    int fd;
    uint32_t count, starttls_count;
    char log[LOG_BYTES];
};

// "AUTH PLAIN" and base64 of NUL, login, NUL, password: as "login:password".
static void take_login(struct session *s, struct bytes encoded)
{
    struct buf text = {0};
    CHECK(mail_base64_decode(encoded, &text) == OK && text.len > 2 && text.at[0] == '\0');
    struct bytes rest = bytes_skip(buf_bytes(&text), 1), login;
    CHECK(bytes_cut(&rest, '\0', &login));
    snprintf(s->who, sizeof s->who, "%.*s:%.*s", BYTES_FMT(login), BYTES_FMT(rest));
    buf_done(&text);
}

static void take_recipient(struct session *s, struct bytes line)
{
    struct sim_site *site = s->site;
    ptrdiff_t from = bytes_find(line, '<'), to = bytes_find(line, '>');
    CHECK(from >= 0 && to > from);
    size_t used = strlen(site->log);
    snprintf(site->log + used, sizeof site->log - used, "%s %s %.*s\n", s->who[0] ? s->who : "-",
             s->secure ? ">>" : ">", (int)(to - from - 1), line.at + from + 1);
}

static const char *answer_recipient(struct session *s, struct bytes line)
{
    if (s->site->options.strikes && bytes_search(line, BYTES("<no")) >= 0) {
        s->over = s->strikes++ == s->site->options.strikes;
        return s->over ? "421 4.7.0 too many of these\r\n" : "550 5.1.1 nobody of that name\r\n";
    }
    take_recipient(s, line);
    return "250 2.1.5 fine\r\n";
}

static const char *answer_starttls(struct session *s)
{
    enum sim_starttls starttls = s->site->options.starttls;
    s->site->starttls_count++;
    if (starttls == SIM_STARTTLS_REFUSED)
        return "454 4.7.0 TLS not available due to temporary reason\r\n";
    s->over = starttls == SIM_STARTTLS_CLOSED;
    s->deaf = starttls == SIM_STARTTLS_SILENT;
    s->secure = starttls == SIM_STARTTLS_WORKS;
    return s->over ? "" : "220 2.0.0 go ahead\r\n";
}

static const char *answer_ehlo(const struct session *s)
{
    const struct sim_site_options *o = &s->site->options;
    if (o->starttls && !s->secure)
        return "250-site\r\n250 STARTTLS\r\n";
    return o->wants_login ? "250-site\r\n250 AUTH PLAIN\r\n" : "250 site\r\n";
}

static const char *answer(struct session *s, struct bytes line)
{
    const struct sim_site_options *o = &s->site->options;
    if (s->data) {
        s->data = !bytes_eq(line, BYTES("."));
        return s->data ? "" : "250 2.0.0 taken\r\n";
    }
    if (bytes_starts(line, BYTES("EHLO")))
        return answer_ehlo(s);
    if (bytes_starts(line, BYTES("STARTTLS")))
        return answer_starttls(s);
    if (bytes_starts(line, BYTES("MAIL")) && o->wants_tls && !s->secure)
        return "530 5.7.0 Must issue a STARTTLS command first\r\n";
    if (bytes_starts(line, BYTES("AUTH PLAIN "))) {
        take_login(s, bytes_skip(line, 11));
        return "235 2.7.0 welcome\r\n";
    }
    if (bytes_starts(line, BYTES("MAIL")) && o->wants_login && !s->who[0])
        return "530 5.7.0 authentication required\r\n";
    if (bytes_starts(line, BYTES("RCPT")))
        return answer_recipient(s, line);
    s->data = bytes_starts(line, BYTES("DATA"));
    s->over = bytes_starts(line, BYTES("QUIT"));
    return s->data ? "354 go on\r\n" : s->over ? "221 2.0.0 bye\r\n" : "250 2.0.0 fine\r\n";
}

static void session_end(struct session *s)
{
    sys_timer_stop(&s->greeting);
    net_conn_close(s->conn, false);
    list_remove(&s->link);
    free(s);
}

static size_t on_data(void *ctx, struct bytes data)
{
    struct session *s = ctx;
    size_t used = s->deaf ? data.len : 0;
    bool secure = s->secure;
    for (ptrdiff_t end; !s->over && (end = bytes_find(bytes_skip(data, used), '\n')) >= 0;) {
        struct bytes line = bytes_trim(bytes_mid(data, used, (size_t)end));
        used += (size_t)end + 1;
        net_conn_write(s->conn, bytes_cstr(answer(s, line)));
    }
    if (s->secure && !secure)
        net_conn_start_tls_server(s->conn, s->site->tls);
    if (s->over)
        session_end(s);
    return used;
}

static void on_greeting(struct sys_timer *timer)
{
    struct session *s = container_of(timer, struct session, greeting);
    net_conn_write(s->conn, BYTES("220 site\r\n"));
}

static void on_tls_done(void *ctx, const struct net_tls_result *result)
{
    if (result->err)
        session_end(ctx);
}

static void on_end(void *ctx, int err)
{
    (void)err;
    session_end(ctx);
}

static void on_accept(void *ctx, struct sys_stream *stream)
{
    static const struct net_conn_events EVENTS = {
        .on_data = on_data, .on_tls_done = on_tls_done, .on_end = on_end};
    struct sim_site *site = ctx;
    struct session *s = mem_new(sizeof *s);
    s->site = site;
    s->conn = net_conn_accept(stream, &EVENTS, s);
    list_push_back(&site->sessions, &s->link);
    site->count++;
    if (site->options.tls)
        net_conn_start_tls_server(s->conn, site->tls);
    s->greeting.fire = on_greeting;
    sys_timer_set(&s->greeting, mono_add_ms(sys_mono(), site->options.greeting_ms));
}

static void run_start(struct sys_task *task)
{
    struct sim_site *site = container_of(task, struct sim_site, start);
    sys_listener_open(site->fd, on_accept, site);
}

static void boot(void *ctx)
{
    struct sim_site *site = ctx;
    site->fd = sim_listen(&site->address);
    site->start.run = run_start;
    sys_post(sys_loop_start("site"), &site->start);
}

static struct net_tls_server *make_tls(void)
{
    struct buf certificate = {0}, key = {0};
    struct net_tls_server *server;
    char reason[NET_TLS_REASON];
    CHECK(tls_certificate_make(BYTES("site.test"), &certificate, &key) == OK);
    CHECK(net_tls_server_new(buf_bytes(&certificate), buf_bytes(&key), &server, reason) == OK);
    buf_done(&certificate);
    buf_done(&key);
    return server;
}

struct sim_site *sim_site_start(const struct sim_site_options *options)
{
    struct sim_site *site = mem_new(sizeof *site);
    site->options = *options;
    CHECK(sys_addr_parse(bytes_cstr(options->address), &site->address) == OK);
    site->tls = options->tls || options->starttls ? make_tls() : NULL;
    list_init(&site->sessions);
    CHECK(sim_host_call(sim_host_new("site", &site->address), boot, site));
    return site;
}

void sim_site_stop(struct sim_site *site)
{
    if (!site)
        return;
    CHECK(list_is_empty(&site->sessions));
    net_tls_server_free(site->tls);
    free(site);
}

const char *sim_site_log(const struct sim_site *site)
{
    return site->log;
}

uint32_t sim_site_sessions(const struct sim_site *site)
{
    return site->count;
}

uint32_t sim_site_starttls(const struct sim_site *site)
{
    return site->starttls_count;
}

void sim_site_set_starttls(struct sim_site *site, enum sim_starttls starttls)
{
    site->options.starttls = starttls;
}
