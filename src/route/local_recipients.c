// SPDX-License-Identifier: MIT
//
// How it works: the file becomes a map from addresses (lower case, domains in routing form;
// "@domain" for a catch-all) to entries. Aliases are expanded by a work list with the addresses
// already met; this is done once for each alias when the table is made, so that a question can't
// run into a limit.
#include "route/local_recipients.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/map.h"
#include "mail/mail_address.h"

#define ADDRESS_MAX 600

// The address has the local part's case as written, which is for its own domain to judge (RFC 5321 2.4).
struct target {
    struct bytes key, address;
};

struct entry {
    struct bytes key;
    struct target *targets; // none: a mailbox, or a catch-all that takes everybody
    uint32_t count, line;
};

struct local_recipients {
    struct arena arena;
    struct map entries; // key -> entry
    struct map domains;
    char subaddress; // '\0': none
    uint64_t fingerprint;
};

struct parser {
    struct local_recipients *t;
    const char *file;
    struct buf *errors;
    uint32_t line, count; // count: errors
};

__attribute__((format(printf, 2, 3))) static void complain(struct parser *p, const char *format,
                                                           ...)
{
    p->count++;
    if (p->count > LOCAL_ERRORS_MAX)
        return;
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    buf_printf(p->errors, "%s:%u: error: ", p->file, p->line);
    buf_add_visible(p->errors, bytes_cstr(text), sizeof(text));
    buf_add_byte(p->errors, '\n');
}

// ---- addresses as keys ----

// "user@domain", any way to write the domain -> one spelling, but for the local part's case.
static int spell(struct bytes address, struct buf *out)
{
    struct mail_address a;
    int err = mail_address_parse(address, &a);
    return err ? err : mail_address_canonical(&a, out);
}

static void make_lower(struct buf *key)
{
    for (size_t i = 0; i < key->len; i++)
        key->at[i] = ascii_lower(key->at[i]);
}

static struct bytes domain_of(struct bytes key)
{
    return bytes_skip(key, (size_t)(bytes_find_last(key, '@') + 1));
}

static struct entry *entry_find(const struct local_recipients *t, struct bytes key)
{
    return map_find(&t->entries, key);
}

// The entry that decides about an address: its own, that without subaddress, its domain's
// catch-all. *out_key is the address it is delivered to; written to `text` if it differs.
static struct entry *decide(const struct local_recipients *t, struct bytes key, struct buf *text,
                            struct bytes *out_key)
{
    *out_key = key;
    struct entry *e = entry_find(t, key);
    ptrdiff_t sign = bytes_find_last(key, '@');
    ptrdiff_t tag = t->subaddress ? bytes_find(bytes_first(key, (size_t)sign), t->subaddress) : -1;
    if (!e && tag > 0) {
        buf_clear(text);
        buf_add(text, bytes_first(key, (size_t)tag));
        buf_add(text, bytes_skip(key, (size_t)sign));
        e = entry_find(t, buf_bytes(text));
        if (e)
            *out_key = e->key;
    }
    return e ? e : entry_find(t, bytes_skip(key, (size_t)sign));
}

// ---- expansion ----

struct expansion {
    const struct local_recipients *t;
    struct map met, kept; // addresses that were met; aliases that keep a copy
    struct bytes *found;
    size_t count;
    struct buf text;
    const char *problem; // NULL: none
    struct bytes problem_about;
};

static void found(struct expansion *x, struct bytes key)
{
    if (x->count == LOCAL_TARGETS_MAX) {
        x->problem = "expands to too many addresses; %s would be one more";
        x->problem_about = key;
        return;
    }
    x->found[x->count++] = key;
}

static void expand(struct expansion *x, const struct entry *alias, int depth)
{
    for (uint32_t i = 0; i < alias->count && !x->problem; i++) {
        struct bytes target = alias->targets[i].key, key;
        bool is_itself = bytes_eq(target, alias->key);
        // That the alias was met on the way here does not take its own copy away.
        if (map_set(is_itself ? &x->kept : &x->met, target, x))
            continue;
        if (!map_find(&x->t->domains, domain_of(target))) {
            found(x, alias->targets[i].address); // somebody else's business
            continue;
        }
        if (is_itself) {
            found(x, target); // keeps a copy
            continue;
        }
        struct entry *e = decide(x->t, target, &x->text, &key);
        if (!e || depth == LOCAL_DEPTH_MAX) {
            x->problem = e ? "has too many aliases in a row, at %s" : "names %s, who is not listed";
            x->problem_about = target;
        } else if (e->count == 0) {
            found(x, key);
        } else {
            expand(x, e, depth + 1);
        }
    }
}

