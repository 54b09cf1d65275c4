// SPDX-License-Identifier: MIT
#include "base/check.h"
#include "conf/conf_params.h"
#include "conf/conf_parse.h"
#include "conf/conf_value.h"

#define UNIX_PATH_MAX 107 // sun_path, less its NUL

struct check {
    const struct conf_node *root;
    struct conf *conf;
    struct conf_errors *errors;
};

// The place of `key` in the section, or of the section where the key is not written.
static struct conf_place place_of(const struct conf_node *section, const char *key)
{
    const struct conf_node *node = conf_node_find(section, key);
    return node ? node->place : section ? section->place : (struct conf_place){0};
}

static uint32_t last_line(const struct conf_node *node)
{
    uint32_t line = node->place.line;
    for (const struct conf_node *child = node->first; child; child = child->next) {
        uint32_t below = last_line(child);
        line = below > line ? below : line;
    }
    return line;
}

// No error was found in this node; true for one that is not there.
static bool is_sound(const struct check *c, const struct conf_node *node)
{
    uint32_t first = !node ? 0 : node->key_place.line ? node->key_place.line : node->place.line;
    return !first || !conf_errors_within(c->errors, first, last_line(node));
}

static bool is_set(struct bytes value)
{
    return value.len > 0;
}

// ---- listeners ---------------------------------------------------------------------------------------

static void check_trusted(struct check *c, const struct conf_listener *l,
                          const struct conf_node *node)
{
    for (uint32_t i = 0; i < l->trusted_count; i++) {
        const struct conf_node *trusted = conf_node_find(node, "trusted");
        const struct conf_node *item = conf_node_nth(trusted, i);
        if (l->trusted[i].bits == 0)
            conf_errors_add(c->errors, item ? item->place : place_of(node, "trusted"),
                            "trusting every address makes an open relay; name your own networks");
    }
}

// Networks of those who tell who a client is.
static void check_tellers(struct check *c, const struct conf_cidr *networks, uint32_t count,
                          const struct conf_node *node, const char *key)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct conf_node *item = conf_node_nth(conf_node_find(node, key), i);
        if (networks[i].bits == 0)
            conf_errors_add(c->errors, item ? item->place : place_of(node, key),
                            "everybody could give himself any address; name your own proxies");
    }
}

static void check_proxies(struct check *c, const struct conf_listener *l,
                          const struct conf_node *node)
{
    check_tellers(c, l->proxy, l->proxy_count, node, "proxy");
    check_tellers(c, l->xclient, l->xclient_count, node, "xclient");
    if (l->client_certificates && l->tls == CONF_TLS_NONE)
        conf_errors_add(c->errors, place_of(node, "client_certificates"),
                        "without TLS no client shows a certificate; set tls: starttls or implicit");
    if (l->xclient_login && !l->xclient_count)
        conf_errors_add(c->errors, place_of(node, "xclient_login"),
                        "xclient_login is for the networks of xclient, which is not set");
}

// What is sent here needs no login, and is never sent on.
static void check_bounces(struct check *c, struct conf_listener *l, const struct conf_node *node)
{
    for (uint32_t i = 0; i < conf_params_count; i++) {
        const char *key = conf_param_key(&conf_params[i]).at;
        if (conf_params[i].not_bounces && conf_node_find(node, key))
            conf_errors_add(c->errors, place_of(node, key),
                            "a listener with role: bounces takes no mail to be sent on, so it has "
                            "no %s",
                            key);
    }
    l->auth = CONF_AUTH_NONE;
    l->submission = CONF_SUBMISSION_OFF;
}

