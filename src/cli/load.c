// SPDX-License-Identifier: MIT
//
// load - `posthaste load`: sends many messages over many sessions and measures what comes back
//
// How it works: the main thread reads the options, starts one loop that owns the run, shows
// progress and waits for its end or a signal; then it prints the report.
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/load_session.h"
#include "cli/sink.h"
#include "cli/sink_address.h"

#define EXIT_USAGE 64
#define EXIT_UNAVAILABLE 69
#define EXIT_TEMPORARY 75
#define SESSIONS_MAX 50000
#define PASSWORD_BYTES_MAX 1024
#define SHOW_EVERY_MS 200
#define IDLE_AT_ONCE 50 // idle sessions that are being opened
#define LOAD_NAME_MAX 32

// A file that the run appends lines to; they are written at the end of a turn.
struct line_file {
    const char *path; // NULL: none
    int fd, err;
    struct buf lines;
    struct sys_turn_end end;
};

struct load {
    struct load_run run;
    struct sys_loop *loop;
    struct sys_task start, stop;
    uint64_t sessions;
    const char *password_file;
    char *password;
    struct line_file ids, refused;
    bool json, has_to, idle;
    atomic_bool over;
};

// ---- options -----------------------------------------------------------------------------------

static int complain(const char *text, const char *about)
{
    fprintf(stderr, "posthaste load: %s%s%s\n", text, about ? ": " : "", about ? about : "");
    return EXIT_USAGE;
}

static int take_number(const char *text, uint64_t max, uint64_t *out)
{
    if (bytes_to_u64(bytes_cstr(text), max, out) == OK && *out > 0)
        return 0;
    fprintf(stderr, "posthaste load: a number from 1 to %llu is wanted, not %s\n",
            (unsigned long long)max, text);
    return EXIT_USAGE;
}

// "12.5" messages a second, in thousandths.
static int take_rate(const char *text, uint64_t *out)
{
    char *end;
    double rate = strtod(text, &end);
    if (*end || !(rate >= 0.001 && rate <= 1e9))
        return complain("--rate wants messages a second", text);
    *out = (uint64_t)(rate * 1000);
    return 0;
}

static int take_tls(struct load_run *run, const char *word)
{
    static const char *const words[] = {"none", "starttls", "implicit"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strcmp(word, words[i]) == 0) {
            run->tls = (enum load_tls)i;
            return 0;
        }
    return complain("--tls is none, starttls or implicit", word);
}

static int take_name(struct load_run *run, const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    if (!*text || strlen(text) > LOAD_NAME_MAX || text[strspn(text, letters)])
        return complain("--name wants up to 32 lower-case letters and digits", text);
    run->name = bytes_cstr(text);
    return 0;
}

static int take_to(struct load *l, const char *text)
{
    l->has_to = true;
    int err = sink_address_parse(text, &l->run.to);
    return err ? complain(err == E_SYNTAX ? "not an address HOST:PORT" : "no such host", text) : 0;
}

static int take_recipients(struct load_run *run, const char *text)
{
    uint64_t n;
    int code = take_number(text, LOAD_RECIPIENTS_MAX, &n);
    if (!code)
        run->recipients = (uint32_t)n;
    return code;
}

static int take_option(struct load *l, int option)
{
    struct load_run *run = &l->run;
    switch (option) {
    case 'o':
        return take_to(l, optarg);
    case 'c':
        return take_number(optarg, UINT64_MAX >> 1, &run->count);
    case 's':
        return take_number(optarg, SESSIONS_MAX, &l->sessions);
    case 'r':
        return take_rate(optarg, &run->rate_milli);
    case 'z':
        return take_number(optarg, LOAD_SIZE_MAX, &run->size);
    case 'n':
        return take_recipients(run, optarg);
    case 'm':
        return take_number(optarg, UINT64_MAX >> 1, &run->messages_per_connection);
    case 'f':
        run->sender = bytes_cstr(optarg);
        return 0;
    case 'p':
        run->rcpt_pattern = bytes_cstr(optarg);
        return 0;
    case 't':
        return take_tls(run, optarg);
    case 'l':
        run->login = bytes_cstr(optarg);
        return 0;
    case 'w':
        l->password_file = optarg;
        return 0;
    case 'L':
        run->lmtp = true;
        return 0;
    case 'i':
        l->ids.path = optarg;
        return 0;
    case 'x':
        l->refused.path = optarg;
        return 0;
    case 'N':
        return take_name(run, optarg);
    case 'j':
        l->json = true;
        return 0;
    case 'R':
        run->resume = true;
        return 0;
    case 'I':
        l->idle = true;
        return 0;
    default:
        fputs("see posthaste help load\n", stderr);
        return EXIT_USAGE;
    }
}

