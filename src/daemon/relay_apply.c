// SPDX-License-Identifier: MIT
//
// How it works: a configuration arrives as parts; at COMMIT all that it needs is prepared, and only when nothing
// failed is the old one replaced.
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bounce/bounce_rules.h"
#include "conf/conf_fixed.h"
#include "daemon/guard_files.h"
#include "daemon/guard_users.h"
#include "daemon/holds.h"
#include "daemon/relay_inside.h"
#include "daemon/signer.h"
#include "route/route.h"

#define AUTHORITIES_MAX ((size_t)16 << 20)

int relay_parse_config(struct bytes text, const char *path, struct conf_host *host,
                       struct conf **out, struct buf *errors)
{
    char folder[4096];
    if (!getcwd(folder, sizeof folder))
        return E_IO;
    struct buf full = {0};
    if (path && path[0] != '/')
        buf_printf(&full, "%s/", folder);
    buf_add_cstr(&full, path ? path : "/default");
    ptrdiff_t slash = bytes_find_last(buf_bytes(&full), '/');
    if (path)
        buf_truncate(&full, slash > 0 ? (size_t)slash : 1);
    int err = conf_load_on(host, text, path ? path : "default", path ? buf_cstr(&full) : folder,
                           out, errors);
    buf_done(&full);
    return err;
}

// ---- parts -----------------------------------------------------------------------------------------------

void relay_parts_clear(struct parts *p)
{
    buf_done(&p->config);
    buf_done(&p->certificate);
    buf_done(&p->started);
    relay_files_done(&p->files);
    buf_done(&p->users);
    for (size_t i = 0; i < p->count; i++)
        close(p->listeners[i].fd);
    if (p->http != -1)
        close(p->http);
    if (p->unsubscribe != -1)
        close(p->unsubscribe);
    *p = (struct parts){.http = -1, .unsubscribe = -1, .roles = {-1, -1}};
}

// The first part of each is CONFIG, or before that the text of the start: what is left of one that was broken off goes.
static void begin_again(struct parts *p)
{
    struct buf started = p->started;
    bool has_started = p->has_started, incomplete = has_started && p->incomplete;
    p->started = (struct buf){0};
    relay_parts_clear(p);
    p->started = started;
    p->has_started = has_started;
    p->incomplete = incomplete;
}

// A process that is short of descriptors gets a message without the one that came with it.
static bool is_incomplete(const struct channel_message *m)
{
    bool needs = m->kind == CHANNEL_CONFIG || m->kind == CHANNEL_STARTED ||
                 m->kind == CHANNEL_CERTIFICATE || m->kind == CHANNEL_LISTENER ||
                 m->kind == CHANNEL_HTTP;
    return m->cut || (needs && m->fd == -1);
}

static void take_contents(struct parts *p, struct channel_message *m, size_t max, struct buf *out)
{
    buf_done(out);
    if (m->fd == -1 || channel_read_contents(m->fd, max, out) != OK)
        p->incomplete = true;
    m->fd = -1;
}

static void take_http(int *at, int fd)
{
    if (*at != -1)
        close(*at);
    *at = fd;
}

// Keeps a part; true at COMMIT.
bool relay_parts_take(struct parts *p, struct channel_message *m)
{
    if (m->kind == CHANNEL_CONFIG)
        begin_again(p);
    p->incomplete |= is_incomplete(m);
    switch (m->kind) {
    case CHANNEL_CONFIG:
        take_contents(p, m, CONF_FILE_MAX, &p->config);
        snprintf(p->name, sizeof p->name, "%s", m->text);
        break;
    case CHANNEL_STARTED:
        take_contents(p, m, CONF_FILE_MAX, &p->started);
        p->has_started = true; // it may be empty
        break;
    case CHANNEL_HOST:
        snprintf(p->host.name, sizeof p->host.name, "%.255s", m->text);
        break;
    case CHANNEL_CERTIFICATE:
        take_contents(p, m, CONF_FILE_MAX, &p->certificate);
        p->key = (uint32_t)strtoul(m->text, NULL, 10);
        break;
    case CHANNEL_LISTENER:
        if (p->count < COUNT_OF(p->listeners)) {
            struct worker_listener *l = &p->listeners[p->count++];
            snprintf(l->name, sizeof l->name, "%.63s", m->text);
            l->fd = m->fd;
            m->fd = -1;
        }
        break;
    case CHANNEL_HTTP:
        take_http(m->text[0] ? &p->unsubscribe : &p->http, m->fd);
        m->fd = -1;
        break;
    case CHANNEL_ROLES:
        if (roles_parse(bytes_cstr(m->text), &p->roles) != OK) {
            log_error("the guard sent no roles");
            p->roles = (struct roles){-1, -1};
        }
        break;
    case CHANNEL_FILE:
        relay_files_take(&p->files, m);
        break;
    case CHANNEL_USER:
        buf_add_all(&p->users, bytes_cstr(m->text), BYTES("\n"));
        break;
    case CHANNEL_COMMIT:
        return true;
    default:
        break;
    }
    if (m->fd != -1)
        close(m->fd);
    return false;
}

