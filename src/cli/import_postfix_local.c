// SPDX-License-Identifier: MIT
//
// import_postfix_local - aliases, and the domains whose mail stayed on Postfix's host
//
// How it works: virtual_alias_maps and alias_maps become one recipient table. A table of ours names all who exist in its
// domains, Postfix's only those who are rewritten; so where Postfix knew others (who went to their mailbox, or on to
// relayhost), the table gets "@domain", and the domain's route goes where those others went.
#include <stdio.h>

#include "base/check.h"
#include "base/map.h"
#include "cli/import_postfix.h"
#include "conf/conf_value.h"
#include "route/route_file.h"

enum others { NOBODY, LOCAL, ELSEWHERE }; // where its users go who are no aliases

struct alias_domain {
    struct bytes name;
    enum others others;
    struct import_target target; // of ELSEWHERE
    bool printed;
    struct alias_domain *next;
};

struct import_aliases {
    struct import *im;
    struct map keys, domains; // "user@domain" and "@domain" that have a line; struct alias_domain
    struct alias_domain *first, **last;
    struct buf table;
    struct buf lost;       // entries that have no counterpart
    const char *lost_last; // whose key
    struct bytes path;     // of the table once it is written
};

// ---- names -------------------------------------------------------------------------------------------

// The domain that bare user names get; it may stand in a file.
static struct bytes origin_of(struct import *im)
{
    struct bytes value = postfix_get(&im->cf, NULL, "myorigin"), line;
    struct buf text;
    if (!bytes_starts(value, BYTES("/")))
        return value;
    buf_init(&text, POSTFIX_FILE_MAX);
    struct bytes rest = BYTES_NONE;
    if (import_read_file(im, value, &text) == OK)
        rest = buf_bytes(&text);
    struct bytes found =
        bytes_cut(&rest, '\n', &line) ? arena_dup(&im->cf.arena, bytes_trim(line)) : BYTES_NONE;
    buf_done(&text);
    return found.len ? found : postfix_get(&im->cf, NULL, "myhostname");
}

struct import_list {
    const char *name;
    struct bytes words;
    struct import_list *next;
};

static void add_list(struct import *im, struct bytes list, uint32_t *files, struct buf *out,
                     struct buf *lost);

// A file of such words; lines that begin with "#" are comments.
static bool add_list_file(struct import *im, struct bytes path, uint32_t *files, struct buf *out,
                          struct buf *lost)
{
    struct buf text;
    buf_init(&text, POSTFIX_FILE_MAX);
    bool good = (*files)++ < IMPORT_LIST_FILES_MAX && import_read_file(im, path, &text) == OK;
    struct bytes rest = good ? buf_bytes(&text) : BYTES_NONE, line;
    while (bytes_cut(&rest, '\n', &line)) {
        struct bytes words = bytes_trim(line);
        if (words.len && words.at[0] != '#')
            add_list(im, words, files, out, lost);
    }
    buf_done(&text);
    return good;
}

// The keys of a table that are no addresses.
static bool add_list_table(struct import *im, struct bytes map, struct buf *out)
{
    const char *why;
    for (const struct import_entry *e = import_table(im, map, &why); e; e = e->next)
        if (bytes_find(e->key, '@') < 0)
            buf_add_all(out, e->key, BYTES(" "));
    return !why;
}

static void add_list(struct import *im, struct bytes list, uint32_t *files, struct buf *out,
                     struct buf *lost)
{
    struct bytes word;
    while (postfix_word(&list, &word)) {
        bool taken = word.at[0] != '!';
        if (word.at[0] == '/')
            taken = add_list_file(im, word, files, out, lost);
        else if (taken && word.at[0] != '[' && bytes_find(word, ':') >= 0)
            taken = add_list_table(im, word, out);
        else if (taken)
            buf_add_all(out, word, BYTES(" "));
        if (!taken)
            buf_printf(lost, "%s%.*s", lost->len ? ", " : "", BYTES_FMT(bytes_first(word, 200)));
    }
}

// The domains that a parameter lists, with those of the files and tables that it names.
static struct bytes list_of(struct import *im, const char *name)
{
    struct import_list *l = im->lists;
    while (l && !bytes_eq(bytes_cstr(l->name), bytes_cstr(name)))
        l = l->next;
    if (l)
        return l->words;
    struct buf words = {0}, lost = {0};
    uint32_t files = 0;
    add_list(im, postfix_get(&im->cf, NULL, name), &files, &words, &lost);
    l = arena_new(&im->cf.arena, sizeof *l);
    *l = (struct import_list){name, arena_dup(&im->cf.arena, buf_bytes(&words)), im->lists};
    im->lists = l;
    if (lost.len)
        import_left(im, name,
                    "which domains these are can't be read here, and their mail goes on as that of "
                    "other hosts: add them to a route's match: %s",
                    buf_cstr(&lost));
    buf_done(&words);
    buf_done(&lost);
    return l->words;
}

