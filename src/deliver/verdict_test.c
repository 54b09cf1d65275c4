// SPDX-License-Identifier: MIT
#include "deliver/verdict.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/test_base.h"

enum { FINAL = 1, DSN = 2, REUSED = 4 };

static const struct {
    const char *name;
    enum smtp_step step;
    int err;
    uint16_t code; // 0: no reply
    struct smtp_enhanced enhanced;
    unsigned how;
    enum verdict_kind kind;
    const char *want_enhanced;
    bool remote;
} ROWS[] = {
    {"mailbox", SMTP_STEP_FINAL, OK, 250, {2, 0, 0}, FINAL, VERDICT_DELIVERED, "2.0.0", true},
    {"mailbox, DSN offered",
     SMTP_STEP_FINAL,
     OK,
     250,
     {2, 1, 5},
     FINAL | DSN,
     VERDICT_PASSED,
     "2.1.5",
     true},
    {"next server", SMTP_STEP_FINAL, OK, 250, {0}, 0, VERDICT_RELAYED, "2.0.0", true},
    {"next server with DSN", SMTP_STEP_FINAL, OK, 250, {0}, DSN, VERDICT_PASSED, "2.0.0", true},
    {"refused", SMTP_STEP_RCPT, OK, 550, {5, 1, 1}, 0, VERDICT_FAILED, "5.1.1", true},
    {"refused, bare code", SMTP_STEP_RCPT, OK, 550, {0}, 0, VERDICT_FAILED, "5.0.0", true},
    {"refused at MAIL", SMTP_STEP_MAIL, OK, 554, {5, 7, 1}, 0, VERDICT_FAILED, "5.7.1", true},
    {"refused at the end",
     SMTP_STEP_FINAL,
     OK,
     554,
     {5, 6, 0},
     FINAL,
     VERDICT_FAILED,
     "5.6.0",
     true},
    {"too many recipients", SMTP_STEP_RCPT, OK, 552, {0}, 0, VERDICT_DEFERRED, "4.0.0", true},
    {"too many recipients, said twice",
     SMTP_STEP_RCPT,
     OK,
     552,
     {5, 5, 3},
     0,
     VERDICT_DEFERRED,
     "5.5.3",
     true},
    {"too many recipients, by the book",
     SMTP_STEP_RCPT,
     OK,
     452,
     {4, 5, 3},
     0,
     VERDICT_DEFERRED,
     "4.5.3",
     true},
    {"mailbox full for now",
     SMTP_STEP_RCPT,
     OK,
     452,
     {4, 2, 2},
     0,
     VERDICT_DEFERRED,
     "4.2.2",
     true},
    {"mailbox full", SMTP_STEP_RCPT, OK, 552, {5, 2, 2}, 0, VERDICT_FAILED, "5.2.2", true},
    {"too large is final", SMTP_STEP_MAIL, OK, 552, {5, 3, 4}, 0, VERDICT_FAILED, "5.3.4", true},
    {"greylisted", SMTP_STEP_RCPT, OK, 451, {4, 7, 1}, 0, VERDICT_DEFERRED, "4.7.1", true},
    {"421", SMTP_STEP_DATA, OK, 421, {0}, 0, VERDICT_DEFERRED, "4.0.0", true},
    {"250 to DATA is nonsense", SMTP_STEP_DATA, OK, 250, {0}, 0, VERDICT_DEFERRED, "4.0.0", true},
    {"354 at the end is nonsense",
     SMTP_STEP_FINAL,
     OK,
     354,
     {0},
     FINAL,
     VERDICT_DEFERRED,
     "4.0.0",
     true},
    {"lost at MAIL, fresh", SMTP_STEP_MAIL, E_CLOSED, 0, {0}, 0, VERDICT_DEFERRED, "4.4.2", false},
    {"lost at MAIL, stale", SMTP_STEP_MAIL, E_CLOSED, 0, {0}, REUSED, VERDICT_UNTRIED, "", false},
    {"time-out at MAIL, reused",
     SMTP_STEP_MAIL,
     E_TIMEOUT,
     0,
     {0},
     REUSED,
     VERDICT_UNTRIED,
     "",
     false},
    {"421 at MAIL, fresh", SMTP_STEP_MAIL, OK, 421, {4, 7, 0}, 0, VERDICT_DEFERRED, "4.7.0", true},
    {"421 at MAIL, reused", SMTP_STEP_MAIL, OK, 421, {4, 7, 0}, REUSED, VERDICT_UNTRIED, "", false},
    {"421 at RSET", SMTP_STEP_RSET, OK, 421, {4, 7, 0}, REUSED, VERDICT_UNTRIED, "", false},
    {"RSET refused", SMTP_STEP_RSET, E_SYNTAX, 500, {0}, REUSED, VERDICT_UNTRIED, "", false},
    {"lost at RSET", SMTP_STEP_RSET, E_CLOSED, 0, {0}, REUSED, VERDICT_UNTRIED, "", false},
    {"lost at RCPT, reused",
     SMTP_STEP_RCPT,
     E_CLOSED,
     0,
     {0},
     REUSED,
     VERDICT_DEFERRED,
     "4.4.2",
     false},
    {"lost after the dot",
     SMTP_STEP_FINAL,
     E_TIMEOUT,
     0,
     {0},
     FINAL,
     VERDICT_DEFERRED,
     "4.4.2",
     false},
    {"gibberish", SMTP_STEP_RCPT, E_SYNTAX, 0, {0}, 0, VERDICT_DEFERRED, "4.4.2", false},
};

