// SPDX-License-Identifier: MIT
#include "mail/mail_downgrade.h"

#include <stdlib.h>

#include "base/test_base.h"

#define ROWS(rows) (sizeof(rows) / sizeof((rows)[0]))
#define UE "\xc3\xbc"
#define CT "Content-Type: "
#define CTE "Content-Transfer-Encoding: "
#define V "MIME-Version: 1.0\r\n"

static struct bytes piece_of(struct bytes *rest, int round, struct test_random *random)
{
    size_t n = round == 0 ? rest->len : round == 1 ? 1 : 1 + test_random_below(random, 9);
    struct bytes piece = bytes_first(*rest, n);
    *rest = bytes_skip(*rest, piece.len);
    return piece;
}

static void emit(void *ctx, struct bytes piece)
{
    buf_add(ctx, piece);
}

// Both passes over the message. The plan's facts stay in *plan until done().
static int downgrade(struct bytes message, unsigned flags, int round,
                     struct mail_downgrade_plan *plan, struct buf *out)
{
    struct test_random random = {(uint64_t)round};
    mail_downgrade_plan_start(plan, flags);
    for (struct bytes rest = message; rest.len;)
        mail_downgrade_plan_feed(plan, piece_of(&rest, round, &random));
    int err = mail_downgrade_plan_finish(plan);
    if (err)
        return err;
    struct mail_downgrade *d = mail_downgrade_new(plan, emit, out);
    for (struct bytes rest = message; rest.len && err == OK;)
        err = mail_downgrade_feed(d, piece_of(&rest, round, &random));
    if (err == OK)
        err = mail_downgrade_finish(d);
    mail_downgrade_free(d);
    return err;
}

#define LINE100                                                                                    \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"     \
    "890123456789"
#define LINE990                                                                                    \
    LINE100 LINE100 LINE100 LINE100 LINE100 LINE100 LINE100 LINE100 LINE100                        \
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567" \
        "89"

