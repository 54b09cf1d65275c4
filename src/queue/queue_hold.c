// SPDX-License-Identifier: MIT
//
// queue_hold - rules for mail to come: what is held, by whom, since when, and how much each rule keeps
//
// How it works: a rule is what `queue hold` of a domain, an account or all mail leaves behind. Its note says whose it is:
// "1 SINCE", then lines for who and why; the first release wrote "1" alone. How much it keeps is counted when somebody
// asks: a sweep looks at all messages, a slice at a time, and a rule remembers the message it counted last, so that one
// with several recipients counts once.
#include "queue/queue_inside.h"

#include <stdio.h>
#include <stdlib.h>

// ---- rules ----

static void set_text(char *at, size_t max, struct bytes text)
{
    size_t len = text.len < max ? text.len : max;
    for (size_t i = 0; i < len; i++) // a line of the note ends with LF
        at[i] = (unsigned char)text.at[i] < 0x20 ? '?' : text.at[i];
    at[len] = '\0';
}

static struct queue_rule *rule_new(const struct queue_hold_facts *facts)
{
    struct queue_rule *rule = mem_new(sizeof(*rule));
    if (!facts)
        return rule;
    rule->since = facts->since;
    set_text(rule->who, QUEUE_HOLD_WHO_MAX, facts->who);
    set_text(rule->why, QUEUE_HOLD_WHY_MAX, facts->why);
    return rule;
}

static void put_rule(struct map *rules, struct bytes key, struct queue_rule *rule)
{
    free(rule ? map_set(rules, key, rule) : map_remove(rules, key));
}

static void put_one(struct queue_rule **at, struct queue_rule *rule)
{
    free(*at);
    *at = rule;
}

static struct bytes account_key(uint32_t account, char out[16])
{
    return bytes_of(out, (size_t)snprintf(out, 16, "%u", account));
}

struct queue_rule *queue_rule_of_account(const struct queue *q, uint32_t account)
{
    char number[16];
    return q->held_accounts.count ? map_find(&q->held_accounts, account_key(account, number))
                                  : NULL;
}

struct queue_rule *queue_rule_of_domain(const struct queue *q, struct bytes domain)
{
    return q->held_domains.count ? map_find(&q->held_domains, domain) : NULL;
}

bool queue_is_held(const struct queue *q, struct bytes domain, uint32_t account, bool exempt)
{
    if (exempt)
        return q->hold_restored;
    return q->hold_restored || q->hold_all || queue_rule_of_domain(q, domain) ||
           queue_rule_of_account(q, account);
}

static void free_rules(struct map *rules)
{
    struct bytes key;
    void *rule;
    for (size_t cursor = 0; map_next(rules, &cursor, &key, &rule);)
        free(rule);
    map_done(rules);
}

void queue_holds_free(struct queue *q)
{
    free(q->hold_all);
    free(q->hold_restored);
    free_rules(&q->held_domains);
    free_rules(&q->held_accounts);
}

// ---- their notes ----

// `rule` NULL: it has ended.
static void make_note(const char *kind, struct bytes name, const struct queue_rule *rule,
                      struct queue_note *out)
{
    out->value_len = 0;
    snprintf(out->name, sizeof(out->name), "hold/%s/%.*s", kind, BYTES_FMT(name));
    if (rule)
        out->value_len = (uint32_t)snprintf(out->value, sizeof(out->value), "1 %lld\n%s\n%s",
                                            (long long)rule->since.us, rule->who, rule->why);
}

static struct queue_rule *rule_of_note(struct bytes value)
{
    struct bytes first = BYTES_NONE;
    uint64_t since_us = 0;
    struct queue_hold_facts facts = {0};
    bytes_cut(&value, '\n', &first);
    if (bytes_to_u64(bytes_skip(first, 2), INT64_MAX, &since_us) == OK)
        facts.since.us = (int64_t)since_us;
    bytes_cut(&value, '\n', &facts.who);
    facts.why = value;
    return rule_new(&facts);
}

int queue_hold_restore(struct queue *q, struct bytes name, struct bytes value)
{
    struct bytes kind;
    if (!bytes_cut(&name, '/', &kind) || name.len == 0 || name.len > QUEUE_NAME_MAX)
        return E_SYNTAX;
    if (bytes_eq(kind, BYTES("domain")))
        put_rule(&q->held_domains, name, rule_of_note(value));
    else if (bytes_eq(kind, BYTES("account")))
        put_rule(&q->held_accounts, name, rule_of_note(value));
    else if (bytes_eq(kind, BYTES("all")))
        put_one(&q->hold_all, rule_of_note(value));
    else
        return E_SYNTAX;
    return OK;
}

// ---- begun and ended ----

void queue_hold_domain(struct queue *q, struct bytes domain, bool on,
                       const struct queue_hold_facts *facts, struct queue_note *out_note,
                       uint64_t *kicks)
{
    CHECK(domain.len <= QUEUE_NAME_MAX);
    struct queue_rule *rule = on ? rule_new(facts) : NULL;
    queue_lock(q);
    put_rule(&q->held_domains, domain, rule);
    make_note("domain", domain, rule, out_note);
    queue_unlock(q, kicks, NULL);
}

