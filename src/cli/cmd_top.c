// SPDX-License-Identifier: MIT
//
// How it works: on a terminal each frame is drawn over the last from the top left corner, each line cleared to its end,
// on the alternate screen; what was there before is there again afterwards. Keys and the size of the terminal are looked
// at between frames: a signal ends the wait.
#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_store.h"
#include "cli/control_client.h"
#include "cli/top.h"

#define FRAME_MS 1000

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
    if (number != SIGWINCH)
        ended = 1;
}

// ---- looking -----------------------------------------------------------------------------------------

static bool on_metric(void *ctx, struct bytes line)
{
    top_take_metric(ctx, line);
    return true;
}

// How long ago that was (service and terminal share a clock); -1: null.
static int64_t age_s(struct bytes at, struct wall now)
{
    struct wall then;
    if (!at.len || wall_parse(at, &then) != OK)
        return -1;
    return now.us > then.us ? wall_ms_between(then, now) / 1000 : 0;
}

static bool on_lane(void *ctx, struct json_object *o)
{
    struct top_look *look = ctx;
    if (look->lanes_count == TOP_LANES_MAX)
        return false;
    look->lanes[look->lanes_count++] = (struct top_lane){
        .name = arena_dup(&look->arena, json_find_text(o, "lane")),
        .text = arena_dup(&look->arena, json_find_text(o, "text")),
        .backoff_until = arena_dup(&look->arena, json_find_text(o, "backoff_until")),
        .oldest_s = age_s(json_find_text(o, "oldest_at"), cli_store_now()),
        .ready = cli_json_number(o, "ready"),
        .connections = cli_json_number(o, "connections"),
        .connections_max = cli_json_number(o, "connections_max"),
        .busy = cli_json_number(o, "busy"),
        .hour_used = cli_json_number(o, "hour_used")};
    return true;
}

static int take_look(struct cli *cli, struct top_look *look)
{
    struct control_reply reply = {0};
    struct buf error = {0};
    struct timespec t;
    arena_done(&look->arena);
    *look = (struct top_look){0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    look->at.us = (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
    int exit = cli_ask_lines(cli, "/v1/lanes", on_lane, look); // says why not
    if (!exit &&
        control_stream(cli_conf(cli)->control, "/metrics", on_metric, look, &reply, &error) != OK)
        exit = cli_fail(CLI_TEMPORARY, "%s", buf_cstr(&error));
    json_object_put(reply.body);
    buf_done(&error);
    return exit;
}

// ---- showing -----------------------------------------------------------------------------------------

static void print_json(const struct top_look *before, const struct top_look *now)
{
    static const struct {
        const char *name;
        enum top_counter counter;
    } VALUES[] = {{"accepted_per_second", TOP_ACCEPTED},
                  {"refused_per_second", TOP_REFUSED},
                  {"delivered_per_second", TOP_DELIVERED},
                  {"deferred_per_second", TOP_DEFERRED},
                  {"failed_per_second", TOP_FAILED},
                  {"sessions", TOP_SESSIONS},
                  {"connections", TOP_CONNECTIONS},
                  {"queued", TOP_QUEUED},
                  {"active", TOP_ACTIVE},
                  {"scheduled", TOP_SCHEDULED},
                  {"held", TOP_HELD},
                  {"oldest_seconds", TOP_OLDEST}};
    struct json_object *o = json_object_new_object(), *alerts = json_object_new_array();
    for (size_t i = 0; i < COUNT_OF(VALUES); i++)
        json_object_object_add(o, VALUES[i].name,
                               json_object_new_double(top_rate(before, now, VALUES[i].counter)));
    json_object_object_add(o, "lanes", json_object_new_int64((int64_t)now->lanes_count));
    for (size_t i = 0; i < now->alerts_count; i++)
        json_object_array_add(alerts, json_new_text(now->alerts[i]));
    json_object_object_add(o, "alerts", alerts);
    cli_print_json(o);
    json_object_put(o);
}

static void show(struct cli *cli, bool terminal, const struct top_look *before,
                 struct top_look *now)
{
    struct winsize size = {0};
    struct buf frame = {0}, out = {0};
    if (cli->json) {
        print_json(before, now);
        fflush(stdout);
        return;
    }
    bool sized = isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
    top_frame(before, now, sized ? size.ws_col : 0, terminal && sized ? size.ws_row : 0, &frame);
    struct bytes rest = buf_bytes(&frame), line;
    buf_add_cstr(&out, terminal ? "\x1b[H" : "");
    for (bool first = true; bytes_cut(&rest, '\n', &line) && (line.len || rest.len); first = false)
        buf_printf(&out, terminal ? "%s%.*s\x1b[K" : "%s%.*s", first ? "" : "\n", BYTES_FMT(line));
    buf_add_cstr(&out, terminal ? "\x1b[J" : "\n");
    fwrite(out.at, 1, out.len, stdout);
    fflush(stdout);
    buf_done(&frame);
    buf_done(&out);
}

// Until the next frame; false: q, or a signal to end.
static bool wait_for_frame(bool keys)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    char key = 0;
    int n = poll(&p, keys ? 1 : 0, FRAME_MS);
    if (n == 1 && read(STDIN_FILENO, &key, 1) != 1)
        key = 'q'; // the terminal is gone
    return !ended && key != 'q' && key != 'Q' && key != 3;
}

static int watch(struct cli *cli, bool terminal, bool keys)
{
    static struct top_look looks[2];
    bool once = cli_flag(cli, "once");
    int exit = take_look(cli, &looks[0]);
    for (int n = 1; !exit && wait_for_frame(keys); n++) {
        exit = take_look(cli, &looks[n % 2]);
        if (!exit)
            show(cli, terminal, &looks[(n + 1) % 2], &looks[n % 2]);
        if (once || ferror(stdout))
            break;
    }
    arena_done(&looks[0].arena);
    arena_done(&looks[1].arena);
    return exit;
}

static int run(struct cli *cli)
{
    struct termios before, raw;
    bool terminal = !cli_flag(cli, "once") && !cli->json && isatty(STDOUT_FILENO);
    bool keys = terminal && isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0;
    struct sigaction action = {.sa_handler = on_signal};
    if (!cli_conf(cli))
        return CLI_CONFIG;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    sigaction(SIGWINCH, &action, NULL);
    if (keys) {
        raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    if (terminal)
        fputs("\x1b[?1049h\x1b[?25l", stdout); // the alternate screen, no cursor
    int exit = watch(cli, terminal, keys);
    if (terminal)
        fputs("\x1b[?25h\x1b[?1049l", stdout);
    fflush(stdout);
    if (keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    return exit;
}

static const struct cli_option options[] = {
    {"once", NULL, "one frame, then the end"},
    {NULL},
};

const struct cli_command cli_top = {
    .name = "top",
    .help = "watch what the service does: rates, queue, lanes and what binds them",
    .more =
        "A frame a second, until q or ^C. Rates are those since the frame before; lanes with the\n"
        "most waiting mail come first; OLDEST is how long its oldest message waits, without what "
        "is\n"
        "held or scheduled. With --json one object a frame.\n",
    .options = options,
    .run = run,
};
