// SPDX-License-Identifier: MIT
#include "daemon/guard_sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/test_base.h"

static struct guard_sockets sockets;
static char said[1024]; // the errors of the last open_conf()

static void swallow(void *ctx, struct bytes line)
{
    (void)ctx;
    (void)line;
}

static int setup(void **state)
{
    (void)state;
    log_capture(swallow, NULL);
    sockets = (struct guard_sockets){0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    guard_sockets_close(&sockets);
    return 0;
}

static int open_conf(const char *const listeners[][2], const char *http, bool running)
{
    struct buf text = {0}, errors = {0};
    struct conf *conf;
    buf_add_cstr(
        &text,
        "hostname: relay.example\nspool: /nowhere/spool\nstate: /nowhere/state\nlisteners:\n");
    for (size_t i = 0; listeners[i][0]; i++)
        buf_printf(
            &text,
            "  - {name: %s, address: \"%s\", tls: none, auth: none, trusted: [127.0.0.0/8]}\n",
            listeners[i][0], listeners[i][1]);
    buf_printf(&text, "http: {address: \"%s\"}\n", http);
    if (conf_load_text(buf_bytes(&text), "test", "/", &conf, &errors) != OK)
        fail_msg("%s", buf_cstr(&errors));
    int err = guard_sockets_open(&sockets, conf, running, &errors);
    snprintf(said, sizeof said, "%s", errors.len ? buf_cstr(&errors) : "");
    if (!err)
        guard_sockets_settle(&sockets);
    conf_free(conf);
    buf_done(&text);
    buf_done(&errors);
    return err;
}

// Opens the listeners {NAME, ADDRESS} (NULL ends them) and HTTP, as a start does.
static int open_these(const char *const listeners[][2], const char *http)
{
    return open_conf(listeners, http, false);
}

static bool answers(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool yes = connect(fd, (struct sockaddr *)&to, sizeof to) == 0;
    close(fd);
    return yes;
}

static void test_open(void **state)
{
    (void)state;
    const char *const http[] = {"127.0.0.1:0", "*:0"};
    for (size_t n = 0; n < COUNT_OF(http); n++) {
        guard_sockets_close(&sockets);
        assert_int_equal(
            open_these((const char *const[][2]){{"a", "127.0.0.1:0"}, {"b", "*:0"}, {NULL}},
                       http[n]),
            OK);
        assert_int_equal(sockets.count, 3);
        for (int i = 0; i < 3; i++) {
            assert_true(sockets.at[i].address.port != 0);
            assert_true(answers(sockets.at[i].address.port));
        }
    }
    assert_string_equal(sockets.at[0].name, "a");
    assert_string_equal(sockets.at[2].name, ""); // HTTP
}

// A reload keeps what stays the same, with its port and whoever waits in its backlog.
static void test_reload(void **state)
{
    (void)state;
    assert_int_equal(
        open_these((const char *const[][2]){{"a", "127.0.0.1:0"}, {"b", "127.0.0.1:0"}, {NULL}},
                   "127.0.0.1:0"),
        OK);
    int kept = sockets.at[1].fd;
    uint16_t a_port = sockets.at[0].address.port, b_port = sockets.at[1].address.port;
    assert_int_equal(
        open_these((const char *const[][2]){{"c", "127.0.0.1:0"}, {"b", "127.0.0.1:0"}, {NULL}},
                   "127.0.0.1:0"),
        OK);
    assert_int_equal(sockets.count, 3);
    assert_int_equal(sockets.at[0].fd, kept);
    assert_int_equal(sockets.at[0].address.port, b_port);
    assert_string_equal(sockets.at[2].name, "c");
    assert_false(answers(a_port));
    assert_true(answers(b_port));
}

// The relay takes what is for HTTP at its start only: until then it stays, whatever is asked.
static void test_http_stays(void **state)
{
    (void)state;
    const char *const listeners[][2] = {{"a", "127.0.0.1:0"}, {NULL}};
    assert_int_equal(open_these(listeners, "127.0.0.1:0"), OK);
    int http = sockets.at[1].fd;
    assert_int_equal(open_conf(listeners, "127.0.0.2:0", true), OK);
    assert_int_equal(sockets.count, 2);
    assert_int_equal(sockets.at[1].fd, http);
    assert_string_equal(sockets.at[1].asked, "127.0.0.1:0");
    assert_int_equal(open_conf(listeners, "none", true), OK);
    assert_int_equal(sockets.at[1].fd, http);
    assert_int_equal(open_these(listeners, "127.0.0.2:0"), OK);
    assert_string_equal(sockets.at[1].asked, "127.0.0.2:0");
}

// A listener that is only called differently keeps its port, which it holds itself.
static void test_renamed(void **state)
{
    (void)state;
    char fixed[32];
    assert_int_equal(
        open_these((const char *const[][2]){{"a", "127.0.0.1:0"}, {NULL}}, "127.0.0.1:0"), OK);
    uint16_t port = sockets.at[0].address.port;
    guard_sockets_close(&sockets);
    snprintf(fixed, sizeof fixed, "127.0.0.1:%u", port);
    assert_int_equal(open_these((const char *const[][2]){{"a", fixed}, {NULL}}, "127.0.0.1:0"), OK);
    assert_int_equal(open_these((const char *const[][2]){{"b", fixed}, {NULL}}, "127.0.0.1:0"), OK);
    assert_int_equal(sockets.count, 2);
    assert_string_equal(sockets.at[1].name, "b");
    assert_int_equal(sockets.at[1].address.port, port);
    assert_true(answers(port));
}

// From every address to one and back: the old socket, which stays open meanwhile, is in nobody's way. Afterwards the port is
// taken for others as before; what stays in the configuration is no way out.
static void test_narrowed(void **state)
{
    (void)state;
    char any[32], one[32];
    assert_int_equal(open_these((const char *const[][2]){{"a", "*:0"}, {NULL}}, "127.0.0.1:0"), OK);
    uint16_t port = sockets.at[0].address.port;
    guard_sockets_close(&sockets);
    snprintf(any, sizeof any, "*:%u", port);
    snprintf(one, sizeof one, "127.0.0.1:%u", port);
    const char *const wide[][2] = {{"a", any}, {NULL}}, *const narrow[][2] = {{"a", one}, {NULL}};
    assert_int_equal(open_these(wide, "127.0.0.1:0"), OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(open_conf(narrow, "none", true), OK);
        assert_int_equal(sockets.count, 2);
        assert_true(answers(port));
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
        assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), -1);
        close(fd);
        assert_int_equal(open_conf(wide, "none", true), OK);
        assert_true(answers(port));
    }
    assert_int_equal(
        open_conf((const char *const[][2]){{"b", one}, {"a", any}, {NULL}}, "none", true), E_BUSY);
    assert_non_null(strstr(said, "error: listener b cannot listen on 127.0.0.1:"));
    assert_non_null(strstr(said, "another listener of this configuration has it"));
    assert_true(answers(port));
}

