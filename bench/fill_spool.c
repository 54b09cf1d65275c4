// SPDX-License-Identifier: MIT
//
// fill_spool - a spool full of deferred mail, fast: what a restart with a long queue is measured with
//
//     fill-spool --spool DIR [--state DIR] --messages N --domains N [--recipients-per-message N]
//                [--size BYTES] [--next-in SECONDS] [--due N] [--due-last] [--domain-suffix NAME] [--crash]
//
// Each message goes to recipients of one domain, dNNNNNNN.NAME (default "bench.example"), and has been deferred
// once: the next attempt is SECONDS from now (default 3600; the service's retry.max must not be less, or it is
// brought forward), at once for the first recipients of N messages (--due), evenly among the others or, with
// --due-last, the very last. With --state the day file says that all this has been copied (it holds none of it); without,
// the service copies it when it starts. --crash ends as by kill -9, the open segment unsealed. Prints one JSON
// object.
#include <getopt.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "event/history_file.h"
#include "spool/spool.h"

#define WINDOW 4000 // frames under way

struct options {
    const char *spool, *state, *suffix;
    uint32_t messages, domains, recipients, due;
    uint32_t size, next_in_s;
    bool crash, due_last;
};

struct filling {
    struct options o;
    struct spool *spool;
    struct sys_task start;
    uint32_t begun, done;
    struct wall now;
    char *body;
    sem_t finished;
};

static int failed(const char *what, int err)
{
    fprintf(stderr, "fill-spool: %s: %s\n", what, err_text(err));
    return 75;
}

// ---- one message -----------------------------------------------------------------------------------------

static void fill_envelope(struct filling *f, struct stored_message *m, uint32_t n)
{
    struct envelope *e = m->envelope;
    e->id = spool_next_id(f->spool, f->now);
    e->accepted_at = f->now;
    e->expires_at = wall_add_ms(f->now, 5 * 86400000LL);
    e->reverse_path = BYTES("sender@bench.example");
    e->account = 1;
    e->account_name = BYTES("bench");
    e->credential = BYTES("bench");
    e->class = MAIL_BULK;
    e->listener = BYTES("submission");
    e->client = BYTES("192.0.2.1:4711");
    e->helo = BYTES("client.bench.example");
    e->message_id = arena_printf(&m->arena, "<%u@client.bench.example>", n);
    e->recipients_count = f->o.recipients;
    e->recipients = arena_new(&m->arena, e->recipients_count * sizeof(*e->recipients));
    struct bytes domain = arena_printf(&m->arena, "d%07u.%s", n % f->o.domains, f->o.suffix);
    for (uint32_t i = 0; i < e->recipients_count; i++)
        e->recipients[i] = (struct recipient){
            .number = i + 1,
            .address = arena_printf(&m->arena, "user%u@%.*s", i + 1, BYTES_FMT(domain)),
            .domain = domain};
}

static struct stored_message *make_message(struct filling *f, uint32_t n)
{
    struct stored_message *m = stored_message_new();
    fill_envelope(f, m, n);
    m->header = arena_printf(&m->arena,
                             "From: <sender@bench.example>\r\nTo: <user1@d%07u.%s>\r\n"
                             "Subject: message %u\r\nMessage-ID: %.*s\r\n"
                             "Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMIME-Version: 1.0\r\n\r\n",
                             n % f->o.domains, f->o.suffix, n, BYTES_FMT(m->envelope->message_id));
    m->envelope->header_bytes = m->header.len;
    chain_add(&m->body, bytes_of(f->body, f->o.size));
    m->envelope->body_bytes = f->o.size;
    return m;
}

static bool is_due(const struct options *o, uint32_t n)
{
    if (o->due == 0 || o->due_last)
        return o->messages - n <= o->due;
    uint32_t every = o->messages > o->due ? o->messages / o->due : 1;
    return n % every == every / 2;
}

static void on_committed(void *ctx, int err);

static void next_message(struct filling *f)
{
    uint32_t n = f->begun++;
    bool due = is_due(&f->o, n);
    struct stored_message *m = make_message(f, n);
    struct spool_frame *frame = spool_frame_new(SPOOL_OUTCOME);
    spool_frame_add_message(frame, m);
    for (uint32_t i = 0; i < f->o.recipients; i++)
        spool_frame_add_outcome(
            frame, &(struct spool_outcome){
                       .id = m->envelope->id,
                       .recipient = i + 1,
                       .state = RECIPIENT_QUEUED,
                       .event = SPOOL_EVENT_DEFERRED,
                       .attempts = 1,
                       .at = f->now,
                       .next_attempt_at = wall_add_ms(
                           f->now, due && i == 0 ? 0 : (int64_t)f->o.next_in_s * 1000 + n % 60000),
                       .mx = BYTES("mx.bench.example"),
                       .ip = BYTES("192.0.2.25:25"),
                       .lane = BYTES("default->mx.bench.example"),
                       .code = 451,
                       .enhanced = BYTES("4.7.1"),
                       .text = BYTES("Greylisted, please try again later")});
    stored_message_unref(m);
    spool_commit(f->spool, frame, on_committed, f);
}

