// SPDX-License-Identifier: MIT
#include "mail/mail_mime.h"

#include "base/test_base.h"
#include "mail/mail_mime_walk.h"

#define ROWS(rows) (sizeof(rows) / sizeof((rows)[0]))

static void content_types(void **state)
{
    static const struct {
        struct bytes in;
        int want;
        const char *shown;
    } rows[] = {
        {BYTES(" text/plain"), OK, "text/plain"},
        {BYTES("Text / PLAIN (x) ; Charset = \"utf-8\" (y)"), OK, "Text/PLAIN Charset=utf-8"},
        {BYTES("multipart/mixed;\r\n boundary=\"a b\\\"c\"; x=1"), OK,
         "multipart/mixed boundary=a b\"c x=1"},
        {BYTES("multipart/mixed; boundary=a;b;c=d"), OK, "multipart/mixed boundary=a c=d"},
        {BYTES("text/plain;"), OK, "text/plain"},
        {BYTES("text/plain; a=\"open; b=c"), OK, "text/plain"},
        {BYTES("text/plain; a=b c; d=e"), OK, "text/plain d=e"},
        {BYTES("text/plain; a=\"b\"c; d=e"), OK, "text/plain d=e"},
        {BYTES("text/plain; a=\"b;c\"; d=e"), OK, "text/plain a=b;c d=e"},
        {BYTES("text"), E_SYNTAX, ""},
        {BYTES("text/"), E_SYNTAX, ""},
        {BYTES("/plain"), E_SYNTAX, ""},
        {BYTES("text/plain x"), E_SYNTAX, ""},
        {BYTES("text/pl\xc3\xa4in"), E_SYNTAX, ""},
        {BYTES(""), E_SYNTAX, ""},
        {BYTES("(open text/plain"), E_SYNTAX, ""},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct arena arena = {0};
        struct mail_content_type t;
        struct buf b = {0};
        assert_number(rows[i].in.at, mail_content_type_parse(rows[i].in, &arena, &t), rows[i].want);
        if (rows[i].want == OK) {
            buf_printf(&b, "%.*s/%.*s", BYTES_FMT(t.type), BYTES_FMT(t.subtype));
            for (size_t k = 0; k < t.count; k++)
                buf_printf(&b, " %.*s=%.*s", BYTES_FMT(t.parameters[k].name),
                           BYTES_FMT(t.parameters[k].value));
        }
        assert_bytes(rows[i].in.at, buf_bytes(&b), bytes_cstr(rows[i].shown));
        buf_done(&b);
        arena_done(&arena);
    }
    struct arena arena = {0};
    struct mail_content_type t;
    assert_int_equal(mail_content_type_parse(BYTES("a/b; C=d; c=e"), &arena, &t), OK);
    assert_bytes("first counts", mail_content_type_find(&t, BYTES("c")), BYTES("d"));
    assert_null(mail_content_type_find(&t, BYTES("x")).at);
    arena_done(&arena);
}

static void encodings(void **state)
{
    static const struct {
        struct bytes in;
        enum mail_encoding want;
    } rows[] = {
        {BYTES("Subject: x\r\n"), ENCODING_7BIT},
        {BYTES("Content-Transfer-Encoding: 7Bit\r\n"), ENCODING_7BIT},
        {BYTES("content-transfer-encoding:8bit (x)\r\n"), ENCODING_8BIT},
        {BYTES("Content-Transfer-Encoding:\r\n binary\r\n"), ENCODING_BINARY},
        {BYTES("Content-Transfer-Encoding: Quoted-Printable\r\n"), ENCODING_QP},
        {BYTES("Content-Transfer-Encoding: BASE64\r\n"), ENCODING_BASE64},
        {BYTES("Content-Transfer-Encoding: base64 x\r\n"), ENCODING_OTHER},
        {BYTES("Content-Transfer-Encoding: x-uuencode\r\n"), ENCODING_OTHER},
        {BYTES("Content-Transfer-Encoding:\r\n"), ENCODING_OTHER},
    };
    for (size_t i = 0; i < ROWS(rows); i++)
        assert_number(rows[i].in.at, mail_encoding_of(rows[i].in), rows[i].want);
}

// ---- the walk

static struct buf shown, bytes_seen;

static void on_header(void *ctx, const struct mail_part *part, struct bytes block,
                      bool has_separator)
{
    buf_printf(&shown, "%sH%zu%c[%.*s]", shown.len ? " " : "", part->index, "tmoMR"[part->kind],
               BYTES_FMT(block));
    buf_add(&bytes_seen, block);
    if (has_separator)
        buf_add(&bytes_seen, BYTES("\r\n"));
    else
        buf_add_byte(&shown, '!');
}

static char last_kind;

// Pieces of one kind in a row are shown as one.
static void show_piece(char kind, struct bytes piece)
{
    if (last_kind != kind || !bytes_ends(buf_bytes(&shown), BYTES(")")))
        buf_printf(&shown, " %c(", kind);
    else
        buf_truncate(&shown, shown.len - 1);
    buf_add(&shown, piece);
    buf_add_byte(&shown, ')');
    buf_add(&bytes_seen, piece);
    last_kind = kind;
}