// "*:PORT" and "[::]:PORT" are two addresses: a reload tells them apart, also in the program that took the sockets over.
static void test_families(void **state)
{
    (void)state;
    char both[32], six[32];
    struct buf text = {0};
    if (open_these((const char *const[][2]){{"a", "[::1]:0"}, {NULL}}, "127.0.0.1:0") != OK)
        skip(); // no IPv6 here
    assert_int_equal(open_these((const char *const[][2]){{"a", "*:0"}, {NULL}}, "127.0.0.1:0"), OK);
    uint16_t port = sockets.at[0].address.port;
    guard_sockets_close(&sockets);
    snprintf(both, sizeof both, "*:%u", port);
    snprintf(six, sizeof six, "[::]:%u", port);
    const char *const any[][2] = {{"a", both}, {NULL}}, *const only[][2] = {{"a", six}, {NULL}},
                      *const renamed[][2] = {{"b", six}, {NULL}};
    assert_int_equal(open_these(any, "127.0.0.1:0"), OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(guard_sockets_leave(&sockets, &text), OK);
        sockets = (struct guard_sockets){0};
        guard_sockets_take(&sockets, buf_bytes(&text));
        buf_clear(&text);
        int fd = sockets.at[0].fd;
        assert_int_equal(open_conf(any, "none", true), OK);
        assert_int_equal(sockets.count, 2);
        assert_true(fd == sockets.at[0].fd || fd == sockets.at[1].fd);
        assert_true(answers(port));
        assert_int_equal(open_conf(i ? renamed : only, "none", true), OK);
        assert_int_equal(sockets.count, 2);
        assert_false(answers(port));
        fd = sockets.at[1].fd;
        assert_int_equal(open_conf(i ? renamed : only, "none", true), OK);
        assert_int_equal(sockets.at[1].fd, fd); // the same again changes nothing
        assert_int_equal(open_conf(any, "none", true), OK);
        assert_true(answers(port));
    }
    buf_done(&text);
}