static void expansion_init(struct expansion *x, const struct local_recipients *t)
{
    *x = (struct expansion){.t = t};
    x->found = mem_new(LOCAL_TARGETS_MAX * sizeof(*x->found));
}

static void expansion_done(struct expansion *x)
{
    free(x->found);
    map_done(&x->met);
    map_done(&x->kept);
    buf_done(&x->text);
}

// ---- the file ----

// The first c that stands outside quotes and brackets, or -1.
static ptrdiff_t find_plain(struct bytes s, char c)
{
    bool quoted = false, bracket = false;
    for (size_t i = 0; i < s.len; i++) {
        if (quoted && s.at[i] == '\\')
            i++;
        else if (s.at[i] == '"')
            quoted = !quoted;
        else if (!quoted && s.at[i] == '[')
            bracket = true;
        else if (!quoted && s.at[i] == ']')
            bracket = false;
        else if (!quoted && !bracket && s.at[i] == c)
            return (ptrdiff_t)i;
    }
    return -1;
}

static bool read_address(struct parser *p, struct bytes text, bool catch_all, struct target *out)
{
    struct buf spelt;
    buf_init(&spelt, ADDRESS_MAX);
    int err;
    if (catch_all && text.len > 1 && text.at[0] == '@') {
        buf_add_byte(&spelt, '@');
        err = mail_domain_route(bytes_skip(text, 1), &spelt);
    } else {
        err = spell(text, &spelt);
    }
    if (err) {
        complain(p, "'%.*s' is not an address", (int)(text.len < 200 ? text.len : 200), text.at);
    } else {
        out->address = arena_dup(&p->t->arena, buf_bytes(&spelt));
        make_lower(&spelt);
        bool same = bytes_eq(out->address, buf_bytes(&spelt));
        out->key = same ? out->address : arena_dup(&p->t->arena, buf_bytes(&spelt));
    }
    buf_done(&spelt);
    return !err;
}

static void read_targets(struct parser *p, struct entry *e, struct bytes text)
{
    uint32_t cap = 1;
    for (size_t i = 0; i < text.len; i++)
        cap += text.at[i] == ',';
    e->targets = arena_new(&p->t->arena, cap * sizeof(*e->targets));
    while (text.at) {
        ptrdiff_t comma = find_plain(text, ',');
        struct bytes one = comma < 0 ? text : bytes_first(text, (size_t)comma);
        text = comma < 0 ? BYTES_NONE : bytes_skip(text, (size_t)comma + 1);
        one = bytes_trim(one);
        if (one.len == 0)
            complain(p, "an address is missing in the list");
        else if (read_address(p, one, false, &e->targets[e->count]))
            e->count++;
    }
}

static void read_option(struct parser *p, struct bytes text)
{
    struct bytes word;
    text = bytes_trim(text);
    bytes_cut(&text, ' ', &word);
    text = bytes_trim(text);
    if (!bytes_eq(word, BYTES("subaddress")))
        complain(p, "unknown option '%.*s'; there is: subaddress", BYTES_FMT(word));
    else if (text.len != 1 || !ascii_is_one_of(text.at[0], "+-=_.#~"))
        complain(p, "option subaddress wants one of + - = _ . # ~");
    else
        p->t->subaddress = text.at[0];
}

static void read_entry(struct parser *p, struct bytes line)
{
    ptrdiff_t colon = find_plain(line, ':');
    struct bytes name = bytes_trim(colon < 0 ? line : bytes_first(line, (size_t)colon));
    struct target self;
    if (!read_address(p, name, true, &self))
        return;
    struct entry *e = arena_new(&p->t->arena, sizeof(*e));
    e->key = self.key;
    e->line = p->line;
    if (colon >= 0)
        read_targets(p, e, bytes_skip(line, (size_t)colon + 1));
    struct entry *old = map_set(&p->t->entries, e->key, e);
    if (old)
        complain(p, "%.*s is listed twice; it was first in line %u", BYTES_FMT(name), old->line);
    map_set(&p->t->domains, domain_of(e->key), p->t);
}

