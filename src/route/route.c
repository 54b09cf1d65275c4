// SPDX-License-Identifier: MIT
#include "route/route.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/map.h"
#include "mail/mail_address.h"
#include "route/local_recipients.h"
#include "route/route_file.h"

#define PASSWORD_FILE_MAX 4096
#define ADDRESS_MAX 1024

struct route_table {
    struct arena arena;
    uint32_t generation, count; // count: with the default behind the configured ones
    struct route *routes;
    struct local_recipients **locals; // as many; NULL: none, or another entry owns it
    struct conf_route default_route;
};

// ---- made ----

static int read_file(const struct route_files *files, const char *path, struct buf *out)
{
    return files ? files->read(files->ctx, path, out) : route_file_read(path, out);
}

static int read_password(struct route_table *t, struct route *r, const struct route_files *files,
                         struct buf *errors)
{
    struct buf text;
    buf_init(&text, PASSWORD_FILE_MAX);
    int err = read_file(files, r->conf->password_file.at, &text);
    struct bytes all = buf_bytes(&text), line = BYTES_NONE;
    if (!err && bytes_cut(&all, '\n', &line))
        line = bytes_ends(line, BYTES("\r")) ? bytes_first(line, line.len - 1) : line;
    if (err)
        buf_printf(errors, "%s: error: the password of routes[%u] can't be read: %s\n",
                   r->conf->password_file.at, r->number, err_text(err));
    else if (line.len == 0) {
        buf_printf(errors, "%s:1: error: the password of routes[%u] is empty\n",
                   r->conf->password_file.at, r->number);
        err = E_SYNTAX;
    } else {
        r->password = arena_dup(&t->arena, line);
    }
    if (text.at) // secrets do not stay in freed memory
        explicit_bzero(text.at, text.cap);
    buf_done(&text);
    return err;
}

static bool look_alike(const struct route *a, const struct route *b)
{
    const struct conf_via *x = &a->conf->via, *y = &b->conf->via;
    return a->login.len && b->login.len && x->kind == y->kind && x->port == y->port &&
           bytes_eq(x->host, y->host) &&
           bytes_eq(bytes_first(a->login, ROUTE_LOGIN_SHOWN),
                    bytes_first(b->login, ROUTE_LOGIN_SHOWN));
}

static uint32_t number_of_login(const struct route_table *t, const struct route *r)
{
    uint32_t last = 0;
    for (const struct route *other = t->routes; other < r; other++) {
        if (!look_alike(other, r))
            continue;
        if (bytes_eq(other->login, r->login) && bytes_eq(other->password, r->password))
            return other->login_number;
        last = other->login_number > last ? other->login_number : last;
    }
    return r->login.len ? last + 1 : 0;
}

// A table that an earlier entry has read is shared.
static int read_locals(struct route_table *t, uint32_t i, const struct route_files *files,
                       struct buf *errors)
{
    struct route *r = &t->routes[i];
    for (uint32_t k = 0; k < i; k++)
        if (bytes_eq(t->routes[k].conf->recipients, r->conf->recipients)) {
            r->locals = t->routes[k].locals;
            return OK;
        }
    struct buf text;
    buf_init(&text, LOCAL_FILE_MAX);
    const char *path = r->conf->recipients.at;
    int err = read_file(files, path, &text);
    if (err)
        buf_printf(errors, "%s: error: can't be read: %s\n", path, err_text(err));
    else
        err = local_recipients_parse(buf_bytes(&text), path, &t->locals[i], errors);
    buf_done(&text);
    r->locals = t->locals[i];
    return err;
}

static uint64_t mix(uint64_t hash, struct bytes s)
{
    for (size_t i = 0; i < s.len; i++)
        hash = (hash ^ (uint8_t)s.at[i]) * 0x100000001b3u;
    return (hash ^ 0x1ff) * 0x100000001b3u;
}

