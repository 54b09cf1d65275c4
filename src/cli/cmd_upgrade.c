// SPDX-License-Identifier: MIT
#include <json-c/json.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/control_client.h"

#define UPGRADE_WAIT_MS 60000
#define LOOK_EVERY_MS 20

static struct mono now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (struct mono){(int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000};
}

// The service once another relay process than `before` answers; NULL while none does.
static struct json_object *look(struct bytes control, uint64_t before)
{
    struct control_reply reply = {0};
    struct buf error = {0};
    int err = control_request(control, "/v1/service", NULL, &reply, &error);
    buf_done(&error);
    if (!err && reply.status == 200 && cli_json_number(reply.body, "relay_pid") != before)
        return reply.body;
    json_object_put(reply.body);
    return NULL;
}

static struct json_object *wait_for_next(struct bytes control, uint64_t before, struct mono began)
{
    const struct timespec pause = {0, LOOK_EVERY_MS * 1000000L};
    struct json_object *next = NULL;
    while (!next && mono_ms_between(began, now()) < UPGRADE_WAIT_MS) {
        nanosleep(&pause, NULL);
        next = look(control, before);
    }
    return next;
}

static void tell(struct cli *cli, struct json_object *before, struct json_object *after,
                 int64_t took_ms)
{
    const char *from = json_object_get_string(cli_json_field(before, "version"));
    const char *to = json_object_get_string(cli_json_field(after, "version"));
    if (!cli->json) {
        printf("upgraded from %s to %s in %lld.%03lld s\n", from, to, (long long)took_ms / 1000,
               (long long)took_ms % 1000);
        return;
    }
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "from", json_object_new_string(from));
    json_object_object_add(o, "to", json_object_new_string(to));
    json_object_object_add(o, "pid", json_object_new_int64((int64_t)cli_json_number(after, "pid")));
    json_object_object_add(o, "took_ms", json_object_new_int64(took_ms));
    cli_print_json(o);
    json_object_put(o);
}

static int run_upgrade(struct cli *cli)
{
    const struct conf *conf = cli_conf(cli);
    struct json_object *before = NULL, *request = json_object_new_object(), *after = NULL;
    if (!conf) {
        json_object_put(request);
        return CLI_CONFIG;
    }
    struct mono began = now();
    int exit = cli_ask(cli, "/v1/upgrade", request, &before);
    json_object_put(request);
    if (exit)
        return exit;
    after = wait_for_next(conf->control, cli_json_number(before, "relay_pid"), began);
    if (after)
        tell(cli, before, after, mono_ms_between(began, now()));
    else
        exit = cli_fail(CLI_TEMPORARY, "the service is not back after %d s: its log says why",
                        UPGRADE_WAIT_MS / 1000);
    json_object_put(before);
    json_object_put(after);
    return exit;
}

const struct cli_command cli_upgrade = {
    .name = "upgrade",
    .help = "go over to the program that is now installed, listening all the while",
    .more =
        "The new program checks the configuration first; if it refuses, the old one goes on "
        "and the\n"
        "exit code is 65 (78: this command finds errors in the file itself). Then running\n"
        "transactions have 2 s to end, and clients that connect meanwhile wait. No mail is lost;\n"
        "a delivery that is cut is made again.\n",
    .run = run_upgrade,
};
