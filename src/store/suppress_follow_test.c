// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "store/suppress_private.h"

#define KEEP_MS 1000
static const struct wall AT = {1800000000000000};

static const struct row {
    const char *name;
    struct spool_record record;
    enum suppress_reason reason; // 0: no entry
    enum suppress_scope scope;
    bool expires;
    const char *note; // behind the id
} ROWS[] = {
    {"bad address",
     {.type = SPOOL_RECORD_OUTCOME,
      .outcome = {.recipient = 3,
                  .event = SPOOL_EVENT_BOUNCED,
                  .code = 550,
                  .enhanced = BYTES("5.1.1"),
                  .text = BYTES("no such user"),
                  .class = {BOUNCE_USER_UNKNOWN, true},
                  .account = 7,
                  .address = BYTES("a@example.com")}},
     SUPPRESS_HARD_BOUNCE,
     SUPPRESS_ACCOUNT,
     true,
     ".3 user-unknown: 550 5.1.1 no such user"},
    {"bad address, by our own DNS",
     {.type = SPOOL_RECORD_OUTCOME,
      .outcome = {.recipient = 1,
                  .event = SPOOL_EVENT_BOUNCED,
                  .text = BYTES("the domain does not exist"),
                  .class = {BOUNCE_HOST_UNKNOWN, true},
                  .account = 7,
                  .address = BYTES("a@example.com")}},
     SUPPRESS_HARD_BOUNCE,
     SUPPRESS_ACCOUNT,
     true,
     ".1 host-unknown: the domain does not exist"},
    {"not for good",
     {.type = SPOOL_RECORD_OUTCOME,
      .outcome = {.event = SPOOL_EVENT_BOUNCED,
                  .class = {BOUNCE_USER_UNKNOWN, false},
                  .account = 7,
                  .address = BYTES("a@example.com")}}},
    {"not about the address",
     {.type = SPOOL_RECORD_OUTCOME,
      .outcome = {.event = SPOOL_EVENT_BOUNCED,
                  .class = {BOUNCE_REPUTATION, true},
                  .account = 7,
                  .address = BYTES("a@example.com")}}},
    {"put off",
     {.type = SPOOL_RECORD_OUTCOME,
      .outcome = {.event = SPOOL_EVENT_DEFERRED,
                  .class = {BOUNCE_USER_UNKNOWN, true},
                  .account = 7,
                  .address = BYTES("a@example.com")}}},
    {"of an older release",
     {.type = SPOOL_RECORD_OUTCOME,
      .outcome = {.event = SPOOL_EVENT_BOUNCED, .class = {BOUNCE_USER_UNKNOWN, true}}}},
    {"bounce",
     {.type = SPOOL_RECORD_FEEDBACK,
      .feedback = {.recipient = 2,
                   .kind = FEEDBACK_BOUNCE,
                   .class = {BOUNCE_MAILBOX_DISABLED, true},
                   .account = 7,
                   .address = BYTES("a@example.com"),
                   .status = BYTES("5.2.1"),
                   .diagnostic = BYTES("disabled")}},
     SUPPRESS_HARD_BOUNCE,
     SUPPRESS_ACCOUNT,
     true,
     ".2 mailbox-disabled: 5.2.1 disabled"},
    {"soft bounce",
     {.type = SPOOL_RECORD_FEEDBACK,
      .feedback = {.kind = FEEDBACK_BOUNCE,
                   .class = {BOUNCE_MAILBOX_FULL, false},
                   .account = 7,
                   .address = BYTES("a@example.com")}}},
    {"complaint",
     {.type = SPOOL_RECORD_FEEDBACK,
      .feedback = {.recipient = 1,
                   .kind = FEEDBACK_COMPLAINT,
                   .class = {BOUNCE_COMPLAINT, false},
                   .account = 7,
                   .address = BYTES("a@example.com"),
                   .tag = BYTES("news"),
                   .detail = BYTES("abuse")}},
     SUPPRESS_COMPLAINT,
     SUPPRESS_ACCOUNT,
     false,
     ".1 complaint: abuse"},
    {"unsubscribe",
     {.type = SPOOL_RECORD_FEEDBACK,
      .feedback = {.recipient = 1,
                   .kind = FEEDBACK_UNSUBSCRIBE,
                   .account = 7,
                   .address = BYTES("a@example.com"),
                   .tag = BYTES("news")}},
     SUPPRESS_UNSUBSCRIBE,
     SUPPRESS_ACCOUNT,
     false,
     ".1 unsubscribe: "},
    {"unsubscribe from a stream",
     {.type = SPOOL_RECORD_FEEDBACK,
      .feedback = {.recipient = 1,
                   .kind = FEEDBACK_UNSUBSCRIBE,
                   .account = 7,
                   .address = BYTES("a@example.com"),
                   .tag = BYTES("news"),
                   .stream_only = true}},
     SUPPRESS_UNSUBSCRIBE,
     SUPPRESS_STREAM,
     false,
     ".1 unsubscribe: "},
    {"vacation",
     {.type = SPOOL_RECORD_FEEDBACK,
      .feedback = {.kind = FEEDBACK_AUTO_REPLY,
                   .class = {BOUNCE_VACATION, false},
                   .account = 7,
                   .address = BYTES("a@example.com")}}},
    {"nobody",
     {.type = SPOOL_RECORD_FEEDBACK, .feedback = {.kind = FEEDBACK_COMPLAINT, .account = 7}}},
    {"note", {.type = SPOOL_RECORD_NOTE, .key = BYTES("k"), .value = BYTES("v")}},
};

static void check_row(const struct row *row, int64_t keep_ms)
{
    struct arena arena = {0};
    struct suppress_entry e;
    struct spool_record record = row->record;
    if (record.type == SPOOL_RECORD_OUTCOME)
        record.outcome.at = AT;
    else if (record.type == SPOOL_RECORD_FEEDBACK)
        record.feedback.at = AT;
    bool is_entry = suppress_entry_of_record(&record, keep_ms, &arena, &e);
    if (is_entry != (row->reason != 0))
        fail_msg("%s", row->name);
    if (is_entry) {
        int64_t end = row->expires && keep_ms ? AT.us + keep_ms * 1000 : 0;
        if (e.reason != row->reason || e.scope != row->scope || e.account != 7 ||
            e.since.us != AT.us || e.expires.us != end ||
            !bytes_eq(e.address, BYTES("a@example.com")) ||
            !bytes_eq(e.stream, row->scope == SUPPRESS_STREAM ? BYTES("news") : BYTES_NONE) ||
            !bytes_eq(bytes_skip(e.note, MESSAGE_ID_CHARS), bytes_cstr(row->note)))
            fail_msg("%s: %.*s", row->name, BYTES_FMT(e.note));
    }
    arena_done(&arena);
}

static void test_what_a_record_means(void **state)
{
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        check_row(&ROWS[i], KEEP_MS);
        check_row(&ROWS[i], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_a_record_means)};
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
