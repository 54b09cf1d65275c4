// SPDX-License-Identifier: MIT
#include "deliver/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/list.h"
#include "base/log.h"

enum shelf_name { SHELF_DELIVERED, SHELF_FAILED, SHELF_RECORDED, SHELVES };

// Eighths of the memory.
static const size_t SHARES[SHELVES] = {
    [SHELF_DELIVERED] = 3, [SHELF_FAILED] = 4, [SHELF_RECORDED] = 1};

struct kept {
    struct list link;
    size_t bytes;
    struct trace_attempt attempt; // its slices are in data[]
    char data[];
};

struct shelf {
    struct list kept; // the oldest first
    size_t bytes, max;
};

struct trace {
    pthread_mutex_t lock;
    struct shelf shelves[SHELVES];
    struct trace_watch watches[TRACE_WATCHES_MAX];
    size_t watches_count;
    atomic_size_t watched; // watches_count, to be asked without the lock
    char path[4096];       // of the file that has them; empty: none
};

const char *trace_result_name(enum trace_result result)
{
    static const char *const NAMES[] = {"delivered", "failed", "deferred", "mixed"};
    return NAMES[result];
}

struct trace *trace_new(size_t bytes)
{
    struct trace *t = mem_new(sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    for (size_t i = 0; i < SHELVES; i++) {
        list_init(&t->shelves[i].kept);
        t->shelves[i].max = bytes / 8 * SHARES[i];
    }
    return t;
}

static void drop_oldest(struct shelf *s)
{
    struct kept *k = list_get(list_pop_front(&s->kept), struct kept, link);
    s->bytes -= k->bytes;
    free(k);
}

void trace_free(struct trace *t)
{
    for (size_t i = 0; t && i < SHELVES; i++)
        while (!list_is_empty(&t->shelves[i].kept))
            drop_oldest(&t->shelves[i]);
    if (t)
        pthread_mutex_destroy(&t->lock);
    free(t);
}

// ---- attempts ----------------------------------------------------------------------------------------------

static struct bytes move_in(char **at, struct bytes from)
{
    struct bytes kept = bytes_of(*at, from.len);
    if (from.len)
        memcpy(*at, from.at, from.len);
    *at += from.len;
    return kept;
}

static struct kept *copy(const struct trace_attempt *a)
{
    uint32_t count = a->numbers_count < TRACE_NUMBERS_MAX ? a->numbers_count : TRACE_NUMBERS_MAX;
    size_t numbers = count * sizeof *a->numbers;
    size_t bytes = sizeof(struct kept) + numbers + a->lane.len + a->mx.len + a->ip.len +
                   a->tls.len + a->opening.len + a->first.len + a->last.len;
    struct kept *k = mem_new(bytes);
    char *at = k->data;
    k->bytes = bytes;
    k->attempt = *a;
    k->attempt.numbers_count = count;
    k->attempt.numbers =
        (const uint32_t *)(const void *)move_in(&at, bytes_of(a->numbers, numbers)).at;
    k->attempt.lane = move_in(&at, a->lane);
    k->attempt.mx = move_in(&at, a->mx);
    k->attempt.ip = move_in(&at, a->ip);
    k->attempt.tls = move_in(&at, a->tls);
    k->attempt.opening = move_in(&at, a->opening);
    k->attempt.first = move_in(&at, a->first);
    k->attempt.last = move_in(&at, a->last);
    return k;
}

static void log_part(const struct trace_attempt *a, const char *id, struct bytes part)
{
    struct dialogue_line line;
    while (dialogue_take(&part, &line))
        log_info("trace", LOG_CSTR("id", id), LOG_STR("mx", a->mx), LOG_INT("ms", line.ms),
                 LOG_CSTR("from", line.from == DIALOGUE_US       ? "us"
                                  : line.from == DIALOGUE_SERVER ? "server"
                                                                 : "note"),
                 LOG_STR("line", line.text));
}

static void log_attempt(const struct trace_attempt *a)
{
    char id[MESSAGE_ID_CHARS + 1];
    message_id_format(a->id, id);
    log_part(a, id, a->opening);
    log_part(a, id, a->first);
    log_part(a, id, a->last);
}

void trace_keep(struct trace *t, const struct trace_attempt *attempt)
{
    struct shelf *s = &t->shelves[attempt->recorded                    ? SHELF_RECORDED
                                  : attempt->result == TRACE_DELIVERED ? SHELF_DELIVERED
                                                                       : SHELF_FAILED];
    struct kept *k = copy(attempt);
    pthread_mutex_lock(&t->lock);
    list_push_back(&s->kept, &k->link);
    s->bytes += k->bytes;
    while (s->bytes > s->max)
        drop_oldest(s);
    pthread_mutex_unlock(&t->lock);
    if (attempt->recorded)
        log_attempt(attempt);
}

static bool is_of(const struct trace_attempt *a, struct message_id id, uint32_t number)
{
    if (!message_id_eq(a->id, id))
        return false;
    for (uint32_t i = 0; number && i < a->numbers_count; i++)
        if (a->numbers[i] == number)
            return true;
    return !number;
}

static const struct trace_attempt *find_on(const struct shelf *s, struct message_id id,
                                           uint32_t number)
{
    for (const struct list *link = s->kept.prev; link != &s->kept; link = link->prev) {
        const struct kept *k = container_of(link, const struct kept, link);
        if (is_of(&k->attempt, id, number))
            return &k->attempt;
    }
    return NULL;
}

int trace_find(struct trace *t, struct message_id id, uint32_t number,
               void (*found)(void *ctx, const struct trace_attempt *attempt), void *ctx)
{
    const struct trace_attempt *last = NULL;
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < SHELVES; i++) {
        const struct trace_attempt *a = find_on(&t->shelves[i], id, number);
        last = a && (!last || a->at.us >= last->at.us) ? a : last;
    }
    if (last)
        found(ctx, last);
    pthread_mutex_unlock(&t->lock);
    return last ? OK : E_NOT_FOUND;
}