static void check_access(struct check *c, const struct conf_listener *l,
                         const struct conf_node *node)
{
    if (!l->trusted_count && l->auth == CONF_AUTH_NONE)
        conf_errors_add(c->errors, place_of(node, "auth"),
                        "with auth: none and no trusted networks this would be an open relay; "
                        "set trusted, or auth: required");
    else if (!l->trusted_count && l->tls == CONF_TLS_NONE)
        conf_errors_add(c->errors, place_of(node, "tls"),
                        "without TLS nobody could log in here; set tls: starttls, or name the "
                        "trusted networks that may log in in the clear");
    if (is_set(l->account) && l->auth == CONF_AUTH_REQUIRED)
        conf_errors_add(c->errors, place_of(node, "account"),
                        "account is for clients without a login, but auth is required here");
}

static void check_certificate(struct check *c, const struct conf_listener *l,
                              const struct conf_node *node)
{
    const struct conf *conf = c->conf;
    if (l->tls == CONF_TLS_NONE || is_set(conf->tls.certificate) || conf->tls.self_signed ||
        !is_sound(c, conf_node_find(c->root, "tls")))
        return;
    conf_errors_add(c->errors, place_of(node, "tls"),
                    "listener '%s' offers TLS, which needs tls.certificate and tls.key",
                    l->name.at);
}

static void check_twins(struct check *c, uint32_t n, const struct conf_node *node)
{
    const struct conf_listener *l = &c->conf->listeners[n];
    for (uint32_t i = 0; i < n; i++) {
        const struct conf_listener *other = &c->conf->listeners[i];
        if (bytes_eq(l->name, other->name))
            conf_errors_add(c->errors, place_of(node, "name"),
                            "another listener is already named '%s'", l->name.at);
        if (l->port && bytes_eq(l->address, other->address))
            conf_errors_add(c->errors, place_of(node, "address"),
                            "listener '%s' already has this address", other->name.at);
    }
    if (is_set(c->conf->sendmail.socket) && bytes_eq(l->name, BYTES(CONF_LOCAL_LISTENER)))
        conf_errors_add(c->errors, place_of(node, "name"),
                        "'%s' is the name of sendmail.socket; choose another", l->name.at);
    if (l->port && bytes_eq(l->address, c->conf->http.address))
        conf_errors_add(c->errors, place_of(node, "address"), "http already has this address");
}

static void check_listener(struct check *c, uint32_t n, const struct conf_node *node)
{
    struct conf_listener *l = &c->conf->listeners[n];
    struct conf_endpoint endpoint;
    if (!is_sound(c, node))
        return;
    CHECK(conf_value_endpoint(l->address, &c->conf->arena, &endpoint) == 0);
    l->port = endpoint.port;
    check_trusted(c, l, node);
    check_proxies(c, l, node);
    if (l->role == CONF_ROLE_BOUNCES)
        check_bounces(c, l, node);
    else
        check_access(c, l, node);
    check_certificate(c, l, node);
    check_twins(c, n, node);
}

static void add_default_listener(struct conf *conf, const char *name, const char *address,
                                 uint16_t port, enum conf_tls tls)
{
    struct conf_listener *l = &conf->listeners[conf->listeners_count++];
    *l = (struct conf_listener){.name = bytes_cstr(name),
                                .address = bytes_cstr(address),
                                .port = port,
                                .tls = tls,
                                .any_family = tls != CONF_TLS_NONE};
}

// With a certificate the two ports of RFC 8314, else a submission port that only this host reaches.
static void default_listeners(struct conf *conf)
{
    conf->listeners = arena_new(&conf->arena, 2 * sizeof *conf->listeners);
    if (is_set(conf->tls.certificate) || conf->tls.self_signed) {
        add_default_listener(conf, "submission", "[::]:587", 587, CONF_TLS_STARTTLS);
        add_default_listener(conf, "submissions", "[::]:465", 465, CONF_TLS_IMPLICIT);
        return;
    }
    add_default_listener(conf, "local", "127.0.0.1:587", 587, CONF_TLS_NONE);
    struct conf_listener *local = &conf->listeners[0];
    local->trusted = arena_new(&conf->arena, sizeof *local->trusted);
    local->trusted[0] = (struct conf_cidr){.bits = 8, .ip = {127}};
    local->trusted_count = 1;
}

