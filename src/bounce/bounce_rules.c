// SPDX-License-Identifier: MIT
//
// How it works: a rule's words are phrases of one bounce_words, numbered in the order of the rules,
// so a phrase found names its rule. The first rule that holds is looked for among those whose words
// were found and those that have none.
#include "bounce/bounce_rules.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/check.h"
#include "bounce/bounce_words.h"
#include "conf/conf_yaml.h"

extern const char bounce_rules_builtin[]; // data/bounce-rules.yaml
extern const unsigned bounce_rules_builtin_len;

#define ANY UINT16_MAX
#define NO_RULE UINT32_MAX

// 5.7.606-649: class 5, subject 7, details from 606 to 649.
struct status {
    uint16_t class, subject, first, last; // ANY
};
struct statuses {
    struct status *at;
    uint32_t count;
};
// 55x: from 550 to 559.
struct code {
    uint16_t first, last;
};

struct rule {
    struct bytes name;
    enum bounce_reason reason;
    bool is_never_hard, again, has_words;
    struct statuses statuses, unless;
    struct code *codes;
    uint32_t codes_count;
    uint32_t alternative; // number of its first one
};

struct bounce_rules {
    struct arena arena;
    struct rule *rules;
    uint32_t count;
    struct bounce_words *words;
    uint32_t *rule_of;   // of a phrase
    struct bytes *texts; // of an alternative, as written
    uint32_t *owners;    // of an alternative: its rule
    uint32_t phrases, alternatives;
};

// ---- patterns of statuses and codes --------------------------------------------------------------------------

static int parse_number(struct bytes text, uint64_t max, uint16_t *out)
{
    uint64_t value;
    if (bytes_eq(text, BYTES("x"))) {
        *out = ANY;
        return OK;
    }
    if (bytes_to_u64(text, max, &value))
        return E_SYNTAX;
    *out = (uint16_t)value;
    return OK;
}

static int parse_status(struct bytes text, struct status *out)
{
    struct bytes class, subject;
    if (!bytes_cut(&text, '.', &class) || !bytes_cut(&text, '.', &subject))
        return E_SYNTAX;
    ptrdiff_t dash = bytes_find(text, '-');
    struct bytes first = dash < 0 ? text : bytes_first(text, (size_t)dash);
    struct bytes last = dash < 0 ? text : bytes_skip(text, (size_t)dash + 1);
    if (parse_number(class, 5, &out->class) || parse_number(subject, 999, &out->subject) ||
        parse_number(first, 999, &out->first) || parse_number(last, 999, &out->last))
        return E_SYNTAX;
    return out->first <= out->last && (dash < 0 || out->last != ANY) ? OK : E_SYNTAX;
}

static int parse_code(struct bytes text, struct code *out)
{
    uint16_t value = 0, width = 1;
    if (text.len != 3 || text.at[0] < '2' || text.at[0] > '5')
        return E_SYNTAX;
    for (size_t i = 0; i < 3; i++) {
        bool is_any = text.at[i] == 'x';
        if ((!is_any && (!ascii_is_digit(text.at[i]) || width > 1)))
            return E_SYNTAX;
        width = (uint16_t)(is_any ? width * 10 : width);
        value = (uint16_t)(value * 10 + (is_any ? 0 : text.at[i] - '0'));
    }
    *out = (struct code){value, (uint16_t)(value + width - 1)};
    return OK;
}

// ---- reading the file ------------------------------------------------------------------------------------

struct loader {
    struct bounce_rules *rules;
    struct conf_errors errors;
    struct arena arena; // what is needed while loading
    uint32_t rules_cap, phrases_cap, alternatives_cap;
};

static void fail(struct loader *l, const struct conf_node *node, const char *text)
{
    conf_errors_add(&l->errors, node->place, "%s", text);
}

static void *grow(void *at, uint32_t count, uint32_t *cap, size_t width)
{
    if (count < *cap)
        return at;
    *cap = *cap ? *cap * 2 : 64;
    return mem_resize(at, *cap * width);
}

