// SPDX-License-Identifier: MIT
//
// import_postfix_routes - where Postfix sent mail: tables of transports, local domains, relayhost; and how fast
//
// Postfix looks a recipient up by address, domain, parent domains, "*"; routes are tried from the top. So the entries
// of a table come in that order, and before the rest.
#include <stdio.h>

#include "base/check.h"
#include "cli/import_postfix.h"
#include "conf/conf_value.h"

#define PASSWORDS_FIRST "smtp_sasl_password_maps"
#define TLS_POLICIES "smtp_tls_policy_maps"

// ---- next hops ---------------------------------------------------------------------------------------

// The transport of master.cf; NULL: it is not there, and main.cf holds.
static const struct postfix_service *service_of(const struct import *im, struct bytes transport)
{
    for (const struct postfix_service *s = im->cf.services; s; s = s->next)
        if (bytes_eq(s->name, transport) && bytes_eq(s->type, BYTES("unix")))
            return s;
    return NULL;
}

// "[host]:port", "host", "host:port", "[2001:db8::1]", for out->service.
static void parse_nexthop(struct import *im, struct bytes text, struct import_target *out)
{
    struct bytes host = text, port = BYTES_NONE, name;
    uint64_t number = 25;
    out->nexthop = text;
    bool bracket = text.len && text.at[0] == '[';
    ptrdiff_t end = bracket ? bytes_find(text, ']') : -1, colon;
    if (bracket && end > 0) {
        host = bytes_mid(text, 1, (size_t)end - 1);
        port = bytes_skip(text, (size_t)end + 1);
        port = bytes_starts(port, BYTES(":")) ? bytes_skip(port, 1) : BYTES_NONE;
    } else if ((colon = bytes_find_last(text, ':')) > 0) {
        host = bytes_first(text, (size_t)colon);
        port = bytes_skip(text, (size_t)colon + 1);
    }
    if (bytes_starts_nocase(host, BYTES("ipv6:")))
        host = bytes_skip(host, 5);
    if (bytes_eq(port, BYTES("submission")))
        number = 587;
    else if (bytes_eq(port, BYTES("smtps")) || bytes_eq(port, BYTES("submissions")))
        number = 465;
    else if (port.len && !bytes_eq(port, BYTES("smtp")) && bytes_to_u64(port, 65535, &number) != OK)
        number = 0;
    out->implicit_tls =
        number == 465 || postfix_flag(&im->cf, out->service, "smtp_tls_wrappermode", false);
    if (!bracket && conf_value_hostname(host, &im->cf.arena, &name) == OK) {
        out->note = "Postfix looked up the MX of this name; we connect to the host itself: name "
                    "one of its MX hosts if that is not it";
    }
    bool ip6 = bytes_find(host, ':') >= 0;
    if (number && host.len)
        snprintf(out->via, sizeof out->via, ip6 ? "%s://[%.*s]:%u" : "%s://%.*s:%u",
                 out->implicit_tls ? "smtps" : "smtp", BYTES_FMT(bytes_first(host, 250)),
                 (unsigned)number);
    out->smtp = true;
}

// What stands behind "smtp://" or "smtps://".
static const char *after_scheme(const char *via)
{
    const char *colon = strchr(via, ':');
    return colon ? colon + strlen("://") : via;
}

static void parse_lmtp(struct import *im, struct bytes text, struct import_target *out)
{
    struct bytes path = text;
    if (bytes_starts(text, BYTES("unix:"))) {
        path = bytes_skip(text, 5);
        if (bytes_starts(path, BYTES("/")))
            snprintf(out->via, sizeof out->via, "lmtp:%.*s", BYTES_FMT(bytes_first(path, 250)));
        else
            snprintf(out->via, sizeof out->via, "lmtp:%.*s/%.*s",
                     BYTES_FMT(postfix_get(&im->cf, NULL, "queue_directory")),
                     BYTES_FMT(bytes_first(path, 200)));
        return;
    }
    struct import_target host = {0};
    parse_nexthop(im, bytes_starts(text, BYTES("inet:")) ? bytes_skip(text, 5) : text, &host);
    if (host.via[0])
        snprintf(out->via, sizeof out->via, "lmtp:%.280s", after_scheme(host.via));
}

