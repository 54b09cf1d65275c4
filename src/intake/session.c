// SPDX-License-Identifier: MIT
//
// How it works: a session ties a connection to an smtp_server. Whatever happens ends in pump(), which writes output
// and does what the server wants; the session is freed only there or by intake, never in a handler.
#include <stdlib.h>

#include "intake/intake_private.h"
#include "intake/returns.h"
#include "intake/submission.h"
#include "store/store_proof.h"

#define PROXY_HEADER_TIMEOUT_MS 5000 // two retransmissions of its segment

static void pump(struct session *s);

static struct smtp_server_start start_of(const struct session *s, bool tls)
{
    return (struct smtp_server_start){.tls = tls, .trusted = s->trusted};
}

// ---- the end ---------------------------------------------------------------------------------------------

void gate_leave(struct gate *g)
{
    if (g->sessions > 0 || g->listener)
        return;
    list_remove(&g->link);
    conf_part_release(g->tls_part);
    conf_snapshot_release(g->snapshot);
    free(g);
}

static void session_free(struct session *s)
{
    struct intake *in = s->gate->intake;
    if (s->auth)
        auth_cancel(s->auth);
    if (s->current)
        transaction_drop(s);
    returns_drop(s);
    smtp_server_free(s->server);
    net_conn_close(s->conn, false);
    net_limits_leave(&s->place);
    buf_done(&s->login);
    list_remove(&s->link);
    atomic_fetch_sub_explicit(&in->options.counters->sessions_open, 1, memory_order_relaxed);
    s->gate->sessions--;
    gate_leave(s->gate);
    free(s);
}

// ---- logins ----------------------------------------------------------------------------------------------

static void on_auth_done(void *ctx, enum auth_result result)
{
    struct session *s = ctx;
    struct intake_counters *counters = s->gate->intake->options.counters;
    s->auth = NULL;
    switch (result) {
    case AUTH_RIGHT:
        intake_count(&counters->logins, 1);
        session_answer(s, SMTP_REPLY_AUTH_OK, BYTES_NONE);
        return;
    case AUTH_WRONG:
        intake_count(&counters->logins_failed, 1);
        session_answer(s, SMTP_REPLY_AUTH_BAD, BYTES_NONE);
        return;
    case AUTH_SUSPENDED:
        intake_count(&counters->logins_failed, 1);
        session_answer(s, SMTP_REPLY_ACCOUNT_SUSPENDED, BYTES_NONE);
        return;
    case AUTH_TOO_MANY:
        session_answer(s, SMTP_REPLY_AUTH_TOO_MANY, BYTES_NONE);
        return;
    case AUTH_UNAVAILABLE:
        session_answer(s, SMTP_REPLY_AUTH_UNAVAILABLE, BYTES_NONE);
        return;
    }
}

// As the accounts are now: whoever proves to have its password has logged in with this one.
static const struct store_credential *find_credential(struct session *s)
{
    const struct store_credential *c =
        store_directory_credential(s->gate->intake->snapshot->accounts, buf_bytes(&s->login));
    s->login_mark = c ? c->mark : 0;
    return c;
}

// SCRAM, first step: the login may be tried, so the exchange goes on with its key or a made-up one.
static void on_may_try(void *ctx, enum auth_result result)
{
    struct session *s = ctx;
    if (result != AUTH_RIGHT) {
        on_auth_done(s, result);
        return;
    }
    s->auth = NULL;
    const struct store_credential *c = find_credential(s);
    smtp_server_answer_scram(s->server, c ? c->scram : NULL);
    session_resume(s);
}

// The credential whose key the client was asked about; NULL: it is gone, or was changed since.
static const struct store_credential *asked_credential(const struct session *s,
                                                       const struct conf_snapshot *snapshot)
{
    return store_directory_login(snapshot->accounts, buf_bytes(&s->login), s->login_mark);
}

// SCRAM, last step: the proof was right or not, and counts as such.
static void on_proof_counted(void *ctx, enum auth_result result)
{
    struct session *s = ctx;
    const struct store_credential *c = asked_credential(s, s->gate->intake->snapshot);
    on_auth_done(s, result == AUTH_RIGHT && !c ? AUTH_WRONG : result);
}