// ---- applying a configuration ----------------------------------------------------------------------------

static void free_conf(void *value)
{
    conf_free(value);
}
static void free_routes(void *value)
{
    route_table_free(value);
}
static void free_directory(void *value)
{
    store_directory_free(value);
}
static void free_bounces(void *value)
{
    bounce_rules_free(value);
}
static void free_tls(void *value)
{
    net_tls_server_free(value);
}

// What a configuration becomes, before anything is replaced.
struct prepared {
    struct conf *conf;
    struct route_table *routes;
    struct bounce_rules *bounces;
    struct net_tls_server *tls;
};

static void prepared_free(struct prepared *p)
{
    net_tls_server_free(p->tls);
    bounce_rules_free(p->bounces);
    route_table_free(p->routes);
    conf_free(p->conf);
}

static int prepare_routes(struct relay *r, struct prepared *p, struct buf *errors)
{
    const struct route_table *old = r->snapshot ? r->snapshot->routes : NULL;
    uint32_t generation = old ? route_table_generation(old) + 1 : 1;
    struct route_files files = relay_files_reader(&r->parts.files);
    int err = route_table_new(p->conf, &files, generation, &p->routes, errors);
    if (err || !old || !route_table_same(old, p->routes))
        return err;
    // Nothing that queued mail could notice has changed.
    route_table_free(p->routes);
    return route_table_new(p->conf, &files, route_table_generation(old), &p->routes, errors);
}

static int prepare_bounces(struct relay *r, struct prepared *p, struct buf *errors)
{
    struct route_files files = relay_files_reader(&r->parts.files);
    const char *path = p->conf->bounce.rules.at;
    struct buf text;
    buf_init(&text, BOUNCE_RULES_FILE_MAX);
    int err = p->conf->bounce.rules.len ? files.read(files.ctx, path, &text) : OK;
    if (err)
        buf_printf(errors, "%s: error: bounce.rules: %s\n", path, err_text(err));
    else
        err = bounce_rules_load(buf_bytes(&text), path, &p->bounces, errors);
    buf_done(&text);
    return err;
}

static int prepare_client_authorities(struct relay *r, struct prepared *p, struct buf *errors)
{
    struct bytes path = p->conf->tls.client_authorities;
    struct route_files files = relay_files_reader(&r->parts.files);
    struct net_tls_authorities *authorities = NULL;
    struct buf pem;
    char reason[NET_TLS_REASON];
    if (!path.len || !p->tls)
        return OK;
    buf_init(&pem, AUTHORITIES_MAX);
    int err = files.read(files.ctx, path.at, &pem);
    snprintf(reason, sizeof reason, "%s", err_text(err));
    if (!err)
        err = net_tls_authorities_new(buf_bytes(&pem), &authorities, reason);
    if (err)
        buf_printf(errors, "%s: error: tls.client_authorities: %s\n", path.at, reason);
    else
        net_tls_server_set_client_authorities(p->tls, authorities);
    net_tls_authorities_free(authorities);
    buf_done(&pem);
    return err;
}

static void take_users(struct relay *r, struct conf *conf)
{
    struct bytes rest = buf_bytes(&r->parts.users), line;
    while (bytes_cut(&rest, '\n', &line))
        guard_users_take(conf, line);
}

// The text of the start. It may leave out `hostname`, and the host's own name be gone since: the one that holds now
// does, as a reload changes it.
static int parse_started(const struct parts *parts, const struct conf *conf, struct conf **out,
                         struct buf *errors)
{
    struct conf_host host;
    snprintf(host.name, sizeof host.name, "%.*s", BYTES_FMT(conf->hostname));
    return relay_parse_config(buf_bytes(&parts->started), parts->name[0] ? parts->name : NULL,
                              &host, out, errors);
}

