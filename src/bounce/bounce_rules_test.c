// SPDX-License-Identifier: MIT
//
// The built-in rules against data/bounce-vectors.txt (the argument), and the errors of a rules file.
//
// A line of vectors: REASON [hard] [again] | REPLY. Every alternative of every rule (each phrase,
// and each status or code of a rule without words) must be what decides one of them.
#include "bounce/bounce_rules.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/test_base.h"
#include "bounce/bounce_class.h"

static const char *vectors_path;

// ---- vectors -----------------------------------------------------------------------------------------------

static struct buf read_vectors(void)
{
    struct buf out = {0};
    FILE *file = vectors_path ? fopen(vectors_path, "re") : NULL;
    assert_non_null(file);
    for (size_t n = 1; n > 0;) {
        char *room = buf_reserve(&out, 65536);
        n = fread(room, 1, 65536, file);
        buf_commit(&out, n);
    }
    fclose(file);
    return out;
}

static void describe_verdict(const struct bounce_verdict *v, struct buf *out)
{
    buf_printf(out, "%s%s%s", bounce_reason_name(v->class.reason), v->class.hard ? " hard" : "",
               v->again ? " again" : "");
}

static void each_vector_has_its_class_and_each_rule_its_vector(void **state)
{
    (void)state;
    struct bounce_rules *rules = bounce_rules_default();
    bool *hit = mem_new(bounce_rules_alternatives(rules) + 1);
    struct buf file = read_vectors(), wrong = {0};
    struct bytes rest = buf_bytes(&file), line;
    uint32_t count = 0;
    while (bytes_cut(&rest, '\n', &line)) {
        struct bytes want;
        if (line.len == 0 || line.at[0] == '#')
            continue;
        count++;
        assert_true(bytes_cut(&line, '|', &want));
        struct bounce_reply reply;
        struct buf got = {0};
        struct bounce_verdict v = bounce_classify_text(rules, bytes_trim(line), &reply);
        describe_verdict(&v, &got);
        if (!bytes_eq(buf_bytes(&got), bytes_trim(want)))
            buf_printf(&wrong, "%.*s: got %.*s by %.*s, want %.*s\n", BYTES_FMT(bytes_trim(line)),
                       BYTES_FMT(buf_bytes(&got)), BYTES_FMT(v.rule), BYTES_FMT(bytes_trim(want)));
        if (v.rule.len)
            hit[v.alternative] = true;
        buf_done(&got);
    }
    for (uint32_t i = 0; i < bounce_rules_alternatives(rules); i++)
        if (!hit[i]) {
            buf_add_cstr(&wrong, "no vector: ");
            bounce_rules_describe(rules, i, &wrong);
            buf_add_byte(&wrong, '\n');
        }
    assert_true(count > 300);
    if (wrong.len)
        fputs(buf_cstr(&wrong), stderr); // cmocka cuts what is long
    assert_int_equal(wrong.len, 0);
    free(hit);
    buf_done(&file);
    bounce_rules_free(rules);
}

// ---- a file of one's own -------------------------------------------------------------------------------------

static struct bounce_verdict classify(const struct bounce_rules *rules, const char *text)
{
    struct bounce_reply reply;
    return bounce_classify_text(rules, bytes_cstr(text), &reply);
}

static struct bounce_rules *load(const char *text)
{
    struct bounce_rules *rules;
    struct buf errors = {0};
    if (bounce_rules_load(bytes_cstr(text), "rules", &rules, &errors))
        fail_msg("%s", buf_cstr(&errors));
    assert_int_equal(errors.len, 0);
    return rules;
}

static void own_rules_come_first(void **state)
{
    (void)state;
    struct bounce_rules *rules = load("rules:\n"
                                      "  - {name: ours, reason: spam, words: quota}\n"
                                      "  - {name: code, reason: moved, code: 599}\n");
    assert_int_equal(classify(rules, "552 5.2.2 over quota").class.reason, BOUNCE_SPAM);
    assert_int_equal(classify(rules, "599 hm").class.reason, BOUNCE_MOVED);
    assert_int_equal(classify(rules, "550 5.1.1 hm").class.reason, BOUNCE_USER_UNKNOWN);
    bounce_rules_free(rules);
    rules = load("builtin: no\nrules:\n  - {name: ours, reason: spam, words: quota}\n");
    assert_int_equal(classify(rules, "552 5.2.2 over quota").class.reason, BOUNCE_SPAM);
    assert_int_equal(classify(rules, "550 5.1.1 hm").class.reason, BOUNCE_OTHER);
    assert_int_equal(bounce_rules_alternatives(rules), 1);
    bounce_rules_free(rules);
    rules = load("");
    assert_int_equal(classify(rules, "550 5.1.1 hm").class.reason, BOUNCE_USER_UNKNOWN);
    bounce_rules_free(rules);
}