static void add_alternative(struct loader *l, struct bytes text)
{
    struct bounce_rules *r = l->rules;
    uint32_t cap = l->alternatives_cap;
    r->texts = grow(r->texts, r->alternatives, &l->alternatives_cap, sizeof *r->texts);
    r->owners = grow(r->owners, r->alternatives, &cap, sizeof *r->owners);
    r->texts[r->alternatives] = arena_dup(&r->arena, text);
    r->owners[r->alternatives++] = r->count;
}

static void add_phrase(struct loader *l, const struct conf_node *node)
{
    struct bounce_rules *r = l->rules;
    if (node->text.len > BOUNCE_PHRASE_BYTES_MAX)
        fail(l, node, "words have at most 200 bytes");
    else if (r->phrases == BOUNCE_PHRASES_MAX)
        fail(l, node, "too many words (at most 10000 in all)");
    else if (bounce_words_add(r->words, node->text))
        fail(l, node,
             "words as a reply has them, ' * ' between any others, such as: user * unknown");
    else {
        r->rule_of = grow(r->rule_of, r->phrases, &l->phrases_cap, sizeof *r->rule_of);
        r->rule_of[r->phrases++] = r->count;
        add_alternative(l, node->text);
    }
}

// A scalar is a list of one.
static const struct conf_node *first_of(struct loader *l, const struct conf_node *node)
{
    if (node->kind == CONF_NODE_MAP)
        fail(l, node, "one value or a list of values");
    return node->kind == CONF_NODE_LIST ? node->first : node->kind == CONF_NODE_MAP ? NULL : node;
}

static bool is_scalar(struct loader *l, const struct conf_node *node)
{
    if (node->kind == CONF_NODE_SCALAR)
        return true;
    fail(l, node, "a single value");
    return false;
}

static void take_words(struct loader *l, struct rule *rule, const struct conf_node *node)
{
    rule->has_words = true;
    for (const struct conf_node *n = first_of(l, node); n; n = n == node ? NULL : n->next)
        if (is_scalar(l, n))
            add_phrase(l, n);
}

static void take_statuses(struct loader *l, struct statuses *out, const struct conf_node *node)
{
    uint32_t count = node->kind == CONF_NODE_LIST ? node->count : 1;
    out->at = arena_new(&l->rules->arena, (count + 1) * sizeof *out->at);
    for (const struct conf_node *n = first_of(l, node); n; n = n == node ? NULL : n->next) {
        if (!is_scalar(l, n))
            continue;
        if (parse_status(n->text, &out->at[out->count]))
            fail(l, n, "an enhanced status code such as 5.1.1, x.1.1, 5.7.x or 5.7.606-649");
        else
            out->count++;
    }
}

static void take_codes(struct loader *l, struct rule *rule, const struct conf_node *node)
{
    uint32_t count = node->kind == CONF_NODE_LIST ? node->count : 1;
    rule->codes = arena_new(&l->rules->arena, (count + 1) * sizeof *rule->codes);
    for (const struct conf_node *n = first_of(l, node); n; n = n == node ? NULL : n->next) {
        if (!is_scalar(l, n))
            continue;
        if (parse_code(n->text, &rule->codes[rule->codes_count]))
            fail(l, n, "a reply code such as 550, 55x or 5xx");
        else
            rule->codes_count++;
    }
}

static bool take_yes_or_no(struct loader *l, const struct conf_node *node)
{
    if (node->kind == CONF_NODE_SCALAR && bytes_eq(node->text, BYTES("yes")))
        return true;
    if (node->kind != CONF_NODE_SCALAR || !bytes_eq(node->text, BYTES("no")))
        fail(l, node, "yes or no");
    return false;
}

