// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "smtp/smtp_reply.h"
#include "smtp/smtp_reply_parser.h"

static const char *document_path; // argv[1]

static void test_rows(void **state)
{
    for (int id = SMTP_REPLY_NONE + 1; id < SMTP_REPLY_COUNT; id++) {
        const struct smtp_reply_row *row = smtp_reply_row((enum smtp_reply_id)id);
        if (!row->name)
            fail_msg("no row for id %d", id);
        assert_int_equal(row->id, id);
        // RFC 2034 section 4: all but the greeting, HELO and EHLO; 3xx have none (RFC 3463).
        bool bare = row->code / 100 == 3 || id == SMTP_REPLY_GREETING || id == SMTP_REPLY_HELO;
        if (bare != (row->enhanced == NULL))
            fail_msg("%s: enhanced code", row->name);
        struct smtp_enhanced e;
        size_t used;
        if (!bare &&
            !smtp_enhanced_parse(bytes_cstr(row->enhanced), (uint8_t)(row->code / 100), &e, &used))
            fail_msg("%s: enhanced code of another class: %s", row->name, row->enhanced);
        const char *slot = strchr(row->text, '%');
        if (slot && (slot[1] != 's' || strchr(slot + 1, '%')))
            fail_msg("%s: more than one slot", row->name);
        assert_false(bytes_has_control(bytes_cstr(row->text), NULL));
    }
}

static void test_f_length_and_escapes(void **state)
{
    char nasty[1000];
    memset(nasty, '\r', sizeof nasty);
    for (int id = SMTP_REPLY_NONE + 1; id < SMTP_REPLY_COUNT; id++) {
        struct buf out = {0};
        if (id == SMTP_REPLY_AUTH_CHALLENGE)
            continue;
        smtp_reply_format(&out, (enum smtp_reply_id)id, bytes_of(nasty, sizeof nasty));
        assert_true(out.len <= SMTP_REPLY_LINE_MAX);
        assert_int_equal(bytes_find(buf_bytes(&out), '\r'), out.len - 2);
        buf_done(&out);
    }
    struct buf out = {0};
    smtp_reply_format(&out, SMTP_REPLY_UNKNOWN_USER, BYTES("a\r\n250 ok\0%s\xff"));
    assert_string_equal(buf_cstr(&out),
                        "550 5.1.1 No such recipient here: a\\r\\n250 ok\\x00%s\\xff\r\n");
    buf_clear(&out);
    smtp_reply_format(&out, SMTP_REPLY_ACCEPTED, BYTES("01ABCDEFGHJKMNPQRSTV"));
    assert_string_equal(buf_cstr(&out), "250 2.0.0 Ok: queued as 01ABCDEFGHJKMNPQRSTV\r\n");
    buf_done(&out);
}

// docs/REPLIES.md is the table as it is now; else: build/src/smtp/gen-replies > docs/REPLIES.md
static void test_document(void **state)
{
    struct buf want = {0}, have = {0};
    FILE *f = fopen(document_path, "re");
    assert_non_null(f);
    smtp_reply_document(&want);
    size_t n;
    while ((n = fread(buf_reserve(&have, 4096), 1, 4096, f)) > 0)
        buf_commit(&have, n);
    fclose(f);
    assert_string_equal(buf_cstr(&have), buf_cstr(&want));
    buf_done(&want);
    buf_done(&have);
}

int main(int argc, char **argv)
{
    document_path = argc > 1 ? argv[1] : "docs/REPLIES.md";
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_f_length_and_escapes),
        cmocka_unit_test(test_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
