// SPDX-License-Identifier: MIT
//
// history_bench - the history at its size: what writing costs an event, and how long each kind of question takes
//
//     history_bench DIRECTORY [EVENTS [ROUNDS]]
//
// Fills DIRECTORY with the day files of 30 days (once): half acceptances, half what became of them. Every tenth
// message goes to one recipient. Then each question is asked ROUNDS times, and once more with the files out of the
// page cache. Prints one JSON object; times are of the slowest question, and of each.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "event/history_private.h"
#include "event/history_sql.h"
#include "spool/envelope_codec.h"
#include "spool/outcome_codec.h"
#include "spool/tlv.h"

#define DAYS 30
#define DAY_US ((int64_t)86400 * 1000000)
#define TRANSACTION 2000 // records
#define PAGE 100
#define BEHIND 200 // messages accepted before the first is delivered

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// ---- messages ----------------------------------------------------------------------------------------------

struct world {
    struct history history;
    uint64_t messages, sequence;
    struct wall begin;
    int64_t step_us;
    int in_transaction;
    struct buf meta, summary, rest;
};

static struct wall time_of(const struct world *w, uint64_t n)
{
    return (struct wall){w->begin.us + (int64_t)n * w->step_us};
}

static struct message_id id_of(const struct world *w, uint64_t n)
{
    return message_id_make(time_of(w, n), 1, 1, (uint32_t)n);
}

static uint64_t mix(uint64_t n)
{
    n *= UINT64_C(0x9E3779B97F4A7C15);
    return n ^ n >> 29;
}

static struct bytes recipient_of(uint64_t n, struct arena *arena)
{
    return n % 10 == 0 ? BYTES("much@mail.example.com")
                       : arena_printf(arena, "user%llu@mail%llu.example.com", (unsigned long long)n,
                                      (unsigned long long)(mix(n) % 5000));
}

static void fill_envelope(const struct world *w, uint64_t n, struct stored_message *m)
{
    struct envelope *e = m->envelope;
    struct arena *a = &m->arena;
    e->id = id_of(w, n);
    e->accepted_at = time_of(w, n);
    e->expires_at = wall_add_ms(e->accepted_at, (int64_t)5 * 86400 * 1000);
    e->reverse_path =
        arena_printf(a, "shop%llu@sender.example.org", (unsigned long long)(mix(n) % 100));
    e->account = (uint32_t)(n % 10 + 1);
    e->account_name = arena_printf(a, "account%llu", (unsigned long long)(n % 10));
    e->tag = arena_printf(a, "stream%llu", (unsigned long long)(n % 20));
    e->message_id = arena_printf(a, "<%llx.%llu@sender.example.org>", (unsigned long long)mix(n),
                                 (unsigned long long)n);
    e->client = BYTES("192.0.2.17:40404");
    e->listener = BYTES("submission");
    e->credential = BYTES("shop");
    e->header_bytes = 700;
    e->body_bytes = 3400;
    e->recipients_count = 1;
    e->recipients = arena_new(a, sizeof *e->recipients);
    e->recipients[0].number = 1;
    e->recipients[0].address = recipient_of(n, a);
    e->recipients[0].domain =
        bytes_skip(e->recipients[0].address, (size_t)bytes_find(e->recipients[0].address, '@') + 1);
}

static struct spool_outcome outcome_of(const struct world *w, uint64_t n)
{
    bool bad = mix(n) % 50 == 0;
    return (struct spool_outcome){
        .id = id_of(w, n),
        .recipient = 1,
        .attempts = 1,
        .at = wall_add_ms(time_of(w, n), 1500),
        .state = bad ? RECIPIENT_FAILED : RECIPIENT_DELIVERED,
        .event = bad ? SPOOL_EVENT_BOUNCED : SPOOL_EVENT_DELIVERED,
        .code = bad ? 550 : 250,
        .enhanced = bad ? BYTES("5.1.1") : BYTES("2.0.0"),
        .text = bad ? BYTES("no such user here") : BYTES("Ok: queued as 4XyZ123abc"),
        .mx = BYTES("mx.mail.example.com"),
        .ip = BYTES("198.51.100.7:25"),
        .tls = BYTES("TLSv1.3 TLS_AES_256_GCM_SHA384 verified"),
        .lane = BYTES("default>mx.mail.example.com"),
    };
}

// ---- filling -----------------------------------------------------------------------------------------------

static struct bytes meta_of(struct world *w)
{
    char head[8];
    le32_put(head, 0);
    le32_put(head + 4, (uint32_t)w->summary.len);
    buf_clear(&w->meta);
    buf_add_all(&w->meta, bytes_of(head, sizeof head), buf_bytes(&w->summary), buf_bytes(&w->rest));
    return buf_bytes(&w->meta);
}

static void end_transaction(struct world *w)
{
    struct history *h = &w->history;
    if (!w->in_transaction)
        return;
    w->in_transaction = 0;
    CHECK(history_file_commit(&h->file, (struct history_progress){w->sequence, 1}) == OK);
    CHECK(history_file_checkpoint(&h->file));
}