static void check_certificate(struct session *s, struct bytes wanted);

static void on_auth(void *ctx, const struct smtp_auth *auth)
{
    struct session *s = ctx;
    struct intake *in = s->gate->intake;
    const struct store_credential *c;
    buf_clear(&s->login);
    buf_add(&s->login, auth->login);
    struct auth_request request = {.peer = net_conn_peer(s->conn),
                                   .login = auth->login,
                                   .password = auth->password,
                                   .proven = auth->proven,
                                   .ctx = s};
    switch (auth->kind) {
    case SMTP_AUTH_PASSWORD:
        (void)find_credential(s);
        request.question = AUTH_PASSWORD;
        request.done = on_auth_done;
        break;
    case SMTP_AUTH_EXTERNAL: // nobody guesses a key: nothing is counted
        check_certificate(s, auth->login);
        return;
    case SMTP_AUTH_SCRAM:
        request.question = AUTH_MAY_TRY;
        request.done = on_may_try;
        break;
    case SMTP_AUTH_PROOF:
        c = asked_credential(s, in->snapshot);
        request.question = AUTH_PROVED;
        request.suspended = c && !store_account_is_active(c->account);
        request.done = on_proof_counted;
        break;
    }
    s->auth = auth_ask(in->options.auth, &request, in->snapshot);
}

// ---- the client that a proxy speaks for ---------------------------------------------------------------------

// What the client's certificate stands for: its hash, its key's, or a name in it that an authority signed.
static const struct store_credential *find_certificate(const struct session *s,
                                                       const struct store_directory *accounts)
{
    struct net_tls_peer peer = {0};
    struct buf names = {0};
    struct bytes name, rest;
    if (s->gate->conf->client_certificates && !s->told)
        net_conn_certificate(s->conn, &peer, &names);
    const struct store_credential *c =
        peer.given ? store_directory_certificate(accounts, peer.certificate_sha256) : NULL;
    if (!c && peer.given)
        c = store_directory_certificate(accounts, peer.key_sha256);
    rest = buf_bytes(&names);
    while (!c && peer.verified && bytes_cut(&rest, '\n', &name))
        c = store_directory_certificate_name(accounts, name);
    buf_done(&names);
    return c && store_account_is_active(c->account) ? c : NULL;
}

const struct store_credential *session_known_as(const struct session *s,
                                                const struct conf_snapshot *snapshot)
{
    const struct conf_listener *l = s->gate->conf;
    const struct sys_addr *peer = net_conn_peer(s->conn);
    const struct store_credential *c = NULL;
    if (l->role == CONF_ROLE_BOUNCES || l->is_local)
        return NULL;
    if (l->client_certificates == CONF_CLIENT_CERTIFICATES_LOGIN)
        c = find_certificate(s, snapshot->accounts);
    bool is_ip = peer->kind == SYS_ADDR_IP4 || peer->kind == SYS_ADDR_IP6;
    if (!c && is_ip && !s->is_nobody)
        c = store_directory_network(snapshot->accounts, peer->ip, peer->kind == SYS_ADDR_IP6);
    return c;
}

static struct smtp_server_rights rights_of(const struct session *s)
{
    const struct conf_snapshot *snapshot = s->gate->intake->snapshot;
    return (struct smtp_server_rights){
        .trusted = s->trusted,
        .known = session_known_as(s, snapshot) != NULL,
        .external = find_certificate(s, snapshot->accounts) != NULL,
        .xclient = s->may_xclient,
        .xclient_login =
            s->may_xclient && (s->gate->conf->xclient_login || s->gate->conf->is_local),
    };
}

// AUTH EXTERNAL: as what the certificate stands for, which may be named by its login or its account.
static void check_certificate(struct session *s, struct bytes wanted)
{
    const struct store_credential *c = find_certificate(s, s->gate->intake->snapshot->accounts);
    bool right = c && (!wanted.len || bytes_eq(wanted, c->login) ||
                       bytes_eq_nocase(wanted, c->account->name));
    if (right) {
        buf_clear(&s->login);
        buf_add(&s->login, c->login);
        s->login_mark = c->mark;
    }
    on_auth_done(s, right ? AUTH_RIGHT : AUTH_WRONG);
}