static void check_listeners(struct check *c)
{
    const struct conf_node *list = conf_node_find(c->root, "listeners");
    if (!list) {
        default_listeners(c->conf);
        return;
    }
    if (list->kind == CONF_NODE_LIST && !list->count)
        conf_errors_add(c->errors, list->place, "an empty list: no mail could come in");
    for (uint32_t i = 0; i < c->conf->listeners_count; i++)
        check_listener(c, i, conf_node_nth(list, i));
}

static void check_tls(struct check *c)
{
    const struct conf *conf = c->conf;
    const struct conf_node *tls = conf_node_find(c->root, "tls");
    if (is_set(conf->tls.certificate) != is_set(conf->tls.key))
        conf_errors_add(c->errors, place_of(tls, is_set(conf->tls.key) ? "key" : "certificate"),
                        "tls.certificate and tls.key need each other");
    if (is_set(conf->tls.certificate) && conf->tls.self_signed)
        conf_errors_add(c->errors, place_of(tls, "self_signed"),
                        "self_signed makes a certificate, but tls.certificate names one");
}

// ---- routes, lanes -----------------------------------------------------------------------------------

static bool matches_all(const struct conf_patterns *patterns)
{
    for (uint32_t i = 0; i < patterns->count; i++)
        if (bytes_eq(patterns->at[i], BYTES("*")))
            return true;
    return !patterns->count;
}

static bool route_matches_all(const struct conf_route *route)
{
    return matches_all(&route->match.recipient) && matches_all(&route->match.sender) &&
           matches_all(&route->match.account) && matches_all(&route->match.listener);
}

static bool has_listener(const struct conf *conf, struct bytes name)
{
    if (bytes_eq(name, BYTES("*")) ||
        (is_set(conf->sendmail.socket) && bytes_eq(name, BYTES(CONF_LOCAL_LISTENER))))
        return true;
    for (uint32_t i = 0; i < conf->listeners_count; i++)
        if (bytes_eq(conf->listeners[i].name, name))
            return true;
    return false;
}

static void check_route_listeners(struct check *c, const struct conf_route *route,
                                  const struct conf_node *node)
{
    const struct conf_patterns *names = &route->match.listener;
    const struct conf_node *value = conf_node_find(conf_node_find(node, "match"), "listener");
    if (!is_sound(c, conf_node_find(c->root, "listeners")))
        return;
    for (uint32_t i = 0; i < names->count; i++) {
        const struct conf_node *item =
            value->kind == CONF_NODE_LIST ? conf_node_nth(value, i) : value;
        if (!has_listener(c->conf, names->at[i]))
            conf_errors_add(c->errors, item->place, "no listener is named '%s'", names->at[i].at);
    }
}

static bool is_loopback(struct bytes host)
{
    return bytes_starts(host, BYTES("127.")) || bytes_eq(host, BYTES("::1")) ||
           bytes_eq(host, BYTES("localhost"));
}

static void check_route_login(struct check *c, const struct conf_route *route,
                              const struct conf_node *node)
{
    if (is_set(route->login) != is_set(route->password_file))
        conf_errors_add(c->errors, place_of(node, is_set(route->login) ? "login" : "password_file"),
                        "login and password_file need each other");
    else if (!is_set(route->login))
        return;
    else if (route->via.kind != CONF_VIA_SMTP && route->via.kind != CONF_VIA_SMTPS)
        conf_errors_add(c->errors, place_of(node, "login"),
                        "a login needs via: smtp://HOST:PORT or smtps://HOST:PORT");
    else if (route->via.kind == CONF_VIA_SMTP &&
             (route->tls == CONF_ROUTE_TLS_MAY || route->tls == CONF_ROUTE_TLS_NONE) &&
             !is_loopback(route->via.host))
        conf_errors_add(c->errors, place_of(node, "login"),
                        "the password could cross the network in the clear; set tls: verify");
}