// What needs a restart of the service stays as it was at its start, for a relay that follows one that died, too.
static int keep_fixed(struct relay *r, struct conf *conf, struct buf *errors)
{
    const struct parts *parts = &r->parts;
    struct conf *started = NULL;
    int err = OK;
    if (r->snapshot) {
        conf_keep_fixed(conf, r->snapshot->conf, NULL);
    } else if (parts->has_started) {
        err = parse_started(parts, conf, &started, errors);
        if (!err)
            conf_keep_fixed(conf, started, NULL);
        conf_free(started);
    }
    return err;
}

static int prepare(struct relay *r, struct prepared *p, struct buf *errors)
{
    struct parts *parts = &r->parts;
    char reason[NET_TLS_REASON];
    *p = (struct prepared){0};
    if (parts->incomplete) {
        buf_add_cstr(
            errors,
            "error: the relay has no descriptors or no memory left for the new configuration\n");
        return E_IO;
    }
    int err = relay_parse_config(buf_bytes(&parts->config), parts->name[0] ? parts->name : NULL,
                                 &parts->host, &p->conf, errors);
    if (!err)
        err = keep_fixed(r, p->conf, errors);
    if (!err)
        take_users(r, p->conf);
    if (!err && r->snapshot)
        err = relay_folders_check(&r->folders, p->conf, errors);
    if (!err)
        err = prepare_routes(r, p, errors);
    if (!err)
        err = prepare_bounces(r, p, errors);
    if (!err && parts->certificate.len) {
        err =
            net_tls_server_new_remote(buf_bytes(&parts->certificate), parts->key, &p->tls, reason);
        if (err)
            buf_printf(errors, "error: tls.certificate or tls.key: %s\n", reason);
    }
    if (!err)
        err = prepare_client_authorities(r, p, errors);
    if (err)
        prepared_free(p);
    return err;
}

static void replace(struct conf_part **part, struct conf_part *by)
{
    conf_part_release(*part);
    *part = by;
}

static void make_snapshot(struct relay *r)
{
    struct conf_snapshot *old = r->snapshot;
    r->snapshot = conf_snapshot_new(r->conf, r->routes, r->accounts, r->bounces, ++r->generation);
    conf_snapshot_release(old);
}

void relay_set_accounts(struct relay *r, struct store_directory *directory)
{
    replace(&r->accounts, conf_part_new(directory, free_directory));
    make_snapshot(r);
}

static void adopt(struct relay *r, struct prepared *p)
{
    struct conf_part *old_conf = r->conf;
    r->conf = conf_part_new(p->conf, free_conf);
    replace(&r->routes, conf_part_new(p->routes, free_routes));
    replace(&r->bounces, conf_part_new(p->bounces, free_bounces));
    replace(&r->tls, conf_part_new(p->tls, free_tls));
    r->tls_server = p->tls;
    make_snapshot(r);
    if (r->queue)
        queue_configure(r->queue, p->conf, p->conf->limits.connections);
    conf_part_release(old_conf); // the queue has let go of it
}

int relay_apply_first(struct relay *r, struct buf *errors)
{
    struct prepared p;
    int err = prepare(r, &p, errors);
    r->accounts = conf_part_new(store_directory_empty(), free_directory);
    if (!err)
        adopt(r, &p);
    return err;
}

// Reading a system's authorities takes longer than all else at a start: only for whom a route verifies, and once.
void relay_load_authorities(struct relay *r)
{
    const char *path = guard_files_authorities(r->snapshot->conf);
    if (r->shared.authorities || !path)
        return;
    struct buf pem = {0};
    char reason[NET_TLS_REASON] = "the file cannot be read";
    struct route_files files = relay_files_reader(&r->parts.files);
    buf_init(&pem, AUTHORITIES_MAX);
    if (files.read(files.ctx, path, &pem) != OK ||
        net_tls_authorities_new(buf_bytes(&pem), &r->shared.authorities, reason) != OK)
        log_warn("no certificate authorities: routes with tls: verify will not deliver",
                 LOG_CSTR("file", path), LOG_CSTR("because", reason));
    buf_done(&pem);
}

// All addresses under which a listener of ours can be reached: mail must not be sent there.
static void add_self(struct deliver_selves *out, const struct sockaddr *sa, uint16_t port)
{
    if (!sa || out->count == DELIVER_SELVES_MAX)
        return;
    struct sys_addr *self = &out->at[out->count];
    *self = (struct sys_addr){.port = port};
    if (sa->sa_family == AF_INET) {
        self->kind = SYS_ADDR_IP4;
        memcpy(self->ip, &((const struct sockaddr_in *)sa)->sin_addr, 4);
    } else if (sa->sa_family == AF_INET6) {
        self->kind = SYS_ADDR_IP6;
        memcpy(self->ip, &((const struct sockaddr_in6 *)sa)->sin6_addr, 16);
    } else {
        return;
    }
    out->count++;
}