// One that can't be opened: all stays as it was, nothing half new.
static void test_refused(void **state)
{
    (void)state;
    char taken[32];
    assert_int_equal(
        open_these((const char *const[][2]){{"a", "127.0.0.1:0"}, {NULL}}, "127.0.0.1:0"), OK);
    struct guard_socket before = sockets.at[0];
    snprintf(taken, sizeof taken, "127.0.0.1:%u", before.address.port);
    assert_int_equal(open_these((const char *const[][2]){{"new", "127.0.0.1:0"},
                                                         {"a", "127.0.0.1:0"},
                                                         {"other", taken},
                                                         {NULL}},
                                "127.0.0.1:0"),
                     E_BUSY);
    assert_int_equal(sockets.count, 2);
    assert_int_equal(sockets.at[0].fd, before.fd);
    assert_true(answers(before.address.port));
    assert_int_equal(
        open_these((const char *const[][2]){{"far", "192.0.2.77:0"}, {NULL}}, "127.0.0.1:0"), E_IO);
    assert_int_equal(sockets.count, 2);
    assert_int_equal(
        open_these((const char *const[][2]){{"a", "127.0.0.1:0"}, {NULL}}, "127.0.0.1:0"), OK);
    assert_int_equal(sockets.at[0].fd, before.fd);
}

// The next program gets the same sockets under the same names, and nothing that is no listening socket.
static void test_left_and_taken(void **state)
{
    (void)state;
    struct buf text = {0};
    assert_int_equal(
        open_these((const char *const[][2]){{"a", "127.0.0.1:0"}, {NULL}}, "127.0.0.1:0"), OK);
    uint16_t port = sockets.at[0].address.port;
    int fd = sockets.at[0].fd;
    assert_int_equal(guard_sockets_leave(&sockets, &text), OK);
    assert_int_equal(fcntl(fd, F_GETFD), 0); // survives an exec
    guard_sockets_keep(&sockets);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    buf_clear(&text);
    assert_int_equal(guard_sockets_leave(&sockets, &text), OK);
    sockets = (struct guard_sockets){0};
    buf_add_cstr(&text, "0 in 127.0.0.1:25\n99999 in 127.0.0.1:25\nx y z\n7\n\n");
    guard_sockets_take(&sockets, buf_bytes(&text));
    assert_int_equal(sockets.count, 2);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(
        open_these((const char *const[][2]){{"a", "127.0.0.1:0"}, {NULL}}, "127.0.0.1:0"), OK);
    assert_int_equal(sockets.count, 2);
    assert_int_equal(sockets.at[0].fd, fd);
    assert_int_equal(sockets.at[0].address.port, port);
    assert_true(answers(port));
    buf_done(&text);
}