// What program a transport of master.cf is: "smtp", "lmtp", "pipe", ...
static struct bytes command_of(struct import *im, struct bytes transport)
{
    const struct postfix_service *s = service_of(im, transport);
    if (s)
        return s->command;
    return bytes_eq(transport, BYTES("relay")) ? BYTES("smtp") : transport;
}

// "smtp:[host]:port", "lmtp:unix:path", ":[host]", "discard:", "smtp:".
void import_parse_target(struct import *im, struct bytes text, struct import_target *out)
{
    ptrdiff_t colon = bytes_find(text, ':');
    struct bytes transport = colon < 0 ? text : bytes_first(text, (size_t)colon);
    struct bytes nexthop = bytes_trim(bytes_skip(text, colon < 0 ? text.len : (size_t)colon + 1));
    struct bytes command = transport.len ? command_of(im, transport) : BYTES("smtp");
    *out = (struct import_target){.service =
                                      service_of(im, transport.len ? transport : BYTES("smtp"))};
    if (bytes_eq(command, BYTES("smtp")) && nexthop.len) {
        parse_nexthop(im, nexthop, out);
    } else if (bytes_eq(command, BYTES("smtp"))) {
        snprintf(out->via, sizeof out->via, "mx");
        out->smtp = true;
    } else if (bytes_eq(command, BYTES("lmtp"))) {
        parse_lmtp(im, nexthop, out);
    } else if (bytes_eq(command, BYTES("discard"))) {
        snprintf(out->via, sizeof out->via, "discard");
    }
    out->refuses = bytes_eq(command, BYTES("error")) || bytes_eq(command, BYTES("retry"));
}

static bool is_mx(const struct import_target *t)
{
    return bytes_eq(bytes_cstr(t->via), BYTES("mx"));
}

// ---- logins ------------------------------------------------------------------------------------------

struct login {
    struct bytes user, password;
    uint32_t line;
};

static bool find_login(struct import *im, struct bytes nexthop, struct login *out)
{
    const char *why;
    if (!postfix_flag(&im->cf, NULL, "smtp_sasl_auth_enable", false))
        return false;
    struct import_entry *e = import_table(im, postfix_get(&im->cf, NULL, PASSWORDS_FIRST), &why);
    ptrdiff_t end = bytes_find(nexthop, ']');
    struct bytes host =
        nexthop.len && nexthop.at[0] == '[' && end > 0
            ? bytes_mid(nexthop, 1, (size_t)end - 1)
            : bytes_first(nexthop, bytes_find(nexthop, ':') < 0 ? nexthop.len
                                                                : (size_t)bytes_find(nexthop, ':'));
    for (; e; e = e->next) {
        if (!bytes_eq_nocase(e->key, nexthop) && !bytes_eq_nocase(e->key, host))
            continue;
        ptrdiff_t colon = bytes_find(e->value, ':');
        *out = (struct login){bytes_first(e->value, colon < 0 ? e->value.len : (size_t)colon),
                              bytes_skip(e->value, colon < 0 ? e->value.len : (size_t)colon + 1),
                              e->line};
        return out->user.len && out->password.len;
    }
    return false;
}

// "mail.example.org:587" as the name of a file.
static struct bytes file_name(struct import *im, const char *via, const char *end)
{
    struct buf name = {0};
    for (const char *c = after_scheme(via); *c; c++)
        buf_add_byte(&name, ascii_is_alnum(*c) || *c == '.' || *c == '-' ? *c : '_');
    buf_add_cstr(&name, end);
    struct bytes kept = arena_dup(&im->cf.arena, buf_bytes(&name));
    buf_done(&name);
    return kept;
}

// ---- TLS on the way out ------------------------------------------------------------------------------