static void on_committed(void *ctx, int err)
{
    struct filling *f = ctx;
    if (err)
        _exit(failed("a message", err));
    if (++f->done == f->o.messages)
        sem_post(&f->finished);
    else if (f->begun < f->o.messages)
        next_message(f);
}

static void run_start(struct sys_task *task)
{
    struct filling *f = container_of(task, struct filling, start);
    for (uint32_t i = 0; i < WINDOW && f->begun < f->o.messages; i++)
        next_message(f);
}

// ---- all of it -------------------------------------------------------------------------------------------

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void report(const struct filling *f, double took)
{
    struct spool_stats s;
    spool_get_stats(f->spool, &s);
    printf("{\"messages\":%u,\"recipients\":%llu,\"domains\":%u,\"due\":%u,\"size\":%u,"
           "\"history\":%s,\"crashed\":%s,\"seconds\":%.2f,\"spool_bytes\":%llu}\n",
           f->o.messages, (unsigned long long)f->o.messages * f->o.recipients, f->o.domains,
           f->o.due, f->o.size, f->o.state ? "true" : "false", f->o.crash ? "true" : "false", took,
           (unsigned long long)s.segment_bytes);
}

static int mark_copied(const struct filling *f)
{
    char path[4096], day[16];
    struct history_file file;
    struct spool_stats s;
    time_t now = (time_t)(f->now.us / 1000000);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(day, sizeof(day), "%Y%m%d", &tm);
    snprintf(path, sizeof(path), "%s/events", f->o.state);
    (void)mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/events/%s.db", f->o.state, day);
    spool_get_stats(f->spool, &s);
    int err = history_file_open(path, &file);
    if (err)
        return err;
    err = history_file_begin(&file);
    if (!err)
        err = history_file_commit(&file, (struct history_progress){s.sequence, 1});
    history_file_close(&file);
    return err;
}

static int fill(struct filling *f)
{
    struct spool_options options = {.directory = f->o.spool};
    double began = seconds();
    int err = spool_open(&options, NULL, &f->spool);
    if (err)
        return failed("the spool", err);
    spool_start(f->spool);
    struct sys_loop *loop = sys_loop_start("fill");
    f->start.run = run_start;
    sys_post(loop, &f->start);
    while (sem_wait(&f->finished))
        ;
    if (!f->o.crash)
        spool_stop(f->spool);
    err = f->o.state ? mark_copied(f) : OK;
    if (err)
        return failed("the history", err);
    report(f, seconds() - began);
    fflush(stdout);
    if (f->o.crash)
        _exit(0);
    sys_loop_stop(loop);
    spool_close(f->spool);
    free(f->body);
    return 0;
}

static const struct option LONG[] = {
    {"spool", required_argument, NULL, 's'},
    {"state", required_argument, NULL, 't'},
    {"messages", required_argument, NULL, 'm'},
    {"domains", required_argument, NULL, 'd'},
    {"recipients-per-message", required_argument, NULL, 'r'},
    {"size", required_argument, NULL, 'b'},
    {"next-in", required_argument, NULL, 'n'},
    {"due", required_argument, NULL, 'u'},
    {"domain-suffix", required_argument, NULL, 'x'},
    {"due-last", no_argument, NULL, 'l'},
    {"crash", no_argument, NULL, 'c'},
    {NULL, 0, NULL, 0},
};

static bool read_options(int argc, char **argv, struct options *o)
{
    for (int c; (c = getopt_long(argc, argv, "", LONG, NULL)) != -1;) {
        uint32_t number = optarg ? (uint32_t)strtoul(optarg, NULL, 10) : 0;
        switch (c) {
        case 's':
            o->spool = optarg;
            break;
        case 't':
            o->state = optarg;
            break;
        case 'm':
            o->messages = number;
            break;
        case 'd':
            o->domains = number;
            break;
        case 'r':
            o->recipients = number;
            break;
        case 'b':
            o->size = number;
            break;
        case 'n':
            o->next_in_s = number;
            break;
        case 'u':
            o->due = number;
            break;
        case 'x':
            o->suffix = optarg;
            break;
        case 'l':
            o->due_last = true;
            break;
        case 'c':
            o->crash = true;
            break;
        default:
            return false;
        }
    }
    return optind == argc && o->spool && o->messages && o->domains && o->recipients &&
           o->recipients < SPOOL_FRAME_RECORDS && o->size <= STORED_INLINE_MAX &&
           strlen(o->suffix) < 200;
}

int main(int argc, char **argv)
{
    struct filling f = {
        .o = {.recipients = 1, .size = 1024, .next_in_s = 3600, .suffix = "bench.example"}};
    if (!read_options(argc, argv, &f.o)) {
        fprintf(
            stderr,
            "usage: fill-spool --spool DIR [--state DIR] --messages N --domains N\n"
            "                  [--recipients-per-message N] [--size BYTES] [--next-in SECONDS]\n"
            "                  [--due N] [--due-last] [--domain-suffix NAME] [--crash]\n");
        return 64;
    }
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    f.now.us = (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
    f.body = mem_new((size_t)f.o.size + 1);
    for (uint32_t i = 0; i < f.o.size; i++)
        f.body[i] = i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : 'x';
    sem_init(&f.finished, 0, 0);
    return fill(&f);
}
