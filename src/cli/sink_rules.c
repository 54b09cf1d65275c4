// SPDX-License-Identifier: MIT
#include "cli/sink_rules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/map.h"
#include "sys/sys.h"

#define FILE_BYTES_MAX ((size_t)1 << 20)

enum when { WHEN_ALWAYS, WHEN_PERCENT, WHEN_FIRST, WHEN_AFTER, WHEN_RATE };
enum action { ACTION_ACCEPT, ACTION_REPLY, ACTION_DELAY, ACTION_DROP, ACTION_HANG, ACTION_LOSE };

struct rule {
    struct bytes who; // lower case; "*", domain or address
    enum sink_step step;
    enum when when;
    uint64_t when_number;
    enum action action;
    uint16_t code;
    uint64_t number; // ms, bytes
    struct bytes text;
    struct map counts;  // FIRST, AFTER: address -> struct counter
    struct mono second; // RATE: the second being counted
    uint64_t in_second;
};

struct counter {
    uint64_t n;
};

struct sink_rules {
    struct arena arena;
    struct rule *rules;
    uint32_t count;
};

static const char *const step_names[SINK_STEPS] = {"connect", "helo",    "mail", "rcpt",
                                                   "data",    "content", "final"};

// ---- parsing -----------------------------------------------------------------------------------

// Takes the next word off the line; empty at its end.
static struct bytes take_word(struct bytes *line)
{
    *line = bytes_trim(*line);
    size_t n = 0;
    while (n < line->len && line->at[n] != ' ' && line->at[n] != '\t')
        n++;
    struct bytes word = bytes_first(*line, n);
    *line = bytes_trim(bytes_skip(*line, n));
    return word;
}

static bool find_step(struct bytes word, enum sink_step *out)
{
    for (int i = 0; i < SINK_STEPS; i++)
        if (bytes_eq_nocase(word, bytes_cstr(step_names[i]))) {
            *out = (enum sink_step)i;
            return true;
        }
    return false;
}

// NULL, or what is wrong.
static const char *parse_when(struct rule *rule, struct bytes *line)
{
    static const struct {
        const char *word;
        enum when when;
    } words[] = {{"first", WHEN_FIRST}, {"after", WHEN_AFTER}, {"rate", WHEN_RATE}};
    struct bytes rest = *line, word = take_word(&rest);
    if (bytes_ends(word, BYTES("%"))) {
        rule->when = WHEN_PERCENT;
        *line = rest;
        return bytes_to_u64(bytes_first(word, word.len - 1), 100, &rule->when_number)
                   ? "a percentage is a number from 0 to 100"
                   : NULL;
    }
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (bytes_eq_nocase(word, bytes_cstr(words[i].word))) {
            rule->when = words[i].when;
            *line = rest;
            return bytes_to_u64(take_word(line), 1000000000, &rule->when_number)
                       ? "first, after and rate want a number"
                       : NULL;
        }
    return NULL;
}

// "\n" in the file is a line of the reply.
static struct bytes unescape(struct arena *arena, struct bytes s)
{
    struct bytes copy = arena_dup(arena, s);
    char *to = (char *)(uintptr_t)copy.at;
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] == '\\' && i + 1 < s.len && s.at[i + 1] == 'n') {
            to[n++] = '\n';
            i++;
        } else {
            to[n++] = s.at[i];
        }
    copy.len = n;
    return copy;
}

static const char *parse_reply(struct sink_rules *r, struct rule *rule, struct bytes line,
                               char class)
{
    static const struct bytes texts[] = {BYTES("4.3.0 try again later"), BYTES("5.0.0 refused")};
    uint64_t code = class == '4' ? 451 : 550;
    struct bytes word = take_word(&line);
    if (word.len && (word.len != 3 || word.at[0] != class || bytes_to_u64(word, 599, &code)))
        return class == '4' ? "defer wants a code from 400 to 499"
                            : "refuse wants a code from 500 to 599";
    rule->action = ACTION_REPLY;
    rule->code = (uint16_t)code;
    rule->text = line.len ? unescape(&r->arena, line) : texts[class == '5'];
    return NULL;
}