static void check_route(struct check *c, uint32_t n, const struct conf_node *node)
{
    const struct conf_route *route = &c->conf->routes[n];
    if (!is_sound(c, node))
        return;
    bool implicit = route->via.kind == CONF_VIA_SMTPS;
    bool smtp = implicit || route->via.kind == CONF_VIA_MX || route->via.kind == CONF_VIA_SMTP;
    if (implicit && route->tls == CONF_ROUTE_TLS_NONE)
        conf_errors_add(c->errors, place_of(node, "tls"),
                        "smtps:// is TLS from the first byte: use smtp:// or another tls");
    if (!smtp && (route->tls == CONF_ROUTE_TLS_VERIFY || route->tls == CONF_ROUTE_TLS_ENCRYPT))
        conf_errors_add(c->errors, place_of(node, "tls"), "there is no TLS on the way via %s",
                        route->via.text.at);
    if (is_set(route->recipients) && !route->match.recipient.count)
        conf_errors_add(c->errors, place_of(node, "recipients"),
                        "a recipient table needs match.recipient to name its domains");
    check_route_login(c, route, node);
    check_route_listeners(c, route, node);
}

static void unreachable(struct check *c, const struct conf_node *list, uint32_t n)
{
    conf_errors_add(c->errors, conf_node_nth(list, n)->place,
                    "never reached: the entry above it in line %u matches everything",
                    conf_node_nth(list, n - 1)->place.line);
}

// The list with a last entry that matches everything.
static void *with_catch_all(struct arena *arena, const void *entries, uint32_t *count, size_t bytes,
                            const void *last)
{
    char *copy = arena_new(arena, (*count + 1) * bytes);
    if (*count)
        memcpy(copy, entries, *count * bytes);
    memcpy(copy + *count * bytes, last, bytes);
    (*count)++;
    return copy;
}

static void check_routes(struct check *c)
{
    struct conf *conf = c->conf;
    const struct conf_node *list = conf_node_find(c->root, "routes");
    bool all = false;
    for (uint32_t i = 0; i < conf->routes_count; i++) {
        if (all && is_sound(c, list)) {
            unreachable(c, list, i);
            return;
        }
        check_route(c, i, conf_node_nth(list, i));
        all = route_matches_all(&conf->routes[i]);
    }
    struct conf_route mx = {.via = {.kind = CONF_VIA_MX, .text = BYTES("mx"), .port = 25}};
    if (!all)
        conf->routes = with_catch_all(&conf->arena, conf->routes, &conf->routes_count,
                                      sizeof *conf->routes, &mx);
}

static void check_lanes(struct check *c)
{
    struct conf *conf = c->conf;
    const struct conf_node *list = conf_node_find(c->root, "lanes");
    bool all = false;
    for (uint32_t i = 0; i < conf->lanes_count; i++) {
        if (all && is_sound(c, list)) {
            unreachable(c, list, i);
            return;
        }
        all = matches_all(&conf->lanes[i].match);
    }
    struct conf_lane last = {
        .connections = 20, .messages_per_connection = 100, .recipients_per_transaction = 100};
    if (!all)
        conf->lanes = with_catch_all(&conf->arena, conf->lanes, &conf->lanes_count,
                                     sizeof *conf->lanes, &last);
}

// ---- the rest ----------------------------------------------------------------------------------------

static void check_retry(struct check *c)
{
    const struct conf *conf = c->conf;
    const struct conf_node *retry = conf_node_find(c->root, "retry");
    if (!retry || !is_sound(c, retry))
        return;
    if (conf->retry.first_ms > conf->retry.max_ms)
        conf_errors_add(c->errors, place_of(retry, "first"),
                        "the first pause is longer than retry.max");
    if (conf->retry.first_ms > conf->retry.lifetime_ms)
        conf_errors_add(c->errors, place_of(retry, "lifetime"),
                        "the message would expire before its second attempt: lifetime is shorter "
                        "than retry.first");
    if (conf->retry.warn_after_ms >= conf->retry.lifetime_ms && conf_node_find(retry, "warn_after"))
        conf_errors_add(c->errors, place_of(retry, "warn_after"),
                        "warn_after must be shorter than retry.lifetime, or none");
}