static const struct {
    const char *name;
    unsigned flags;
    struct bytes in, want; // want.at == NULL: nothing changes
    int err;
} rows[] = {
    {"7-bit stays", 0, BYTES("Subject: a\r\n\r\nhello\r\n")},
    {"nothing stays", 0, BYTES("")},
    {"text", 0,
     BYTES(V CT "text/plain; charset=utf-8\r\n" CTE "8bit\r\nSubject: a\r\n\r\n" UE "\r\n.\r\n"),
     BYTES(V CT "text/plain; charset=utf-8\r\n" CTE
                "quoted-printable\r\nSubject: a\r\n\r\n=C3=BC\r\n=2E\r\n")},
    {"no MIME at all", 0, BYTES("Subject: a\r\n\r\n" UE "\r\n"),
     BYTES("Subject: a\r\n" V CTE "quoted-printable\r\n\r\n=C3=BC\r\n")},
    {"no header", 0, BYTES("\r\n" UE), BYTES(V CTE "quoted-printable\r\n\r\n=C3=BC=\r\n")},
    {"no separator", 0, BYTES("Subject: a\r\n" UE "\r\n"),
     BYTES("Subject: a\r\n" V CTE "quoted-printable\r\n\r\n=C3=BC\r\n")},
    {"wrong label", 0, BYTES(V CTE "7bit\r\n\r\n" UE "\r\n"),
     BYTES(V CTE "quoted-printable\r\n\r\n=C3=BC\r\n")},
    {"two labels", 0, BYTES(V CTE "8bit\r\n" CTE "8bit\r\n\r\n" UE "\r\n"),
     BYTES(V CTE "quoted-printable\r\n\r\n=C3=BC\r\n")},
    {"label of too much", 0, BYTES(V CTE "binary\r\n\r\nx\r\n"), BYTES(V CTE "7bit\r\n\r\nx\r\n")},
    {"only a header", 0, BYTES(V CTE "8bit"), BYTES(V CTE "7bit\r\n\r\n")},
    {"no final line end", 0, BYTES(V "\r\n" UE "x"),
     BYTES(V CTE "quoted-printable\r\n\r\n=C3=BCx=\r\n")},
    {"other type", 0, BYTES(V CT "image/x\r\n" CTE "binary\r\n\r\n\xff\0\r\xfe\n"),
     BYTES(V CT "image/x\r\n" CTE "base64\r\n\r\n/wAN/go=\r\n")},
    {"NUL", 0, BYTES(V "\r\na\0b\r\n"), BYTES(V CTE "quoted-printable\r\n\r\na=00b\r\n")},
    {"bare LF", 0, BYTES(V "\r\na\nb\r\n"), BYTES(V CTE "quoted-printable\r\n\r\na=0Ab\r\n")},
    {"bare CR", 0, BYTES(V "\r\na\r\r\n"), BYTES(V CTE "quoted-printable\r\n\r\na=0D\r\n")},
    {"CR at the end", 0, BYTES(V "\r\na\r"), BYTES(V CTE "quoted-printable\r\n\r\na=0D=\r\n")},
    {"only the part that must", 0,
     BYTES(V CT "multipart/mixed; boundary=b\r\n" CTE
                "8bit\r\n\r\npre\r\n--b\r\n\r\nplain\r\n--b\r\n" CT "text/html\r\n" CTE
                "8bit\r\n\r\n" UE "\r\n--b\r\n" CT "image/x\r\n" CTE "8bit\r\n\r\n" UE
                "\r\n--b\r\n" CT "image/x\r\n" CTE "base64\r\n\r\n/w==\r\n--b--\r\nepi\r\n"),
     BYTES(V CT "multipart/mixed; boundary=b\r\n" CTE
                "7bit\r\n\r\npre\r\n--b\r\n\r\nplain\r\n--b\r\n" CT "text/html\r\n" CTE
                "quoted-printable\r\n\r\n=C3=BC\r\n--b\r\n" CT "image/x\r\n" CTE
                "base64\r\n\r\nw7w=\r\n--b\r\n" CT "image/x\r\n" CTE
                "base64\r\n\r\n/w==\r\n--b--\r\nepi\r\n")},
    {"part without header", 0,
     BYTES(V CT "multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" UE "\r\n--b--\r\n"),
     BYTES(V CT "multipart/mixed; boundary=b\r\n\r\n--b\r\n" CTE
                "quoted-printable\r\n\r\n=C3=BC\r\n--b--\r\n")},
    {"preamble and epilogue", 0,
     BYTES(V CT "multipart/mixed; boundary=b\r\n\r\n" UE "\r\n--b\r\n\r\nx\r\n--b--\r\n" UE),
     BYTES(V CT "multipart/mixed; boundary=b\r\n\r\n??\r\n--b\r\n\r\nx\r\n--b--\r\n??")},
    {"attached message", 0,
     BYTES(V CT "message/rfc822\r\n" CTE "8bit\r\n\r\nSubject: in\r\n\r\n" UE "\r\n"),
     BYTES(V CT "message/rfc822\r\n" CTE "7bit\r\n\r\nSubject: in\r\n" V CTE
                "quoted-printable\r\n\r\n=C3=BC\r\n")},
    {"global message", 0,
     BYTES(V CT "message/global\r\n" CTE "8bit\r\n\r\nSubject: " UE "\r\n\r\n" UE "\r\n"),
     BYTES(V CT "message/global\r\n" CTE
                "quoted-printable\r\n\r\nSubject: =C3=BC\r\n\r\n=C3=BC\r\n")},
    {"8-bit header", 0, BYTES("Subject: " UE "\r\n\r\nx\r\n"), BYTES_NONE, E_DENIED},
    {"8-bit header of a part", 0,
     BYTES(V CT "multipart/mixed; boundary=b\r\n\r\n--b\r\nX: " UE "\r\n\r\nx\r\n--b--\r\n"),
     BYTES_NONE, E_DENIED},
    {"8-bit in base64", 0, BYTES(V CTE "base64\r\n\r\n" UE "\r\n"), BYTES_NONE, E_DENIED},
    {"unknown encoding", 0, BYTES(V CTE "x-uu\r\n\r\n" UE "\r\n"), BYTES_NONE, E_DENIED},
    {"multipart without boundary", 0, BYTES(V CT "multipart/mixed\r\n\r\n" UE "\r\n"), BYTES_NONE,
     E_DENIED},
    {"bare LF in a header", 0, BYTES("A: b\nC: d\r\n\r\n"), BYTES_NONE, E_SYNTAX},
    // lines
    {"long line may stay", 0, BYTES(V "\r\n" LINE990 "012345678\r\n")},
    {"998 may stay", MAIL_DOWNGRADE_LONG_LINES, BYTES(V "\r\n" LINE990 "01234567\r\n\r\n")},
    {"8-bit may stay", MAIL_DOWNGRADE_KEEP_8BIT | MAIL_DOWNGRADE_LONG_LINES,
     BYTES("Subject: " UE "\r\n" CTE "8bit\r\n\r\n" UE "\r\n")},
    {"binary may not", MAIL_DOWNGRADE_KEEP_8BIT, BYTES(V CTE "binary\r\n\r\n" UE "\r\n"),
     BYTES(V CTE "8bit\r\n\r\n" UE "\r\n")},
};