void queue_hold_account(struct queue *q, uint32_t account, bool on,
                        const struct queue_hold_facts *facts, struct queue_note *out_note,
                        uint64_t *kicks)
{
    char number[16];
    struct bytes key = account_key(account, number);
    struct queue_rule *rule = on ? rule_new(facts) : NULL;
    queue_lock(q);
    put_rule(&q->held_accounts, key, rule);
    make_note("account", key, rule, out_note);
    queue_unlock(q, kicks, NULL);
}

void queue_hold_all(struct queue *q, bool on, const struct queue_hold_facts *facts,
                    struct queue_note *out_note, uint64_t *kicks)
{
    struct queue_rule *rule = on ? rule_new(facts) : NULL;
    queue_lock(q);
    put_one(&q->hold_all, rule);
    if (!on)
        put_one(&q->hold_restored, NULL);
    make_note("all", BYTES("all"), rule, out_note);
    queue_unlock(q, kicks, NULL);
}

void queue_hold_restored(struct queue *q)
{
    queue_lock(q);
    put_one(&q->hold_restored, rule_new(NULL));
    queue_unlock(q, NULL, NULL);
}

// ---- told ----

static void count_under(struct queue_rule *rule, const struct queue_message *m, uint32_t recipients)
{
    if (!rule)
        return;
    rule->messages += rule->counted != m;
    rule->recipients += recipients;
    rule->counted = m;
}

static void count_message(struct queue *q, const struct queue_message *m)
{
    for (const struct queue_bundle *b = m->bundles; b; b = b->next) {
        if (b->state != BUNDLE_HELD)
            continue;
        count_under(q->hold_restored, m, b->count);
        count_under(q->hold_all, m, b->count);
        count_under(queue_rule_of_domain(q, queue_domain_name(b->domain)), m, b->count);
        count_under(queue_rule_of_account(q, m->account), m, b->count);
    }
}

static void count_from_zero(struct queue *q)
{
    struct queue_rule *ones[] = {q->hold_restored, q->hold_all};
    const struct map *maps[] = {&q->held_domains, &q->held_accounts};
    struct bytes key;
    void *value;
    for (size_t i = 0; i < COUNT_OF(ones); i++)
        if (ones[i])
            ones[i]->messages = ones[i]->recipients = 0, ones[i]->counted = NULL;
    for (size_t i = 0; i < COUNT_OF(maps); i++)
        for (size_t cursor = 0; map_next(maps[i], &cursor, &key, &value);) {
            struct queue_rule *rule = value;
            rule->messages = rule->recipients = 0, rule->counted = NULL;
        }
}

bool queue_count_held(struct queue *q, uint64_t *cursor)
{
    queue_lock_slice(q);
    if (*cursor == 0)
        count_from_zero(q);
    bool any = q->hold_restored || q->hold_all || q->held_domains.count || q->held_accounts.count;
    for (int i = 0; any && i < QUEUE_SCAN_MAX && *cursor < q->messages.made; i++)
        count_message(q, queue_pool_at(&q->messages, (uint32_t)(*cursor)++));
    bool more = any && *cursor < q->messages.made;
    queue_unlock(q, NULL, NULL);
    return more;
}

// The cursor: of which rules, and where among them.
enum { AT_RESTORED, AT_ALL, AT_DOMAINS, AT_ACCOUNTS, AT_END };
#define CURSOR_BITS 32

static void fill_row(const struct queue_rule *rule, struct queue_hold_row *row)
{
    row->since = rule->since;
    row->messages = rule->messages;
    row->recipients = rule->recipients;
    memcpy(row->who, rule->who, sizeof(row->who));
    memcpy(row->why, rule->why, sizeof(row->why));
}

// False: no more of these.
static bool next_row(const struct queue *q, unsigned kind, size_t *at, struct queue_hold_row *row)
{
    const struct queue_rule *one = kind == AT_RESTORED ? q->hold_restored : q->hold_all;
    struct bytes key = BYTES_NONE;
    uint64_t account = 0;
    void *rule = NULL;
    *row = (struct queue_hold_row){.by = QUEUE_SELECT_ALL, .restored = kind == AT_RESTORED};
    if (kind == AT_RESTORED || kind == AT_ALL) {
        rule = (*at)++ == 0 ? (void *)one : NULL;
    } else if (kind == AT_DOMAINS && map_next(&q->held_domains, at, &key, &rule)) {
        row->by = QUEUE_SELECT_DOMAIN;
        snprintf(row->domain, sizeof(row->domain), "%.*s", BYTES_FMT(key));
    } else if (kind == AT_ACCOUNTS && map_next(&q->held_accounts, at, &key, &rule)) {
        row->by = QUEUE_SELECT_ACCOUNT;
        row->account = bytes_to_u64(key, UINT32_MAX, &account) == OK ? (uint32_t)account : 0;
    }
    if (rule)
        fill_row(rule, row);
    return rule != NULL;
}

size_t queue_holds(struct queue *q, uint64_t *cursor, struct queue_hold_row *rows, size_t max)
{
    size_t n = 0, at = *cursor & UINT32_MAX;
    unsigned kind = (unsigned)(*cursor >> CURSOR_BITS);
    queue_lock(q);
    while (n < max && kind < AT_END) {
        if (next_row(q, kind, &at, &rows[n]))
            n++;
        else
            kind++, at = 0;
    }
    queue_unlock(q, NULL, NULL);
    *cursor = (uint64_t)kind << CURSOR_BITS | at;
    return n;
}
