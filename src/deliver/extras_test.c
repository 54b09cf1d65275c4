// SPDX-License-Identifier: MIT
#include "deliver/extras.h"

#include "base/test_base.h"
#include "bounce/unsubscribe_token.h"
#include "store/store_directory.h"

static const struct return_key KEY = {{1, 2, 3}};
static struct conf conf;
static struct conf_snapshot snapshot = {.conf = &conf};

static struct recipient rows[] = {
    {.number = 1, .address = {"one@example.org", 15}},
    {.number = 2, .address = {"two@example.org", 15}, .notify = NOTIFY_SUCCESS},
    {.number = 3, .address = {"three@example.org", 17}, .notify = NOTIFY_FAILURE},
    {.number = 4, .address = {"four@example.org", 16}},
};
static const struct recipient *const ONE[] = {&rows[0]};
static const struct recipient *const TWO[] = {&rows[1]};
static const struct recipient *const ALL[] = {&rows[0], &rows[2]};
static const struct recipient *const LATER[] = {&rows[3], &rows[2]};
static const struct recipient *const WITH_SUCCESS[] = {&rows[0], &rows[1]};

static struct envelope bulk(void)
{
    return (struct envelope){.id = {1, 2},
                             .reverse_path = BYTES("news@shop.example"),
                             .tag = BYTES("weekly"),
                             .class = MAIL_BULK,
                             .return_path = true,
                             .recipients = rows,
                             .recipients_count = 4};
}

static int setup(void **state)
{
    (void)state;
    struct store_directory *directory = store_directory_empty();
    conf = (struct conf){.bounce = {.domain = BYTES("bounces.relay.example")}};
    snapshot.accounts = directory;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_directory_free((struct store_directory *)(uintptr_t)snapshot.accounts);
    return 0;
}

static void check_path(const char *name, const struct envelope *e,
                       const struct recipient *const *list, uint32_t count, int want_number)
{
    struct extras x = {&snapshot, &KEY, e, list, count};
    struct buf path = {0};
    extras_reverse_path(&x, &path);
    if (want_number < 0) {
        assert_bytes(name, buf_bytes(&path), e->reverse_path);
    } else {
        struct return_token t;
        ptrdiff_t at = bytes_find(buf_bytes(&path), '@');
        assert_true(at > 0);
        assert_number(name, return_token_parse(&KEY, bytes_first(buf_bytes(&path), (size_t)at), &t),
                      RETURN_GOOD);
        assert_number(name, t.recipient, want_number);
        assert_number(name, t.several, count > 1);
        assert_number(name, t.kind, RETURN_BOUNCE);
        assert_true(message_id_eq(t.id, e->id));
        assert_bytes(name, bytes_skip(buf_bytes(&path), (size_t)at + 1),
                     BYTES("bounces.relay.example"));
    }
    buf_done(&path);
}

static void test_reverse_path(void **state)
{
    (void)state;
    struct envelope e = bulk();
    check_path("one", &e, ONE, 1, 1);
    check_path("several", &e, ALL, 2, 1);
    check_path("several, of those that are left", &e, LATER, 2, 3);
    check_path("a report was asked for", &e, TWO, 1, -1);
    check_path("one of them asked for it", &e, WITH_SUCCESS, 2, -1);
    e.return_path = false;
    check_path("not chosen", &e, ONE, 1, -1);
    e = bulk();
    e.reverse_path = BYTES_NONE;
    e.return_path = false;
    check_path("null sender", &e, ONE, 1, -1);
    e = bulk();
    conf.bounce.domain = BYTES_NONE;
    check_path("no domain for it", &e, ONE, 1, -1);
}

static void check_header(const char *name, const struct envelope *e, uint32_t count,
                         bool want_unsubscribe, bool want_cfbl)
{
    struct extras x = {&snapshot, &KEY, e, count == 1 ? ONE : ALL, count};
    struct buf header = {0};
    extras_header(&x, &header);
    struct bytes h = buf_bytes(&header);
    bool link = bytes_search(h, BYTES("List-Unsubscribe: <https://mail.example/u/")) >= 0;
    bool post =
        bytes_search(h, BYTES("\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n")) > 0;
    assert_number(name, link, want_unsubscribe);
    assert_number(name, post, want_unsubscribe);
    assert_number(name, bytes_search(h, BYTES("CFBL-Address: c-")) >= 0, want_cfbl);
    assert_number(name, bytes_search(h, BYTES("\r\nCFBL-Feedback-ID: c-")) >= 0, want_cfbl);
    assert_true(bytes_is_ascii(h) && (h.len == 0 || bytes_ends(h, BYTES("\r\n"))));
    assert_number(name, bytes_search(h, BYTES("example.org")), -1); // the address is not shown
    buf_done(&header);
}

static void test_header(void **state)
{
    (void)state;
    struct envelope e = bulk();
    conf.unsubscribe.url = BYTES("https://mail.example/u/");
    check_header("nothing asked for", &e, 1, false, false);
    e.unsubscribe = true;
    check_header("link", &e, 1, true, false);
    check_header("never one link for several", &e, 2, false, false);
    conf.bounce.cfbl = true;
    check_header("link and complaints", &e, 1, true, true);
    e.unsubscribe = false;
    check_header("complaints of several", &e, 2, false, true);
    e.class = MAIL_TRANSACTIONAL;
    check_header("no bulk", &e, 1, false, false);
    e.class = MAIL_BULK;
    conf.bounce.domain = BYTES_NONE;
    check_header("no domain", &e, 1, false, false);
    e.unsubscribe = true;
    conf.unsubscribe.url = BYTES_NONE;
    check_header("configured no more", &e, 1, false, false);
}

static void test_link_says_whom(void **state)
{
    (void)state;
    struct envelope e = bulk();
    struct extras x = {&snapshot, &KEY, &e, ONE, 1};
    struct buf header = {0};
    struct arena arena = {0};
    struct unsubscribe_token t;
    conf.unsubscribe.url = BYTES("https://mail.example/u/");
    e.unsubscribe = true;
    e.account = 77;
    extras_header(&x, &header);
    struct bytes link =
        bytes_skip(buf_bytes(&header), strlen("List-Unsubscribe: <https://mail.example/u/"));
    link = bytes_first(link, (size_t)bytes_find(link, '>'));
    assert_number("good", unsubscribe_token_parse(&KEY, link, &arena, &t), OK);
    assert_bytes("address", t.address, BYTES("one@example.org"));
    assert_bytes("sender", t.sender, BYTES("shop.example"));
    assert_bytes("stream", t.tag, BYTES("weekly"));
    assert_number("account", t.account, 77);
    assert_number("recipient", t.recipient, 1);
    assert_true(message_id_eq(t.id, e.id));
    buf_done(&header);
    arena_done(&arena);
}

static const struct CMUnitTest TESTS[] = {
    cmocka_unit_test_setup_teardown(test_reverse_path, setup, teardown),
    cmocka_unit_test_setup_teardown(test_header, setup, teardown),
    cmocka_unit_test_setup_teardown(test_link_says_whom, setup, teardown),
};
RUN_TESTS(TESTS)
