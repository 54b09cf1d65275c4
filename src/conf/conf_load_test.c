// SPDX-License-Identifier: MIT
#include "conf/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"

static struct conf *load(const char *text)
{
    struct conf *conf = NULL;
    struct buf errors = {0};
    int err = conf_load_text(bytes_cstr(text), "t.yaml", "/etc/posthaste", &conf, &errors);
    if (err)
        fail_msg("refused: %s\n%s", text, buf_cstr(&errors));
    assert_int_equal(errors.len, 0);
    buf_done(&errors);
    return conf;
}

static void assert_errors(const char *text, const char *want)
{
    struct conf *conf = NULL;
    struct buf errors = {0};
    assert_int_equal(conf_load_text(bytes_cstr(text), "t.yaml", "/etc/posthaste", &conf, &errors),
                     E_SYNTAX);
    assert_null(conf);
    assert_string_equal(buf_cstr(&errors), want);
    buf_done(&errors);
}

// Some error says `want`, and it is the only one.
static void assert_refused(const char *text, const char *want)
{
    struct conf *conf = NULL;
    struct buf errors = {0};
    int err = conf_load_text(bytes_cstr(text), "t.yaml", "/etc/posthaste", &conf, &errors);
    struct bytes shown = buf_bytes(&errors);
    ptrdiff_t first = bytes_search(shown, BYTES(": error: "));
    if (err != E_SYNTAX || bytes_search(shown, bytes_cstr(want)) < 0 ||
        bytes_search(bytes_skip(shown, (size_t)first + 1), BYTES(": error: ")) >= 0)
        fail_msg("%s\nwanted: %s\ngot %d: %s", text, want, err, buf_cstr(&errors));
    buf_done(&errors);
}

static void assert_text(struct bytes got, const char *want)
{
    if (!bytes_eq(got, bytes_cstr(want)))
        fail_msg("got '%.*s', want '%s'", BYTES_FMT(got), want);
    if (got.len)
        assert_int_equal(got.at[got.len], 0); // may go to libc
}

static void test_a_name_is_enough(void **state)
{
    struct conf *c = load("hostname: Mail.Example.org\n");
    assert_text(c->hostname, "mail.example.org");
    assert_text(c->spool, "/var/spool/posthaste");
    assert_text(c->control, "/var/lib/posthaste/control.sock");
    assert_text(c->http.address, "127.0.0.1:8025");
    assert_text(c->dns.trust_anchor, "");
    assert_text(c->domains.dkim_zone, "dkim.mail.example.org");
    assert_int_equal(c->listeners_count, 1);
    assert_text(c->listeners[0].address, "127.0.0.1:587");
    assert_int_equal(c->listeners[0].auth, CONF_AUTH_REQUIRED);
    assert_int_equal(c->routes_count, 1);
    assert_int_equal(c->routes[0].via.kind, CONF_VIA_MX);
    assert_int_equal(c->routes[0].via.port, 25);
    assert_int_equal(c->lanes_count, 1);
    assert_int_equal(c->lanes[0].connections, 20);
    assert_int_equal(c->lanes[0].messages_per_hour, 0);
    assert_int_equal(c->retry.first_ms, 300000);
    assert_int_equal(c->retry.factor_milli, 2000);
    assert_int_equal(c->retry.lifetime_ms, 432000000);
    assert_int_equal(c->limits.message_size, 52428800);
    assert_int_equal(c->limits.recipients, 1000);
    assert_int_equal(c->log.level, LOG_INFO);
    assert_int_equal(c->shutdown_grace_ms, 30000);
    conf_free(c);
}