// A lifetime shorter than the default warning simply has none.
static void settle_warning(struct conf *conf)
{
    if (conf->retry.warn_after_ms >= conf->retry.lifetime_ms)
        conf->retry.warn_after_ms = 0;
}

static void check_limits(struct check *c)
{
    const struct conf *conf = c->conf;
    const struct conf_node *limits = conf_node_find(c->root, "limits");
    if (!limits || !is_sound(c, limits))
        return;
    if (conf->limits.header_size > conf->limits.message_size)
        conf_errors_add(c->errors, place_of(limits, "header_size"),
                        "header_size is larger than message_size");
}

// A number is a user id; "*" is everybody; else it is a name, which is looked up where the service starts.
static bool settle_user(struct conf_user *u)
{
    uint64_t uid;
    u->is_any = bytes_eq(u->user, BYTES("*"));
    if (bytes_to_u64(u->user, UINT32_MAX - 1, &uid) == OK) {
        u->has_uid = true;
        u->uid = (uint32_t)uid;
    }
    for (size_t i = 0; i < u->user.len && !u->is_any; i++)
        if (!ascii_is_alnum(u->user.at[i]) && !ascii_is_one_of(u->user.at[i], "._-$+@\\"))
            return false;
    return u->is_any || u->has_uid || !ascii_is_digit(u->user.at[0]);
}

static void check_users(struct check *c, const struct conf_node *list)
{
    struct conf *conf = c->conf;
    bool all = false;
    for (uint32_t i = 0; i < conf->sendmail.accounts_count; i++) {
        struct conf_user *u = &conf->sendmail.accounts[i];
        const struct conf_node *node = conf_node_nth(list, i);
        if (!is_sound(c, node))
            continue;
        if (!settle_user(u))
            conf_errors_add(c->errors, place_of(node, "user"),
                            "'%s' is no user: expected a name, a user id or *", u->user.at);
        if (all)
            conf_errors_add(c->errors, node->place, "never reached: * above it is everybody");
        all = all || u->is_any;
    }
}

static void check_sendmail(struct check *c)
{
    struct conf *conf = c->conf;
    const struct conf_node *node = conf_node_find(c->root, "sendmail");
    if (!node || !is_sound(c, node))
        return;
    check_users(c, conf_node_find(node, "accounts"));
    bool has_socket = is_set(conf->sendmail.socket);
    if (!has_socket && (is_set(conf->sendmail.pickup) || conf->sendmail.accounts_count))
        conf_errors_add(c->errors,
                        place_of(node, is_set(conf->sendmail.pickup) ? "pickup" : "accounts"),
                        "without sendmail.socket no mail is taken from users of this host");
    if (has_socket && !conf->sendmail.accounts_count)
        conf_errors_add(c->errors, place_of(node, "socket"),
                        "nobody could send here: sendmail.accounts says who may, such as "
                        "[{user: root, account: ops}]");
    if (conf->sendmail.socket.len > UNIX_PATH_MAX)
        conf_errors_add(c->errors, place_of(node, "socket"),
                        "the socket's path is %zu bytes long; at most %d are possible",
                        conf->sendmail.socket.len, UNIX_PATH_MAX);
    if (has_socket && bytes_eq(conf->sendmail.socket, conf->control))
        conf_errors_add(c->errors, place_of(node, "socket"), "this is the control socket");
    if (has_socket)
        conf->sendmail.listener = (struct conf_listener){
            .name = BYTES(CONF_LOCAL_LISTENER),
            .address = arena_printf(&conf->arena, "unix:%s", conf->sendmail.socket.at),
            .tls = CONF_TLS_NONE,
            .auth = CONF_AUTH_NONE,
            .is_local = true};
}