// Opens the socket of sendmail(1) alone.
static int open_socket(const char *path)
{
    struct buf text = {0}, errors = {0};
    struct conf *conf;
    buf_printf(&text,
               "hostname: relay.example\nspool: /nowhere/spool\nstate: /nowhere/state\n"
               "listeners: [{name: a, address: \"127.0.0.1:0\", tls: none, auth: none, trusted: "
               "[127.0.0.1]}]\nsendmail: {socket: \"%s\", accounts: [{user: \"*\", account: a}]}\n"
               "http: {address: none}\n",
               path);
    if (conf_load_text(buf_bytes(&text), "test", "/", &conf, &errors) != OK)
        fail_msg("%s", buf_cstr(&errors));
    int err = guard_sockets_open(&sockets, conf, false, &errors);
    conf_free(conf);
    buf_done(&text);
    buf_done(&errors);
    return err;
}

static int connects(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int rc = connect(fd, (struct sockaddr *)&addr, sizeof addr);
    close(fd);
    return rc;
}

// All may connect to it, whatever the umask; what a crash left is in nobody's way, what is in use is.
// Listens as a service manager would; the descriptor.
static int listen_for(uint16_t *out_port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd != -1 && bind(fd, (struct sockaddr *)&in, sizeof in) == 0 && listen(fd, 1) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    *out_port = ntohs(in.sin_port);
    return fd;
}

// What the manager has opened is the listener's with that address, whatever it is called, also after a reload; what
// nobody has the address of is closed, and no socket at all is left alone.
static void test_activated(void **state)
{
    char a[32], b[32];
    uint16_t port, other_port;
    int fd = listen_for(&port), other = listen_for(&other_port), none[2];
    (void)state;
    snprintf(a, sizeof a, "127.0.0.1:%u", port);
    snprintf(b, sizeof b, "127.0.0.1:%u", other_port);
    assert_int_equal(pipe(none), 0);
    guard_sockets_take_activated(&sockets, fd, 1);
    guard_sockets_take_activated(&sockets, other, 1);
    guard_sockets_take_activated(&sockets, none[0], 1);
    assert_int_equal(sockets.count, 2);
    const char *const listeners[][2] = {{"in", a}, {"any", "127.0.0.1:0"}, {NULL, NULL}};
    assert_int_equal(open_these(listeners, "127.0.0.1:0"), OK);
    assert_int_equal(sockets.count, 3);
    assert_int_equal(sockets.at[0].fd, fd);
    assert_string_equal(sockets.at[0].name, "in");
    assert_int_equal(sockets.at[0].address.port, port);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(fcntl(other, F_GETFD), -1);
    assert_int_equal(open_these(listeners, "127.0.0.1:0"), OK);
    assert_int_equal(sockets.at[0].fd, fd);
    close(none[0]);
    close(none[1]);
}

// A socket at "[::]:PORT" as a manager opens it: with or without IPv4, whatever `listeners` asks for.
static int listen_six(bool v6only, uint16_t *out_port)
{
    struct sockaddr_in6 in = {.sin6_family = AF_INET6};
    socklen_t len = sizeof in;
    int only = v6only, on = 1, fd = socket(AF_INET6, SOCK_STREAM, 0);
    if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == -1 ||
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) == -1 ||
        bind(fd, (struct sockaddr *)&in, sizeof in) == -1)
        skip(); // no IPv6 here
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    *out_port = ntohs(in.sin6_port);
    return fd;
}