static bool is_wildcard(const struct sockaddr_storage *sa)
{
    static const struct in6_addr any6 = IN6ADDR_ANY_INIT;
    return sa->ss_family == AF_INET
               ? ((const struct sockaddr_in *)sa)->sin_addr.s_addr == INADDR_ANY
               : memcmp(&((const struct sockaddr_in6 *)sa)->sin6_addr, &any6, sizeof any6) == 0;
}

static void find_selves(const struct relay *r, struct deliver_selves *out)
{
    out->count = 0;
    for (size_t i = 0; i < r->parts.count; i++) {
        struct sockaddr_storage sa;
        socklen_t len = sizeof sa;
        if (getsockname(r->parts.listeners[i].fd, (struct sockaddr *)&sa, &len) == -1 ||
            (sa.ss_family != AF_INET && sa.ss_family != AF_INET6))
            continue;
        uint16_t port = ntohs(sa.ss_family == AF_INET ? ((struct sockaddr_in *)&sa)->sin_port
                                                      : ((struct sockaddr_in6 *)&sa)->sin6_port);
        if (!is_wildcard(&sa)) {
            add_self(out, (struct sockaddr *)&sa, port);
            continue;
        }
        for (const struct ifaddrs *a = r->interfaces; a; a = a->ifa_next)
            add_self(out, a->ifa_addr, port);
    }
}

int relay_make_listeners(struct relay *r, struct worker_listeners *out[WORKERS_MAX])
{
    struct deliver_selves selves;
    find_selves(r, &selves);
    for (uint32_t i = 0; i < r->workers_count; i++) {
        out[i] = worker_listeners_new(r->parts.listeners, r->parts.count, &selves);
        if (out[i])
            continue;
        while (i-- > 0)
            worker_listeners_free(out[i]);
        return E_IO;
    }
    return OK;
}

void relay_apply_to_workers(struct relay *r, struct worker_listeners *made[WORKERS_MAX])
{
    for (uint32_t i = 0; i < r->workers_count; i++)
        worker_apply(r->workers[i], r->snapshot, r->tls_server, r->tls, made[i]);
}

// A suspended account is somebody's will.
static bool is_no_account(const struct relay *r, struct bytes name, const char **out_because)
{
    const struct store_account *account = store_directory_account(r->snapshot->accounts, name);
    *out_because = account ? "it is closed" : "it does not exist: see posthaste account add";
    return !account || account->state == STORE_CLOSED;
}

void relay_warn_of_accounts(const struct relay *r)
{
    const struct conf *conf = r->snapshot->conf;
    const char *because;
    for (uint32_t i = 0; i < conf->listeners_count; i++) {
        const struct conf_listener *l = &conf->listeners[i];
        if (l->account.len && is_no_account(r, l->account, &because))
            log_warn("mail without a login is refused: listeners[].account names no account",
                     LOG_STR("listener", l->name), LOG_STR("account", l->account),
                     LOG_CSTR("because", because));
    }
    for (uint32_t i = 0; i < conf->sendmail.accounts_count; i++) {
        const struct conf_user *u = &conf->sendmail.accounts[i];
        if (is_no_account(r, u->account, &because))
            log_warn("mail of users of this host is refused: sendmail.accounts names no account",
                     LOG_STR("user", u->user), LOG_STR("account", u->account),
                     LOG_CSTR("because", because));
    }
}

void relay_tell_guard(struct relay *r, enum channel_kind kind, struct bytes text)
{
    if (channel_send(r->channel, kind, text, -1) != OK)
        log_error("the guard does not listen");
}

// By the parts that have just come.
struct api_policy relay_policy(const struct relay *r)
{
    const struct conf *conf = r->snapshot->conf;
    struct api_policy policy = {.operators = r->parts.roles.operators,
                                .readers = r->parts.roles.readers,
                                .audit_keep_ms = conf->audit.keep_ms,
                                .users = conf->sendmail.socket.len > 0};
    snprintf(policy.operators_name, sizeof policy.operators_name, "%.*s",
             BYTES_FMT(conf->roles.operators));
    snprintf(policy.readers_name, sizeof policy.readers_name, "%.*s",
             BYTES_FMT(conf->roles.readers));
    return policy;
}

struct auth_guard_limits relay_guard_limits(const struct conf *conf)
{
    return (struct auth_guard_limits){conf->limits.auth_failures, conf->limits.auth_window_ms,
                                      conf->limits.auth_block_ms};
}