// 0, or an exit code.
static int read_options(struct load *l, int argc, char **argv)
{
    static const struct option options[] = {
        {"to", required_argument, NULL, 'o'},
        {"count", required_argument, NULL, 'c'},
        {"sessions", required_argument, NULL, 's'},
        {"rate", required_argument, NULL, 'r'},
        {"size", required_argument, NULL, 'z'},
        {"recipients", required_argument, NULL, 'n'},
        {"messages-per-connection", required_argument, NULL, 'm'},
        {"from", required_argument, NULL, 'f'},
        {"rcpt", required_argument, NULL, 'p'},
        {"tls", required_argument, NULL, 't'},
        {"login", required_argument, NULL, 'l'},
        {"password-file", required_argument, NULL, 'w'},
        {"lmtp", no_argument, NULL, 'L'},
        {"ids", required_argument, NULL, 'i'},
        {"refused", required_argument, NULL, 'x'},
        {"name", required_argument, NULL, 'N'},
        {"json", no_argument, NULL, 'j'},
        {"resume", no_argument, NULL, 'R'},
        {"idle", no_argument, NULL, 'I'},
        {NULL, 0, NULL, 0}};
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        int code = take_option(l, option);
        if (code)
            return code;
    }
    if (optind < argc)
        return complain("unexpected", argv[optind]);
    if (!l->run.login.len != !l->password_file)
        return complain("--login and --password-file go together", NULL);
    return l->has_to ? 0 : complain("--to HOST:PORT is needed", NULL);
}

static void set_defaults(struct load *l)
{
    struct load_run *run = &l->run;
    run->count = 1000;
    run->size = 4096;
    run->recipients = 1;
    run->sender = BYTES("load@load.example");
    run->rcpt_pattern = BYTES("user%n@load.example");
    run->helo = BYTES("load.localhost");
    l->sessions = 10;
    l->ids.fd = l->refused.fd = -1;
}

// ---- files -------------------------------------------------------------------------------------

static int read_password(struct load *l)
{
    if (!l->password_file)
        return 0;
    FILE *file = fopen(l->password_file, "re");
    l->password = mem_new(PASSWORD_BYTES_MAX + 2);
    if (!file || !fgets(l->password, PASSWORD_BYTES_MAX + 2, file)) {
        fprintf(stderr, "posthaste load: cannot read %s\n", l->password_file);
        if (file)
            fclose(file);
        return EXIT_USAGE;
    }
    fclose(file);
    l->run.password = bytes_cstr(l->password);
    while (bytes_ends(l->run.password, BYTES("\n")) || bytes_ends(l->run.password, BYTES("\r")))
        l->run.password.len--;
    return 0;
}

static void write_lines(struct sys_turn_end *end)
{
    struct line_file *f = container_of(end, struct line_file, end);
    struct bytes left = buf_bytes(&f->lines);
    while (left.len && !f->err) {
        ssize_t n = write(f->fd, left.at, left.len);
        if (n < 0 && errno != EINTR)
            f->err = err_from_errno(errno);
        left = bytes_skip(left, n > 0 ? (size_t)n : 0);
    }
    buf_clear(&f->lines);
}