// An address that is not known is none. False: it is no address.
static bool take_end(const struct smtp_xclient *x, enum smtp_xclient_name address,
                     enum smtp_xclient_name port, struct sys_addr *end)
{
    if (x->value[address].len && sys_addr_parse_ip(x->value[address], 0, end) != OK)
        return false;
    if (x->given[address] && !x->value[address].len)
        *end = (struct sys_addr){.kind = SYS_ADDR_NONE};
    if (x->given[port])
        end->port = x->port[port];
    return true;
}

// Its address decides anew; a client whose address is not known has no rights.
static void tell_client(struct session *s, const struct sys_addr *peer,
                        const struct sys_addr *local)
{
    const struct conf_listener *l = s->gate->conf;
    net_conn_tell_ends(s->conn, peer, local);
    s->told = true;
    s->is_nobody = peer->kind == SYS_ADDR_NONE;
    s->trusted = net_cidr_any_has(l->trusted, l->trusted_count, peer);
    s->admission = net_limits_move(&s->place, peer, s->trusted);
}

static void set_user(struct session *s, uint32_t uid)
{
    s->uid = uid;
    buf_clear(&s->login);
    buf_printf(&s->login, "uid:%u", uid);
}

// The pickup directory, which is of this process, speaks for a file's owner.
static bool take_user(struct session *s, struct bytes login)
{
    uint64_t uid;
    if (!bytes_starts(login, BYTES("uid:")) ||
        bytes_to_u64(bytes_skip(login, 4), UINT32_MAX, &uid) != OK)
        return false;
    set_user(s, (uint32_t)uid);
    return true;
}

// The login that XCLIENT tells, or none.
static bool take_login(struct session *s, struct bytes login)
{
    if (s->gate->conf->is_local)
        return take_user(s, login);
    buf_clear(&s->login);
    buf_add(&s->login, login);
    const struct store_credential *c = find_credential(s);
    return !login.len || (c && store_account_is_active(c->account));
}

void session_on_xclient(void *ctx, const struct smtp_xclient *x)
{
    struct session *s = ctx;
    struct sys_addr peer = *net_conn_peer(s->conn), local = *net_conn_local(s->conn);
    struct bytes login = x->value[SMTP_XCLIENT_LOGIN];
    if (!take_end(x, SMTP_XCLIENT_ADDR, SMTP_XCLIENT_PORT, &peer)) {
        session_answer(s, SMTP_REPLY_XCLIENT_VALUE, BYTES("ADDR"));
    } else if (!take_end(x, SMTP_XCLIENT_DESTADDR, SMTP_XCLIENT_DESTPORT, &local)) {
        session_answer(s, SMTP_REPLY_XCLIENT_VALUE, BYTES("DESTADDR"));
    } else if (!take_login(s, login)) {
        session_answer(s, SMTP_REPLY_XCLIENT_LOGIN, login);
    } else {
        tell_client(s, &peer, &local);
        if (s->admission == NET_ADMITTED)
            smtp_server_answer_xclient(s->server, rights_of(s),
                                       login.len && !s->gate->conf->is_local);
        else
            smtp_server_answer(s->server, SMTP_REPLY_TOO_MANY_CONNECTIONS, BYTES_NONE);
        session_resume(s);
    }
}

// ---- refused commands ---------------------------------------------------------------------------------------

struct bytes session_place(const struct session *s)
{
    const struct sys_addr *peer = net_conn_peer(s->conn);
    return s->gate->conf->is_local ? buf_bytes(&s->login)
                                   : bytes_of(peer->ip, peer->kind == SYS_ADDR_IP6 ? 8 : 4);
}

// Who is refused again and again may not fill the disk so.
static bool may_log_refusal(const struct session *s)
{
    struct rate_groups *rates = s->gate->intake->options.refusal_rates;
    return !rates || rate_groups_take(rates, session_place(s), INTAKE_REFUSALS_LOGGED, sys_mono());
}