static bool is_in_list(struct import *im, const char *name, struct bytes domain)
{
    struct bytes list = list_of(im, name), word;
    while (postfix_word(&list, &word))
        if (bytes_eq_nocase(word, domain))
            return true;
    return false;
}

bool import_is_own(struct import *im, struct bytes domain)
{
    return is_in_list(im, "mydestination", domain) ||
           is_in_list(im, "virtual_mailbox_domains", domain);
}

static void judge(struct import_aliases *a, struct alias_domain *d)
{
    struct import *im = a->im;
    if (import_transport_of(im, d->name, &d->target))
        d->others = ELSEWHERE;
    else if (is_in_list(im, "virtual_alias_domains", d->name))
        d->others = NOBODY;
    else if (import_is_own(im, d->name))
        d->others = LOCAL;
    else
        d->others = ELSEWHERE;
}

static void add_domain(struct import_aliases *a, struct bytes name)
{
    if (map_find(&a->domains, name))
        return;
    struct alias_domain *d = arena_new(&a->im->cf.arena, sizeof *d);
    d->name = arena_dup(&a->im->cf.arena, name);
    judge(a, d);
    map_set(&a->domains, d->name, d);
    *a->last = d;
    a->last = &d->next;
}

// ---- entries -----------------------------------------------------------------------------------------

// The next of "target, target": a comma within quotes is none.
static bool next_target(struct bytes *rest, struct bytes *out)
{
    size_t n = 0;
    if (!rest->len)
        return false;
    for (bool quoted = false; n < rest->len && (quoted || rest->at[n] != ','); n++)
        if (rest->at[n] == '"')
            quoted = !quoted;
        else if (rest->at[n] == '\\')
            n++; // whatever comes next
    *out = bytes_first(*rest, n);
    *rest = bytes_skip(*rest, n + 1);
    return true;
}

// A program with its arguments, a file, a list in a file, or what is quoted: none of its words are addresses.
static bool is_no_address(struct bytes target)
{
    struct bytes word;
    while (postfix_word(&target, &word))
        if (word.at[0] == '|' || word.at[0] == '"' || word.at[0] == '/' ||
            bytes_starts_nocase(word, BYTES(":include:")))
            return true;
    return false;
}

// "target, target" of ours; false: one of them is no address.
static bool format_targets(struct import_aliases *a, struct bytes key, struct bytes values,
                           struct bytes bare_domain, struct buf *out)
{
    struct arena *arena = &a->im->cf.arena;
    struct bytes part, word, target;
    bool good = true;
    while (next_target(&values, &part)) {
        if (is_no_address(part)) {
            good = false;
            continue;
        }
        while (postfix_word(&part, &word)) {
            if (word.len > 1 && word.at[0] == '\\') // "not an alias again"
                word = bytes_skip(word, 1);
            if (bytes_find(word, '@') < 0)
                word = arena_printf(arena, "%.*s@%.*s", BYTES_FMT(word), BYTES_FMT(bare_domain));
            if (conf_value_mailbox(word, arena, &target) == OK)
                buf_printf(out, "%s%.*s", out->len ? ", " : "", BYTES_FMT(target));
            else
                good = false;
        }
    }
    if (bytes_eq_nocase(buf_bytes(out), key)) // itself alone: it exists
        buf_clear(out);
    return good;
}

static void lose(struct import_aliases *a, const struct import_entry *e)
{
    if (a->lost_last == e->key.at) // of one entry for several domains
        return;
    a->lost_last = e->key.at;
    buf_printf(&a->lost, "  # line %u has no counterpart here: ", e->line);
    buf_add_escaped(&a->lost, e->key, 100);
    buf_add_cstr(&a->lost, " ");
    buf_add_escaped(&a->lost, e->value, 200);
    buf_add_byte(&a->lost, '\n');
}

// `user` empty: all users of the domain. The first table that has a key holds.
static void add_alias(struct import_aliases *a, const struct import_entry *e, struct bytes user,
                      struct bytes domain_text, struct bytes bare_domain)
{
    struct arena *arena = &a->im->cf.arena;
    struct bytes domain, key;
    struct buf targets = {0};
    if (conf_value_domain(domain_text, arena, &domain) != OK)
        return lose(a, e);
    key = arena_printf(arena, "%.*s@%.*s", BYTES_FMT(user), BYTES_FMT(domain));
    if (user.len && conf_value_mailbox(key, arena, &key) != OK)
        return lose(a, e);
    bool good = format_targets(a, key, e->value, bare_domain, &targets);
    if (!good)
        lose(a, e);
    if ((good || targets.len) && !map_find(&a->keys, key)) {
        map_set(&a->keys, key, a);
        add_domain(a, domain);
        buf_printf(&a->table, "%.*s%s%s\n", BYTES_FMT(key), targets.len ? ": " : "",
                   buf_cstr(&targets));
    }
    buf_done(&targets);
}