static int line_file_open(struct line_file *f, struct buf **out_lines,
                          struct sys_turn_end **out_end)
{
    if (!f->path)
        return 0;
    f->fd = open(f->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (f->fd < 0) {
        fprintf(stderr, "posthaste load: cannot write %s: %s\n", f->path,
                err_text(err_from_errno(errno)));
        return EXIT_UNAVAILABLE;
    }
    f->end.fn = write_lines;
    *out_lines = &f->lines;
    *out_end = &f->end;
    return 0;
}

static void line_file_close(struct line_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    if (f->err)
        fprintf(stderr, "posthaste load: cannot write %s: %s\n", f->path, err_text(f->err));
    buf_done(&f->lines);
}

// ---- the loop ----------------------------------------------------------------------------------

static void on_over(struct load_run *run)
{
    struct load *l = container_of(run, struct load, run);
    atomic_store(&l->over, true);
}

static void on_idle(struct load_run *run)
{
    printf("{\"idle\":%llu}\n", (unsigned long long)run->idle_count);
    fflush(stdout);
}

static void run_start(struct sys_task *task)
{
    struct load *l = container_of(task, struct load, start);
    static char name[32];
    snprintf(name, sizeof name, "%llx", (unsigned long long)sys_random_below(UINT64_C(1) << 48));
    if (!l->run.name.len)
        l->run.name = bytes_cstr(name);
    l->run.began = sys_mono();
    l->run.on_over = on_over;
    l->run.on_idle = on_idle;
    bool too_many = !l->idle && l->sessions > l->run.count;
    uint64_t sessions = too_many ? l->run.count : l->sessions;
    if (l->idle) {
        l->run.idle = sessions;
        sessions = sessions < IDLE_AT_ONCE ? sessions : IDLE_AT_ONCE;
        l->run.idle_opened = sessions;
    }
    for (uint64_t i = 0; i < sessions; i++)
        load_session_start(&l->run);
}

static void run_stop(struct sys_task *task)
{
    load_run_stop(&container_of(task, struct load, stop)->run);
}

static void show_progress(struct load *l)
{
    uint64_t messages = atomic_load(&l->run.report.messages);
    uint64_t accepted = atomic_load(&l->run.report.accepted);
    fprintf(stderr, "\r%llu of %llu messages, %llu accepted ", (unsigned long long)messages,
            (unsigned long long)l->run.count, (unsigned long long)accepted);
}

// Waits for the run; the first signal asks it to stop, the second one doesn't wait.
static void wait_for_end(struct load *l, const sigset_t *signals)
{
    bool terminal = isatty(STDERR_FILENO), asked = false;
    int ticks = 0;
    const struct timespec tick = {0, 10000000};
    while (!atomic_load(&l->over)) {
        if (sigtimedwait(signals, NULL, &tick) > 0) {
            if (asked)
                _exit(EXIT_TEMPORARY);
            asked = true;
            sys_post(l->loop, &l->stop);
        }
        if (terminal && ++ticks % (SHOW_EVERY_MS / 10) == 0)
            show_progress(l);
    }
    if (terminal)
        fputs("\r\033[K", stderr);
}

static void print_report(struct load *l)
{
    struct buf out = {0};
    if (l->json)
        load_report_json(&l->run.report, &out);
    else
        load_report_text(&l->run.report, &out);
    fputs(buf_cstr(&out), stdout);
    buf_done(&out);
}

static int exit_code(const struct load *l, uint64_t wanted)
{
    const struct load_report *r = &l->run.report;
    if (r->messages == 0)
        return EXIT_UNAVAILABLE;
    return r->accepted == wanted && !r->recipients_refused && !l->ids.err && !l->refused.err
               ? 0
               : EXIT_TEMPORARY;
}

// A descriptor a session: as many as we may have.
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int run_load(struct load *l)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    uint64_t wanted = l->run.count;
    load_run_init(&l->run);
    l->run.tls_client = net_tls_client_new(NULL);
    l->loop = sys_loop_start("load");
    l->start.run = run_start;
    l->stop.run = run_stop;
    sys_post(l->loop, &l->start);
    wait_for_end(l, &signals);
    sys_loop_stop(l->loop);
    net_tls_client_free(l->run.tls_client);
    if (!l->idle)
        print_report(l);
    int code = l->idle ? 0 : exit_code(l, wanted);
    load_run_done(&l->run);
    return code;
}

int cmd_load(int argc, char **argv)
{
    struct load *l = mem_new(sizeof *l);
    set_defaults(l);
    int code = read_options(l, argc, argv);
    if (!code)
        code = read_password(l);
    if (!code)
        code = line_file_open(&l->ids, &l->run.ids, &l->run.ids_end);
    if (!code)
        code = line_file_open(&l->refused, &l->run.refused, &l->run.refused_end);
    if (!code)
        code = run_load(l);
    line_file_close(&l->ids);
    line_file_close(&l->refused);
    if (l->password) {
        explicit_bzero(l->password, PASSWORD_BYTES_MAX + 2);
        free(l->password);
    }
    free(l);
    return code;
}