void session_on_refused(void *ctx, const struct smtp_refusal *refusal)
{
    const struct session *s = ctx;
    struct intake *in = s->gate->intake;
    const struct smtp_reply_row *row = smtp_reply_row(refusal->reply);
    bool is_local = s->gate->conf->is_local;
    char client[SYS_ADDR_TEXT];
    if (!may_log_refusal(s)) {
        in->refusals_unlogged++;
        return;
    }
    if (in->refusals_unlogged)
        log_info("refused commands not logged", LOG_INT("count", in->refusals_unlogged));
    in->refusals_unlogged = 0;
    log_info(
        "command refused", LOG_CSTR("command", refusal->command),
        LOG_STR("argument", refusal->argument), LOG_STR("from", transaction_sender(s)),
        LOG_INT("code", row->code), LOG_CSTR("reply", row->name), LOG_STR("detail", refusal->slot),
        LOG_STR("login", is_local || smtp_server_is_authenticated(s->server) ? buf_bytes(&s->login)
                                                                             : BYTES_NONE),
        LOG_CSTR("client", is_local ? "unix" : sys_addr_format(net_conn_peer(s->conn), client)),
        LOG_STR("listener", s->gate->conf->name));
}

// ---- handlers of the server ------------------------------------------------------------------------------

static void on_mail(void *ctx, const struct smtp_mail *mail)
{
    transaction_on_mail(ctx, mail);
}
static void on_rcpt(void *ctx, const struct smtp_rcpt *rcpt)
{
    transaction_on_rcpt(ctx, rcpt);
}
static void on_content(void *ctx, bool chunked)
{
    (void)chunked;
    transaction_on_data(ctx);
}
static void on_body(void *ctx, struct bytes piece)
{
    transaction_on_body(ctx, piece);
}
static void on_body_end(void *ctx, const struct smtp_content_facts *facts)
{
    transaction_on_body_end(ctx, facts);
}
static void on_reset(void *ctx, enum smtp_reset why)
{
    (void)why;
    transaction_drop(ctx);
}

static void on_bindings(void *ctx, struct sasl_bindings *out)
{
    net_conn_bindings(((struct session *)ctx)->conn, out);
}

static const struct smtp_server_handlers SERVER_HANDLERS = {.on_bindings = on_bindings,
                                                            .on_auth = on_auth,
                                                            .on_xclient = session_on_xclient,
                                                            .on_mail = on_mail,
                                                            .on_rcpt = on_rcpt,
                                                            .on_data = on_content,
                                                            .on_body = on_body,
                                                            .on_body_end = on_body_end,
                                                            .on_refused = session_on_refused,
                                                            .on_reset = on_reset};

void session_answer(struct session *s, enum smtp_reply_id reply, struct bytes slot)
{
    smtp_server_answer(s->server, reply, slot);
    session_resume(s);
}

// What held the server back is over: its client's time runs again, and what it sent meanwhile is offered.
static void offer_again(struct session *s)
{
    s->in_pump = true;
    (void)!smtp_server_feed(s->server, BYTES_NONE, sys_mono());
    s->in_pump = false;
    net_conn_read(s->conn, true);
}

// An answer came: what the client sent meanwhile can go on. Inside feed() there is nothing to do.
void session_resume(struct session *s)
{
    if (s->in_pump)
        return;
    offer_again(s);
    pump(s);
}

// ---- events of the connection ----------------------------------------------------------------------------

static size_t on_data(void *ctx, struct bytes data)
{
    struct session *s = ctx;
    s->in_pump = true;
    size_t used = smtp_server_feed(s->server, data, sys_mono());
    s->in_pump = false;
    // What waits for a decision is offered again once it is made; until then reading would only fill memory.
    pump(s);
    return used;
}

static void on_drained(void *ctx)
{
    struct session *s = ctx;
    s->deaf_since = (struct mono){0};
    offer_again(s);
    pump(s);
}

static void start_tls(struct session *s)
{
    if (s->gate->conf->client_certificates)
        net_conn_start_tls_server_asking(s->conn, s->gate->tls);
    else
        net_conn_start_tls_server(s->conn, s->gate->tls);
}

// A certificate that nobody knows is no error, but whoever set it up will ask why it has no effect.
static void look_at_certificate(struct session *s)
{
    struct net_tls_peer peer;
    struct smtp_server_rights rights = rights_of(s);
    net_conn_certificate(s->conn, &peer, NULL);
    smtp_server_set_rights(s->server, rights);
    if (!peer.given || rights.external)
        return;
    struct buf text = {0};
    char ip[SYS_ADDR_TEXT];
    store_proof_format_hash(peer.certificate_sha256, &text);
    log_info("client certificate is no credential", LOG_STR("certificate", buf_bytes(&text)),
             LOG_CSTR("verified", peer.verified ? "yes" : "no"),
             LOG_CSTR("client", sys_addr_format_ip(net_conn_peer(s->conn), ip)));
    buf_done(&text);
}

