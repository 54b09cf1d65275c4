// SPDX-License-Identifier: MIT
#include "cli/cli_progress.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define DRAW_S 0.2
#define LINE_S 1.0

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

void cli_interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_interrupted(void)
{
    return interrupted;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void cli_progress_begin(struct cli *cli, struct cli_progress *p, const char *unit)
{
    *p = (struct cli_progress){.terminal = isatty(STDERR_FILENO),
                               .lines = cli_flag(cli, "progress"),
                               .unit = unit,
                               .began = now_s()};
    p->last = p->began;
}

double cli_progress_seconds(const struct cli_progress *p)
{
    return now_s() - p->began;
}

static void add_count(struct buf *out, const struct cli_progress *p, double count, const char *per)
{
    if (bytes_eq(bytes_cstr(p->unit), BYTES("bytes")))
        buf_printf(out, "%.1f MB%s", count / 1e6, per);
    else
        buf_printf(out, "%.0f%s%s", count, per[0] ? per : " ", per[0] ? "" : p->unit);
}

static void add_left(struct buf *out, double seconds)
{
    if (seconds < 60)
        buf_printf(out, ", %.0f s left", seconds);
    else if (seconds < 5400)
        buf_printf(out, ", %.0f min left", seconds / 60);
    else
        buf_printf(out, ", %.1f h left", seconds / 3600);
}

static void tell(struct cli_progress *p, uint64_t done, uint64_t of)
{
    struct buf line = {0};
    double took = now_s() - p->began, rate = took > 0 ? (double)done / took : 0;
    add_count(&line, p, (double)done, "");
    if (of && done <= of)
        buf_printf(&line, " (%.0f%%)", 100.0 * (double)done / (double)of);
    buf_add_cstr(&line, ", ");
    add_count(&line, p, rate, "/s");
    if (of > done && rate > 0 && took > 1)
        add_left(&line, (double)(of - done) / rate);
    fprintf(stderr, p->terminal ? "\r%s\x1b[K" : "%s\n", buf_cstr(&line));
    fflush(stderr);
    p->drawn = p->terminal;
    buf_done(&line);
}

void cli_progress_show(struct cli_progress *p, uint64_t done, uint64_t of)
{
    double now = now_s();
    if ((!p->terminal && !p->lines) || now - p->last < (p->terminal ? DRAW_S : LINE_S))
        return;
    p->last = now;
    tell(p, done, of);
}

void cli_progress_end(struct cli_progress *p, uint64_t done, uint64_t of)
{
    if (p->drawn)
        fputs("\r\x1b[K", stderr);
    else if (p->lines && !p->terminal)
        tell(p, done, of);
    p->drawn = false;
}
