// SPDX-License-Identifier: MIT
//
// The signer process itself, spoken to as a worker does.
#include "daemon/guard_signer.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/test_base.h"
#include "daemon/sign_wire.h"
#include "daemon/signer_process.h"
#include "net/net_test_certs.h"
#include "net/tls_certificate.h"

#define PATIENCE_MS 60000

static char folder[] = "/tmp/guard-signer-test.XXXXXX", master[64];

static void test_keys(void **state)
{
    (void)state;
    char reason[NET_TLS_REASON];
    uint32_t number;
    struct guard_signer s;
    struct test_cert rsa = test_cert_of(EVP_RSA_gen(2048), "DNS:mx.example", NULL, 10);
    guard_signer_init(&s);
    struct bytes cert = bytes_cstr(rsa.cert_pem), key = bytes_cstr(rsa.key_pem);
    struct buf other_cert = {0}, other_key = {0};
    assert_int_equal(tls_certificate_make(BYTES("mx.example"), &other_cert, &other_key), OK);
    assert_int_equal(guard_signer_add(&s, cert, buf_bytes(&other_key), &number, reason), E_TLS);
    assert_non_null(strstr(reason, "key: "));
    assert_int_equal(guard_signer_add(&s, BYTES("x"), key, &number, reason), E_TLS);
    assert_non_null(strstr(reason, "certificate: "));
    assert_int_equal(guard_signer_add(&s, cert, BYTES(""), &number, reason), E_TLS);
    assert_int_equal(guard_signer_add(&s, cert, key, &number, reason), OK);
    assert_int_equal(number, 1);
    assert_int_equal(guard_signer_add(&s, cert, key, &number, reason), OK);
    assert_int_equal(number, 1); // the same key
    for (int i = 0; i < GUARD_SIGNER_KEYS + 3; i++) {
        buf_clear(&other_cert);
        buf_clear(&other_key);
        assert_int_equal(tls_certificate_make(BYTES("mx.example"), &other_cert, &other_key), OK);
        assert_int_equal(
            guard_signer_add(&s, buf_bytes(&other_cert), buf_bytes(&other_key), &number, reason),
            OK);
        assert_int_equal(number, i + 2);
        assert_int_equal(guard_signer_add(&s, cert, key, &number, reason), OK);
        assert_int_equal(number, 1); // in use: stays
    }
    guard_signer_done(&s);
    test_cert_done(&rsa);
    buf_done(&other_cert);
    buf_done(&other_key);
}

static void nothing(void *ctx)
{
    (void)ctx;
}

static int line_to(struct guard_signer *s)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    guard_signer_add_line(s, ends[1]);
    return ends[0];
}

static void say(int line, uint64_t id, uint64_t key, enum sign_kind kind, size_t len)
{
    struct sign_wire_request r = {
        .id = id, .key = key, .kind = (uint16_t)kind, .len = (uint16_t)len};
    size_t size = SIGN_WIRE_REQUEST_HEAD + len;
    assert_int_equal(send(line, &r, size, 0), size);
}