static const char *parse_plain_action(struct rule *rule, struct bytes word, struct bytes rest)
{
    static const struct {
        const char *word;
        enum action action;
    } words[] = {{"accept", ACTION_ACCEPT}, {"hang", ACTION_HANG}, {"lose", ACTION_LOSE}};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (bytes_eq_nocase(word, bytes_cstr(words[i].word)) && !rest.len) {
            rule->action = words[i].action;
            return rule->action == ACTION_LOSE && rule->step != SINK_FINAL
                       ? "lose stands at step final only"
                       : NULL;
        }
    return "the action is accept, refuse, defer, delay, drop, hang or lose";
}

static const char *parse_action(struct sink_rules *r, struct rule *rule, struct bytes line)
{
    struct bytes word = take_word(&line);
    if (bytes_eq_nocase(word, BYTES("refuse")))
        return parse_reply(r, rule, line, '5');
    if (bytes_eq_nocase(word, BYTES("defer")))
        return parse_reply(r, rule, line, '4');
    if (bytes_eq_nocase(word, BYTES("delay"))) {
        rule->action = ACTION_DELAY;
        return bytes_to_u64(line, SINK_DELAY_MS_MAX, &rule->number)
                   ? "delay wants milliseconds, at most a day"
                   : NULL;
    }
    if (bytes_eq_nocase(word, BYTES("drop"))) {
        rule->action = ACTION_DROP;
        return line.len && bytes_to_u64(line, UINT64_MAX >> 1, &rule->number)
                   ? "drop wants a number of bytes, or nothing"
                   : NULL;
    }
    return parse_plain_action(rule, word, line);
}

static const char *parse_rule(struct sink_rules *r, struct bytes line, struct rule *rule)
{
    rule->who = arena_lower(&r->arena, take_word(&line));
    if (!find_step(take_word(&line), &rule->step))
        return "the step is connect, helo, mail, rcpt, data, content or final";
    if (rule->step <= SINK_HELO && !bytes_eq(rule->who, BYTES("*")))
        return "at this step nobody is known yet: write * for who";
    const char *wrong = parse_when(rule, &line);
    return wrong ? wrong : parse_action(r, rule, line);
}

int sink_rules_parse(struct bytes text, const char *file, struct sink_rules **out,
                     struct buf *errors)
{
    struct sink_rules *r = mem_new(sizeof *r);
    size_t error_bytes = errors->len;
    r->rules = mem_new(SINK_RULES_MAX * sizeof *r->rules);
    struct bytes line;
    for (unsigned number = 1; bytes_cut(&text, '\n', &line); number++) {
        const char *wrong = line.len > SINK_RULE_LINE_MAX ? "the line is too long" : NULL;
        line = bytes_trim(line);
        if (!line.len || line.at[0] == '#')
            continue;
        if (!wrong && r->count == SINK_RULES_MAX)
            wrong = "too many rules";
        if (!wrong)
            wrong = parse_rule(r, line, &r->rules[r->count++]);
        if (wrong)
            buf_printf(errors, "%s:%u: error: %s\n", file, number, wrong);
    }
    *out = errors->len == error_bytes ? r : NULL;
    if (!*out)
        sink_rules_free(r);
    return *out ? OK : E_SYNTAX;
}

int sink_rules_load(const char *file, struct sink_rules **out, struct buf *errors)
{
    struct buf text;
    buf_init(&text, FILE_BYTES_MAX);
    ssize_t n = -1;
    int fd = open(file, O_RDONLY | O_CLOEXEC), err = OK;
    for (char *at; fd >= 0 && (at = buf_reserve(&text, 65536)) && (n = read(fd, at, 65536)) > 0;)
        buf_commit(&text, (size_t)n);
    if (n < 0)
        err = text.err ? text.err : err_from_errno(errno);
    if (fd >= 0)
        close(fd);
    if (err)
        buf_printf(errors, "%s: error: %s\n", file, err_text(err));
    else
        err = sink_rules_parse(buf_bytes(&text), file, out, errors);
    buf_done(&text);
    return err;
}