static void on_body(void *ctx, const struct mail_part *part, struct bytes piece)
{
    show_piece('B', piece);
}

static void on_end(void *ctx, const struct mail_part *part)
{
    buf_printf(&shown, " E%zu", part->index);
}

static void on_raw(void *ctx, struct bytes piece)
{
    show_piece('R', piece);
}

static const struct mail_mime_events events = {on_header, on_body, on_end, on_raw};

// Walks through the message in pieces; the line ends of what was seen are shown as "|".
static int walk(struct bytes message, int round)
{
    struct test_random random = {(uint64_t)round};
    struct mail_mime_walk *w = mail_mime_walk_new(&events, NULL);
    int err = OK;
    buf_clear(&shown);
    buf_clear(&bytes_seen);
    last_kind = 0;
    while (message.len && err == OK) {
        size_t n = round == 0 ? message.len : round == 1 ? 1 : 1 + test_random_below(&random, 9);
        err = mail_mime_walk_feed(w, bytes_first(message, n));
        message = bytes_skip(message, n);
    }
    if (err == OK)
        err = mail_mime_walk_finish(w);
    mail_mime_walk_free(w);
    size_t len = 0;
    for (size_t i = 0; i < shown.len; i++)
        if (shown.at[i] != '\n')
            shown.at[len++] = shown.at[i] == '\r' ? '|' : shown.at[i];
    buf_truncate(&shown, len);
    return err;
}

#define CT "Content-Type: "
#define MIXED CT "multipart/mixed; boundary=b\r\n\r\n"

static const struct {
    const char *name;
    struct bytes message;
    const char *want;
} walk_rows[] = {
    {"plain", BYTES("A: b\r\n\r\nx\r\n--b\r\n"), "H0t[A: b|] B(x|--b|) E0"},
    {"empty", BYTES(""), "H0t[]! E0"},
    {"no body", BYTES("A: b\r\n"), "H0t[A: b|]! E0"},
    {"no separator", BYTES("A: b\r\nhello\r\n"), "H0t[A: b|]! B(hello|) E0"},
    {"two parts",
     BYTES(MIXED "pre\r\n--b\r\n\r\none\r\n--b\r\n" CT "a/b\r\n\r\ntwo\r\n--b--\r\nepi\r\n"),
     "H0M[" CT "multipart/mixed; boundary=b|] R(pre|--b|) H1t[] B(one) E1 R(|--b|) H2o[" CT
     "a/b|] B(two) E2 R(|--b--|epi|)"},
    {"empty parts", BYTES(MIXED "--b\r\n\r\n--b\r\n--b--"),
     "H0M[" CT "multipart/mixed; boundary=b|] R(--b|) H1t[] E1 R(--b|) H2t[]! E2 R(--b--)"},
    {"header cut off", BYTES(MIXED "--b\r\nA: b\r\n--b--\r\n"),
     "H0M[" CT "multipart/mixed; boundary=b|] R(--b|) H1t[A: b|]! E1 R(--b--|)"},
    {"white space behind", BYTES(MIXED "--b \t\r\n\r\nx\r\n--b-- \r\n"),
     "H0M[" CT "multipart/mixed; boundary=b|] R(--b \t|) H1t[] B(x) E1 R(|--b-- |)"},
    {"a prefix is none",
     BYTES(MIXED "--b\r\n\r\n--bc\r\n--b-\r\n --b\r\n--\r\n-\r\nx--b\r\n--b--x\r\n--b--"),
     "H0M[" CT
     "multipart/mixed; boundary=b|] R(--b|) H1t[] B(--bc|--b-| --b|--|-|x--b|--b--x) E1 R(|--b--)"},
    {"closed is closed", BYTES(MIXED "--b\r\n\r\nx\r\n--b--\r\n--b\r\nepi\r\n"),
     "H0M[" CT "multipart/mixed; boundary=b|] R(--b|) H1t[] B(x) E1 R(|--b--|--b|epi|)"},
    {"not closed", BYTES(MIXED "--b\r\n\r\nx\r\n"),
     "H0M[" CT "multipart/mixed; boundary=b|] R(--b|) H1t[] B(x|) E1"},
    {"bare line ends", BYTES(MIXED "--b\r\n\r\nx\r--b\r\ny\n--b\r\nz\r\r\n--b--"),
     "H0M[" CT "multipart/mixed; boundary=b|] R(--b|) H1t[] B(x|--b|y--b|z|) E1 R(|--b--)"},
    {"nested",
     BYTES(MIXED "--b\r\n" CT
                 "multipart/x; boundary=\"b c\"\r\n\r\n--b c\r\n\r\nx\r\n--b c--\r\n\r\n--b--\r\n"),
     "H0M[" CT "multipart/mixed; boundary=b|] R(--b|) H1M[" CT
     "multipart/x; boundary=\"b c\"|] R(--b c|) H2t[] B(x) E2 R(|--b c--||--b--|)"},
    {"outer ends inner",
     BYTES(MIXED "--b\r\n" CT
                 "multipart/x; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--b\r\n\r\ny\r\n--c\r\n"),
     "H0M[" CT "multipart/mixed; boundary=b|] R(--b|) H1M[" CT
     "multipart/x; boundary=c|] R(--c|) H2t[] B(x) E2 R(|--b|) H3t[] B(y|--c|) E3"},
    {"same boundary twice", BYTES(MIXED "--b\r\n" MIXED "--b\r\n\r\nx\r\n--b--\r\n--b--\r\n"),
     "H0M[" CT "multipart/mixed; boundary=b|] R(--b|) H1M[" CT
     "multipart/mixed; boundary=b|] R(--b|) H2t[] B(x) E2 R(|--b--|--b--|)"},
    {"rfc822", BYTES(MIXED "--b\r\n" CT "message/rfc822\r\n\r\nA: b\r\n\r\nx\r\n--b--\r\n"),
     "H0M[" CT "multipart/mixed; boundary=b|] R(--b|) H1R[" CT
     "message/rfc822|] H2t[A: b|] B(x) E2 R(|--b--|)"},
    {"empty rfc822", BYTES(MIXED "--b\r\n" CT "message/rfc822\r\n--b--"),
     "H0M[" CT "multipart/mixed; boundary=b|] R(--b|) H1R[" CT
     "message/rfc822|]! H2t[]! E2 R(--b--)"},
    {"digest", BYTES(CT "multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nA: b\r\n\r\nx\r\n--b--"),
     "H0M[" CT "multipart/digest; boundary=b|] R(--b|) H1R[] H2t[A: b|] B(x) E2 R(|--b--)"},
    {"encoded message",
     BYTES("Content-Transfer-Encoding: base64\r\n" CT "message/rfc822\r\n\r\nA: b"),
     "H0m[Content-Transfer-Encoding: base64|" CT "message/rfc822|] B(A: b) E0"},
    {"no boundary", BYTES(CT "multipart/mixed\r\n\r\n--b\r\n"),
     "H0o[" CT "multipart/mixed|] B(--b|) E0"},
    {"boundary without separator", BYTES(CT "multipart/mixed; boundary=b\r\n--b\r\n\r\nx\r\n--b--"),
     "H0M[" CT "multipart/mixed; boundary=b|]! R(--b|) H1t[] B(x) E1 R(|--b--)"},
    {"boundary like a field",
     BYTES(CT "multipart/mixed; boundary=\"b:c\"\r\n\r\n--b:c\r\nA: b\r\n--b:c--"),
     "H0M[" CT "multipart/mixed; boundary=\"b:c\"|] R(--b:c|) H1t[A: b|]! E1 R(--b:c--)"},
};