static void test_outcomes(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct smtp_reply reply = {
            .code = ROWS[i].code, .enhanced = ROWS[i].enhanced, .text = BYTES("words")};
        struct smtp_outcome outcome = {ROWS[i].step, ROWS[i].err, ROWS[i].code ? &reply : NULL};
        struct verdict v = verdict_of_outcome(&outcome, ROWS[i].how & FINAL, ROWS[i].how & DSN,
                                              !(ROWS[i].how & REUSED));
        assert_number(ROWS[i].name, v.kind, ROWS[i].kind);
        assert_number(ROWS[i].name, v.code, v.kind == VERDICT_UNTRIED ? 0 : ROWS[i].code);
        assert_number(ROWS[i].name, v.remote, ROWS[i].remote);
        assert_number(ROWS[i].name, v.too_many,
                      strstr(ROWS[i].name, "too many recipients") != NULL);
        assert_bytes(ROWS[i].name, bytes_cstr(v.enhanced), bytes_cstr(ROWS[i].want_enhanced));
        if (ROWS[i].remote)
            assert_bytes(ROWS[i].name, bytes_cstr(v.text), BYTES("words"));
    }
}

// What can't be said at all is tried no second time: not at once, over the next connection, and not later.
static void test_unsent(void **state)
{
    (void)state;
    struct smtp_outcome outcome = {.step = SMTP_STEP_MAIL, .err = E_SYNTAX, .unsent = true};
    for (int fresh = 0; fresh <= 1; fresh++) {
        struct verdict v = verdict_of_outcome(&outcome, false, false, fresh);
        assert_int_equal(v.kind, VERDICT_FAILED);
        assert_string_equal(v.enhanced, "5.5.4");
        assert_false(v.remote);
    }
}

// Whatever a server says: the worst a verdict does is to be cut.
static void test_long_text(void **state)
{
    (void)state;
    static const size_t LENGTHS[] = {
        0, 1, VERDICT_TEXT_MAX - 1, VERDICT_TEXT_MAX, VERDICT_TEXT_MAX + 1, 100000};
    char *text = malloc(100000);
    assert_non_null(text);
    memset(text, 'x', 100000);
    for (size_t i = 0; i < COUNT_OF(LENGTHS); i++) {
        struct smtp_reply reply = {
            .code = 550, .enhanced = {5, 65535, 65535}, .text = bytes_of(text, LENGTHS[i])};
        struct smtp_outcome outcome = {SMTP_STEP_RCPT, OK, &reply};
        struct verdict v = verdict_of_outcome(&outcome, false, false, true);
        size_t want = LENGTHS[i] < VERDICT_TEXT_MAX ? LENGTHS[i] : VERDICT_TEXT_MAX;
        assert_number("length", strlen(v.text), want);
        assert_string_equal(v.enhanced, "5.65535.65535");
        v = verdict_make(VERDICT_FAILED, 550, "5.1.1", bytes_of(text, LENGTHS[i]));
        assert_number("length", strlen(v.text), want);
    }
    free(text);
}

static void test_render_failures(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int err;
        enum verdict_kind kind;
        uint16_t code;
    } CASES[] = {
        {"no 7-bit form", E_DENIED, VERDICT_FAILED, 554},
        {"damaged for ever", E_DAMAGED, VERDICT_FAILED, 554},
        {"the disk, for now", E_IO, VERDICT_DEFERRED, 451},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct verdict v = verdict_of_render_failure(CASES[i].err);
        assert_number(CASES[i].name, v.kind, CASES[i].kind);
        assert_number(CASES[i].name, v.code, CASES[i].code);
    }
}