// ---- who is watched ----------------------------------------------------------------------------------------

static void remove_at(struct trace *t, size_t i)
{
    t->watches[i] = t->watches[--t->watches_count];
    atomic_store(&t->watched, t->watches_count);
}

static void remove_ended(struct trace *t, struct wall now)
{
    for (size_t i = t->watches_count; i > 0; i--)
        if (wall_reached(t->watches[i - 1].until, now))
            remove_at(t, i - 1);
}

// Its place; watches_count: it is not there.
static size_t place_of(const struct trace *t, struct bytes pattern)
{
    size_t i = 0;
    while (i < t->watches_count && !bytes_eq_nocase(bytes_cstr(t->watches[i].pattern), pattern))
        i++;
    return i;
}

// In place of the file that was: a line each, "UNTIL PATTERN".
static int write_whole(const char *path, struct bytes text)
{
    char made[4200];
    snprintf(made, sizeof made, "%s.new", path);
    int fd = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && write(fd, text.at, text.len) == (ssize_t)text.len && fdatasync(fd) == 0;
    int err = ok ? OK : err_from_errno(errno);
    if (fd >= 0)
        close(fd);
    return err || rename(made, path) == 0 ? err : err_from_errno(errno);
}

static int save_watches(struct trace *t)
{
    struct buf text = {0};
    if (!t->path[0])
        return OK;
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->watches_count; i++)
        buf_printf(&text, "%lld %s\n", (long long)t->watches[i].until.us, t->watches[i].pattern);
    pthread_mutex_unlock(&t->lock);
    int err = write_whole(t->path, bytes_of(text.at ? text.at : "", text.len));
    buf_done(&text);
    return err;
}

static void take_watch(struct trace *t, struct bytes line)
{
    struct bytes until;
    uint64_t us;
    if (bytes_cut(&line, ' ', &until) && bytes_to_u64(until, INT64_MAX, &us) == OK && line.len)
        (void)!trace_watch_add(t, line, (struct wall){(int64_t)us});
}

void trace_keep_watches(struct trace *t, struct bytes path)
{
    char line[TRACE_PATTERN_MAX + 32], name[4096];
    snprintf(name, sizeof name, "%.*s", BYTES_FMT(path));
    FILE *f = fopen(name, "re");
    while (f && fgets(line, sizeof line, f))
        take_watch(t, bytes_trim(bytes_cstr(line)));
    if (f)
        fclose(f);
    memcpy(t->path, name, sizeof t->path);
}

int trace_watch_add(struct trace *t, struct bytes pattern, struct wall until)
{
    if (pattern.len > TRACE_PATTERN_MAX)
        return E_LIMIT;
    pthread_mutex_lock(&t->lock);
    size_t i = place_of(t, pattern);
    int err = i < TRACE_WATCHES_MAX ? OK : E_FULL;
    if (!err) {
        snprintf(t->watches[i].pattern, sizeof t->watches[i].pattern, "%.*s", BYTES_FMT(pattern));
        t->watches[i].until = until;
        t->watches_count += i == t->watches_count;
        atomic_store(&t->watched, t->watches_count);
    }
    pthread_mutex_unlock(&t->lock);
    return err ? err : save_watches(t);
}

int trace_watch_remove(struct trace *t, struct bytes pattern)
{
    pthread_mutex_lock(&t->lock);
    size_t i = place_of(t, pattern);
    int err = i < t->watches_count ? OK : E_NOT_FOUND;
    if (!err)
        remove_at(t, i);
    pthread_mutex_unlock(&t->lock);
    return err ? err : save_watches(t);
}

size_t trace_watches(struct trace *t, struct wall now, struct trace_watch *out)
{
    pthread_mutex_lock(&t->lock);
    remove_ended(t, now);
    size_t count = t->watches_count;
    memcpy(out, t->watches, count * sizeof *out);
    pthread_mutex_unlock(&t->lock);
    return count;
}

static bool is_domain_of(const struct trace_watch *w, struct bytes domain)
{
    return w->pattern[0] == '@' && bytes_eq_nocase(bytes_cstr(w->pattern + 1), domain);
}

bool trace_is_watched(struct trace *t, struct bytes address, struct bytes domain, struct wall now)
{
    if (!atomic_load_explicit(&t->watched, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&t->lock);
    remove_ended(t, now);
    bool is = place_of(t, address) < t->watches_count;
    for (size_t i = 0; i < t->watches_count && !is; i++)
        is = is_domain_of(&t->watches[i], domain);
    pthread_mutex_unlock(&t->lock);
    return is;
}