static void test_all_kinds_of_keys(void **state)
{
    struct conf *c = load("hostname: mx.example.org\n"
                          "spool: spool\n"
                          "tls: {certificate: c.pem, key: /k.pem}\n"
                          "listeners:\n"
                          "  - name: Submission\n"
                          "    address: \"*:587\"\n"
                          "    trusted: [10.0.0.0/8, \"2001:db8::/32\"]\n"
                          "    hide_client: yes\n"
                          "    proxy: [10.1.0.0/16, \"2001:db8::/32\"]\n"
                          "  - {name: in, address: '[::1]:0', tls: none, auth: none,"
                          " trusted: 127.0.0.1, account: robot, submission: off}\n"
                          "dns: {servers: [192.0.2.53, 127.0.0.1@5301], trust_anchor: root.key}\n"
                          "routes:\n"
                          "  - match: {recipient: [local.example, '*.local.example'],"
                          " listener: SUBMISSION}\n"
                          "    via: lmtp:/run/lmtp\n"
                          "    recipients: users\n"
                          "  - {via: \"smtp://relay.example:587\", tls: verify, login: me,"
                          " password_file: pw}\n"
                          "lanes:\n"
                          "  - {match: '*.slow.example', messages_per_second: 0.5,"
                          " bytes_per_second: 1MB, messages_per_day: 1_000}\n"
                          "retry: {first: 1s, factor: 1.5, max: 2s, lifetime: 10s}\n"
                          "http: {address: none}\n"
                          "log: {format: json, level: debug}\n");
    assert_text(c->spool, "/etc/posthaste/spool");
    assert_text(c->tls.certificate, "/etc/posthaste/c.pem");
    assert_text(c->tls.key, "/k.pem");
    assert_int_equal(c->listeners_count, 2);
    assert_text(c->listeners[0].name, "submission");
    assert_text(c->listeners[0].address, "[::]:587");
    assert_true(c->listeners[0].any_family && c->listeners[0].hide_client);
    assert_true(c->listeners[0].proxy_count == 2 && c->listeners[0].proxy[1].ip6);
    assert_int_equal(c->listeners[0].port, 587);
    assert_int_equal(c->listeners[0].trusted_count, 2);
    assert_text(c->listeners[1].account, "robot");
    assert_int_equal(c->listeners[1].submission, CONF_SUBMISSION_OFF);
    assert_false(c->listeners[1].any_family);
    assert_int_equal(c->dns.servers_count, 2);
    assert_text(c->dns.servers[0], "192.0.2.53@53");
    assert_text(c->dns.trust_anchor, "/etc/posthaste/root.key");
    assert_int_equal(c->routes_count, 2); // the last one matches all: none is added
    assert_int_equal(c->routes[0].match.recipient.count, 2);
    assert_text(c->routes[0].recipients, "/etc/posthaste/users");
    assert_int_equal(c->routes[1].tls, CONF_ROUTE_TLS_VERIFY);
    assert_int_equal(c->lanes_count, 2);
    assert_int_equal(c->lanes[0].messages_per_second_milli, 500);
    assert_int_equal(c->lanes[0].messages_per_day, 1000);
    assert_int_equal(c->retry.warn_after_ms, 0); // the default lies beyond this lifetime
    assert_text(c->http.address, "");
    assert_int_equal(c->log.format, LOG_JSON);
    conf_free(c);
}

// What stands beside a folder is not in it.
static void test_plain_paths(void **state)
{
    struct conf *c = load("hostname: a.b\nspool: s//p/./\nstate: //srv/state/\n"
                          "tls: {certificate: ./c.pem, key: /k/../k.pem}\n"
                          "dns: {trust_anchor: /./}\n");
    assert_text(c->spool, "/etc/posthaste/s/p");
    assert_text(c->state, "/srv/state");
    assert_text(c->dkim.master_key, "/srv/state.key");
    assert_text(c->control, "/srv/state/control.sock");
    assert_text(c->tls.certificate, "/etc/posthaste/c.pem");
    assert_text(c->tls.key, "/k/../k.pem");
    assert_text(c->dns.trust_anchor, "/");
    conf_free(c);
}

static void test_default_text_loads(void **state)
{
    struct conf *c = NULL;
    struct buf errors = {0};
    assert_int_equal(conf_load(NULL, &c, &errors), 0);
    assert_true(c->tls.self_signed);
    assert_text(c->file, "default");
    conf_free(c);
    buf_done(&errors);
}