static void on_tls_done(void *ctx, const struct net_tls_result *result)
{
    struct session *s = ctx;
    if (result->err) {
        char ip[SYS_ADDR_TEXT];
        log_info("TLS handshake failed",
                 LOG_CSTR("client", sys_addr_format_ip(net_conn_peer(s->conn), ip)),
                 LOG_CSTR("because", result->reason));
        s->over = true;
        pump(s);
        return;
    }
    intake_count(&s->gate->intake->options.counters->tls_sessions, 1);
    if (s->gate->conf->client_certificates)
        look_at_certificate(s);
    if (s->gate->conf->tls == CONF_TLS_IMPLICIT)
        smtp_server_greet(s->server, sys_mono());
    else
        smtp_server_tls_started(s->server, sys_mono());
    pump(s);
}

static void refuse_proxy(struct session *s, const char *why)
{
    char ip[SYS_ADDR_TEXT];
    log_warn("connection without a PROXY header refused", LOG_STR("listener", s->gate->conf->name),
             LOG_CSTR("peer", sys_addr_format_ip(net_conn_peer(s->conn), ip)),
             LOG_CSTR("because", why));
    intake_count(&s->gate->intake->options.counters->sessions_refused, 1);
    s->over = true;
}

static void on_deadline(void *ctx)
{
    struct session *s = ctx;
    if (s->awaits_proxy)
        refuse_proxy(s, "no PROXY header came");
    else if (s->deaf_since.us)
        s->over = true; // it would not read the reason either
    else
        smtp_server_tick(s->server, sys_mono());
    pump(s);
}

static void on_end(void *ctx, int err)
{
    (void)err;
    struct session *s = ctx;
    smtp_server_hangup(s->server);
    s->over = true;
    pump(s);
}

static void on_proxied(void *ctx, const struct net_proxy_header *header);

static const struct net_conn_events CONN_EVENTS = {NULL,        on_data, on_drained, on_tls_done,
                                                   on_deadline, on_end,  on_proxied};

static void write_output(struct session *s)
{
    struct buf *out = smtp_server_output(s->server);
    if (out->len && !s->over)
        net_conn_write(s->conn, buf_bytes(out));
    buf_clear(out);
}

// A client that takes no output is not read from until it has taken all of it, for which it has the time of a
// command. Else what the server did not want for the sake of its own output is offered again.
static void mind_the_client(struct session *s, bool drains)
{
    struct mono now = sys_mono();
    bool deaf = net_conn_is_full(s->conn);
    if (!deaf)
        s->deaf_since = (struct mono){0};
    else if (!s->deaf_since.us)
        s->deaf_since = now;
    if (deaf)
        net_conn_read(s->conn, false);
    else if (drains)
        offer_again(s);
    net_conn_deadline(s->conn, deaf ? mono_add_ms(s->deaf_since, s->gate->config.command_timeout_ms)
                                    : smtp_server_deadline(s->server));
}

static void pump(struct session *s)
{
    bool drains = smtp_server_wants(s->server) == SMTP_SERVER_DRAIN;
    write_output(s);
    switch (smtp_server_wants(s->server)) {
    case SMTP_SERVER_TLS:
        if (!s->tls_started) {
            s->tls_started = true;
            start_tls(s);
        }
        break;
    case SMTP_SERVER_CLOSE:
        s->over = true;
        break;
    case SMTP_SERVER_INPUT:
    case SMTP_SERVER_DECISION:
    case SMTP_SERVER_DRAIN:
        break;
    }
    if (s->over)
        session_free(s);
    else if (!s->awaits_proxy)
        mind_the_client(s, drains);
}

// ---- beginnings --------------------------------------------------------------------------------------------