// What a reply means decides whether it is tried again, and whether the address is bad.
static void test_classes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum smtp_step step;
        uint16_t code;
        struct smtp_enhanced enhanced;
        const char *text;
        enum verdict_kind kind;
        const char *enhanced_want;
        enum bounce_reason reason;
        bool hard;
    } CASES[] = {
        {"no such user",
         SMTP_STEP_RCPT,
         550,
         {5, 1, 1},
         "no such user",
         VERDICT_FAILED,
         "5.1.1",
         BOUNCE_USER_UNKNOWN,
         true},
        {"no such user, bare",
         SMTP_STEP_RCPT,
         550,
         {0},
         "no such user",
         VERDICT_FAILED,
         "5.0.0",
         BOUNCE_USER_UNKNOWN,
         true},
        {"no such user, for now",
         SMTP_STEP_RCPT,
         450,
         {4, 1, 1},
         "no such user",
         VERDICT_DEFERRED,
         "4.1.1",
         BOUNCE_USER_UNKNOWN,
         false},
        {"a block is no bad address",
         SMTP_STEP_RCPT,
         550,
         {5, 7, 1},
         "blocked using sbl",
         VERDICT_FAILED,
         "5.7.1",
         BOUNCE_REPUTATION,
         false},
        {"greylisting by a 5xx",
         SMTP_STEP_RCPT,
         550,
         {5, 7, 1},
         "Greylisted, come back",
         VERDICT_DEFERRED,
         "5.7.1",
         BOUNCE_RATE_LIMITED,
         false},
        {"a limit by a bare 5xx",
         SMTP_STEP_MAIL,
         550,
         {0},
         "Domain frequency limited",
         VERDICT_DEFERRED,
         "4.0.0",
         BOUNCE_RATE_LIMITED,
         false},
        {"a full mailbox is final where a 5xx says so",
         SMTP_STEP_RCPT,
         552,
         {5, 2, 2},
         "full",
         VERDICT_FAILED,
         "5.2.2",
         BOUNCE_MAILBOX_FULL,
         false},
        {"a limit of size is final, whatever limits are called",
         SMTP_STEP_MAIL,
         552,
         {5, 3, 4},
         "Message size exceeds permitted limits, the hourly limit",
         VERDICT_FAILED,
         "5.3.4",
         BOUNCE_MESSAGE_TOO_LARGE,
         false},
        {"words unknown",
         SMTP_STEP_RCPT,
         550,
         {0},
         "hm",
         VERDICT_FAILED,
         "5.0.0",
         BOUNCE_OTHER,
         false},
        {"taken",
         SMTP_STEP_FINAL,
         250,
         {2, 0, 0},
         "user unknown",
         VERDICT_RELAYED,
         "2.0.0",
         BOUNCE_NONE,
         false},
    };
    struct bounce_rules *rules = bounce_rules_default();
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct smtp_reply reply = {.code = CASES[i].code,
                                   .enhanced = CASES[i].enhanced,
                                   .text = bytes_cstr(CASES[i].text)};
        struct smtp_outcome outcome = {CASES[i].step, OK, &reply};
        struct verdict v = verdict_of_outcome(&outcome, false, false, true);
        verdict_classify(&v, NULL, reply.text); // no rules: nothing is done
        assert_number(CASES[i].name, v.class.reason, BOUNCE_NONE);
        verdict_classify(&v, rules, reply.text);
        assert_number(CASES[i].name, v.kind, CASES[i].kind);
        assert_number(CASES[i].name, v.class.reason, CASES[i].reason);
        assert_number(CASES[i].name, v.class.hard, CASES[i].hard);
        assert_bytes(CASES[i].name, bytes_cstr(v.enhanced), bytes_cstr(CASES[i].enhanced_want));
    }
    bounce_rules_free(rules);
}

// Our own verdicts: by their code, whatever their words.
static void test_classes_of_our_own(void **state)
{
    (void)state;
    static const struct {
        const char *enhanced, *text;
        enum verdict_kind kind;
        enum bounce_reason reason;
        bool hard;
    } CASES[] = {
        {"5.1.2", "blacklist", VERDICT_FAILED, BOUNCE_HOST_UNKNOWN, true},
        {"5.1.10", "", VERDICT_FAILED, BOUNCE_HOST_UNKNOWN, true},
        {"5.4.6", "", VERDICT_FAILED, BOUNCE_NETWORK, false},
        {"4.4.2", "connection lost at DATA", VERDICT_DEFERRED, BOUNCE_NETWORK, false},
        {"5.3.4", "", VERDICT_FAILED, BOUNCE_MESSAGE_TOO_LARGE, false},
        {"4.1.1", "", VERDICT_DELIVERED, BOUNCE_NONE, false},
    };
    struct bounce_rules *rules = bounce_rules_default();
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct verdict v =
            verdict_make(CASES[i].kind, 550, CASES[i].enhanced, bytes_cstr(CASES[i].text));
        verdict_classify(&v, rules, BYTES_NONE);
        assert_number(CASES[i].enhanced, v.kind, CASES[i].kind);
        assert_number(CASES[i].enhanced, v.class.reason, CASES[i].reason);
        assert_number(CASES[i].enhanced, v.class.hard, CASES[i].hard);
    }
    bounce_rules_free(rules);
}