// The sockets go over to the next program; with `untold` as an older one leaves them.
static void hand_on(bool untold)
{
    struct buf text = {0}, older = {0};
    struct bytes left, line;
    assert_int_equal(guard_sockets_leave(&sockets, &text), OK);
    for (left = buf_bytes(&text); bytes_cut(&left, '\n', &line) && line.len;) {
        ptrdiff_t at = bytes_search(line, BYTES(" any "));
        at = at < 0 ? bytes_search(line, BYTES(" one ")) : at;
        assert_true(at > 0);
        buf_add(&older, bytes_first(line, (size_t)at));
        buf_add(&older, bytes_skip(line, (size_t)at + strlen(" any")));
        buf_add_cstr(&older, "\n");
    }
    sockets = (struct guard_sockets){0};
    guard_sockets_take(&sockets, buf_bytes(untold ? &older : &text));
    buf_done(&text);
    buf_done(&older);
}

// What a manager opened stays its listener's in the next program, though it is not as we would have opened it; a reload
// there opens anew what changed.
static void test_activated_is_handed_on(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        bool star = i & 1, untold = i & 2, renamed = i & 4;
        uint16_t port;
        char asked[32], other[32];
        int fd = listen_six(star, &port);
        snprintf(asked, sizeof asked, star ? "*:%u" : "[::]:%u", port);
        snprintf(other, sizeof other, star ? "[::]:%u" : "*:%u", port);
        const char *const same[][2] = {{"in", asked}, {NULL}};
        const char *const changed[][2] = {{renamed ? "new" : "in", other}, {NULL}};
        guard_sockets_take_activated(&sockets, fd, 1);
        assert_int_equal(open_these(same, "127.0.0.1:0"), OK);
        hand_on(untold);
        assert_int_equal(sockets.at[0].fd, fd);
        for (int reload = 0; reload < 2; reload++) {
            assert_int_equal(open_conf(same, "none", reload), OK);
            assert_int_equal(sockets.at[0].fd, fd);
            assert_int_equal(answers(port), !star);
        }
        assert_int_equal(open_conf(changed, "none", true), OK);
        assert_int_equal(answers(port), !star);
        assert_int_equal(fcntl(fd, F_GETFD), -1);
        guard_sockets_close(&sockets);
    }
}

static void test_local(void **state)
{
    (void)state;
    char folder[] = "/tmp/guard_sockets_XXXXXX", path[64];
    struct stat st;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/made/submit", folder);
    mode_t old = umask(0077);
    assert_int_equal(open_socket(path), OK);
    umask(old);
    assert_int_equal(sockets.count, 2);
    assert_string_equal(sockets.at[1].name, CONF_LOCAL_LISTENER);
    assert_true(stat(path, &st) == 0 && (st.st_mode & 0777) == 0666);
    assert_int_equal(connects(path), 0);
    assert_int_equal(open_socket(path), OK); // a reload keeps it
    assert_int_equal(sockets.count, 2);
    struct guard_sockets ours = sockets;
    sockets.count = 0;
    assert_int_equal(open_socket(path), E_BUSY);
    guard_sockets_close(&ours);
    assert_int_equal(connects(path), -1); // still there, and nobody behind it
    assert_int_equal(open_socket(path), OK);
    assert_int_equal(connects(path), 0);
    unlink(path);
    *strrchr(path, '/') = '\0';
    rmdir(path);
    rmdir(folder);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(test_open, setup, teardown),
    cmocka_unit_test_setup_teardown(test_reload, setup, teardown),
    cmocka_unit_test_setup_teardown(test_http_stays, setup, teardown),
    cmocka_unit_test_setup_teardown(test_renamed, setup, teardown),
    cmocka_unit_test_setup_teardown(test_narrowed, setup, teardown),
    cmocka_unit_test_setup_teardown(test_families, setup, teardown),
    cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
    cmocka_unit_test_setup_teardown(test_left_and_taken, setup, teardown),
    cmocka_unit_test_setup_teardown(test_activated, setup, teardown),
    cmocka_unit_test_setup_teardown(test_activated_is_handed_on, setup, teardown),
    cmocka_unit_test_setup_teardown(test_local, setup, teardown),
};

RUN_TESTS(tests)