struct suppress_policy relay_suppress_policy(const struct conf *conf)
{
    return (struct suppress_policy){conf->suppress.hard_bounces, conf->suppress.bounce_keep_ms};
}

void relay_reload(struct relay *r)
{
    struct prepared p;
    struct worker_listeners *listeners[WORKERS_MAX];
    struct buf errors = {0};
    int err = prepare(r, &p, &errors);
    if (!err && (err = relay_make_listeners(r, listeners)) != OK) {
        buf_add_cstr(&errors, "error: the relay has no descriptors left for the listeners\n");
        prepared_free(&p);
    }
    if (!err) {
        adopt(r, &p);
        const struct conf *conf = r->snapshot->conf;
        auth_set_limits(r->shared.auth, relay_guard_limits(conf));
        net_limits_set(r->shared.limits, conf->limits.sessions, conf->limits.sessions_per_address);
        memory_watch_set_max(r->memory, conf->limits.memory);
        log_setup(conf->log.level, conf->log.format);
        struct suppress_policy policy = relay_suppress_policy(conf);
        suppress_set_policy(r->suppress, &policy);
        relay_load_authorities(r);
        relay_apply_to_workers(r, listeners);
        relay_warn_of_accounts(r);
        api_set_snapshot(r->api, r->snapshot);
        struct api_policy roles = relay_policy(r);
        api_set_policy(r->api, &roles);
        dkim_keeper_set_snapshot(r->keeper, r->snapshot);
        relay_tell_guard(r, CHANNEL_APPLIED, conf->control);
    } else {
        relay_tell_guard(r, CHANNEL_REFUSED, buf_bytes(&errors));
    }
    buf_done(&errors);
    relay_parts_clear(&r->parts);
}

// ---- accounts changed ------------------------------------------------------------------------------------

struct accounts_changed {
    struct sys_task task;
    struct relay *relay;
    struct store_directory *directory;
    atomic_uint waiting; // workers that do not go by it yet, and the main loop
    void (*done)(void *ctx);
    void *ctx;
};

static void one_has_changed(void *ctx)
{
    struct accounts_changed *c = ctx;
    if (atomic_fetch_sub(&c->waiting, 1) != 1)
        return;
    c->done(c->ctx);
    free(c);
}

static void on_accounts_changed(struct sys_task *task)
{
    struct accounts_changed *c = container_of(task, struct accounts_changed, task);
    struct relay *r = c->relay;
    if (store_directory_version(c->directory) < store_directory_version(r->snapshot->accounts)) {
        store_directory_free(c->directory); // a later one was faster, and knows of this change
    } else {
        holds_change(&r->shared.port, r->snapshot->accounts, c->directory);
        relay_set_accounts(r, c->directory);
    }
    atomic_store(&c->waiting, r->workers_count + 1);
    for (uint32_t i = 0; i < r->workers_count; i++)
        worker_set_accounts(r->workers[i], r->snapshot, one_has_changed, c);
    api_set_snapshot(r->api, r->snapshot);
    if (r->keeper)
        dkim_keeper_set_snapshot(r->keeper, r->snapshot);
    one_has_changed(c);
}

// From the API's thread or one of the pool, after an operation has changed the store.
void relay_accounts_changed(void *ctx, struct store_directory *directory,
                            void (*done)(void *done_ctx), void *done_ctx)
{
    struct accounts_changed *c = mem_new(sizeof *c);
    c->relay = ctx;
    c->directory = directory;
    c->done = done;
    c->ctx = done_ctx;
    c->task.run = on_accounts_changed;
    sys_post(c->relay->main, &c->task);
}

static void nobody_waits(void *ctx)
{
    (void)ctx;
}

static void keys_changed(void *ctx)
{
    struct relay *r = ctx;
    struct store_directory *directory;
    int err = store_directory_load(r->store, &directory);
    if (err)
        log_error("accounts not read again: the old ones hold", LOG_ERR(err));
    else
        relay_accounts_changed(r, directory, nobody_waits, NULL);
}

void relay_look_after_keys(void *ctx, void (*done)(void *ctx), void *done_ctx)
{
    struct relay *r = ctx;
    if (r->keeper)
        dkim_keeper_run(r->keeper, false, done, done_ctx);
    else // not serving yet
        done(done_ctx);
}

void relay_start_keeper(struct relay *r)
{
    const struct dkim_keeper_options options = {r->store, r->dns, keys_changed, r};
    if (signer_open(r->channel) != OK)
        log_error("no line to the signer: no DKIM keys can be made");
    r->keeper = dkim_keeper_new(&options, r->snapshot);
}