static uint64_t fingerprint(const struct route *r)
{
    const struct conf_patterns *patterns[] = {&r->conf->match.recipient, &r->conf->match.sender,
                                              &r->conf->match.account, &r->conf->match.listener};
    uint64_t hash = mix(0xcbf29ce484222325u, r->conf->via.text);
    for (size_t i = 0; i < COUNT_OF(patterns); i++) {
        for (uint32_t k = 0; k < patterns[i]->count; k++)
            hash = mix(hash, patterns[i]->at[k]);
        hash = mix(hash, BYTES("|"));
    }
    hash = mix(hash, r->login);
    hash = mix(hash, r->password);
    return mix(hash, bytes_of(&(char){(char)r->conf->tls}, 1));
}

static void fill_default(struct route_table *t)
{
    t->default_route = (struct conf_route){
        .via = {.kind = CONF_VIA_MX, .text = BYTES("mx"), .port = 25}, .tls = CONF_ROUTE_TLS_MAY};
}

int route_table_new(const struct conf *conf, const struct route_files *files, uint32_t generation,
                    struct route_table **out, struct buf *errors)
{
    *out = NULL;
    if (conf->routes_count >= ROUTE_MAX) {
        buf_printf(errors, "routes: error: more than %d\n", ROUTE_MAX - 1);
        return E_LIMIT;
    }
    struct route_table *t = mem_new(sizeof(*t));
    t->generation = generation & 0xffff;
    t->count = conf->routes_count + 1;
    t->routes = mem_new(t->count * sizeof(*t->routes));
    t->locals = mem_new(t->count * sizeof(struct local_recipients *));
    fill_default(t);
    int first_err = OK;
    for (uint32_t i = 0; i < t->count; i++) {
        struct route *r = &t->routes[i];
        r->number = i;
        r->conf = i < conf->routes_count ? &conf->routes[i] : &t->default_route;
        r->login = r->conf->login;
        int err = r->conf->recipients.len ? read_locals(t, i, files, errors) : OK;
        if (r->conf->password_file.len && !err)
            err = read_password(t, r, files, errors);
        first_err = first_err ? first_err : err;
        r->login_number = number_of_login(t, r);
        r->fingerprint = fingerprint(r);
    }
    if (first_err) {
        route_table_free(t);
        return first_err;
    }
    *out = t;
    return OK;
}

void route_table_free(struct route_table *t)
{
    if (!t)
        return;
    for (uint32_t i = 0; i < t->count; i++) {
        local_recipients_free(t->locals[i]);
        if (t->routes[i].password.len)
            explicit_bzero((char *)(uintptr_t)t->routes[i].password.at, t->routes[i].password.len);
    }
    arena_done(&t->arena);
    free(t->locals);
    free(t->routes);
    free(t);
}

uint32_t route_table_generation(const struct route_table *t)
{
    return t->generation;
}

bool route_table_same(const struct route_table *a, const struct route_table *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (a->routes[i].fingerprint != b->routes[i].fingerprint)
            return false;
    return true;
}

// ---- asked ----

// As it was received, or with the domain in its routing form.
static bool recipient_matches(const struct conf_patterns *patterns,
                              const struct route_question *question)
{
    if (conf_patterns_match(patterns, question->recipient))
        return true;
    ptrdiff_t sign = bytes_find_last(question->recipient, '@');
    struct buf address;
    buf_init(&address, ADDRESS_MAX);
    if (sign >= 0)
        buf_add(&address, bytes_first(question->recipient, (size_t)sign + 1));
    buf_add(&address, question->domain);
    bool match = !address.err && conf_patterns_match(patterns, buf_bytes(&address));
    buf_done(&address);
    return match;
}

static bool matches(const struct route *r, const struct route_question *question)
{
    return recipient_matches(&r->conf->match.recipient, question) &&
           conf_patterns_match(&r->conf->match.sender, question->sender) &&
           conf_patterns_match(&r->conf->match.account, question->account) &&
           conf_patterns_match(&r->conf->match.listener, question->listener);
}