// The golden one: all errors at once, in the file's order.
static void test_errors_golden(void **state)
{
    assert_errors(
        "hostnme: mail.example.org\n"
        "listeners:\n"
        "  - name: submission\n"
        "    adress: 127.0.0.1:587\n"
        "    tls: startls\n"
        "retry:\n"
        "  first: 5parsec\n"
        "  factor: 11\n"
        "limits: {message_size: 1KB, recipients: [1]}\n"
        "limits: {}\n"
        "zzz: 1\n",
        "t.yaml:1:1: error: unknown key 'hostnme'; did you mean 'hostname'?\n"
        "    hostnme: mail.example.org\n"
        "    ^~~~~~~\n"
        "t.yaml:4:5: error: unknown key 'adress'; did you mean 'address'?\n"
        "        adress: 127.0.0.1:587\n"
        "        ^~~~~~\n"
        "t.yaml:5:10: error: invalid value 'startls' for tls; expected none, starttls or implicit\n"
        "        tls: startls\n"
        "             ^~~~~~~\n"
        "t.yaml:7:10: error: invalid value '5parsec' for first; expected a duration from 1s to 1d, "
        "such as 10s, 1h30m or 5d\n"
        "      first: 5parsec\n"
        "             ^~~~~~~\n"
        "t.yaml:8:11: error: out of range: '11' for factor; expected a number from 1 to 10\n"
        "      factor: 11\n"
        "              ^~\n"
        "t.yaml:9:24: error: out of range: '1KB' for message_size; expected a size from 64KiB to "
        "2GiB, such as 25MiB or 200MB\n"
        "    limits: {message_size: 1KB, recipients: [1]}\n"
        "                           ^~~\n"
        "t.yaml:9:41: error: recipients is a list here; expected a whole number from 100 to 50000\n"
        "    limits: {message_size: 1KB, recipients: [1]}\n"
        "                                            ^\n"
        "t.yaml:10:1: error: 'limits' is set twice; it was first set in line 9\n"
        "    limits: {}\n"
        "    ^~~~~~\n"
        "t.yaml:11:1: error: unknown key 'zzz'; known here: hostname, spool, state, control, user, "
        "workers, shutdown_grace, roles, audit, listeners, tls, dkim, dns, routes, lanes, "
        "sendmail, "
        "retry, limits, "
        "domains, "
        "bounce, unsubscribe, "
        "events, suppress, "
        "http, alerts, log\n"
        "    zzz: 1\n"
        "    ^~~\n");
}