static const char *tls_of_level(struct bytes level)
{
    static const struct {
        const char *level, *tls;
    } levels[] = {{"none", "none"},     {"may", "may"},           {"encrypt", "encrypt"},
                  {"dane", "may"},      {"dane-only", "encrypt"}, {"fingerprint", "encrypt"},
                  {"verify", "verify"}, {"secure", "verify"}};
    for (size_t i = 0; i < COUNT_OF(levels); i++)
        if (bytes_eq(level, bytes_cstr(levels[i].level)))
            return levels[i].tls;
    return "may";
}

static const char *tls_out(struct import *im, const struct postfix_service *s)
{
    struct bytes level = postfix_get(&im->cf, s, "smtp_tls_security_level");
    if (level.len)
        return tls_of_level(level);
    return postfix_flag(&im->cf, s, "smtp_enforce_tls", false) ? "encrypt" : "may";
}

// The settings of its transport alone that a route has taken, beside it. A transport that no route leads through has
// them told with the rest.
static void print_overrides(struct import *im, const struct postfix_service *s)
{
    static const char *const names[] = {"smtp_tls_wrappermode", "smtp_tls_security_level",
                                        "smtp_enforce_tls"};
    for (struct postfix_param *p = s ? s->overrides : NULL; p; p = p->next)
        for (size_t i = 0; i < COUNT_OF(names) && !p->told; i++)
            if (bytes_eq(p->name, bytes_cstr(names[i]))) {
                p->told = true;
                buf_add_cstr(&im->out, "    ");
                import_add_override(s, p, &im->out);
            }
}

// What smtp_tls_policy_maps has for this next hop; NULL: nothing. Parents of a domain count, too.
static const char *policy_of(struct import *im, struct bytes nexthop)
{
    struct bytes maps = postfix_get(&im->cf, NULL, TLS_POLICIES), map, level;
    const char *why;
    while (nexthop.len && postfix_word(&maps, &map))
        for (const struct import_entry *e = import_table(im, map, &why); e; e = e->next) {
            struct bytes rest = e->value;
            bool parent = bytes_starts(e->key, BYTES(".")) && nexthop.len > e->key.len &&
                          bytes_eq_nocase(bytes_skip(nexthop, nexthop.len - e->key.len), e->key);
            if ((parent || bytes_eq_nocase(e->key, nexthop)) && postfix_word(&rest, &level))
                return tls_of_level(level);
        }
    return NULL;
}

// Is there no mail without TLS?
static bool is_proved(const char *tls)
{
    return bytes_eq(bytes_cstr(tls), BYTES("encrypt")) ||
           bytes_eq(bytes_cstr(tls), BYTES("verify"));
}

// ---- routes ------------------------------------------------------------------------------------------

static int print_login(struct import *im, const struct import_target *t, const char **tls)
{
    struct login login;
    struct bytes path;
    if (!t->smtp || is_mx(t) || !find_login(im, t->nexthop, &login))
        return OK;
    if (!t->implicit_tls && !is_proved(*tls)) {
        import_line(im, "    # the password must not cross the network in the clear");
        *tls = "encrypt";
    }
    import_from(im, PASSWORDS_FIRST, 4);
    import_line(im, "    login: %.*s", BYTES_FMT(import_yaml(im, login.user)));
    struct bytes text = arena_printf(&im->cf.arena, "%.*s\n", BYTES_FMT(login.password));
    int err = import_write(im, file_name(im, t->via, ".password"), text, &path);
    if (!im->files)
        import_line(im,
                    "    # put the password (line %u of that table) into this file, alone; --files "
                    "DIR does it",
                    login.line);
    import_line(im, "    password_file: %.*s", BYTES_FMT(import_yaml(im, path)));
    return err;
}

int import_route(struct import *im, const char *match, const struct import_target *t,
                 struct bytes recipients)
{
    const char *policy = t->smtp ? policy_of(im, t->nexthop) : NULL;
    const char *tls = policy ? policy : tls_out(im, t->service);
    if (t->implicit_tls && !is_proved(tls))
        tls = "may"; // there is none without
    if (t->note)
        import_line(im, "  # %s", t->note);
    import_line(im, "  - match: {%s}\n    via: %.*s", match,
                BYTES_FMT(import_yaml(im, bytes_cstr(t->via))));
    if (policy)
        import_from(im, TLS_POLICIES, 4);
    if (t->implicit_tls)
        import_from(im, "smtp_tls_wrappermode", 4);
    if (t->smtp)
        print_overrides(im, t->service);
    int err = print_login(im, t, &tls);
    if (t->smtp && !bytes_eq(bytes_cstr(tls), BYTES("may")))
        import_line(im, "    tls: %s", tls);
    if (recipients.len)
        import_line(im, "    recipients: %.*s", BYTES_FMT(import_yaml(im, recipients)));
    return err;
}