static void settle_domains(struct conf *conf)
{
    if (!is_set(conf->domains.dkim_zone))
        conf->domains.dkim_zone = arena_printf(&conf->arena, "dkim.%s", conf->hostname.at);
}

static bool is_plain_url(struct bytes url)
{
    struct bytes rest = url;
    bool ok = bytes_starts(url, BYTES("https://")) || bytes_starts(url, BYTES("http://"));
    for (size_t i = 0; i < rest.len && ok; i++)
        ok = rest.at[i] > ' ' && rest.at[i] < 0x7f && !ascii_is_one_of(rest.at[i], "<>\"\\^`{|}#?");
    return ok && bytes_ends(url, BYTES("/"));
}

static void check_unsubscribe(struct check *c)
{
    const struct conf *conf = c->conf;
    const struct conf_node *node = conf_node_find(c->root, "unsubscribe");
    if (!node || !is_sound(c, node))
        return;
    if (is_set(conf->unsubscribe.url) && !is_plain_url(conf->unsubscribe.url))
        conf_errors_add(c->errors, place_of(node, "url"),
                        "expected a URL that ends in /, such as https://mail.example.org/u/");
    if (is_set(conf->unsubscribe.address) && !is_set(conf->unsubscribe.url))
        conf_errors_add(c->errors, place_of(node, "address"),
                        "links that could be answered here need unsubscribe.url");
    if (is_set(conf->unsubscribe.address) &&
        bytes_eq(conf->unsubscribe.address, conf->http.address) &&
        !bytes_ends(conf->http.address, BYTES(":0")))
        conf_errors_add(c->errors, place_of(node, "address"), "http already has this address");
}

static bool is_inside(struct bytes path, struct bytes folder)
{
    return is_set(folder) && bytes_starts(path, folder) &&
           bytes_starts(bytes_skip(path, folder.len), BYTES("/"));
}

// Backups and the sandbox of the relay process rest on it.
static void check_places(struct check *c)
{
    const struct conf *conf = c->conf;
    const struct conf_node *dkim = conf_node_find(c->root, "dkim");
    if (bytes_eq(conf->spool, conf->state))
        conf_errors_add(c->errors, place_of(c->root, "spool"),
                        "spool and state must be different folders");
    else if (is_inside(conf->state, conf->spool))
        conf_errors_add(c->errors, place_of(c->root, "state"),
                        "state cannot be in the spool's folder, which a restore replaces");
    else if (is_inside(conf->dkim.master_key, conf->state) ||
             is_inside(conf->dkim.master_key, conf->spool))
        conf_errors_add(c->errors, place_of(dkim, "master_key"),
                        "the master key must be out of the relay's reach: not in spool or state");
}

static void check_paths(struct check *c)
{
    struct conf *conf = c->conf;
    if (!is_set(conf->control))
        conf->control = arena_printf(&conf->arena, "%s/control.sock", conf->state.at);
    if (!is_set(conf->dkim.master_key))
        conf->dkim.master_key = arena_printf(&conf->arena, "%s.key", conf->state.at);
    const char *key = conf_node_find(c->root, "control") ? "control" : "state";
    if (conf->control.len > UNIX_PATH_MAX && is_sound(c, conf_node_find(c->root, key)))
        conf_errors_add(c->errors, place_of(c->root, key),
                        "the control socket's path is %zu bytes long; at most %d are possible",
                        conf->control.len, UNIX_PATH_MAX);
    check_places(c);
}

void conf_check(const struct conf_node *root, struct conf *conf, struct conf_errors *errors)
{
    struct check c = {.root = root, .conf = conf, .errors = errors};
    if (is_sound(&c, conf_node_find(root, "tls")))
        check_tls(&c);
    check_listeners(&c);
    check_routes(&c);
    check_lanes(&c);
    check_retry(&c);
    settle_warning(conf);
    check_limits(&c);
    settle_domains(conf);
    check_unsubscribe(&c);
    check_paths(&c);
    check_sendmail(&c);
}