static void end_day(struct world *w)
{
    end_transaction(w);
    if (!w->history.day[0])
        return;
    CHECK(history_file_seal(&w->history.file) == OK);
    history_file_close(&w->history.file);
}

static void put(struct world *w, struct spool_record *record, struct wall at)
{
    struct history *h = &w->history;
    char day[HISTORY_DAY_BYTES], path[HISTORY_PATH_BYTES];
    history_day_of(at, day);
    if (strcmp(day, h->day) != 0) {
        end_day(w);
        memcpy(h->day, day, sizeof day);
        history_path_of(h, day, path);
        CHECK(history_file_open(path, &h->file) == OK);
    }
    if (!w->in_transaction++)
        CHECK(history_file_begin(&h->file) == OK);
    record->sequence = ++w->sequence;
    buf_clear(&h->record_words);
    history_words_add(&h->words, record, &h->record_words);
    struct history_row row = {record, at, (const uint64_t *)(const void *)h->record_words.at,
                              h->record_words.len / sizeof(uint64_t)};
    CHECK(history_file_add(&h->file, &row) == OK);
    if (w->in_transaction == TRANSACTION)
        end_transaction(w);
}

static void put_message(struct world *w, uint64_t n)
{
    struct stored_message *m = stored_message_new();
    fill_envelope(w, n, m);
    buf_clear(&w->summary);
    buf_clear(&w->rest);
    CHECK(envelope_encode(m, &w->summary, &w->rest) == OK);
    struct spool_record record = {.type = SPOOL_RECORD_MESSAGE,
                                  .id = m->envelope->id,
                                  .envelope = m->envelope,
                                  .meta = meta_of(w)};
    put(w, &record, m->envelope->accepted_at);
    stored_message_unref(m);
}

static void put_outcome(struct world *w, uint64_t n)
{
    struct spool_outcome o = outcome_of(w, n);
    buf_clear(&w->summary);
    buf_clear(&w->rest);
    outcome_encode(&o, &w->summary, &w->rest);
    struct spool_record record = {
        .type = SPOOL_RECORD_OUTCOME, .id = o.id, .outcome = o, .meta = meta_of(w)};
    put(w, &record, time_of(w, n + BEHIND));
}

// Seconds of processor time, perhaps those of an earlier run.
static double fill(struct world *w)
{
    char marker[HISTORY_PATH_BYTES];
    snprintf(marker, sizeof marker, "%s/filled", w->history.folder);
    FILE *f = fopen(marker, "re");
    if (f) {
        char line[64] = "";
        CHECK(fgets(line, sizeof line, f) && fclose(f) == 0);
        return strtod(line, NULL);
    }
    double began = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (uint64_t n = 0; n < w->messages + BEHIND; n++) {
        if (n < w->messages)
            put_message(w, n);
        if (n >= BEHIND)
            put_outcome(w, n - BEHIND);
    }
    end_day(w);
    double took = seconds(CLOCK_PROCESS_CPUTIME_ID) - began;
    f = fopen(marker, "we");
    CHECK(f && fprintf(f, "%.3f\n", took) > 0 && fclose(f) == 0);
    return took;
}

// ---- questions ---------------------------------------------------------------------------------------------

struct ask {
    const char *name;
    struct history_filter filter;
    bool none; // nothing is to be found
    double warm_ms, cold_ms, cpu_ms;
};

static void count_one(void *ctx, const struct history_event *event)
{
    (void)event;
    ++*(size_t *)ctx;
}

static double ask_once(struct world *w, struct ask *ask)
{
    size_t found = 0;
    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), began = seconds(CLOCK_MONOTONIC);
    CHECK(history_search(&w->history, &ask->filter, BYTES_NONE, PAGE, count_one, &found) == OK);
    double took = (seconds(CLOCK_MONOTONIC) - began) * 1000;
    ask->cpu_ms = (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) * 1000;
    CHECK(ask->none ? found == 0 : found > 0 && found <= PAGE);
    return took;
}

static void leave_cache(const struct world *w)
{
    struct history_days days = history_list_days(&w->history);
    for (size_t i = 0; i < days.count; i++) {
        char path[HISTORY_PATH_BYTES];
        history_path_of(&w->history, days.at[i], path);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0 && fdatasync(fd) == 0);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
    free(days.at);
}