static void walks_at_every_cut(void **state)
{
    for (size_t i = 0; i < ROWS(walk_rows); i++)
        for (int round = 0; round < 12; round++) {
            assert_number(walk_rows[i].name, walk(walk_rows[i].message, round), OK);
            assert_bytes(walk_rows[i].name, buf_bytes(&shown), bytes_cstr(walk_rows[i].want));
            assert_bytes(walk_rows[i].name, buf_bytes(&bytes_seen), walk_rows[i].message);
        }
    buf_done(&shown);
    buf_done(&bytes_seen);
}

static void limits_hold(void **state)
{
    struct buf m = {0};
    for (int i = 0; i < MAIL_MIME_DEPTH_MAX; i++)
        buf_printf(&m, CT "multipart/x; boundary=b%d\r\n\r\n--b%d\r\n", i, i);
    assert_int_equal(walk(buf_bytes(&m), 0), OK);
    buf_printf(&m, CT "multipart/x; boundary=c\r\n\r\n--c\r\n");
    assert_int_equal(walk(buf_bytes(&m), 0), E_LIMIT);
    buf_clear(&m);
    for (int i = 0; i < MAIL_MIME_DEPTH_MAX; i++)
        buf_add_cstr(&m, CT "message/rfc822\r\n\r\n");
    assert_int_equal(walk(buf_bytes(&m), 0), OK);
    buf_add_cstr(&m, CT "message/rfc822\r\n\r\n");
    assert_int_equal(walk(buf_bytes(&m), 0), E_LIMIT);
    buf_clear(&m);
    buf_add_cstr(&m, MIXED);
    for (int i = 1; i < MAIL_MIME_PARTS_MAX; i++)
        buf_add_cstr(&m, "--b\r\n");
    assert_int_equal(walk(buf_bytes(&m), 0), OK);
    buf_add_cstr(&m, "--b\r\n");
    assert_int_equal(walk(buf_bytes(&m), 0), E_LIMIT);
    assert_int_equal(walk(BYTES("A: b\nC: d\r\n\r\n"), 0), E_SYNTAX);
    buf_done(&m);
    buf_done(&shown);
    buf_done(&bytes_seen);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(content_types),
    cmocka_unit_test(encodings),
    cmocka_unit_test(walks_at_every_cut),
    cmocka_unit_test(limits_hold),
};
RUN_TESTS(tests)