static void take_name(struct loader *l, struct rule *rule, const struct conf_node *node)
{
    bool good = node->kind == CONF_NODE_SCALAR && node->text.len > 0 && node->text.len <= 64;
    for (size_t i = 0; good && i < node->text.len; i++)
        good = ascii_is_alnum(node->text.at[i]) || node->text.at[i] == '-';
    if (!good) {
        fail(l, node, "a name of letters, digits and '-', at most 64");
        return;
    }
    rule->name = arena_dup(&l->rules->arena, node->text);
    for (uint32_t i = 0; i < l->rules->count; i++)
        if (bytes_eq(l->rules->rules[i].name, rule->name)) {
            fail(l, node, "another rule has this name");
            return;
        }
}

static void take_key(struct loader *l, struct rule *rule, const struct conf_node *node)
{
    if (bytes_eq(node->key, BYTES("name")))
        take_name(l, rule, node);
    else if (bytes_eq(node->key, BYTES("reason"))) {
        if (node->kind != CONF_NODE_SCALAR || bounce_reason_parse(node->text, &rule->reason))
            fail(l, node, "no such reason; docs/BOUNCES.md lists them");
    } else if (bytes_eq(node->key, BYTES("words")))
        take_words(l, rule, node);
    else if (bytes_eq(node->key, BYTES("status")))
        take_statuses(l, &rule->statuses, node);
    else if (bytes_eq(node->key, BYTES("unless")))
        take_statuses(l, &rule->unless, node);
    else if (bytes_eq(node->key, BYTES("code")))
        take_codes(l, rule, node);
    else if (bytes_eq(node->key, BYTES("hard")))
        rule->is_never_hard = !take_yes_or_no(l, node);
    else if (bytes_eq(node->key, BYTES("again")))
        rule->again = take_yes_or_no(l, node);
    else
        conf_errors_add(
            &l->errors, node->key_place,
            "unknown key; a rule has name, reason, words, status, code, unless, hard, again");
}

// What a rule without words is told apart by: its statuses, or else its codes.
static void add_other_alternatives(struct loader *l, const struct conf_node *node)
{
    const struct conf_node *list = conf_node_find(node, "status");
    if (!list)
        list = conf_node_find(node, "code");
    for (const struct conf_node *n = list ? first_of(l, list) : NULL; n;
         n = n == list ? NULL : n->next)
        add_alternative(l, n->text);
}

static void take_rule(struct loader *l, const struct conf_node *node)
{
    struct bounce_rules *r = l->rules;
    if (node->kind != CONF_NODE_MAP) {
        fail(l, node, "a rule: name, reason, and words, status or code");
        return;
    }
    if (r->count == BOUNCE_RULES_MAX) {
        fail(l, node, "too many rules (at most 2000)");
        return;
    }
    struct rule rule = {.alternative = r->alternatives};
    uint32_t errors = l->errors.count;
    for (const struct conf_node *n = node->first; n; n = n->next)
        take_key(l, &rule, n);
    if (!rule.has_words)
        add_other_alternatives(l, node);
    if (!conf_node_find(node, "name") || !conf_node_find(node, "reason"))
        fail(l, node, "a rule needs a name and a reason");
    if (r->alternatives == rule.alternative && l->errors.count == errors)
        fail(l, node, "a rule needs words, status or code");
    r->rules = grow(r->rules, r->count, &l->rules_cap, sizeof *r->rules);
    r->rules[r->count++] = rule;
}

// *out_builtin: are the built-in rules to follow?
static void take_file(struct loader *l, const struct conf_node *root, bool *out_builtin)
{
    for (const struct conf_node *n = root->first; n; n = n->next) {
        if (bytes_eq(n->key, BYTES("builtin")))
            *out_builtin = take_yes_or_no(l, n);
        else if (!bytes_eq(n->key, BYTES("rules")))
            conf_errors_add(&l->errors, n->key_place, "unknown key; there are rules and builtin");
        else if (n->kind != CONF_NODE_LIST)
            fail(l, n, "a list of rules, each starting with '- '");
        else
            for (const struct conf_node *rule = n->first; rule; rule = rule->next)
                take_rule(l, rule);
    }
}