static void only_what_must_changes(void **state)
{
    for (size_t i = 0; i < ROWS(rows); i++)
        for (int round = 0; round < 8; round++) {
            struct mail_downgrade_plan plan;
            struct buf out = {0};
            bool changes = rows[i].want.at != NULL;
            assert_number(rows[i].name, downgrade(rows[i].in, rows[i].flags, round, &plan, &out),
                          rows[i].err);
            if (rows[i].err == OK) {
                assert_number(rows[i].name, plan.is_needed, changes);
                assert_bytes(rows[i].name, buf_bytes(&out), changes ? rows[i].want : rows[i].in);
            }
            mail_downgrade_plan_done(&plan);
            buf_done(&out);
        }
}

static void long_lines_are_cut(void **state)
{
    struct mail_downgrade_plan plan;
    struct buf in = {0}, out = {0};
    for (unsigned flags = 1; flags <= 3; flags += 2) {
        buf_clear(&in);
        buf_clear(&out);
        buf_add_cstr(&in, V "\r\n");
        for (int i = 0; i < 998 + 1; i++)
            buf_add_byte(&in, 'x');
        buf_add_cstr(&in, "\r\n");
        assert_int_equal(downgrade(buf_bytes(&in), flags, 2, &plan, &out), OK);
        assert_true(plan.is_needed);
        assert_true(bytes_search(buf_bytes(&out), BYTES(CTE "quoted-printable\r\n")) > 0);
        struct bytes rest = buf_bytes(&out), line;
        while (bytes_cut(&rest, '\n', &line))
            assert_true(line.len <= 77);
        mail_downgrade_plan_done(&plan);
    }
    buf_done(&in);
    buf_done(&out);
}

// KEEP_SIGNED: what a multipart/signed holds, at any depth, stays or the message has no such form.
static void signed_is_kept(void **state)
{
    static const struct {
        struct bytes in;
        int err;
    } signed_rows[] = {
        {BYTES(V CT "multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\0y\r\n--b--\r\n"), E_DENIED},
        {BYTES(V CT "multipart/signed; boundary=b\r\n\r\n--b\r\n" CTE
                    "binary\r\n\r\nxy\r\n--b--\r\n"),
         E_DENIED},
        {BYTES(V CT "multipart/signed; boundary=b\r\n\r\n--b\r\n" CT
                    "multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\ny\r\n--c--\r\n--b--\r\n"),
         E_DENIED},
        {BYTES(V CT "multipart/signed; boundary=b\r\n" CTE
                    "binary\r\n\r\n--b\r\n\r\nxy\r\n--b--\r\n"),
         OK},
        {BYTES(V CT "multipart/mixed; boundary=b\r\n\r\n--b\r\n" CT "multipart/signed; "
                    "boundary=c\r\n\r\n--c\r\n\r\nxy\r\n--c--\r\n--b\r\n\r\nx\0y\r\n--b--\r\n"),
         OK},
    };
    for (size_t i = 0; i < sizeof signed_rows / sizeof signed_rows[0]; i++)
        for (int round = 0; round < 10; round++) {
            struct mail_downgrade_plan plan;
            struct buf out = {0};
            int err =
                downgrade(signed_rows[i].in, MAIL_DOWNGRADE_KEEP_8BIT | MAIL_DOWNGRADE_KEEP_SIGNED,
                          round, &plan, &out);
            if (err != signed_rows[i].err || !plan.is_needed)
                fail_msg("row %zu: %d", i, err);
            mail_downgrade_plan_done(&plan);
            buf_done(&out);
        }
}