static void all_conditions_of_a_rule_must_hold(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *reply;
        bool want;
    } ROWS[] = {
        {"words: [a, b]", "550 b", true},
        {"words: a", "550 ab", false},
        {"words: a, code: 5xx", "550 a", true},
        {"words: a, code: 5xx", "450 a", false},
        {"words: a, code: [450, 55x]", "559 a", true},
        {"words: a, code: [450, 55x]", "560 a", false},
        {"status: 5.1.1", "550 5.1.1 z", true},
        {"status: 5.1.1", "450 4.1.1 z", false},
        {"status: x.1.1", "450 4.1.1 z", true},
        {"status: 5.7.606-649", "550 5.7.606 z", true},
        {"status: 5.7.606-649", "550 5.7.649 z", true},
        {"status: 5.7.606-649", "550 5.7.650 z", false},
        {"status: 5.7.x", "550 5.7.999 z", true},
        {"status: x.x.x", "550 z", false},
        {"words: a, unless: 5.1.1", "550 5.1.1 a", false},
        {"words: a, unless: 5.1.1", "450 4.1.1 a", true},
        {"words: a, unless: [5.1.1-3, x.2.2]", "550 5.1.2 a", false},
        {"words: a, unless: [5.1.1-3, x.2.2]", "452 4.2.2 a", false},
        {"words: a, unless: [5.1.1-3, x.2.2]", "550 5.1.4 a", true},
        {"words: a, unless: 5.1.1", "550 a", true},
        {"code: 5xx, unless: 5.1.1", "550 5.1.1 a", false},
        {"code: 5xx, unless: 5.1.1", "550 a", true},
        {"words: a, status: 5.1.1, code: 550", "550 5.1.1 a", true},
        {"words: a, status: 5.1.1, code: 550", "551 5.1.1 a", false},
        {"words: a, status: 5.1.1, code: 550", "550 5.1.2 a", false},
        {"words: a, status: 5.1.1, code: 550", "550 5.1.1 z", false},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct buf text = {0};
        buf_printf(&text, "builtin: no\nrules:\n  - {name: r, reason: tls, %s}\n", ROWS[i].rule);
        struct bounce_rules *rules = load(buf_cstr(&text));
        assert_number(ROWS[i].rule, classify(rules, ROWS[i].reply).class.reason == BOUNCE_TLS,
                      ROWS[i].want);
        bounce_rules_free(rules);
        buf_done(&text);
    }
}

static void hard_and_again(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *reply;
        bool hard, again;
    } ROWS[] = {
        {"reason: user-unknown", "550 a", true, false},
        {"reason: user-unknown", "450 a", false, true},
        {"reason: user-unknown", "5.1.1 a", true, false},
        {"reason: user-unknown", "4.1.1 a", false, true},
        {"reason: user-unknown", "a", false, false},
        {"reason: user-unknown", "550 5.1.6 a", true, false},
        {"reason: user-unknown", "550 5.1.7 a", false, false},
        {"reason: host-unknown", "553 5.1.8 a", false, false},
        {"reason: user-unknown", "550 5.2.8 a", true, false},
        {"reason: user-unknown, hard: no", "550 a", false, false},
        {"reason: user-unknown, again: yes", "550 a", false, true},
        {"reason: reputation, hard: yes", "550 a", false, false},
        {"reason: spam", "550 a", false, false},
        {"reason: rate-limited, again: yes", "550 a", false, true},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct buf text = {0};
        buf_printf(&text, "builtin: no\nrules:\n  - {name: r, words: a, %s}\n", ROWS[i].rule);
        struct bounce_rules *rules = load(buf_cstr(&text));
        struct bounce_verdict v = classify(rules, ROWS[i].reply);
        assert_number(ROWS[i].rule, v.class.hard, ROWS[i].hard);
        assert_number(ROWS[i].rule, v.again, ROWS[i].again);
        bounce_rules_free(rules);
        buf_done(&text);
    }
}