static void test_whose_address(void **state)
{
    (void)state;
    static const struct {
        enum smtp_step step;
        bool alone, lmtp, want;
    } CASES[] = {
        {SMTP_STEP_MAIL, true, false, false},    {SMTP_STEP_MAIL, true, true, false},
        {SMTP_STEP_RSET, true, true, false},     {SMTP_STEP_RCPT, false, false, true},
        {SMTP_STEP_RCPT, true, false, true},     {SMTP_STEP_DATA, false, false, false},
        {SMTP_STEP_DATA, true, false, true},     {SMTP_STEP_DATA, false, true, false},
        {SMTP_STEP_CONTENT, false, true, false}, {SMTP_STEP_CONTENT, true, false, true},
        {SMTP_STEP_FINAL, false, false, false},  {SMTP_STEP_FINAL, true, false, true},
        {SMTP_STEP_FINAL, false, true, true},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++)
        assert_number(smtp_step_name(CASES[i].step),
                      verdict_is_about_address(CASES[i].step, CASES[i].alone, CASES[i].lmtp),
                      CASES[i].want);
}

static void test_want_of_tls(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint16_t code;
        struct smtp_enhanced enhanced;
        const char *text;
        bool want;
    } CASES[] = {
        {"RFC 3207", 530, {5, 7, 0}, "Must issue a STARTTLS command first", true},
        {"RFC 3207, bare", 530, {0}, "no", true},
        {"a login, perhaps under TLS", 530, {5, 7, 0}, "Authentication required", true},
        {"RFC 4954", 538, {5, 7, 11}, "no", true},
        {"RFC 5248", 523, {5, 7, 10}, "no", true},
        {"by status", 550, {5, 7, 10}, "no", true},
        {"by status, too weak", 554, {5, 7, 11}, "no", true},
        {"by words", 550, {5, 7, 1}, "this domain requires TLS", true},
        {"by words, bare", 550, {0}, "Encryption required", true},
        {"by words, with a status of policy",
         550,
         {5, 7, 29},
         "was not sent over a tls connection",
         true},
        {"for now", 451, {4, 7, 10}, "use Starttls", true},
        {"a policy", 550, {5, 7, 1}, "we do not like you", false},
        {"an address", 550, {5, 1, 1}, "titles@tls.example unknown", false},
        {"no more words than a code", 550, {0}, "", false},
        {"taken", 250, {2, 0, 0}, "TLS", false},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct smtp_reply reply = {CASES[i].code, CASES[i].enhanced, bytes_cstr(CASES[i].text)};
        assert_number(CASES[i].name, verdict_is_for_want_of_tls(&reply), CASES[i].want);
    }
}

static void test_defer(void **state)
{
    (void)state;
    static const struct {
        enum verdict_kind kind, want;
        bool bare;
        const char *enhanced;
    } CASES[] = {
        {VERDICT_FAILED, VERDICT_DEFERRED, false, "5.7.0"},
        {VERDICT_FAILED, VERDICT_DEFERRED, true, "4.0.0"},
        {VERDICT_RELAYED, VERDICT_RELAYED, false, "5.7.0"},
        {VERDICT_UNTRIED, VERDICT_UNTRIED, false, "5.7.0"},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct verdict v = verdict_make(CASES[i].kind, 530, "5.7.0", BYTES("text"));
        v.bare = CASES[i].bare;
        v.class.hard = true;
        verdict_defer(&v);
        assert_number(CASES[i].enhanced, v.kind, CASES[i].want);
        assert_string_equal(v.enhanced, CASES[i].enhanced);
        assert_number(CASES[i].enhanced, v.class.hard, CASES[i].want != VERDICT_DEFERRED);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_whose_address),
    cmocka_unit_test(test_want_of_tls),
    cmocka_unit_test(test_defer),
    cmocka_unit_test(test_classes),
    cmocka_unit_test(test_classes_of_our_own),
    cmocka_unit_test(test_render_failures),
    cmocka_unit_test(test_outcomes),
    cmocka_unit_test(test_unsent),
    cmocka_unit_test(test_long_text),
};

RUN_TESTS(tests)
