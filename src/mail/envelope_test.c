// SPDX-License-Identifier: MIT
#include "base/check.h"
#include "mail/envelope.h"

#include <stdlib.h>

#include "base/test_base.h"

static void class_names(void **state)
{
    enum mail_class class;
    assert_string_equal(mail_class_name(MAIL_BULK), "bulk");
    for (int i = 0; i < MAIL_CLASSES; i++) {
        const char *name = mail_class_name((enum mail_class)i);
        assert_int_equal(mail_class_parse(bytes_cstr(name), &class), OK);
        assert_int_equal(class, i);
    }
    assert_int_equal(mail_class_parse(BYTES("Transactional"), &class), OK);
    assert_int_equal(mail_class_parse(BYTES("bul"), &class), E_SYNTAX);
    assert_int_equal(mail_class_parse(BYTES_NONE, &class), E_SYNTAX);
}

// Every slice of the copy must stand when the original's memory is overwritten.
static void a_copy_owns_its_bytes(void **state)
{
    static char text[] = "0123456789abcdefghijklmnop";
    struct recipient recipients[2] = {
        {.number = 1, .address = {text + 10, 1}, .domain = {text + 11, 1}, .notify = 4},
        {.number = 2, .orcpt = {text + 12, 1}, .token = {text + 13, 1}}};
    struct metadata metadata[1] = {{{text + 14, 1}, {text + 15, 1}}};
    struct envelope e = {.id = {1, 2},
                         .reverse_path = {text + 0, 1},
                         .account_name = {text + 1, 1},
                         .credential = {text + 2, 1},
                         .tag = {text + 3, 1},
                         .listener = {text + 4, 1},
                         .client = {text + 5, 1},
                         .helo = {text + 6, 1},
                         .envid = {text + 7, 1},
                         .message_id = {text + 8, 1},
                         .unknown = {text + 9, 1},
                         .priority = -3,
                         .body_bytes = 77,
                         .metadata = metadata,
                         .metadata_count = 1,
                         .recipients = recipients,
                         .recipients_count = 2};
    struct arena arena = {0};
    struct envelope *copy = envelope_copy(&e, &arena);
    memset(text, 'X', sizeof(text));
    memset(recipients, 0, sizeof(recipients));
    memset(metadata, 0, sizeof(metadata));
    const struct bytes got[] = {copy->reverse_path,
                                copy->account_name,
                                copy->credential,
                                copy->tag,
                                copy->listener,
                                copy->client,
                                copy->helo,
                                copy->envid,
                                copy->message_id,
                                copy->unknown,
                                copy->recipients[0].address,
                                copy->recipients[0].domain,
                                copy->recipients[1].orcpt,
                                copy->recipients[1].token,
                                copy->metadata[0].name,
                                copy->metadata[0].value};
    for (size_t i = 0; i < sizeof(got) / sizeof(got[0]); i++) {
        assert_int_equal(got[i].len, 1);
        assert_int_equal(got[i].at[0], "0123456789abcdef"[i]);
    }
    assert_int_equal(copy->recipients[0].notify, 4);
    assert_int_equal(copy->recipients[1].number, 2);
    assert_int_equal(copy->priority, -3);
    assert_int_equal(copy->body_bytes, 77);
    arena_done(&arena);
}

static void original_recipients(void **state)
{
    static const struct {
        const char *orcpt, *type, *original; // NULL: none
    } rows[] = {
        {"", NULL, NULL},
        {"rfc822;team@example.org", "rfc822", "team@example.org"},
        {"rfc822;a+2Bb@example.org", "rfc822", "a+b@example.org"},
        {"x400;/c+3Dus", "x400", "/c=us"},
        {"utf-8;b\xc3\xb6\\x{2B}x@example.org", "utf-8", "b\xc3\xb6+x@example.org"},
        {"UTF-8;b\\x{F6}@example.org", "UTF-8", "b\xc3\xb6@example.org"},
        {"utf-8;b\xff@example.org", NULL, NULL},
        {"utf-8;b\\x{0}@example.org", NULL, NULL},
        {"utf-8;", NULL, NULL},
        {"rfc822;", NULL, NULL},
        {"rfc822;a+2", NULL, NULL},
        {"team@example.org", NULL, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct recipient r = {.orcpt = bytes_cstr(rows[i].orcpt)};
        struct buf original = {0};
        struct bytes type;
        bool known = recipient_original(&r, &type, &original);
        assert_int_equal(known, rows[i].original != NULL);
        if (known) {
            assert_true(bytes_eq(type, bytes_cstr(rows[i].type)));
            assert_string_equal(buf_cstr(&original), rows[i].original);
        }
        buf_done(&original);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(original_recipients),
    cmocka_unit_test(class_names),
    cmocka_unit_test(a_copy_owns_its_bytes),
};
RUN_TESTS(tests)