// In each domain of mydestination. An alias of the host names its other users without a domain.
static void add_to_own(struct import_aliases *a, const struct import_entry *e, struct bytes user,
                       struct bytes origin)
{
    struct bytes list = list_of(a->im, "mydestination"), word;
    while (postfix_word(&list, &word))
        add_alias(a, e, user, word, origin.len ? origin : word);
    if (origin.len && !is_in_list(a->im, "mydestination", origin))
        add_alias(a, e, user, origin, origin);
}

// user@domain, @domain, or a user of this host; a domain alone says that it has aliases only.
static void add_virtual(struct import_aliases *a, const struct import_entry *e, struct bytes origin)
{
    ptrdiff_t sign = bytes_find_last(e->key, '@');
    if (sign >= 0)
        add_alias(a, e, bytes_first(e->key, (size_t)sign), bytes_skip(e->key, (size_t)sign + 1),
                  origin);
    else if (bytes_find(e->key, '.') < 0)
        add_to_own(a, e, e->key, origin);
}

// aliases(5): "name: value".
static void add_local(struct import_aliases *a, const struct import_entry *e)
{
    struct import_entry own = *e;
    if (bytes_ends(own.key, BYTES(":")))
        own.key.len--;
    else if (bytes_starts(own.value, BYTES(":"))) // "name : value"
        own.value = bytes_trim(bytes_skip(own.value, 1));
    add_to_own(a, &own, own.key, BYTES_NONE);
}

// ---- tables ------------------------------------------------------------------------------------------

// All tables of a list; false: one of them can't be read, which is told.
static bool add_maps(struct import_aliases *a, const char *name, bool local)
{
    struct import *im = a->im;
    struct bytes maps = postfix_get(&im->cf, NULL, name), origin = origin_of(im), map;
    const char *why = NULL;
    while (!why && postfix_word(&maps, &map))
        for (const struct import_entry *e = import_table(im, map, &why); e; e = e->next) {
            if (local)
                add_local(a, e);
            else
                add_virtual(a, e, origin);
        }
    if (why)
        import_left(im, name,
                    "%s; write a recipient table, lines \"user@domain: target\" "
                    "(routes[].recipients)",
                    why);
    return !why;
}

// Who else exists there.
static void add_others(struct import_aliases *a)
{
    for (const struct alias_domain *d = a->first; d; d = d->next) {
        struct bytes key = arena_printf(&a->im->cf.arena, "@%.*s", BYTES_FMT(d->name));
        if (d->others != NOBODY && !map_find(&a->keys, key))
            buf_printf(&a->table, "%.*s\n", BYTES_FMT(key));
    }
}

// All domains of the parameter, if one of them has aliases: they share a route, and so a table.
static void add_own_domains(struct import_aliases *a, const char *name)
{
    struct bytes domain, word;
    bool any = false;
    for (const struct alias_domain *d = a->first; d; d = d->next)
        any = any || is_in_list(a->im, name, d->name);
    struct bytes list = any ? list_of(a->im, name) : BYTES_NONE;
    while (postfix_word(&list, &word))
        if (conf_value_domain(word, &a->im->cf.arena, &domain) == OK)
            add_domain(a, domain);
}

int import_aliases_read(struct import *im, struct import_aliases **out)
{
    struct import_aliases *a = arena_new(&im->cf.arena, sizeof *a);
    struct bytes delimiter = postfix_get(&im->cf, NULL, "recipient_delimiter");
    a->im = im;
    a->last = &a->first;
    *out = a;
    if (delimiter.len)
        buf_printf(&a->table, "option subaddress %.1s\n", delimiter.at);
    bool virtual = add_maps(a, "virtual_alias_maps", false);
    bool local = !postfix_is_set(&im->cf, NULL, "alias_maps") || add_maps(a, "alias_maps", true);
    if (!a->first) {
        if (a->lost.len)
            import_line(im, "%.*s", (int)a->lost.len - 1, a->lost.at);
        return OK;
    }
    add_own_domains(a, "mydestination");
    add_own_domains(a, "virtual_mailbox_domains");
    add_others(a);
    import_line(im,
                "  # Aliases: `recipients` names who exists; \"@domain\" there is everybody else "
                "of the domain, who goes on by `via`.");
    if (virtual)
        import_from(im, "virtual_alias_maps", 2);
    import_from(im, "virtual_alias_domains", 2);
    if (local)
        import_from(im, "alias_maps", 2);
    if (a->lost.len)
        import_line(im, "%.*s", (int)a->lost.len - 1, a->lost.at);
    int err = import_write(im, BYTES("aliases"), buf_bytes(&a->table), &a->path);
    if (!im->files)
        import_line(im, "  # write that table there as lines \"user@domain: target, target\"; "
                        "--files DIR does it");
    return err;
}