static void facts_are_told(void **state)
{
    struct mail_downgrade_plan plan;
    struct buf out = {0};
    assert_int_equal(downgrade(BYTES("A: b\r\n\r\n"), 0, 0, &plan, &out), OK);
    assert_false(plan.has_signed || plan.has_8bit_header || plan.is_needed);
    mail_downgrade_plan_done(&plan);
    assert_int_equal(downgrade(BYTES("DKIM-Signature: x\r\n\r\n"), 0, 0, &plan, &out), OK);
    assert_true(plan.has_signed);
    mail_downgrade_plan_done(&plan);
    assert_int_equal(
        downgrade(BYTES(CT "multipart/signed; boundary=b\r\n\r\n--b\r\n"), 0, 0, &plan, &out), OK);
    assert_true(plan.has_signed);
    mail_downgrade_plan_done(&plan);
    assert_int_equal(downgrade(BYTES("A: \xff\r\n\r\n"), 0, 0, &plan, &out), E_DENIED);
    assert_true(plan.has_8bit_header);
    mail_downgrade_plan_done(&plan);
    buf_done(&out);
}

static void another_message_is_noticed(void **state)
{
    struct mail_downgrade_plan plan;
    struct buf out = {0};
    assert_int_equal(downgrade(BYTES("A: b\r\n\r\nx"), 0, 0, &plan, &out), OK);
    struct mail_downgrade *d = mail_downgrade_new(&plan, emit, &out);
    int err = mail_downgrade_feed(
        d, BYTES(CT "multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"));
    if (err == OK)
        err = mail_downgrade_finish(d);
    assert_int_equal(err, E_DAMAGED);
    mail_downgrade_free(d);
    mail_downgrade_plan_done(&plan);
    buf_done(&out);
}

// What it makes must need nothing more, whatever the pieces of a message.
static void result_is_7bit(void **state)
{
    static const char *const pieces[] = {V,
                                         CT "text/plain\r\n",
                                         CT "multipart/mixed; boundary=b\r\n",
                                         CT "multipart/mixed; boundary=c\r\n",
                                         CT "message/rfc822\r\n",
                                         CT "image/png\r\n",
                                         CTE "8bit\r\n",
                                         CTE "binary\r\n",
                                         CTE "base64\r\n",
                                         "\r\n",
                                         "\r\n",
                                         "\r\n",
                                         "--b\r\n",
                                         "--b--\r\n",
                                         "--c\r\n",
                                         "--c--\r\n",
                                         UE,
                                         "x",
                                         "\r",
                                         "\n",
                                         "From ",
                                         ".\r\n",
                                         " ",
                                         "A: b\r\n"};
    struct test_random random = {77};
    int changed = 0;
    for (int i = 0; i < 20000; i++) {
        struct mail_downgrade_plan plan, again;
        struct buf in = {0}, out = {0}, out2 = {0};
        for (unsigned n = test_random_below(&random, 30); n; n--)
            buf_add_cstr(&in, pieces[test_random_below(&random, ROWS(pieces))]);
        if (downgrade(buf_bytes(&in), 0, i % 3, &plan, &out) == OK) {
            assert_true(bytes_is_ascii(buf_bytes(&out)));
            int err = downgrade(buf_bytes(&out), 0, 0, &again, &out2);
            if (err || again.is_needed)
                fail_msg("in: %s\nout: %s", buf_cstr(&in), buf_cstr(&out));
            changed += plan.is_needed;
            if (!plan.is_needed)
                assert_bytes("same", buf_bytes(&out), buf_bytes(&in));
            mail_downgrade_plan_done(&again);
        }
        mail_downgrade_plan_done(&plan);
        buf_done(&in);
        buf_done(&out);
        buf_done(&out2);
    }
    assert_true(changed > 1000);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(only_what_must_changes),
    cmocka_unit_test(long_lines_are_cut),
    cmocka_unit_test(signed_is_kept),
    cmocka_unit_test(facts_are_told),
    cmocka_unit_test(another_message_is_noticed),
    cmocka_unit_test(result_is_7bit),
};
RUN_TESTS(tests)