// A pattern of Postfix's tables as ours, in YAML; empty: there is none.
static struct bytes pattern_of(struct import *im, struct bytes key)
{
    struct bytes out, text = key;
    if (bytes_starts(key, BYTES(".")))
        text = arena_printf(&im->cf.arena, "*%.*s", BYTES_FMT(key));
    else if (bytes_starts(key, BYTES("@")))
        text = bytes_skip(key, 1);
    return conf_value_pattern(text, &im->cf.arena, &out) == OK ? import_yaml(im, out) : BYTES_NONE;
}

// 0 addresses, 1 domains, 2 parents (the longest first), 3 everything.
static int rank_of(struct bytes key)
{
    if (bytes_eq(key, BYTES("*")))
        return 3;
    return bytes_find(key, '@') > 0 ? 0 : bytes_starts(key, BYTES(".")) ? 2 : 1;
}

static bool comes_before(const struct import_entry *a, const struct import_entry *b)
{
    int x = rank_of(a->key), y = rank_of(b->key);
    return x < y || (x == y && x == 2 && a->key.len > b->key.len);
}

static struct import_entry *sorted(struct import *im, const struct import_entry *list)
{
    struct import_entry *out = NULL;
    for (; list; list = list->next) {
        struct import_entry **at = &out, *own = arena_new(&im->cf.arena, sizeof *own);
        while (*at && !comes_before(list, *at))
            at = &(*at)->next;
        *own = *list;
        own->next = *at;
        *at = own;
    }
    return out;
}

// Each table of a list of maps.
static int each_entry(struct import *im, const char *name, struct bytes values,
                      int (*on_entry)(struct import *im, const char *name,
                                      const struct import_entry *e))
{
    struct bytes map;
    const char *why;
    int err = OK;
    while (!err && postfix_word(&values, &map)) {
        struct import_entry *e = sorted(im, import_table(im, map, &why));
        if (why) {
            import_left(im, name, "%.*s: %s; write routes for what stands there", BYTES_FMT(map),
                        why);
            return OK;
        }
        for (; e && !err; e = e->next)
            err = on_entry(im, name, e);
    }
    return err;
}

// transport(5): "a null transport and a null nexthop": as if the table did not have the key.
static bool is_as_without(const struct import_entry *e)
{
    return bytes_eq(e->value, BYTES(":"));
}

static struct bytes parent_of(struct bytes key)
{
    ptrdiff_t dot = bytes_find(bytes_skip(key, 1), '.');
    return dot < 0 ? BYTES("*") : bytes_skip(key, (size_t)dot + 1);
}

// The entry of transport_maps that holds: of the key itself, of ".parent"s from the longest, of "*".
static const struct import_entry *find_transport(struct import *im, struct bytes key)
{
    struct bytes map;
    const char *why;
    for (bool last = false; !last; key = parent_of(key)) {
        struct bytes maps = postfix_get(&im->cf, NULL, "transport_maps");
        while (postfix_word(&maps, &map))
            for (const struct import_entry *e = import_table(im, map, &why); e; e = e->next)
                if (bytes_eq_nocase(e->key, key))
                    return e;
        last = bytes_eq(key, BYTES("*"));
    }
    return NULL;
}

bool import_transport_of(struct import *im, struct bytes domain, struct import_target *out)
{
    const struct import_entry *e = find_transport(im, domain);
    *out = (struct import_target){0};
    if (!e || is_as_without(e))
        return false;
    import_parse_target(im, e->value, out);
    if (is_mx(out))
        out->nexthop = domain;
    return out->via[0] != 0;
}

