// SPDX-License-Identifier: MIT
#include "route/route_site.h"

#include "base/test_base.h"

static void names_sites_by_their_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *name, *hosts;
        uint16_t port;
        const char *want;
    } rows[] = {
        {"one", "mx.example.org", 25, "mx.example.org"},
        {"order does not count", "b.example,a.example", 25, "a.example,b.example"},
        {"nor case, dots, repeats", "B.example.,a.example,b.EXAMPLE", 25, "a.example,b.example"},
        {"another port is another site", "a.example", 2525, "a.example:2525"},
        {"rank does", "10 b.example,20 a.example", 25, "b.example>a.example"},
        {"not its numbers", "65535 a.example,1 b.example", 25, "b.example>a.example"},
        {"groups", "20 d.example,5 c.example,20 a.example,5 b.example,30 e.example", 25,
         "b.example,c.example>a.example,d.example>e.example"},
        {"a host counts where it is best", "20 a.example,20 b.example,10 b.example", 25,
         "b.example>a.example"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct route_site_host hosts[8] = {0};
        struct bytes rest = bytes_cstr(rows[i].hosts), one, preference;
        size_t n = 0;
        for (; rest.len && bytes_cut(&rest, ',', &one); hosts[n++].name = one)
            if (bytes_find(one, ' ') >= 0) {
                uint64_t number;
                assert_true(bytes_cut(&one, ' ', &preference));
                assert_int_equal(bytes_to_u64(preference, UINT16_MAX, &number), OK);
                hosts[n].preference = (uint16_t)number;
            }
        struct buf out = {0};
        route_site_of_hosts(hosts, n, rows[i].port, &out);
        assert_bytes(rows[i].name, buf_bytes(&out), bytes_cstr(rows[i].want));
        buf_done(&out);
    }
}

// Names stay short and different, however many hosts there are.
static void bounds_long_names(void **state)
{
    (void)state;
    static char text[60][64];
    struct route_site_host hosts[60] = {0};
    for (int i = 0; i < 60; i++)
        hosts[i].name =
            bytes_of(text[i], (size_t)snprintf(text[i], 64, "mx-number-%02d.example.net", i));
    struct buf all = {0}, less = {0}, ranked = {0};
    route_site_of_hosts(hosts, 60, 25, &all);
    route_site_of_hosts(hosts, 59, 25, &less);
    hosts[59].preference = 1; // nothing that is shown
    route_site_of_hosts(hosts, 60, 25, &ranked);
    assert_true(all.len <= ROUTE_SITE_MAX && less.len <= ROUTE_SITE_MAX &&
                ranked.len <= ROUTE_SITE_MAX);
    assert_false(bytes_eq(buf_bytes(&all), buf_bytes(&less)));
    assert_false(bytes_eq(buf_bytes(&all), buf_bytes(&ranked)));
    buf_done(&all);
    buf_done(&less);
    buf_done(&ranked);
}

static void names_sites_by_their_route(void **state)
{
    (void)state;
    static const struct {
        struct conf_via via;
        const char *want;
    } rows[] = {
        {{.kind = CONF_VIA_SMTP, .host = BYTES("smart.example"), .port = 587},
         "smtp:smart.example:587"},
        {{.kind = CONF_VIA_SMTPS, .host = BYTES("smart.example"), .port = 465},
         "smtps:smart.example:465"},
        {{.kind = CONF_VIA_LMTP, .host = BYTES("127.0.0.1"), .port = 24}, "lmtp:127.0.0.1:24"},
        {{.kind = CONF_VIA_LMTP_UNIX, .path = BYTES("/run/lmtp")}, "lmtp:/run/lmtp"},
        {{.kind = CONF_VIA_MAILDIR, .path = BYTES("/m/%d/%u")}, "maildir:/m/%d/%u"},
        {{.kind = CONF_VIA_DISCARD}, "discard"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out = {0}, lane = {0};
        route_site_of_via(&rows[i].via, &out);
        assert_bytes("site", buf_bytes(&out), bytes_cstr(rows[i].want));
        route_lane_name(BYTES("default"), buf_bytes(&out), &lane);
        assert_true(bytes_starts(buf_bytes(&lane), BYTES("default->")));
        buf_done(&out);
        buf_done(&lane);
    }
}

// Mail that asks for other connections has another name; what asks for nothing has the site's own.
static void names_what_a_route_asks_for(void **state)
{
    (void)state;
    static const struct {
        enum conf_via_kind kind;
        enum conf_route_tls tls;
        const char *login, *want;
        uint32_t number; // 0: 1 with a login
    } rows[] = {
        {CONF_VIA_MX, CONF_ROUTE_TLS_MAY, "", ""},
        {CONF_VIA_MX, CONF_ROUTE_TLS_NONE, "", " without TLS"},
        {CONF_VIA_MX, CONF_ROUTE_TLS_ENCRYPT, "", " encrypted"},
        {CONF_VIA_MX, CONF_ROUTE_TLS_VERIFY, "", " verified"},
        {CONF_VIA_SMTP, CONF_ROUTE_TLS_MAY, "", ""},
        {CONF_VIA_SMTP, CONF_ROUTE_TLS_ENCRYPT, "me", " encrypted as me"},
        {CONF_VIA_SMTP, CONF_ROUTE_TLS_VERIFY, "me", " verified as me"},
        {CONF_VIA_SMTP, CONF_ROUTE_TLS_MAY, "me verified", " as me verified"},
        {CONF_VIA_SMTPS, CONF_ROUTE_TLS_MAY, "me", " as me"},
        {CONF_VIA_SMTPS, CONF_ROUTE_TLS_ENCRYPT, "me", " as me"}, // the same for smtps://
        {CONF_VIA_SMTPS, CONF_ROUTE_TLS_VERIFY, "me", " verified as me"},
        {CONF_VIA_SMTPS, CONF_ROUTE_TLS_MAY, "me", " login 2 as me", 2},
        {CONF_VIA_SMTPS, CONF_ROUTE_TLS_MAY, "login 2 as me", " as login 2 as me"},
        {CONF_VIA_SMTP, CONF_ROUTE_TLS_NONE, "0123456789012345678901234567890123456789",
         " without TLS login 65534 as 01234567890123456789012345678901", ROUTE_MAX},
        {CONF_VIA_DISCARD, CONF_ROUTE_TLS_MAY, "", ""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct conf_route conf = {.via = {.kind = rows[i].kind}, .tls = rows[i].tls};
        uint32_t number = rows[i].login[0] && !rows[i].number ? 1 : rows[i].number;
        struct route route = {
            .conf = &conf, .login = bytes_cstr(rows[i].login), .login_number = number};
        struct buf out = {0};
        route_site_add_terms(&route, &out);
        assert_bytes("terms", buf_bytes(&out), bytes_cstr(rows[i].want));
        assert_true(out.len <= ROUTE_TERMS_MAX);
        buf_done(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_sites_by_their_hosts),
        cmocka_unit_test(bounds_long_names),
        cmocka_unit_test(names_sites_by_their_route),
        cmocka_unit_test(names_what_a_route_asks_for),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