const struct route *route_pick(const struct route_table *t, const struct route_question *question)
{
    for (uint32_t i = 0; i < t->count; i++)
        if (matches(&t->routes[i], question))
            return &t->routes[i];
    CHECK(!"the default route matches everything");
    return NULL;
}

enum maybe { NO, MAYBE, YES };

static enum maybe others_match(const struct conf_patterns *patterns)
{
    for (uint32_t i = 0; i < patterns->count; i++)
        if (bytes_eq(patterns->at[i], BYTES("*")))
            return YES;
    return patterns->count ? MAYBE : YES;
}

// A pattern with an "@" may match some address of its domain.
static enum maybe domain_matches(const struct conf_patterns *patterns, struct bytes domain)
{
    if (conf_patterns_match(patterns, domain))
        return YES;
    for (uint32_t i = 0; i < patterns->count; i++)
        if (bytes_find(patterns->at[i], '@') >= 0 || !bytes_is_ascii(patterns->at[i]))
            return MAYBE; // some address of the domain; another way to write the domain
    return NO;
}

const struct route *route_pick_domain(const struct route_table *t, struct bytes domain)
{
    for (uint32_t i = 0; i < t->count; i++) {
        const struct conf_route *c = t->routes[i].conf;
        enum maybe answers[] = {
            domain_matches(&c->match.recipient, domain),
            others_match(&c->match.sender),
            others_match(&c->match.account),
            others_match(&c->match.listener),
        };
        enum maybe all = YES;
        for (size_t k = 0; k < COUNT_OF(answers); k++)
            all = answers[k] < all ? answers[k] : all;
        if (all == YES)
            return &t->routes[i];
        if (all == MAYBE)
            return NULL;
    }
    return NULL;
}

uint32_t route_key(const struct route_table *t, const struct route *r)
{
    return t->generation << 16 | r->number;
}

const struct route *route_get(const struct route_table *t, uint32_t key)
{
    if (key >> 16 != t->generation || (key & 0xffff) >= t->count)
        return NULL;
    return &t->routes[key & 0xffff];
}

bool route_is_local(const struct route *r)
{
    enum conf_via_kind kind = r->conf->via.kind;
    return r->locals || kind == CONF_VIA_LMTP || kind == CONF_VIA_LMTP_UNIX ||
           kind == CONF_VIA_MAILDIR || kind == CONF_VIA_DISCARD;
}

// ---- paths ----

static int check_part(struct bytes part)
{
    if (part.len == 0 || part.len > ROUTE_PATH_PART_MAX || part.at[0] == '.')
        return E_DENIED;
    return bytes_find(part, '/') >= 0 || bytes_has_control(part, NULL) ? E_DENIED : OK;
}

static void add_lower(struct buf *out, struct bytes part)
{
    for (size_t i = 0; i < part.len; i++)
        buf_add_byte(out, ascii_lower(part.at[i]));
}

static int check_path(struct bytes path)
{
    struct bytes part;
    while (bytes_cut(&path, '/', &part))
        if (bytes_eq(part, BYTES(".")) || bytes_eq(part, BYTES("..")))
            return E_DENIED;
    return OK;
}

int route_expand_path(struct bytes pattern, struct bytes local_part, struct bytes domain,
                      struct buf *out)
{
    if (check_part(local_part) || check_part(domain))
        return E_DENIED;
    size_t start = out->len;
    for (size_t i = 0; i < pattern.len; i++) {
        char next = pattern.at[i] == '%' && i + 1 < pattern.len ? pattern.at[i + 1] : '\0';
        if (next == 'd')
            add_lower(out, domain);
        else if (next == 'u')
            add_lower(out, local_part);
        else
            buf_add_byte(out, pattern.at[i]);
        i += next == 'd' || next == 'u' || next == '%';
    }
    if (out->err || out->len - start > ROUTE_PATH_MAX)
        return E_LIMIT;
    return check_path(bytes_skip(buf_bytes(out), start));
}