static void test_sense(void **state)
{
#define HOST "hostname: h.example\n"
#define SELF "tls: {self_signed: yes}\n"
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", "hostname is missing"},
        {"# nothing\n", "hostname is missing"},
        {"- a\n", "expected keys, such as 'hostname"},
        {HOST "listeners: []\n", "an empty list"},
        {HOST "listeners: [{name: a, address: '127.0.0.1:25'}]\n", "needs tls.certificate"},
        {HOST "tls: {certificate: /c}\n", "need each other"},
        {HOST "tls: {key: /c}\n", "need each other"},
        {HOST "tls: {certificate: /c, key: /k, self_signed: yes}\n", "self_signed makes"},
        {HOST SELF "listeners: [{name: a, address: '*:25', auth: none}]\n", "open relay"},
        {HOST "listeners: [{name: a, address: '*:25', tls: none, auth: none}]\n", "open relay"},
        {HOST "listeners: [{name: a, address: '*:25', tls: none}]\n", "nobody could log in"},
        {HOST "listeners: [{name: a, address: '*:25', tls: none, auth: none,"
              " trusted: [127.0.0.1, 0.0.0.0/0]}]\n",
         "t.yaml:2:84: error: trusting every address"},
        {HOST "listeners: [{name: a, address: '*:25', tls: none, auth: none, trusted: '::/0'}]\n",
         "trusting every address"},
        {HOST SELF "listeners: [{name: a, address: '*:25', proxy: [10.0.0.1, 0.0.0.0/0]}]\n",
         "everybody could give himself any address"},
        {HOST SELF "listeners: [{name: a, address: '*:25', xclient: '::/0'}]\n",
         "everybody could give himself any address"},
        {HOST SELF "listeners: [{name: a, address: '*:25', xclient_login: yes}]\n",
         "xclient_login is for the networks of xclient"},
        {HOST SELF "listeners: [{name: a, address: '*:25'}, {name: A, address: '*:26'}]\n",
         "already named 'a'"},
        {HOST SELF "listeners: [{name: a, address: '*:25'}, {name: b, address: '*:25'}]\n",
         "listener 'a' already has"},
        {HOST SELF "listeners: [{name: a, address: '127.0.0.1:25', account: x}]\n",
         "auth is required here"},
        {HOST SELF "listeners: [{name: a, address: '127.0.0.1:8025'}]\n", "http already has"},
        {HOST "listeners: [{name: a, address: '*:25', tls: none, role: bounces, auth: none}]\n",
         "so it has no auth"},
        {HOST "listeners: [{name: a, address: '*:25', tls: none, role: bounces,"
              " trusted: 127.0.0.1}]\n",
         "so it has no trusted"},
        {HOST "listeners: [{name: a, address: '*:25', role: bounces}]\n", "needs tls.certificate"},
        {HOST "unsubscribe: {url: 'https://m.example/u'}\n", "ends in /"},
        {HOST "unsubscribe: {url: 'ftp://m.example/'}\n", "ends in /"},
        {HOST "unsubscribe: {url: 'https://m.example/a b/'}\n", "ends in /"},
        {HOST "unsubscribe: {address: '127.0.0.1:8026'}\n", "need unsubscribe.url"},
        {HOST "unsubscribe: {url: 'https://m.example/u/', address: '127.0.0.1:8025'}\n",
         "http already has"},
        {HOST "sendmail: {socket: /s}\n", "nobody could send here"},
        {HOST "sendmail: {pickup: /p}\n", "without sendmail.socket"},
        {HOST "sendmail: {socket: /s, accounts: [{user: 'a b', account: x}]}\n", "is no user"},
        {HOST "sendmail: {socket: /s, accounts: [{user: 0x, account: x}]}\n", "is no user"},
        {HOST
         "sendmail: {socket: /s, accounts: [{user: '*', account: x}, {user: a, account: x}]}\n",
         "never reached: * above it"},
        {HOST "control: /s\nsendmail: {socket: /s, accounts: [{user: '*', account: x}]}\n",
         "this is the control socket"},
        {HOST SELF "listeners: [{name: sendmail, address: '*:25'}]\n"
                   "sendmail: {socket: /s, accounts: [{user: '*', account: x}]}\n",
         "is the name of sendmail.socket"},
        {HOST "routes: [{via: mx}, {match: {recipient: a.b}, via: discard}]\n", "never reached"},
        {HOST "routes: [{match: {listener: nope}, via: mx}]\n", "no listener is named 'nope'"},
        {HOST "routes: [{via: 'lmtp:/x', tls: verify}]\n", "no TLS on the way"},
        {HOST "routes: [{via: 'lmtp:/x', recipients: /r}]\n", "needs match.recipient"},
        {HOST "routes: [{via: mx, login: a, password_file: /p}]\n", "needs via: smtp://"},
        {HOST "routes: [{via: 'smtp://a.b:25', login: a}]\n", "need each other"},
        {HOST "routes: [{via: 'smtp://a.b:25', login: a, password_file: /p}]\n", "in the clear"},
        {HOST "routes: [{via: 'smtps://a.b:465', tls: none}]\n", "TLS from the first byte"},
        {HOST "routes: [{match: {recipient: []}, via: mx}]\n", "match nothing"},
        {HOST "routes: [{match: {recipient: a.b}}]\n", "via is missing"},
        {HOST "lanes: [{connections: 1}, {match: a.b}]\n", "never reached"},
        {HOST "retry: {first: 2h, max: 1h}\n", "longer than retry.max"},
        {HOST "retry: {lifetime: 10s}\n", "expire before its second"},
        {HOST "retry: {warn_after: 6d}\n", "warn_after must be shorter"},
        {HOST "limits: {message_size: 64KiB}\n", "larger than message_size"},
        {HOST "spool: /a\nstate: /a\n", "different folders"},
        {HOST "spool: /a\nstate: //./a/\n", "different folders"},
        {HOST "spool: /a\nstate: /a/b\n", "t.yaml:3:8: error: state cannot be in the spool"},
        {HOST "state: /a/\ndkim: {master_key: /a/key}\n", "t.yaml:3:20: error: the master key"},
        {HOST "spool: /a\ndkim: {master_key: /a/b/key}\n", "out of the relay's reach"},
        {"hostname: null\n", "t.yaml:1:11: error: hostname has no value; expected a host name"},
        {HOST "spool: ~\n", "spool has no value; expected a path"},
        {HOST "hostname: b\n", "'hostname' is set twice; it was first set in line 1"},
        {HOST "state: /" // 110 characters
              "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
              "aaaaaaaaaaaaaaaaaaaaaaaaaa\n",
         "control socket's path is"},
        {HOST "log: &a {level: info}\n", "anchors and aliases"},
        {HOST "log: *a\n", "anchors and aliases"},
        {HOST "log: !x {level: info}\n", "tags are not supported"},
        {HOST "---\nhostname: b\n", "a second document"},
        {HOST "? {a: b}\n: c\n", "a key must be plain text"},
        {HOST "a.b: c\n", "unknown key 'a.b'"},
        {HOST "limits.recipients: 100\n", "unknown key 'limits.recipients'"},
        {HOST "log: {level: \"in\\0fo\"}\n", "NUL"},
        {HOST "x: [[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]\n", "nested too deeply"},
        {"hostname: \xff\n", "t.yaml:1:1: error: control characters or bytes"},
        {HOST "a: \x01\n", "t.yaml:2:1: error: control characters"},
        {HOST "listeners:\n  -\n", "expected a section"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_refused(cases[i].text, cases[i].want);
}

static void test_broken_yaml(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"hostname: [a\n",
         "t.yaml:2:1: error: did not find expected ',' or ']' while parsing a flow "
         "sequence, which begins in line 1\n"},
        {"hostname: \"a\n", "t.yaml:2:1: error: found unexpected end of stream"},
        {"\thostname: a\n", "t.yaml:1:1: error: a tab cannot indent; use spaces\n"},
        {HOST "tls:\n \tcertificate: a\n", "t.yaml:3:2: error: a tab cannot indent"},
        {"a: b: c\n", "t.yaml:1:5: error: no ':' can stand here: is the line indented"},
        {"a: @b\n",
         "t.yaml:1:4: error: a text cannot begin with this character; put it in quotes\n"},
        {HOST "dns:\n  servers: [\"\xc3\xa4\", ::1]\n",
         "t.yaml:3:18: error: within [ ] and { } a text that begins with ':' needs quotes\n"},
        {"a: b\n\t\nc: d\n", "t.yaml:2:1: error: a tab cannot indent; use spaces\n"},
        {"{", "t.yaml:2:1: error: did not find expected node content"},
        {"%YAML 9\n---\n", "t.yaml:1:8: error: "},
        {"a: b\nc: \xef\xbf\xbf\n", "t.yaml:2:1: error: control characters are not allowed\n"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_refused(cases[i].text, cases[i].want);
}

static void test_byte_order_mark(void **state)
{
    struct conf *conf = NULL;
    struct buf errors = {0};
    assert_int_equal(conf_load_text(BYTES("\xef\xbb\xbf" HOST), "t.yaml", "/", &conf, &errors), OK);
    conf_free(conf);
}

static void test_many_errors_are_counted(void **state)
{
    struct buf text = {0}, errors = {0};
    struct conf *conf = NULL;
    buf_add_cstr(&text, HOST);
    for (int i = 0; i < 200; i++)
        buf_printf(&text, "qqqqqqqq%d: 1\n", i);
    assert_int_equal(conf_load_text(buf_bytes(&text), "t.yaml", "/", &conf, &errors), E_SYNTAX);
    assert_true(bytes_ends(buf_bytes(&errors), BYTES("t.yaml: error: and 150 more\n")));
    buf_done(&text);
    buf_done(&errors);
}

static void test_files(void **state)
{
    static const struct {
        const char *path;
        int want;
        const char *text;
    } cases[] = {
        {"/nonexistent/x.yaml", E_NOT_FOUND, "/nonexistent/x.yaml: error: no such file\n"},
        {"/tmp", E_SYNTAX, "/tmp: error: is a folder\n"},
        {"/dev/zero", E_LIMIT, "/dev/zero: error: is too large (at most 4 MiB)\n"},
        {"conf-load-test.fifo", E_AGAIN, "conf-load-test.fifo: error: is a FIFO\n"},
    };
    char here[4096], folder[] = "/tmp/conf-load-test.XXXXXX";
    assert_true(getcwd(here, sizeof here) && mkdtemp(folder) && chdir(folder) == 0);
    assert_int_equal(mkfifo("conf-load-test.fifo", 0600), 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct conf *conf = NULL;
        struct buf errors = {0};
        assert_int_equal(conf_load(cases[i].path, &conf, &errors), cases[i].want);
        assert_string_equal(buf_cstr(&errors), cases[i].text);
        buf_done(&errors);
    }
    assert_int_equal(unlink("conf-load-test.fifo") | chdir(here) | rmdir(folder), 0);
}

static void test_named_files(void **state)
{
    struct buf errors = {0};
    struct conf *c =
        load(HOST "tls: {certificate: /dev/null, key: /nonexistent/k.pem}\n"
                  "dns: {trust_anchor: /tmp}\nroutes:\n"
                  "  - {match: {recipient: b}, recipients: /nonexistent/r, via: mx}\n");
    assert_int_equal(conf_check_files(c, &errors), E_DENIED);
    assert_string_equal(buf_cstr(&errors),
                        "t.yaml:2:36: error: tls.key: /nonexistent/k.pem: no such file\n"
                        "    tls: {certificate: /dev/null, key: /nonexistent/k.pem}\n"
                        "                                       ^~~~~~~~~~~~~~~~~~\n"
                        "t.yaml:3:21: error: dns.trust_anchor: /tmp: is a folder\n"
                        "    dns: {trust_anchor: /tmp}\n"
                        "                        ^~~~\n"
                        "t.yaml:5:41: error: routes[].recipients: /nonexistent/r: no such file\n"
                        "      - {match: {recipient: b}, recipients: /nonexistent/r, via: mx}\n"
                        "                                            ^~~~~~~~~~~~~~\n");
    conf_free(c);
    buf_clear(&errors);
    c = load(HOST "tls: {certificate: /dev/null, key: /dev/null}\n");
    assert_int_equal(conf_check_files(c, &errors), 0);
    assert_int_equal(errors.len, 0);
    conf_free(c);
    buf_done(&errors);
}

static void test_relative_to_the_file(void **state)
{
    char folder[] = "/tmp/posthaste-conf-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/p.yaml", folder);
    FILE *f = fopen(path, "w");
    fputs(HOST "spool: s\n", f);
    fclose(f);
    struct conf *conf = NULL;
    struct buf errors = {0};
    assert_int_equal(conf_load(path, &conf, &errors), 0);
    assert_true(bytes_starts(conf->spool, bytes_cstr(folder)) &&
                bytes_ends(conf->spool, BYTES("/s")));
    conf_free(conf);
    unlink(path);
    rmdir(folder);
}