// Reads one file's rules behind those there are.
static int load_text(struct loader *l, struct bytes text, const char *name, bool *out_builtin,
                     struct buf *errors)
{
    conf_errors_init(&l->errors, &l->arena, text, name);
    const struct conf_node *root = NULL;
    if (text.len > BOUNCE_RULES_FILE_MAX)
        conf_errors_add(&l->errors, (struct conf_place){0}, "is too large (at most 1 MiB)");
    else
        root = conf_yaml_parse(text, &l->arena, &l->errors);
    if (root && root->kind == CONF_NODE_MAP)
        take_file(l, root, out_builtin);
    else if (root)
        fail(l, root, "rules: and below it a list of rules");
    conf_errors_format(&l->errors, errors);
    return l->errors.count ? E_SYNTAX : OK;
}

int bounce_rules_load(struct bytes text, const char *name, struct bounce_rules **out,
                      struct buf *errors)
{
    struct loader l = {.rules = mem_new(sizeof *l.rules)};
    bool builtin = true, no_more;
    l.rules->words = bounce_words_new();
    *out = NULL;
    int err = load_text(&l, text, name, &builtin, errors);
    if (!err && builtin)
        err = load_text(&l, bytes_of(bounce_rules_builtin, bounce_rules_builtin_len), "built-in",
                        &no_more, errors);
    if (!err && bounce_words_compile(l.rules->words)) {
        buf_printf(errors, "%s: error: too many words in all\n", name);
        err = E_SYNTAX;
    }
    arena_done(&l.arena);
    if (err)
        bounce_rules_free(l.rules);
    else
        *out = l.rules;
    return err;
}

struct bounce_rules *bounce_rules_default(void)
{
    struct bounce_rules *rules;
    struct buf errors = {0};
    int err = bounce_rules_load(BYTES_NONE, "built-in", &rules, &errors);
    CHECK(err == OK);
    buf_done(&errors);
    return rules;
}

void bounce_rules_free(struct bounce_rules *r)
{
    if (!r)
        return;
    bounce_words_free(r->words);
    free(r->rules);
    free(r->rule_of);
    free(r->texts);
    free(r->owners);
    arena_done(&r->arena);
    free(r);
}

// ---- matching ----------------------------------------------------------------------------------------------

// The reply as rules see it.
struct question {
    const struct bounce_rules *rules;
    uint16_t code;
    bool has_status;
    uint16_t class, subject, detail;
    uint32_t rule; // the first that holds so far, or NO_RULE
    uint32_t alternative;
};

static bool is_within(uint16_t value, uint16_t first, uint16_t last)
{
    return first == ANY || (value >= first && value <= last);
}

// Which of the statuses holds; their count: none.
static uint32_t find_status(const struct statuses *statuses, const struct question *q)
{
    for (uint32_t i = 0; q->has_status && i < statuses->count; i++) {
        const struct status *s = &statuses->at[i];
        if (is_within(q->class, s->class, s->class) &&
            is_within(q->subject, s->subject, s->subject) &&
            is_within(q->detail, s->first, s->last))
            return i;
    }
    return statuses->count;
}

static uint32_t find_code(const struct rule *rule, const struct question *q)
{
    for (uint32_t i = 0; q->code && i < rule->codes_count; i++)
        if (is_within(q->code, rule->codes[i].first, rule->codes[i].last))
            return i;
    return rule->codes_count;
}

// Do all but its words hold?
static bool holds(const struct rule *rule, const struct question *q, uint32_t *out_which)
{
    uint32_t status = find_status(&rule->statuses, q), code = find_code(rule, q);
    *out_which = rule->statuses.count ? status : code;
    return (!rule->statuses.count || status < rule->statuses.count) &&
           (!rule->codes_count || code < rule->codes_count) &&
           find_status(&rule->unless, q) == rule->unless.count;
}

static void on_phrase(void *ctx, uint32_t phrase)
{
    struct question *q = ctx;
    uint32_t rule = q->rules->rule_of[phrase], which;
    if (rule >= q->rule || !holds(&q->rules->rules[rule], q, &which))
        return;
    q->rule = rule;
    q->alternative = phrase; // made a number among all alternatives when it is known to stay
}