// 0: the line was closed.
static ssize_t hear(int line, struct sign_wire_answer *out)
{
    struct pollfd p = {.fd = line, .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    return recv(line, out, sizeof *out, 0);
}

// One more than cores, up to the limit.
static void expect_threads(pid_t pid)
{
    char path[64];
    long want = sysconf(_SC_NPROCESSORS_ONLN) + 1, count = -2; // . and ..
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    assert_non_null(tasks);
    while (readdir(tasks))
        count++;
    closedir(tasks);
    assert_int_equal(count, want < SIGNER_THREADS_MAX ? want : SIGNER_THREADS_MAX);
}

static void test_process(void **state)
{
    (void)state;
    char reason[NET_TLS_REASON];
    uint32_t first, second;
    struct buf cert = {0}, key = {0};
    struct guard_signer s;
    struct sign_wire_answer answer;
    guard_signer_init(&s);
    assert_int_equal(tls_certificate_make(BYTES("mx.example"), &cert, &key), OK);
    assert_int_equal(guard_signer_add(&s, buf_bytes(&cert), buf_bytes(&key), &first, reason), OK);
    assert_int_equal(guard_signer_start(&s, master, nothing, NULL), OK);
    buf_clear(&cert);
    buf_clear(&key);
    assert_int_equal(tls_certificate_make(BYTES("mx.example"), &cert, &key), OK);
    assert_int_equal(guard_signer_add(&s, buf_bytes(&cert), buf_bytes(&key), &second, reason), OK);
    int a = line_to(&s), b = line_to(&s);
    assert_int_equal(send(a, "junk", 4, 0), 4);
    for (uint64_t i = 0; i < 100; i++)
        say(a, i, first, SIGN_ECDSA, 32);
    say(b, 7, second, SIGN_ECDSA, 32);
    say(b, 8, 99, SIGN_ECDSA, 32);
    bool seen[100] = {false};
    for (int i = 0; i < 100; i++) { // each once, in any order
        assert_true(hear(a, &answer) > 0);
        assert_true(answer.id < 100 && !seen[answer.id] && answer.state == SIGN_DONE);
        seen[answer.id] = true;
    }
    for (int i = 0; i < 2; i++) {
        assert_true(hear(b, &answer) > 0);
        assert_int_equal(answer.state, answer.id == 7 ? SIGN_DONE : SIGN_NO_KEY);
    }
    expect_threads(s.pid);
    say(b, 9, 0, SIGN_MAKE_RSA, 0);
    assert_true(hear(b, &answer) > 0 && answer.state == SIGN_DONE);
    close(b);
    // It dies: its lines end; another has the same keys.
    kill(s.pid, SIGKILL);
    assert_int_equal(waitpid(s.pid, NULL, 0), s.pid);
    guard_signer_gone(&s);
    assert_int_equal(hear(a, &answer), 0);
    close(a);
    a = line_to(&s); // nobody there
    assert_int_equal(hear(a, &answer), 0);
    close(a);
    assert_int_equal(guard_signer_start(&s, master, nothing, NULL), OK);
    a = line_to(&s);
    say(a, 1, second, SIGN_ECDSA, 32);
    assert_true(hear(a, &answer) > 0 && answer.state == SIGN_DONE);
    close(a);
    guard_signer_stop(&s);
    guard_signer_done(&s);
    buf_done(&cert);
    buf_done(&key);
}

static uint32_t add_another(struct guard_signer *s)
{
    char reason[NET_TLS_REASON];
    uint32_t number;
    struct buf cert = {0}, key = {0};
    assert_int_equal(tls_certificate_make(BYTES("mx.example"), &cert, &key), OK);
    assert_int_equal(guard_signer_add(s, buf_bytes(&cert), buf_bytes(&key), &number, reason), OK);
    buf_done(&cert);
    buf_done(&key);
    return number;
}

// The key in use stays, with the process that runs and with the next one, however many are tried and refused.
static void test_key_in_use(void **state)
{
    (void)state;
    struct guard_signer s;
    struct sign_wire_answer answer;
    guard_signer_init(&s);
    guard_signer_hold(&s, 0); // there is none yet
    assert_int_equal(guard_signer_start(&s, master, nothing, NULL), OK);
    uint32_t used = add_another(&s);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < GUARD_SIGNER_KEYS; i++) {
            guard_signer_hold(&s, used);
            add_another(&s);
        }
        int line = line_to(&s);
        say(line, 1, used, SIGN_ECDSA, 32);
        assert_true(hear(line, &answer) > 0 && answer.state == SIGN_DONE);
        close(line);
        guard_signer_stop(&s);
        assert_int_equal(guard_signer_start(&s, master, nothing, NULL), OK);
    }
    guard_signer_stop(&s);
    guard_signer_done(&s);
}

static int setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    assert_non_null(mkdtemp(folder));
    snprintf(master, sizeof master, "%s/state.key", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(master);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_process),
        cmocka_unit_test(test_key_in_use),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