bool import_is_exempt(struct import *im, struct bytes domain)
{
    const struct import_entry *e = find_transport(im, domain);
    return e && is_as_without(e);
}

// Where mail goes that nothing else decides. A transport that refuses everything (error:) or that is a program has no
// counterpart; the Internet is none.
static void find_default(struct import *im, struct import_target *out)
{
    struct bytes relayhost = postfix_get(&im->cf, NULL, "relayhost");
    struct bytes transport = postfix_get(&im->cf, NULL, "default_transport");
    import_parse_target(im, transport.len ? transport : BYTES("smtp"), out);
    if (is_mx(out) && relayhost.len) {
        *out = (struct import_target){.service = out->service};
        parse_nexthop(im, relayhost, out);
    }
    if (!out->via[0])
        *out = (struct import_target){
            .via = IMPORT_NOWHERE,
            .note = "mail for other hosts went nowhere that we know (default_transport, "
                    "relayhost): say where it shall go, or discard"};
}

// Only what a broader entry would send elsewhere needs a route. Domains of this host have theirs already.
static int on_exempt(struct import *im, const char *name, const struct import_entry *e,
                     struct bytes pattern)
{
    struct import_target t;
    char match[512];
    bool address = rank_of(e->key) == 0;
    struct bytes broader =
        address ? bytes_skip(e->key, (size_t)bytes_find(e->key, '@') + 1) : parent_of(e->key);
    const struct import_entry *other = rank_of(e->key) == 3 ? NULL : find_transport(im, broader);
    bool own = import_is_own(im, address ? broader : e->key);
    if (!other || is_as_without(other) || (own && !address)) {
        import_line(im, "  # %s, line %u: %.*s goes as if the table did not have it", name, e->line,
                    BYTES_FMT(e->key));
        return OK;
    }
    if (own || !pattern.len) {
        import_line(im, "  # %s, line %u, has no counterpart here: %.*s :", name, e->line,
                    BYTES_FMT(e->key));
        return OK;
    }
    find_default(im, &t);
    if (is_mx(&t))
        t.nexthop = e->key;
    snprintf(match, sizeof match, "recipient: %.*s", BYTES_FMT(pattern));
    return import_route(im, match, &t, BYTES_NONE);
}

static int on_transport(struct import *im, const char *name, const struct import_entry *e)
{
    struct import_target t;
    char match[512];
    struct bytes pattern = pattern_of(im, e->key);
    import_from(im, name, 2);
    if (is_as_without(e))
        return on_exempt(im, name, e, pattern);
    import_parse_target(im, e->value, &t);
    if (!pattern.len || !t.via[0]) {
        import_line(im, "  # %s, line %u, has no counterpart here: %.*s %.*s", name, e->line,
                    BYTES_FMT(e->key), BYTES_FMT(e->value));
        return OK;
    }
    if (is_mx(&t))
        t.nexthop = e->key;
    snprintf(match, sizeof match, "recipient: %.*s", BYTES_FMT(pattern));
    return import_route(im, match, &t, BYTES_NONE);
}

static int on_address_transport(struct import *im, const char *name, const struct import_entry *e)
{
    return rank_of(e->key) == 0 ? on_transport(im, name, e) : OK;
}

static int on_domain_transport(struct import *im, const char *name, const struct import_entry *e)
{
    return rank_of(e->key) == 0 ? OK : on_transport(im, name, e);
}

static int on_sender_relay(struct import *im, const char *name, const struct import_entry *e)
{
    struct import_target t = {.service = service_of(im, BYTES("smtp"))};
    char match[512];
    struct bytes pattern = pattern_of(im, e->key);
    import_from(im, name, 2);
    if (bytes_eq(e->value, BYTES("DUNNO")) || !pattern.len)
        return OK;
    parse_nexthop(im, e->value, &t);
    if (!t.via[0]) {
        import_line(im, "  # %s, line %u, is no host: %.*s", name, e->line, BYTES_FMT(e->value));
        return OK;
    }
    snprintf(match, sizeof match, "sender: %.*s", BYTES_FMT(pattern));
    return import_route(im, match, &t, BYTES_NONE);
}