static uint32_t phrases_before(const struct bounce_rules *r, uint32_t rule, uint32_t phrase)
{
    uint32_t n = 0;
    while (phrase > n && r->rule_of[phrase - n - 1] == rule)
        n++;
    return n;
}

static bool ends_address(char c)
{
    return (unsigned char)c <= ' ' || c == '<' || c == '>' || c == '(' || c == ')' || c == ',' ||
           c == ';' || c == ':' || c == '"' || c == '\'';
}

// The text with "@" in place of each address: its words say nothing (<no-spam@example.org>).
static void add_without_addresses(struct bytes text, struct buf *out)
{
    text = bytes_first(text, BOUNCE_WORDS_TEXT_MAX);
    while (text.len) {
        size_t n = 0;
        while (n < text.len && !ends_address(text.at[n]))
            n++;
        struct bytes word = bytes_first(text, n);
        buf_add(out, bytes_find(word, '@') < 0 ? word : BYTES("@"));
        buf_add(out, bytes_mid(text, n, 1));
        text = bytes_skip(text, n + 1);
    }
}

static void find_rule(struct question *q, struct bytes text)
{
    const struct bounce_rules *r = q->rules;
    struct buf words = {0};
    add_without_addresses(text, &words);
    bounce_words_find(r->words, buf_bytes(&words), on_phrase, q);
    buf_done(&words);
    if (q->rule != NO_RULE)
        q->alternative = r->rules[q->rule].alternative + phrases_before(r, q->rule, q->alternative);
    for (uint32_t i = 0; i < r->count && i < q->rule; i++) {
        uint32_t which;
        if (r->rules[i].has_words || !holds(&r->rules[i], q, &which))
            continue;
        q->rule = i;
        q->alternative = r->rules[i].alternative + which;
    }
}

static bool parse_enhanced(struct bytes text, struct question *q)
{
    struct bytes class, subject;
    return bytes_cut(&text, '.', &class) && bytes_cut(&text, '.', &subject) && class.len == 1 &&
           class.at[0] != 'x' && !parse_number(class, 5, &q->class) && subject.at && subject.len &&
           subject.at[0] != 'x' && !parse_number(subject, 999, &q->subject) && text.len &&
           text.at[0] != 'x' && !parse_number(text, 999, &q->detail);
}

// RFC 3463 3.2: x.1.7 and x.1.8 are about the sender's address, whatever the words.
static bool is_about_sender(const struct question *q)
{
    return q->has_status && q->subject == 1 && (q->detail == 7 || q->detail == 8);
}

struct bounce_verdict bounce_rules_match(const struct bounce_rules *rules,
                                         const struct bounce_reply *reply)
{
    struct question q = {.rules = rules, .code = reply->code, .rule = NO_RULE};
    q.has_status = parse_enhanced(reply->enhanced, &q);
    unsigned class = reply->code ? reply->code / 100u : q.has_status ? q.class : 0;
    if (class == 2)
        return (struct bounce_verdict){.class = {BOUNCE_DELIVERED, false}};
    find_rule(&q, reply->text);
    struct bounce_verdict v = {.class = {BOUNCE_OTHER, false}, .again = class == 4};
    if (q.rule == NO_RULE)
        return v;
    const struct rule *rule = &rules->rules[q.rule];
    v.class.reason = rule->reason;
    v.again = v.again || rule->again;
    v.class.hard = class == 5 && !v.again && !rule->is_never_hard && !is_about_sender(&q) &&
                   bounce_reason_is_about_address(rule->reason);
    v.rule = rule->name;
    v.alternative = q.alternative;
    return v;
}

uint32_t bounce_rules_alternatives(const struct bounce_rules *rules)
{
    return rules->alternatives;
}

void bounce_rules_describe(const struct bounce_rules *rules, uint32_t alternative, struct buf *out)
{
    CHECK(alternative < rules->alternatives);
    buf_add_all(out, rules->rules[rules->owners[alternative]].name, BYTES(": "),
                rules->texts[alternative]);
}
