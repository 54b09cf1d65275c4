// SPDX-License-Identifier: MIT
//
// sink - `posthaste sink`: takes mail, or misbehaves by rule, and says what it got
//
// How it works: the main thread reads the options, binds, starts one loop and then waits for a
// signal; the loop owns the server and the log, and sends that signal when the count is reached.
#include "cli/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/sink_address.h"
#include "cli/sink_log.h"
#include "cli/sink_server.h"
#include "net/tls_certificate.h"

#define LISTENERS_MAX 64
#define EXIT_USAGE 64
#define EXIT_RULES 65
#define EXIT_UNAVAILABLE 69
#define EXIT_PERMISSION 77

struct sink {
    struct sys_addr listen[LISTENERS_MAX];
    int fds[LISTENERS_MAX];
    uint32_t listen_count;
    const char *rules_file, *log_file, *ready_file;
    uint64_t count;
    bool tls, quiet;
    struct sink_server_config config;
    struct sink_server *server;
    struct sink_log log;
    struct sys_loop *loop;
    struct sys_task start, finish, stop;
};

// ---- options -----------------------------------------------------------------------------------

static int complain(const char *text, const char *about)
{
    fprintf(stderr, "posthaste sink: %s%s%s\n", text, about ? ": " : "", about ? about : "");
    return EXIT_USAGE;
}

static int add_listen(struct sink *k, const char *text)
{
    if (k->listen_count == LISTENERS_MAX)
        return complain("too many listeners", text);
    if (sink_address_parse(text, &k->listen[k->listen_count]))
        return complain("not an address HOST:PORT", text);
    k->listen_count++;
    return 0;
}

static int leave_out(struct sink *k, const char *word)
{
    uint32_t bit = strcasecmp(word, "EHLO") == 0 ? SINK_NO_EHLO : 0;
    for (size_t i = 0; i < SINK_EXTENSIONS; i++)
        if (strcasecmp(word, sink_extensions[i].keyword) == 0)
            bit = sink_extensions[i].without;
    k->config.smtp.without |= bit;
    return bit ? 0 : complain("no such extension", word);
}

static int set_tls(struct sink *k, const char *word)
{
    k->tls = strcmp(word, "starttls") == 0;
    return k->tls || strcmp(word, "none") == 0 ? 0 : complain("--tls is none or starttls", word);
}

static int take_option(struct sink *k, int option)
{
    switch (option) {
    case 'l':
        return add_listen(k, optarg);
    case 'r':
        k->rules_file = optarg;
        return 0;
    case 'o':
        k->log_file = optarg;
        return 0;
    case 'n':
        if (bytes_to_u64(bytes_cstr(optarg), UINT64_MAX >> 1, &k->count) || !k->count)
            return complain("--count wants a number from 1", optarg);
        return 0;
    case 'f':
        k->ready_file = optarg;
        return 0;
    case 't':
        return set_tls(k, optarg);
    case 'm':
        k->config.smtp.lmtp = true;
        return 0;
    case 'w':
        return leave_out(k, optarg);
    case 'q':
        k->quiet = true;
        return 0;
    default:
        fputs("see posthaste help sink\n", stderr);
        return EXIT_USAGE;
    }
}

// 0, or an exit code.
static int read_options(struct sink *k, int argc, char **argv)
{
    static const struct option options[] = {{"listen", required_argument, NULL, 'l'},
                                            {"rules", required_argument, NULL, 'r'},
                                            {"log", required_argument, NULL, 'o'},
                                            {"count", required_argument, NULL, 'n'},
                                            {"ready-file", required_argument, NULL, 'f'},
                                            {"tls", required_argument, NULL, 't'},
                                            {"lmtp", no_argument, NULL, 'm'},
                                            {"without", required_argument, NULL, 'w'},
                                            {"quiet", no_argument, NULL, 'q'},
                                            {NULL, 0, NULL, 0}};
    int option;
    optind = 1;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        int code = take_option(k, option);
        if (code)
            return code;
    }
    if (optind < argc)
        return complain("unexpected", argv[optind]);
    return k->listen_count ? 0 : complain("--listen HOST:PORT is needed", NULL);
}

// ---- start -------------------------------------------------------------------------------------

static int load_rules(struct sink *k)
{
    struct buf errors = {0};
    int err = k->rules_file ? sink_rules_load(k->rules_file, &k->config.smtp.rules, &errors) : OK;
    if (err)
        fputs(buf_cstr(&errors), stderr);
    buf_done(&errors);
    return err ? EXIT_RULES : 0;
}