void import_aliases_done(struct import_aliases *a)
{
    map_done(&a->keys);
    map_done(&a->domains);
    buf_done(&a->table);
    buf_done(&a->lost);
}

// ---- routes ------------------------------------------------------------------------------------------

static bool goes_along(const struct alias_domain *a, const struct alias_domain *b)
{
    return a->others == b->others &&
           bytes_eq(bytes_cstr(a->target.via), bytes_cstr(b->target.via)) &&
           bytes_eq(a->target.nexthop, b->target.nexthop);
}

int import_aliases_print(struct import_aliases *a, const struct import_target *fallback)
{
    int err = OK;
    for (struct alias_domain *d = a->first; d && !err; d = d->next) {
        if (d->printed || d->others == LOCAL)
            continue;
        struct buf match = {0};
        for (struct alias_domain *e = d; e; e = e->next)
            if (!e->printed && goes_along(d, e)) {
                buf_printf(&match, "%s%.*s", match.len ? ", " : "recipient: [",
                           BYTES_FMT(import_yaml(a->im, e->name)));
                e->printed = true;
            }
        buf_add_byte(&match, ']');
        struct import_target nowhere = {.via = "mx"};
        const struct import_target *target = d->others == NOBODY ? &nowhere
                                             : d->target.via[0]  ? &d->target
                                                                 : fallback;
        if (d->others == NOBODY)
            import_line(a->im, "  # domains of aliases only: `via` takes nobody");
        err = import_route(a->im, buf_cstr(&match), target, a->path);
        buf_done(&match);
    }
    return err;
}

// Domains that came with their aliases, and went elsewhere, are not told again.
static struct bytes domains_of(struct import *im, const struct import_aliases *a, const char *name,
                               bool exempt, struct bytes *out_table)
{
    struct bytes list = list_of(im, name), word;
    struct buf out = {0};
    while (postfix_word(&list, &word)) {
        struct bytes domain;
        if (conf_value_domain(word, &im->cf.arena, &domain) != OK)
            continue;
        const struct alias_domain *d = map_find(&a->domains, domain);
        if ((d && d->printed) || import_is_exempt(im, domain) != exempt)
            continue;
        if (d)
            *out_table = a->path;
        buf_printf(&out, "%s%.*s", out.len ? ", " : "", BYTES_FMT(import_yaml(im, domain)));
    }
    struct bytes kept = arena_dup(&im->cf.arena, buf_bytes(&out));
    buf_done(&out);
    return kept;
}

int import_local(struct import *im, const struct import_aliases *a, const char *name, bool exempt,
                 const char *const *transports)
{
    struct bytes table = BYTES_NONE, domains = domains_of(im, a, name, exempt, &table);
    struct import_target t = {0};
    if (!domains.len)
        return OK;
    import_from(im, name, 2);
    if (!postfix_is_set(&im->cf, NULL, name))
        import_line(im, "  # main.cf has no %s: Postfix's default", name);
    for (; *transports && !t.via[0] && !t.refuses; transports++) {
        struct bytes value = postfix_get(&im->cf, NULL, *transports);
        if (!value.len)
            continue;
        import_parse_target(im, value, &t);
        import_from(im, *transports, 2);
    }
    if (t.refuses) {
        import_line(im,
                    "  # Postfix refused their mail: leave this route out, or say where it shall "
                    "go, or discard");
        snprintf(t.via, sizeof t.via, IMPORT_NOWHERE);
    }
    if (!t.via[0]) {
        import_line(im, "  # Postfix put their mail into mailboxes of this host. Before the start: "
                        "install -d -o posthaste -g posthaste\n  # -m 750 " IMPORT_MAILDIRS
                        "; or name your IMAP server: via: lmtp:/run/dovecot/lmtp");
        snprintf(t.via, sizeof t.via, "maildir:" IMPORT_MAILDIRS "/%%d/%%u");
    }
    t.smtp = false;
    struct buf match = {0};
    buf_printf(&match, "recipient: [%.*s]", BYTES_FMT(domains));
    int err = import_route(im, buf_cstr(&match), &t, table);
    buf_done(&match);
    return err;
}
