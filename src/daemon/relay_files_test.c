// SPDX-License-Identifier: MIT
#include "daemon/relay_files.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/test_base.h"
#include "daemon/guard_files.h"

static char folder[] = "/tmp/relay-files.XXXXXX";

static struct conf *conf_of(const char *routes)
{
    struct conf *conf;
    struct buf text = {0}, errors = {0};
    buf_printf(
        &text,
        "hostname: mx.example.org\nspool: /s\nstate: /t\nlisteners:\n  - name: a\n    address: "
        "127.0.0.1:25\n    tls: none\n    trusted: [127.0.0.1]\n    auth: none\nroutes:\n%s",
        routes);
    if (conf_load_text(buf_bytes(&text), "f.yaml", folder, &conf, &errors) != OK)
        fail_msg("%s", buf_cstr(&errors));
    buf_done(&text);
    buf_done(&errors);
    return conf;
}

static void put(const char *name, const char *text)
{
    char path[100];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd != -1 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

// What the guard sends is read by its path, as often as wanted, and nothing else is; as the guard has read it, whatever
// has become of the file since.
static void test_files(void **state)
{
    (void)state;
    struct conf *conf =
        conf_of("  - match: {recipient: a.example}\n    via: discard\n    recipients: "
                "users\n"
                "  - match: {recipient: b.example}\n    via: smtp://127.0.0.1:25\n    "
                "tls: none\n    recipients: users\n"
                "  - match: {recipient: c.example}\n    via: discard\n    recipients: "
                "none\n"
                "  - match: {recipient: d.example}\n    via: discard\n    recipients: "
                ".\n"
                "  - match: {recipient: '*'}\n    via: mx\n");
    struct guard_files kept = {0};
    put("users", "x@a.example\n");
    guard_files_read(&kept, conf);
    put("users", "no address\n");
    put("none", "");
    int ends[2];
    assert_int_equal(channel_pair(ends), OK);
    assert_int_equal(guard_files_send(ends[0], &kept), OK);
    guard_files_done(&kept);
    assert_int_equal(channel_send(ends[0], CHANNEL_COMMIT, BYTES_NONE, -1), OK);
    struct relay_files files = {0};
    struct channel_message m;
    int sent = 0;
    for (; channel_receive(ends[1], &m) == OK && m.kind == CHANNEL_FILE; sent++)
        relay_files_take(&files, &m);
    assert_int_equal(sent, 2); // each once; what is not there not at all
    struct route_files reader = relay_files_reader(&files);
    for (int i = 0; i < 2; i++) {
        struct buf text = {0};
        assert_int_equal(reader.read(reader.ctx, conf->routes[0].recipients.at, &text), OK);
        assert_string_equal(buf_cstr(&text), "x@a.example\n");
        buf_done(&text);
    }
    struct buf none = {0};
    assert_int_equal(reader.read(reader.ctx, conf->routes[2].recipients.at, &none), E_NOT_FOUND);
    assert_int_equal(reader.read(reader.ctx, conf->routes[3].recipients.at, &none), E_IO);
    assert_int_equal(reader.read(reader.ctx, "/etc/passwd", &none), E_NOT_FOUND);
    struct channel_message denied = {.kind = CHANNEL_FILE, .fd = -1, .text = "/secret"};
    relay_files_take(&files, &denied);
    assert_int_equal(reader.read(reader.ctx, "/secret", &none), E_DENIED);
    buf_done(&none);
    relay_files_done(&files);
    conf_free(conf);
    close(ends[0]);
    close(ends[1]);
}

static void test_maildirs(void **state)
{
    (void)state;
    static const struct {
        const char *via;
        int want;
    } rows[] = {
        {"maildir:/srv/mail/%d/%u", OK},
        {"maildir:/srv/mail/more/%u", OK},
        {"maildir:/srv/mail", OK},
        {"maildir:/srv/mail2/%u", E_DENIED},
        {"maildir:/srv/%u", E_DENIED},
        {"discard", OK},
        {"mx", OK},
    };
    struct relay_folders folders = {0};
    buf_add_cstr(&folders.maildirs, "/var/mail\n/srv/mail");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char routes[200];
        struct buf errors = {0};
        snprintf(routes, sizeof routes, "  - match: {recipient: '*'}\n    via: '%s'\n",
                 rows[i].via);
        struct conf *conf = conf_of(routes);
        if (relay_folders_check(&folders, conf, &errors) != rows[i].want)
            fail_msg("%s", rows[i].via);
        assert_int_equal(errors.len > 0, rows[i].want != OK);
        buf_done(&errors);
        conf_free(conf);
    }
    buf_done(&folders.maildirs);
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char path[100];
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, i ? "users" : "none");
        unlink(path);
    }
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_maildirs),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