static int open_log(struct sink *k, int *out_fd)
{
    *out_fd = -1;
    if (k->log_file && strcmp(k->log_file, "-") == 0)
        *out_fd = STDOUT_FILENO;
    else if (k->log_file)
        *out_fd = open(k->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (!k->log_file || *out_fd >= 0)
        return 0;
    fprintf(stderr, "posthaste sink: cannot write %s: %s\n", k->log_file,
            err_text(err_from_errno(errno)));
    return errno == EACCES ? EXIT_PERMISSION : EXIT_UNAVAILABLE;
}

static int make_tls(struct sink *k)
{
    if (!k->tls)
        return 0;
    struct buf certificate = {0}, key = {0};
    char reason[NET_TLS_REASON] = "no certificate could be made";
    int err = tls_certificate_make(k->config.smtp.hostname, &certificate, &key);
    if (!err)
        err = net_tls_server_new(buf_bytes(&certificate), buf_bytes(&key), &k->config.tls, reason);
    if (err)
        complain(reason, NULL);
    buf_done(&certificate);
    buf_done(&key);
    return err ? EXIT_UNAVAILABLE : 0;
}

static int listen_all(struct sink *k)
{
    char text[SYS_ADDR_TEXT];
    for (uint32_t i = 0; i < k->listen_count; i++) {
        int err = sink_address_listen(&k->listen[i], &k->fds[i]);
        sys_addr_format(&k->listen[i], text);
        if (err) {
            fprintf(stderr, "posthaste sink: cannot listen on %s: %s\n", text, err_text(err));
            return err == E_DENIED ? EXIT_PERMISSION : EXIT_UNAVAILABLE;
        }
        if (!k->quiet && (!k->log_file || strcmp(k->log_file, "-") != 0))
            printf("listening on %s\n", text);
    }
    fflush(stdout);
    return 0;
}

static void add_listener_json(struct buf *out, const struct sys_addr *address)
{
    char text[SYS_ADDR_TEXT];
    buf_add_cstr(out, "{\"address\":\"");
    bool is_path = address->kind == SYS_ADDR_UNIX;
    buf_add_json(out, bytes_cstr(is_path ? address->path : sys_addr_format_ip(address, text)));
    buf_printf(out, "\",\"port\":%u}", is_path ? 0u : address->port);
}

// Written aside and renamed, so that who waits for it never reads a half.
static int write_ready_file(struct sink *k)
{
    if (!k->ready_file)
        return 0;
    struct buf out = {0}, aside = {0};
    buf_printf(&out, "{\"pid\":%d,\"version\":\"" POSTHASTE_VERSION "\",\"listeners\":[", getpid());
    for (uint32_t i = 0; i < k->listen_count; i++) {
        buf_add_cstr(&out, i ? "," : "");
        add_listener_json(&out, &k->listen[i]);
    }
    buf_add_cstr(&out, "]}\n");
    buf_printf(&aside, "%s.%d", k->ready_file, getpid());
    FILE *file = fopen(buf_cstr(&aside), "we");
    bool written = file && fwrite(out.at, 1, out.len, file) == out.len;
    if (file)
        written = fclose(file) == 0 && written;
    written = written && rename(buf_cstr(&aside), k->ready_file) == 0;
    if (!written)
        fprintf(stderr, "posthaste sink: cannot write %s\n", k->ready_file);
    buf_done(&out);
    buf_done(&aside);
    return written ? 0 : EXIT_UNAVAILABLE;
}

// ---- the loop ----------------------------------------------------------------------------------

static void on_message(void *ctx, const struct sink_message *m)
{
    struct sink *k = ctx;
    uint64_t before = k->log.recipients;
    sink_log_add(&k->log, m, sys_wall());
    if (before < k->count && k->log.recipients >= k->count)
        sys_post(k->loop, &k->finish); // behind this turn, whose end sends the reply
}

static void on_finished(void *ctx)
{
    kill(getpid(), SIGTERM);
}

static void run_finish(struct sys_task *task)
{
    struct sink *k = container_of(task, struct sink, finish);
    sink_server_finish(k->server, on_finished, k);
}

static void run_start(struct sys_task *task)
{
    struct sink *k = container_of(task, struct sink, start);
    k->server = sink_server_new(&k->config);
    for (uint32_t i = 0; i < k->listen_count; i++)
        sink_server_listen(k->server, k->fds[i]);
}

static void run_stop(struct sys_task *task)
{
    struct sink *k = container_of(task, struct sink, stop);
    sink_server_close(k->server);
    sink_log_done(&k->log);
}

static int serve(struct sink *k)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    k->loop = sys_loop_start("sink");
    k->start.run = run_start;
    k->finish.run = run_finish;
    k->stop.run = run_stop;
    sys_post(k->loop, &k->start);
    int code = write_ready_file(k);
    while (!code && sigwaitinfo(&signals, NULL) < 0)
        ; // stopped and continued
    sys_post(k->loop, &k->stop);
    sys_loop_stop(k->loop);
    if (k->log.err)
        code = EXIT_UNAVAILABLE;
    return code;
}

int cmd_sink(int argc, char **argv)
{
    struct sink *k = mem_new(sizeof *k);
    int log_fd = -1;
    int code = read_options(k, argc, argv);
    k->config.smtp.hostname = BYTES("sink.localhost");
    k->config.smtp.on_message = on_message;
    k->config.smtp.ctx = k;
    k->config.smtp.hash = k->log_file != NULL;
    if (!code)
        code = load_rules(k);
    if (!code)
        code = open_log(k, &log_fd);
    if (!code)
        code = make_tls(k);
    if (!code)
        code = listen_all(k);
    if (!code) {
        sink_log_init(&k->log, log_fd);
        code = serve(k);
    }
    if (log_fd > STDOUT_FILENO)
        close(log_fd);
    sink_rules_free(k->config.smtp.rules);
    net_tls_server_free(k->config.tls);
    free(k);
    return code;
}
