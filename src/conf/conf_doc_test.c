// SPDX-License-Identifier: MIT
//
// Is the generated part of docs/INTERFACE.md what the table says? With --write it is made so.
#include "conf/conf_doc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"

#define BEGIN "<!-- generated from src/conf/conf_params.c: make config-doc -->\n"
#define END "<!-- end of the generated part -->\n"
#define DOC_MAX ((size_t)1 << 20)

static const char *path;

static void read_doc(struct buf *out)
{
    FILE *f = fopen(path, "r");
    size_t n;
    if (!f)
        fail_msg("%s can't be read", path);
    while ((n = fread(buf_reserve(out, 65536), 1, 65536, f)) > 0)
        buf_commit(out, n);
    fclose(f);
}

// The document with its generated part as it should be; empty if it has no such part.
static void renew(struct bytes doc, struct buf *out)
{
    ptrdiff_t begin = bytes_search(doc, BYTES(BEGIN)), end = bytes_search(doc, BYTES(END));
    if (begin < 0 || end < begin)
        return;
    buf_add(out, bytes_first(doc, (size_t)begin + strlen(BEGIN)));
    conf_doc_markdown(out);
    buf_add_byte(out, '\n');
    buf_add(out, bytes_skip(doc, (size_t)end));
}

static void test_doc_is_current(void **state)
{
    struct buf doc = {0}, want = {0};
    buf_init(&doc, DOC_MAX);
    read_doc(&doc);
    renew(buf_bytes(&doc), &want);
    if (!want.len)
        fail_msg("%s has no generated part", path);
    if (!bytes_eq(buf_bytes(&doc), buf_bytes(&want)))
        fail_msg("%s is not what the table says: run make config-doc", path);
    buf_done(&doc);
    buf_done(&want);
}

static void test_text_has_every_row(void **state)
{
    struct buf text = {0};
    assert_true(conf_doc_text(BYTES_NONE, &text));
    assert_true(
        bytes_search(buf_bytes(&text),
                     BYTES("limits.message_size\n    bytes of one message\n    a size from "
                           "64KiB to 2GiB, such as 25MiB or 200MB\n    default: 50MiB; read "
                           "again by SIGHUP\n")) >= 0);
    buf_done(&text);
}

// A key, or a section with all that is in it; lists with or without their brackets.
static void test_text_of_a_key(void **state)
{
    static const struct {
        const char *name, *first, *last;
        int rows;
    } cases[] = {
        {"hostname", "hostname", "hostname", 1},
        {"limits.message_size", "limits.message_size", "limits.message_size", 1},
        {"http", "http", "http.address", 2},
        {"log", "log", "log.level", 3},
        {"listeners[].tls", "listeners[].tls", "listeners[].tls", 1},
        {"listeners.tls", "listeners[].tls", "listeners[].tls", 1},
        {"sendmail.accounts", "sendmail.accounts", "sendmail.accounts[].account", 3},
        {"routes[].match", "routes[].match", "routes[].match.listener", 5},
        {"host", NULL, NULL, 0},
        {"hostname.x", NULL, NULL, 0},
        {"message_size", NULL, NULL, 0},
        {"limits.", NULL, NULL, 0},
        {"[]", NULL, NULL, 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf text = {0};
        struct bytes rest, line, name = BYTES_NONE;
        int rows = 0;
        assert_true(conf_doc_text(bytes_cstr(cases[i].name), &text) == (cases[i].rows > 0));
        rest = buf_bytes(&text);
        while (bytes_cut(&rest, '\n', &line)) {
            if (!line.len || line.at[0] == ' ')
                continue;
            if (!rows++)
                assert_true(bytes_eq(line, bytes_cstr(cases[i].first)));
            name = line;
        }
        if (rows != cases[i].rows || (rows && !bytes_eq(name, bytes_cstr(cases[i].last))))
            fail_msg("%s: %d rows, the last is %.*s", cases[i].name, rows, BYTES_FMT(name));
        buf_done(&text);
    }
}

static int write_doc(void)
{
    struct buf doc = {0}, want = {0};
    read_doc(&doc);
    renew(buf_bytes(&doc), &want);
    FILE *f = want.len ? fopen(path, "w") : NULL;
    if (!f)
        return 1;
    fwrite(want.at, 1, want.len, f);
    buf_done(&doc);
    buf_done(&want);
    return fclose(f);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest all[] = {cmocka_unit_test(test_doc_is_current),
                                     cmocka_unit_test(test_text_has_every_row),
                                     cmocka_unit_test(test_text_of_a_key)};
    CHECK(argc >= 2);
    path = argv[1];
    if (argc == 3 && strcmp(argv[2], "--write") == 0)
        return write_doc();
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