// Who it is, is known now, or that nobody knows.
static void begin(struct session *s, bool is_known)
{
    const struct conf_listener *l = s->gate->conf;
    bool implicit = l->tls == CONF_TLS_IMPLICIT;
    s->is_nobody = !is_known;
    if (!l->is_local)
        s->may_xclient =
            is_known && net_cidr_any_has(l->xclient, l->xclient_count, net_conn_peer(s->conn));
    smtp_server_set_rights(s->server, rights_of(s));
    if (s->admission != NET_ADMITTED) {
        intake_count(&s->gate->intake->options.counters->sessions_refused, 1);
        enum smtp_reply_id refusal =
            s->admission == NET_TOTAL_FULL ? SMTP_REPLY_BUSY : SMTP_REPLY_TOO_MANY_CONNECTIONS;
        smtp_server_close(s->server, implicit ? SMTP_REPLY_NONE : refusal, BYTES_NONE);
    } else if (implicit) {
        start_tls(s);
    } else {
        smtp_server_greet(s->server, sys_mono());
    }
}

static void on_proxied(void *ctx, const struct net_proxy_header *header)
{
    struct session *s = ctx;
    const struct conf_listener *l = s->gate->conf;
    const struct sys_addr *peer = net_conn_peer(s->conn);
    s->awaits_proxy = false;
    if (header->why[0]) {
        refuse_proxy(s, header->why);
    } else {
        // A client whose address nobody knows is not to have the proxy's rights.
        bool is_known = header->whose != NET_PROXY_NOBODYS;
        s->trusted = is_known && net_cidr_any_has(l->trusted, l->trusted_count, peer);
        if (s->admission == NET_ADMITTED)
            s->admission = net_limits_move(&s->place, peer, s->trusted);
        begin(s, is_known);
    }
    pump(s);
}

static void on_accept(void *ctx, struct sys_stream *stream, bool is_trusted,
                      enum net_admission admission, struct net_place place)
{
    struct gate *g = ctx;
    struct intake *in = g->intake;
    struct session *s = mem_new(sizeof *s);
    s->gate = g;
    s->place = place;
    s->trusted = is_trusted && !g->conf->proxy_count;
    s->admission = admission;
    g->sessions++;
    list_push_back(&in->sessions, &s->link);
    intake_count(&in->options.counters->sessions, 1);
    atomic_fetch_add_explicit(&in->options.counters->sessions_open, 1, memory_order_relaxed);
    uint32_t uid = UINT32_MAX; // nobody's
    if (g->conf->is_local) {
        (void)sys_stream_peer_user(stream, &uid, &s->may_xclient);
        set_user(s, uid);
    }
    s->conn = net_conn_accept(stream, &CONN_EVENTS, s);
    bool bounces = g->conf->role == CONF_ROLE_BOUNCES;
    s->server = smtp_server_new(&g->config, start_of(s, g->conf->tls == CONF_TLS_IMPLICIT),
                                bounces ? &RETURNS_HANDLERS : &SERVER_HANDLERS, s, sys_mono());
    if (!g->conf->proxy_count) {
        begin(s, true);
    } else if (!is_trusted) {
        refuse_proxy(s, "its address is none of the listener's proxies");
    } else {
        s->awaits_proxy = true;
        net_conn_await_proxy(s->conn);
        net_conn_deadline(s->conn, mono_add_ms(sys_mono(), PROXY_HEADER_TIMEOUT_MS));
    }
    pump(s);
}

static void random_bytes(void *ctx, void *out, size_t n)
{
    (void)ctx;
    sys_random(out, n);
}

static enum smtp_auth_policy auth_policy(enum conf_auth auth)
{
    static const enum smtp_auth_policy MAP[] = {[CONF_AUTH_REQUIRED] = SMTP_AUTH_REQUIRED,
                                                [CONF_AUTH_OPTIONAL] = SMTP_AUTH_OPTIONAL,
                                                [CONF_AUTH_NONE] = SMTP_AUTH_NONE};
    return MAP[auth];
}