static int on_policy(struct import *im, const char *name, const struct import_entry *e)
{
    char match[512];
    struct bytes pattern = pattern_of(im, e->key), rest = e->value, level;
    import_from(im, name, 2);
    if (!pattern.len || rank_of(e->key) == 0 || !postfix_word(&rest, &level)) {
        import_line(
            im, "  # %s, line %u, is about a next hop: it holds for routes that lead there (%.*s)",
            name, e->line, BYTES_FMT(e->key));
        return OK;
    }
    snprintf(match, sizeof match, "recipient: %.*s", BYTES_FMT(pattern));
    import_line(im, "  - match: {%s}\n    via: mx\n    tls: %s", match, tls_of_level(level));
    return OK;
}

// ---- the rest of it -----------------------------------------------------------------------------------

static int print_default(struct import *im, const struct import_target *t)
{
    static const char *const names[] = {"default_transport",       "relayhost",
                                        "smtp_tls_security_level", "smtp_use_tls",
                                        "smtp_enforce_tls",        "smtp_sasl_auth_enable"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        import_from(im, names[i], 2);
    if (bytes_starts(postfix_get(&im->cf, NULL, "smtp_tls_security_level"), BYTES("dane")))
        import_line(im, "  # DANE is not looked at yet: %s", tls_out(im, t->service));
    if (!is_mx(t))
        return import_route(im, "", t, BYTES_NONE);
    import_line(im, "  - via: mx");
    print_overrides(im, t->service);
    import_line(im, "    tls: %s", tls_out(im, t->service));
    return OK;
}

static bool has_all(struct import *im)
{
    const char *why;
    struct bytes maps = postfix_get(&im->cf, NULL, "transport_maps"), map;
    while (postfix_word(&maps, &map))
        for (struct import_entry *e = import_table(im, map, &why); e; e = e->next) {
            struct import_target t;
            import_parse_target(im, e->value, &t);
            if (rank_of(e->key) == 3 && t.via[0] && !is_as_without(e))
                return true;
        }
    return false;
}

// ---- lanes -------------------------------------------------------------------------------------------

static uint64_t number_of(struct import *im, struct bytes transport, const char *rest,
                          bool *out_set)
{
    struct bytes name = arena_printf(&im->cf.arena, "%.*s%s", BYTES_FMT(transport), rest);
    uint64_t value = 0;
    struct bytes text = postfix_get(&im->cf, NULL, name.at);
    if (bytes_ends(text, BYTES("s"))) // of a delay
        text.len--;
    *out_set = postfix_is_set(&im->cf, NULL, name.at) && bytes_to_u64(text, 1000000, &value) == OK;
    if (*out_set)
        import_from(im, name.at, 2);
    return value;
}

// The limits of one transport; false: it has none.
static bool lane_of(struct import *im, struct bytes transport, struct buf *out)
{
    bool set;
    uint64_t n = number_of(im, transport, "_destination_concurrency_limit", &set);
    if (set)
        buf_printf(out, "    connections: %llu\n", (unsigned long long)(n && n < 1000 ? n : 1000));
    n = number_of(im, transport, "_destination_recipient_limit", &set);
    if (set)
        buf_printf(out, "    recipients_per_transaction: %llu\n",
                   (unsigned long long)(n && n < 1000 ? n : 1000));
    n = number_of(im, transport, "_destination_rate_delay", &set);
    if (set && n) // one connection, a pause of n seconds behind each message
        buf_printf(out, "    messages_per_second: %s%.3f\n", "",
                   1.0 / (double)(n < 1000 ? n : 1000));
    return out->len > 0;
}

// Domains that transport_maps sends by this transport of master.cf's.
static struct bytes domains_by(struct import *im, struct bytes transport)
{
    struct bytes maps = postfix_get(&im->cf, NULL, "transport_maps"), map;
    struct buf out = {0};
    const char *why;
    while (postfix_word(&maps, &map))
        for (struct import_entry *e = import_table(im, map, &why); e; e = e->next) {
            ptrdiff_t colon = bytes_find(e->value, ':');
            struct bytes pattern =
                rank_of(e->key) == 1 || rank_of(e->key) == 2 ? pattern_of(im, e->key) : BYTES_NONE;
            if (pattern.len &&
                bytes_eq(bytes_first(e->value, colon < 0 ? e->value.len : (size_t)colon),
                         transport))
                buf_printf(&out, "%s%.*s", out.len ? ", " : "", BYTES_FMT(pattern));
        }
    struct bytes kept = arena_dup(&im->cf.arena, buf_bytes(&out));
    buf_done(&out);
    return kept;
}

static void import_lanes(struct import *im)
{
    struct buf limits = {0};
    import_line(im, "\nlanes:");
    for (const struct postfix_service *s = im->cf.services; s; s = s->next) {
        bool own = bytes_eq(s->type, BYTES("unix")) && !bytes_eq(s->name, BYTES("smtp"));
        struct bytes domains = own ? domains_by(im, s->name) : BYTES_NONE;
        buf_clear(&limits);
        if (domains.len && lane_of(im, s->name, &limits))
            import_line(im, "  - match: [%.*s]\n%.*s", BYTES_FMT(domains), (int)limits.len - 1,
                        limits.at);
    }
    buf_clear(&limits);
    if (!lane_of(im, BYTES("smtp"), &limits) && !lane_of(im, BYTES("default"), &limits))
        buf_add_cstr(&limits, "    connections: 20 # Postfix's default\n");
    import_line(im, "  - match: \"*\"\n%.*s", (int)limits.len - 1, limits.at);
    buf_done(&limits);
}

// Domains of other hosts whose mail Postfix refused, all the same.
static int print_refused(struct import *im, const struct import_aliases *aliases)
{
    static const char *const transports[] = {"relay_transport", NULL};
    struct import_target t;
    import_parse_target(im, postfix_get(&im->cf, NULL, "relay_transport"), &t);
    if (!t.refuses || !postfix_is_set(&im->cf, NULL, "relay_domains"))
        return OK;
    return import_local(im, aliases, "relay_domains", false, transports);
}

// In the order in which Postfix decided; "*" in transport_maps ends it.
static int print_routes(struct import *im, struct import_aliases *aliases)
{
    static const char *const local[] = {"mailbox_transport", "local_transport", NULL};
    static const char *const virtual[] = {"virtual_transport", NULL};
    struct bytes transports = postfix_get(&im->cf, NULL, "transport_maps");
    struct import_target fallback;
    find_default(im, &fallback);
    int err = each_entry(im, "transport_maps", transports, on_address_transport);
    if (!err)
        err = import_aliases_print(aliases, &fallback);
    if (!err)
        err = import_local(im, aliases, "mydestination", true, local);
    if (!err)
        err = import_local(im, aliases, "virtual_mailbox_domains", true, virtual);
    if (!err)
        err = each_entry(im, "transport_maps", transports, on_domain_transport);
    import_from(im, "transport_maps", 2); // though there may be no entries
    if (err || has_all(im))
        return err;
    err = import_local(im, aliases, "mydestination", false, local);
    if (!err)
        err = import_local(im, aliases, "virtual_mailbox_domains", false, virtual);
    if (!err)
        err = print_refused(im, aliases);
    if (!err)
        err = each_entry(im, "sender_dependent_relayhost_maps",
                         postfix_get(&im->cf, NULL, "sender_dependent_relayhost_maps"),
                         on_sender_relay);
    if (!err && !postfix_get(&im->cf, NULL, "relayhost").len)
        err = each_entry(im, TLS_POLICIES, postfix_get(&im->cf, NULL, TLS_POLICIES), on_policy);
    import_from(im, "sender_dependent_relayhost_maps", 2);
    return err ? err : print_default(im, &fallback);
}

int import_routes(struct import *im)
{
    struct import_aliases *aliases;
    import_line(im, "\nroutes:");
    int err = import_aliases_read(im, &aliases);
    if (!err)
        err = print_routes(im, aliases);
    import_aliases_done(aliases);
    import_lanes(im);
    return err;
}