static int by_size(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void measure(struct world *w, struct ask *ask, size_t rounds)
{
    double *took = mem_new(rounds * sizeof *took);
    for (size_t i = 0; i < rounds; i++)
        took[i] = ask_once(w, ask);
    qsort(took, rounds, sizeof *took, by_size);
    ask->warm_ms = took[rounds / 2];
    free(took);
    double cpu_ms = ask->cpu_ms;
    leave_cache(w);
    ask->cold_ms = ask_once(w, ask);
    ask->cpu_ms = cpu_ms;
}

static double bytes_of_table(const struct world *w, const char *sql)
{
    struct history_days days = history_list_days(&w->history);
    double sum = 0;
    for (size_t i = 0; i < days.count; i++) {
        char path[HISTORY_PATH_BYTES];
        struct history_view view;
        sqlite3_stmt *st = NULL;
        const struct history_statement statement = {&st, sql};
        history_path_of(&w->history, days.at[i], path);
        CHECK(history_view_open(path, &view) == OK);
        CHECK(history_sql_prepare(view.db, &statement, 1) == OK && sqlite3_step(st) == SQLITE_ROW);
        sum += sqlite3_column_double(st, 0);
        sqlite3_finalize(st);
        history_view_close(&view);
    }
    free(days.at);
    return sum;
}

static void print(const struct world *w, struct ask *asks, size_t count, double fill_s)
{
    double events = (double)w->messages * 2, warm = 0, cold = 0, cpu = 0;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"events\":%.0f,\"fill_us_per_event\":%.2f", events, fill_s * 1e6 / events);
    printf(",\"index_bytes_per_event\":%.1f",
           bytes_of_table(w, "SELECT coalesce((SELECT sum(length(data) + 20) FROM leaf), 0) + "
                             "coalesce((SELECT sum(length(data) + 20) FROM notes), 0)") /
               events);
    printf(",\"bytes_per_event\":%.0f",
           bytes_of_table(w, "SELECT page_count * page_size FROM pragma_page_count, "
                             "pragma_page_size") /
               events);
    for (size_t i = 0; i < count; i++) {
        warm = asks[i].warm_ms > warm ? asks[i].warm_ms : warm;
        cold = asks[i].cold_ms > cold ? asks[i].cold_ms : cold;
        cpu = asks[i].cpu_ms > cpu ? asks[i].cpu_ms : cpu;
        printf(",\"%s_ms\":%.2f,\"%s_cold_ms\":%.2f,\"%s_cpu_ms\":%.2f", asks[i].name,
               asks[i].warm_ms, asks[i].name, asks[i].cold_ms, asks[i].name, asks[i].cpu_ms);
    }
    printf(
        ",\"worst_ms\":%.2f,\"worst_cold_ms\":%.2f,\"worst_cpu_ms\":%.2f,\"rss_peak_bytes\":%ld}\n",
        warm, cold, cpu, usage.ru_maxrss * 1024);
}

int main(int argc, char **argv)
{
    uint64_t events = 10000000, rounds = 5;
    if (argc < 2 || (argc > 2 && bytes_to_u64(bytes_cstr(argv[2]), 1000000000, &events)) ||
        (argc > 3 && bytes_to_u64(bytes_cstr(argv[3]), 1000, &rounds)) || events < 2000 || !rounds)
        return 64;
    struct world *w = mem_new(sizeof *w);
    snprintf(w->history.folder, sizeof w->history.folder, "%s", argv[1]);
    CHECK(mkdir(argv[1], 0700) == 0 || access(argv[1], W_OK) == 0);
    atomic_store(&w->history.damage_told, true); // nobody would listen
    w->messages = events / 2;
    w->begin.us = (int64_t)20000 * DAY_US;
    w->step_us = DAYS * DAY_US / (int64_t)w->messages;
    double fill_s = fill(w);

    struct arena arena = {0};
    uint64_t middle = w->messages / 2 + 1;
    struct stored_message *m = stored_message_new();
    fill_envelope(w, middle, m);
    struct bytes much = BYTES("much@mail.example.com"), bad = BYTES("nobody@mail.example.net");
    struct ask asks[] = {
        {"recipient_of_a_tenth", {.recipient = much}},
        {"recipient", {.recipient = m->envelope->recipients[0].address}},
        {"recipient_absent", {.recipient = bad}, true},
        {"domain",
         {.recipient =
              arena_printf(&arena, "@%.*s", BYTES_FMT(m->envelope->recipients[0].domain))}},
        {"sender", {.sender = m->envelope->reverse_path}},
        {"message_id", {.message_id = m->envelope->message_id}},
        {"message_id_absent", {.message_id = BYTES("<nothing@example.net>")}, true},
        {"tag", {.tag = BYTES("stream3")}},
        {"account", {.account = BYTES("account3")}},
        {"time", {.since = time_of(w, middle), .until = time_of(w, middle + 1000)}},
        {"bounces_of_a_tenth", {.recipient = much, .typed = true, .type = SPOOL_EVENT_BOUNCED}},
        {"recipient_until", {.recipient = much, .until = time_of(w, middle)}},
        {"tag_and_sender", {.tag = BYTES("stream3"), .sender = m->envelope->reverse_path}},
        {"never_together", {.tag = BYTES("stream3"), .account = BYTES("account4")}, true},
    };
    for (size_t i = 0; i < COUNT_OF(asks); i++)
        measure(w, &asks[i], rounds);
    print(w, asks, COUNT_OF(asks), fill_s);
    stored_message_unref(m);
    arena_done(&arena);
    history_words_done(&w->history.words);
    free(w);
    return 0;
}