static void test_patterns_match(void **state)
{
    static const struct {
        const char *pattern, *subject;
        bool want;
    } cases[] = {
        {"*", "a@b.c", true},         {"b.c", "a@b.c", true},
        {"b.c", "a@B.C", true},       {"b.c", "a@x.b.c", false},
        {"b.c", "a@xb.c", false},     {"*.b.c", "a@x.b.c", true},
        {"*.b.c", "a@x.y.b.c", true}, {"*.b.c", "a@b.c", false},
        {"*.b.c", "a@.b.c", false},   {"*.b.c", "mx.b.c", true},
        {"a@b.c", "A@b.c", true},     {"a@b.c", "aa@b.c", false},
        {"b.c", "b.c", true},         {"[192.0.2.1]", "a@[192.0.2.1]", true},
        {"b.c", "", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct bytes at[1] = {bytes_cstr(cases[i].pattern)};
        struct conf_patterns patterns = {at, 1};
        if (conf_patterns_match(&patterns, bytes_cstr(cases[i].subject)) != cases[i].want)
            fail_msg("%s, %s", cases[i].pattern, cases[i].subject);
    }
    assert_true(conf_patterns_match(&(struct conf_patterns){0}, BYTES("anything")));
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_a_name_is_enough),
        cmocka_unit_test(test_all_kinds_of_keys),
        cmocka_unit_test(test_plain_paths),
        cmocka_unit_test(test_default_text_loads),
        cmocka_unit_test(test_errors_golden),
        cmocka_unit_test(test_sense),
        cmocka_unit_test(test_broken_yaml),
        cmocka_unit_test(test_byte_order_mark),
        cmocka_unit_test(test_many_errors_are_counted),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_named_files),
        cmocka_unit_test(test_relative_to_the_file),
        cmocka_unit_test(test_patterns_match),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