static void errors_have_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } ROWS[] = {
        {"rules: 1\n", "f:1:8: error: a list of rules"},
        {"rule: []\n", "f:1:1: error: unknown key; there are"},
        {"- a\n", "f:1:1: error: rules: and below it"},
        {"builtin: maybe\n", "f:1:10: error: yes or no"},
        {"rules:\n  - a\n", "f:2:5: error: a rule: name"},
        {"rules:\n  - {reason: spam, words: a}\n", "f:2:5: error: a rule needs a name"},
        {"rules:\n  - {name: r, words: a}\n", "f:2:5: error: a rule needs a name and a reason"},
        {"rules:\n  - {name: r, reason: spam}\n", "f:2:5: error: a rule needs words"},
        {"rules:\n  - {name: r, reason: Spam, words: a}\n", "f:2:23: error: no such reason"},
        {"rules:\n  - {name: r, reason: spam, words: '*'}\n", "f:2:36: error: words as a reply"},
        {"rules:\n  - {name: r, reason: spam, words: {a: b}}\n",
         "f:2:36: error: one value or a list"},
        {"rules:\n  - {name: r, reason: spam, words: [[a]]}\n", "f:2:37: error: a single value"},
        {"rules:\n  - {name: r, reason: spam, status: 5.1}\n", "f:2:37: error: an enhanced status"},
        {"rules:\n  - {name: r, reason: spam, status: 6.1.1}\n",
         "f:2:37: error: an enhanced status"},
        {"rules:\n  - {name: r, reason: spam, status: 5.1.9-1}\n", "error: an enhanced status"},
        {"rules:\n  - {name: r, reason: spam, words: a, unless: 5.1}\n",
         "f:2:47: error: an enhanced status"},
        {"rules:\n  - {name: r, reason: spam, unless: 5.1.1}\n",
         "f:2:5: error: a rule needs words"},
        {"rules:\n  - {name: r, reason: spam, code: 650}\n", "f:2:35: error: a reply code"},
        {"rules:\n  - {name: r, reason: spam, code: 5x0}\n", "f:2:35: error: a reply code"},
        {"rules:\n  - {name: r, reason: spam, words: a, again: 1}\n", "error: yes or no"},
        {"rules:\n  - {name: r, reason: spam, words: a, soft: 1}\n",
         "error: unknown key; a rule has"},
        {"rules:\n  - {name: 'r r', reason: spam, words: a}\n", "f:2:12: error: a name of letters"},
        {"rules:\n  - {name: r, reason: spam, words: a}\n  - {name: r, reason: spam, words: b}\n",
         "f:3:12: error: another rule has this name"},
        {"rules: [\n", "error: "},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct bounce_rules *rules;
        struct buf errors = {0};
        assert_number(ROWS[i].text,
                      bounce_rules_load(bytes_cstr(ROWS[i].text), "f", &rules, &errors), E_SYNTAX);
        assert_null(rules);
        if (bytes_search(buf_bytes(&errors), bytes_cstr(ROWS[i].want)) < 0)
            fail_msg("%s: got %s", ROWS[i].text, buf_cstr(&errors));
        buf_done(&errors);
    }
}

// ---- texts of a reply -----------------------------------------------------------------------------------------

static void texts_are_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint16_t code;
        const char *enhanced;
    } ROWS[] = {
        {"550 5.1.1 no", 550, "5.1.1"},
        {"550 no", 550, ""},
        {"550-5.1.1 no\n550 5.1.1 such", 550, "5.1.1"},
        {"550", 550, ""},
        {"smtp; 550 5.1.1 no", 550, "5.1.1"},
        {"smtp;550-5.1.1 no", 550, "5.1.1"},
        {"X-Postfix; host mx.test[192.0.2.1] said: 550 5.1.1 no (in reply to RCPT TO)", 550,
         "5.1.1"},
        {"5.1.1 no", 0, "5.1.1"},
        {"550 #5.1.0 Address rejected.", 550, "5.1.0"},
        {"554 Sorry, no mailbox here by that name. (#5.1.1)", 554, "5.1.1"},
        {"Sorry, I couldn't find any host named x. (#5.1.2)", 0, "5.1.2"},
        {"no", 0, ""},
        {"", 0, ""},
        {"host 192.0.2.250 is down", 0, ""},
        {"1550 5.1.1 no", 0, "5.1.1"},
        {"650 no", 0, ""},
        {"550.5 no", 0, ""},
        {"550 5.1.1.2 no", 550, ""},
        {"550 192.5.1.1 no", 550, ""},
        {"550 5.1.1234 no", 550, ""},
    };
    struct bounce_rules *rules = bounce_rules_default();
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct bounce_reply reply;
        bounce_classify_text(rules, bytes_cstr(ROWS[i].text), &reply);
        assert_number(ROWS[i].text, reply.code, ROWS[i].code);
        assert_bytes(ROWS[i].text, reply.enhanced, bytes_cstr(ROWS[i].enhanced));
    }
    bounce_rules_free(rules);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(each_vector_has_its_class_and_each_rule_its_vector),
    cmocka_unit_test(own_rules_come_first),
    cmocka_unit_test(all_conditions_of_a_rule_must_hold),
    cmocka_unit_test(hard_and_again),
    cmocka_unit_test(errors_have_their_place),
    cmocka_unit_test(texts_are_taken_apart),
};

int main(int argc, char **argv)
{
    vectors_path = argc > 1 ? argv[1] : NULL;
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