void intake_open_gate(struct intake *in, const struct conf_listener *listener, int fd,
                      struct net_tls_server *tls, struct conf_part *tls_part)
{
    const struct conf *conf = in->snapshot->conf;
    struct gate *g = mem_new(sizeof *g);
    g->intake = in;
    g->snapshot = conf_snapshot_hold(in->snapshot);
    g->conf = listener;
    g->tls = tls;
    g->tls_part = tls_part ? conf_part_hold(tls_part) : NULL;
    g->config = (struct smtp_server_config){
        .hostname = conf->hostname,
        .auth = auth_policy(listener->auth),
        .starttls = listener->tls == CONF_TLS_STARTTLS && tls,
        .message_size_max = conf->limits.message_size,
        .recipients_max = conf->limits.recipients,
        .mails_max = conf->limits.session_messages,
        .text_line_max =
            listener->submission == CONF_SUBMISSION_OFF || listener->is_local ? 0 : 998,
        .command_timeout_ms = conf->limits.command_timeout_ms,
        .scheduling = listener->role == CONF_ROLE_SUBMISSION,
        .scheduling_for_all = listener->account.len > 0 || listener->is_local,
        .hold_max_s = SUBMISSION_SEND_AT_MAX_MS / 1000,
        .deliver_by_min_s = (uint32_t)(conf->limits.deliver_by_ms / 1000),
        .wall = sys_wall,
        .random = random_bytes,
    };
    if (listener->role == CONF_ROLE_BOUNCES) {
        g->config.message_size_max = conf->bounce.message_size;
        g->config.recipients_max = RETURNS_RECIPIENTS_MAX;
        g->config.no_binarymime = true;
    }
    memcpy(g->config.scram_secret, in->options.scram_secret, sizeof g->config.scram_secret);
    list_push_back(&in->gates, &g->link);
    // Of proxies only their clients are counted by address, once these are known.
    bool proxied = listener->proxy_count > 0;
    g->listener = net_listener_open(&(struct net_listener_conf){
        .fd = fd,
        .limits = in->options.limits,
        .worker = in->options.worker,
        .workers = in->options.workers,
        .trusted = proxied ? listener->proxy : listener->trusted,
        .trusted_count = proxied ? listener->proxy_count : listener->trusted_count,
        .on_accept = on_accept,
        .ctx = g});
}

struct intake *intake_new(const struct intake_options *options, struct conf_snapshot *snapshot)
{
    struct intake *in = mem_new(sizeof *in);
    in->options = *options;
    in->snapshot = conf_snapshot_hold(snapshot);
    list_init(&in->gates);
    list_init(&in->sessions);
    list_init(&in->transactions);
    list_init(&in->returns);
    return in;
}

void intake_free(struct intake *in)
{
    CHECK(list_is_empty(&in->sessions));
    list_each(link, &in->gates)
    {
        struct gate *g = list_get(link, struct gate, link);
        if (g->listener)
            net_listener_close(g->listener);
        g->listener = NULL;
        gate_leave(g);
    }
    conf_snapshot_release(in->snapshot);
    free(in);
}

static void retire_gates(struct intake *in)
{
    list_each(link, &in->gates)
    {
        struct gate *g = list_get(link, struct gate, link);
        if (!g->listener)
            continue;
        net_listener_close(g->listener);
        g->listener = NULL;
        gate_leave(g);
    }
}

void intake_set_accounts(struct intake *in, struct conf_snapshot *snapshot)
{
    struct conf_snapshot *old = in->snapshot;
    in->snapshot = conf_snapshot_hold(snapshot);
    conf_snapshot_release(old);
}

void intake_set_snapshot(struct intake *in, struct conf_snapshot *snapshot)
{
    retire_gates(in);
    intake_set_accounts(in, snapshot);
}

void intake_stop(struct intake *in)
{
    in->stopping = true;
    retire_gates(in);
    list_each(link, &in->sessions)
    {
        struct session *s = list_get(link, struct session, link);
        smtp_server_shutdown(s->server);
        pump(s);
    }
}

bool intake_is_idle(const struct intake *in)
{
    return list_is_empty(&in->sessions) && list_is_empty(&in->transactions) &&
           list_is_empty(&in->returns);
}

void intake_abort(struct intake *in)
{
    list_each(link, &in->sessions)
    {
        struct session *s = list_get(link, struct session, link);
        if (transaction_is_committing(s) || returns_is_committing(s))
            continue; // a 421 would make it send again what is kept; it ends with its answer
        smtp_server_close(s->server, SMTP_REPLY_SHUTDOWN, BYTES_NONE);
        pump(s);
    }
}