static void read_line(struct parser *p, struct bytes line)
{
    if (line.len > LOCAL_LINE_MAX) {
        complain(p, "the line is longer than %d bytes", LOCAL_LINE_MAX);
        return;
    }
    for (size_t i = 0; i + 1 < line.len; i++) // a comment behind an entry
        if ((line.at[i] == ' ' || line.at[i] == '\t') && line.at[i + 1] == '#') {
            ptrdiff_t sign = find_plain(bytes_skip(line, i), '#');
            if (sign == 1 && find_plain(bytes_first(line, i + 2), '#') == (ptrdiff_t)i + 1)
                line = bytes_first(line, i);
        }
    line = bytes_trim(line);
    if (line.len == 0 || line.at[0] == '#')
        return;
    if (!bytes_is_utf8(line) || bytes_has_control(line, "\t"))
        complain(p, "the line is not UTF-8 text");
    else if (bytes_starts(line, BYTES("option ")))
        read_option(p, bytes_skip(line, 7));
    else
        read_entry(p, line);
}

// Every alias leads to somebody, within the limits.
static void check_aliases(struct parser *p)
{
    size_t cursor = 0;
    struct bytes key;
    void *value;
    while (map_next(&p->t->entries, &cursor, &key, &value)) {
        const struct entry *e = value;
        if (e->count == 0)
            continue;
        struct expansion x;
        expansion_init(&x, p->t);
        expand(&x, e, 1);
        p->line = e->line;
        if (!x.problem && x.count == 0)
            complain(p, "%.*s leads to nobody but itself", BYTES_FMT(key));
        if (x.problem) {
            struct buf text = {0};
            buf_printf(&text, "%.*s ", BYTES_FMT(key));
            const char *about = strstr(x.problem, "%s");
            buf_printf(&text, "%.*s%.*s%s", (int)(about - x.problem), x.problem,
                       BYTES_FMT(x.problem_about), about + 2);
            complain(p, "%s", buf_cstr(&text));
            buf_done(&text);
        }
        expansion_done(&x);
    }
}

static uint64_t hash_of(struct bytes text)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (uint8_t)text.at[i]) * 0x100000001b3u;
    return hash;
}

int local_recipients_parse(struct bytes text, const char *file, struct local_recipients **out,
                           struct buf *errors)
{
    *out = NULL;
    struct local_recipients *t = mem_new(sizeof(*t));
    struct parser p = {.t = t, .file = file, .errors = errors, .line = 1};
    t->fingerprint = hash_of(text);
    if (text.len > LOCAL_FILE_MAX)
        complain(&p, "the file is larger than %zu bytes", LOCAL_FILE_MAX);
    struct bytes line;
    for (; text.len <= LOCAL_FILE_MAX && bytes_cut(&text, '\n', &line); p.line++)
        read_line(&p, line);
    if (p.count == 0)
        check_aliases(&p);
    if (p.count > LOCAL_ERRORS_MAX)
        buf_printf(errors, "%s: error: %u more errors\n", file, p.count - LOCAL_ERRORS_MAX);
    if (p.count > 0) {
        local_recipients_free(t);
        return E_SYNTAX;
    }
    *out = t;
    return OK;
}

void local_recipients_free(struct local_recipients *t)
{
    if (!t)
        return;
    map_done(&t->entries);
    map_done(&t->domains);
    arena_done(&t->arena);
    free(t);
}

// ---- asked ----

static enum local_answer answer(const struct local_recipients *t, struct bytes key,
                                struct expansion *x, struct arena *arena,
                                struct bytes **out_targets, size_t *out_count)
{
    struct bytes delivered_to;
    struct entry *e = decide(t, key, &x->text, &delivered_to);
    if (!e)
        return LOCAL_UNKNOWN;
    if (e->count == 0)
        found(x, delivered_to);
    else
        expand(x, e, 1);
    CHECK(!x->problem && x->count > 0);
    *out_targets = arena_new(arena, x->count * sizeof(**out_targets));
    for (size_t i = 0; i < x->count; i++)
        (*out_targets)[i] = arena_dup(arena, x->found[i]);
    *out_count = x->count;
    return e->count == 0 ? LOCAL_MAILBOX : LOCAL_ALIAS;
}

enum local_answer local_recipients_find(const struct local_recipients *t, struct bytes address,
                                        struct arena *arena, struct bytes **out_targets,
                                        size_t *out_count)
{
    *out_targets = NULL;
    *out_count = 0;
    struct buf key;
    buf_init(&key, ADDRESS_MAX);
    enum local_answer result = LOCAL_UNKNOWN;
    if (spell(address, &key) == OK) {
        make_lower(&key);
        struct expansion x;
        expansion_init(&x, t);
        result = answer(t, buf_bytes(&key), &x, arena, out_targets, out_count);
        expansion_done(&x);
    }
    buf_done(&key);
    return result;
}

size_t local_recipients_count(const struct local_recipients *t)
{
    return t->entries.count;
}

uint64_t local_recipients_fingerprint(const struct local_recipients *t)
{
    return t->fingerprint;
}