void sink_rules_free(struct sink_rules *r)
{
    if (!r)
        return;
    for (uint32_t i = 0; i < r->count; i++) {
        size_t cursor = 0;
        struct bytes key;
        void *value;
        while (map_next(&r->rules[i].counts, &cursor, &key, &value))
            free(value);
        map_done(&r->rules[i].counts);
    }
    free(r->rules);
    arena_done(&r->arena);
    free(r);
}

// ---- asking ------------------------------------------------------------------------------------

static bool who_matches(struct bytes who, struct bytes address)
{
    if (bytes_eq(who, BYTES("*")) || bytes_eq_nocase(who, address))
        return true;
    ptrdiff_t at = bytes_find_last(address, '@');
    return bytes_find(who, '@') < 0 && at >= 0 &&
           bytes_eq_nocase(who, bytes_skip(address, (size_t)at + 1));
}

// The address the rule is about, or NULL. Without addresses "*" stands for nobody in particular.
static const struct bytes *find_address(const struct rule *rule, const struct bytes *addresses,
                                        size_t count)
{
    static const struct bytes nobody = BYTES("*");
    for (size_t i = 0; i < count; i++)
        if (who_matches(rule->who, addresses[i]))
            return &addresses[i];
    return count == 0 && bytes_eq(rule->who, nobody) ? &nobody : NULL;
}

static uint64_t count_address(struct rule *rule, struct bytes address)
{
    struct counter *counter = map_find(&rule->counts, address);
    if (!counter) {
        counter = mem_new(sizeof *counter);
        map_set(&rule->counts, address, counter);
    }
    return ++counter->n;
}

static bool beyond_rate(struct rule *rule, struct mono now)
{
    if (mono_ms_between(rule->second, now) >= 1000) {
        rule->second = now;
        rule->in_second = 0;
    }
    return ++rule->in_second > rule->when_number;
}

static bool when_holds(struct rule *rule, struct bytes address, struct mono now)
{
    switch (rule->when) {
    case WHEN_PERCENT:
        return sys_random_below(100) < rule->when_number;
    case WHEN_FIRST:
        return count_address(rule, address) <= rule->when_number;
    case WHEN_AFTER:
        return count_address(rule, address) > rule->when_number;
    case WHEN_RATE:
        return beyond_rate(rule, now);
    case WHEN_ALWAYS:
        break;
    }
    return true;
}

static void decide(const struct rule *rule, struct sink_verdict *verdict)
{
    verdict->kind = rule->action == ACTION_DROP    ? SINK_DROP
                    : rule->action == ACTION_REPLY ? SINK_REPLY
                    : rule->action == ACTION_HANG  ? SINK_HANG
                    : rule->action == ACTION_LOSE  ? SINK_LOSE
                                                   : SINK_ACCEPT;
    verdict->code = rule->code;
    verdict->text = rule->text;
    verdict->drop_after_bytes = rule->number;
}

struct sink_verdict sink_rules_ask(struct sink_rules *r, enum sink_step step,
                                   const struct bytes *addresses, size_t count, struct mono now)
{
    struct sink_verdict verdict = {.kind = SINK_ACCEPT};
    for (uint32_t i = 0; r && i < r->count; i++) {
        struct rule *rule = &r->rules[i];
        const struct bytes *address =
            rule->step == step ? find_address(rule, addresses, count) : NULL;
        if (!address || !when_holds(rule, *address, now))
            continue;
        if (rule->action != ACTION_DELAY) {
            decide(rule, &verdict);
            break;
        }
        verdict.delay_ms += (int64_t)rule->number;
    }
    return verdict;
}
