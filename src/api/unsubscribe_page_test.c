// SPDX-License-Identifier: MIT
#include "api/unsubscribe_page.h"

#include "base/test_base.h"

static void test_pages(void **state)
{
    (void)state;
    static const struct {
        enum unsubscribe_page page;
        const char *tag;
        int buttons;
        const char *has;
    } ROWS[] = {
        {UNSUBSCRIBE_PAGE_ASK, "weekly", 2, "value=\"stream\""},
        {UNSUBSCRIBE_PAGE_ASK, "", 1, "value=\"account\""},
        {UNSUBSCRIBE_PAGE_DONE, "", 0, "will get no more mail from"},
        {UNSUBSCRIBE_PAGE_DONE_STREAM, "weekly", 1, "no more mail of this list"},
        {UNSUBSCRIBE_PAGE_UNKNOWN, "", 0, "does not work"},
        {UNSUBSCRIBE_PAGE_LATER, "", 0, "again in a few minutes"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct unsubscribe_token t = {.tag = bytes_cstr(ROWS[i].tag),
                                      .sender = BYTES("shop.example"),
                                      .address = BYTES("reader@example.org")};
        struct buf html = {0};
        int buttons = 0;
        unsubscribe_page_format(ROWS[i].page, &t, &html);
        for (const char *at = buf_cstr(&html); (at = strstr(at, "<button")); at++)
            buttons++;
        assert_number(ROWS[i].has, buttons, ROWS[i].buttons);
        assert_number(ROWS[i].has, bytes_search(buf_bytes(&html), bytes_cstr(ROWS[i].has)) > 0,
                      true);
        assert_true(bytes_search(buf_bytes(&html), BYTES("reader@")) < 0); // in part only
        assert_true(bytes_search(buf_bytes(&html), BYTES("://")) < 0);     // nothing from elsewhere
        assert_true(bytes_ends(buf_bytes(&html), BYTES("</html>\n")));
        buf_done(&html);
    }
}

// Whatever stands in an address or a domain stays text.
static void test_nothing_gets_out_of_the_text(void **state)
{
    (void)state;
    static const char *const ADDRESSES[] = {"<script>@x.example", "\"<b>\"@<i>.example", "a&b'c@d",
                                            "no at sign",         "\xff\xfe@x.example",  ""};
    for (size_t i = 0; i < sizeof ADDRESSES / sizeof *ADDRESSES; i++) {
        struct unsubscribe_token t = {.tag = BYTES("x"),
                                      .sender = BYTES("<script>alert(1)</script>"),
                                      .address = bytes_cstr(ADDRESSES[i])};
        struct buf html = {0};
        unsubscribe_page_format(UNSUBSCRIBE_PAGE_ASK, &t, &html);
        assert_true(bytes_search(buf_bytes(&html), BYTES("<script")) < 0);
        assert_true(bytes_search(buf_bytes(&html), BYTES("<i>")) < 0);
        assert_true(bytes_is_utf8(buf_bytes(&html)));
        buf_done(&html);
    }
}

static const struct CMUnitTest TESTS[] = {
    cmocka_unit_test(test_pages),
    cmocka_unit_test(test_nothing_gets_out_of_the_text),
};
RUN_TESTS(TESTS)
