// SPDX-License-Identifier: MIT
//
// How it works: the list's loop owns the database. Questions run there as they come; changes that arrive in one turn
// share a transaction, and so a flush. Loading, expiry and copies go in slices, so that a question waits for a slice
// at most. Whatever is asked copies what it needs and travels as one task: there, and back to who asked.
#include "store/suppress.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "store/suppress_private.h"

#define LOAD_SLICE 10000 // entries a turn
#define SWEEP_MS 60000   // between two looks for entries whose time is over
#define SWEEP_SLICE 500
#define SWEEP_TRUST_MS 3600000 // that the clock may have gone on between two looks
#define COPY_PAGES 512         // a turn
#define RETRY_MS 1000          // after a failure

// ---- words -----------------------------------------------------------------------------------------------

static const char *const REASONS[SUPPRESS_REASONS] = {"", "hard-bounce", "complaint", "unsubscribe",
                                                      "manual"};

const char *suppress_reason_name(enum suppress_reason reason)
{
    return reason < SUPPRESS_REASONS ? REASONS[reason] : "";
}

int suppress_reason_parse(struct bytes name, enum suppress_reason *out)
{
    for (int i = 1; i < SUPPRESS_REASONS; i++)
        if (bytes_eq(name, bytes_cstr(REASONS[i]))) {
            *out = (enum suppress_reason)i;
            return OK;
        }
    return E_SYNTAX;
}

const char *suppress_scope_name(enum suppress_scope scope)
{
    static const char *const NAMES[] = {"service", "account", "stream"};
    return NAMES[scope];
}

static void add_day(struct wall t, struct buf *out)
{
    struct civil c;
    wall_split(t, &c);
    buf_printf(out, "%04d-%02d-%02d", c.year, c.month, c.day);
}

void suppress_hit_format(const struct suppress_hit *hit, struct bytes account, struct buf *out)
{
    buf_printf(out, "%s since ", suppress_reason_name(hit->reason));
    add_day(hit->since, out);
    if (hit->expires.us) {
        buf_add_cstr(out, " until ");
        add_day(hit->expires, out);
    }
    if (hit->scope == SUPPRESS_SERVICE)
        buf_add_cstr(out, ", for the whole service");
    else if (account.len)
        buf_printf(out, ", for %s account %.*s",
                   hit->scope == SUPPRESS_STREAM ? "this stream of" : "all mail of",
                   BYTES_FMT(account));
    else
        buf_add_cstr(out, ", for mail without an account");
}

// ---- questions -------------------------------------------------------------------------------------------

static bool has(struct suppress *s, int64_t account, struct bytes stream, struct bytes canonical)
{
    return suppress_table_has(&s->table, suppress_key_hash(&s->table, account, stream, canonical));
}

bool suppress_may_hit(const struct suppress *list, uint32_t account, struct bytes stream,
                      struct bytes address)
{
    struct suppress *s = (struct suppress *)(uintptr_t)list; // its locks change, nothing else
    struct suppress_address a;
    if (!s || suppress_address_parse(address, &a))
        return false;
    if (!atomic_load_explicit(&s->loaded, memory_order_acquire))
        return true;
    struct bytes canonical = suppress_address_text(&a);
    return has(s, SUPPRESS_NOBODY, BYTES_NONE, canonical) ||
           has(s, account, BYTES_NONE, canonical) ||
           (stream.len && has(s, account, stream, canonical));
}

struct suppress_ask {
    struct sys_task task;
    struct suppress *suppress;
    struct sys_loop *home;
    struct arena arena;
    uint32_t account, count;
    struct bytes stream, *addresses;
    struct suppress_hit *hits;
    int err;
    void (*done)(void *ctx, int err, const struct suppress_hit *hits); // home's; NULL: cancelled
    void *ctx;
};

static void on_answer(struct sys_task *task)
{
    struct suppress_ask *ask = container_of(task, struct suppress_ask, task);
    if (ask->done)
        ask->done(ask->ctx, ask->err, ask->hits);
    arena_done(&ask->arena);
    free(ask);
}

static void on_ask(struct sys_task *task)
{
    struct suppress_ask *ask = container_of(task, struct suppress_ask, task);
    struct suppress *s = ask->suppress;
    struct wall now = sys_wall();
    for (uint32_t i = 0; i < ask->count && !ask->err; i++)
        ask->err = suppress_list_find(s->list, ask->account, ask->stream, ask->addresses[i], now,
                                      &ask->hits[i]);
    if (ask->err)
        log_error("the suppression list can't be asked", LOG_ERR(ask->err));
    atomic_fetch_add_explicit(&s->questions, ask->count, memory_order_relaxed);
    ask->task.run = on_answer;
    sys_post(ask->home, &ask->task);
}

struct suppress_ask *suppress_ask(struct suppress *s, uint32_t account, struct bytes stream,
                                  const struct bytes *addresses, uint32_t count,
                                  void (*done)(void *ctx, int err, const struct suppress_hit *hits),
                                  void *ctx)
{
    struct suppress_ask *ask = mem_new(sizeof *ask);
    ask->suppress = s;
    ask->home = sys_loop_self();
    ask->account = account;
    ask->count = count;
    ask->stream = arena_dup(&ask->arena, stream);
    ask->addresses = arena_new(&ask->arena, count * sizeof *ask->addresses);
    ask->hits = arena_new(&ask->arena, count * sizeof *ask->hits);
    for (uint32_t i = 0; i < count; i++) {
        ask->addresses[i] = arena_dup(&ask->arena, addresses[i]);
        ask->hits[i] = (struct suppress_hit){0};
    }
    ask->done = done;
    ask->ctx = ctx;
    ask->task.run = on_ask;
    sys_post(s->loop, &ask->task);
    return ask;
}

void suppress_cancel(struct suppress_ask *ask)
{
    ask->done = NULL;
}

// ---- changes ---------------------------------------------------------------------------------------------

struct change {
    struct sys_task task;
    struct list link;
    struct suppress *suppress;
    struct sys_loop *home; // NULL: the list's
    struct arena arena;
    struct suppress_entry entry;
    struct bytes actor;
    bool is_removal;
    int err;
    void (*done)(void *ctx, int err);
    void *ctx;
};

void suppress_note_counts(struct suppress *s)
{
    struct suppress_list_counts c = suppress_list_counts(s->list);
    atomic_store_explicit(&s->added, c.added, memory_order_relaxed);
    atomic_store_explicit(&s->removed, c.removed, memory_order_relaxed);
    atomic_store_explicit(&s->expired, c.expired, memory_order_relaxed);
}

static void on_changed(struct sys_task *task)
{
    struct change *c = container_of(task, struct change, task);
    if (c->done)
        c->done(c->ctx, c->err);
    arena_done(&c->arena);
    free(c);
}

static void answer_change(struct change *c, int err)
{
    c->err = c->err ? c->err : err;
    c->task.run = on_changed;
    if (c->home)
        sys_post(c->home, &c->task);
    else
        on_changed(&c->task);
}

static int apply_change(struct suppress *s, struct change *c, struct wall now)
{
    bool changed;
    uint32_t removed;
    int err = c->is_removal ? suppress_list_remove(s->list, &c->entry, c->actor, now, &removed)
                            : suppress_list_add(s->list, &c->entry, c->actor, now, &changed);
    if (err != E_SYNTAX)
        return err;
    c->err = err; // its own trouble, not the others'
    return OK;
}

// All changes of this turn, in one transaction.
static void on_turn_end(struct sys_turn_end *end)
{
    struct suppress *s = container_of(end, struct suppress, turn_end);
    struct wall now = sys_wall();
    sys_hand_over(); // what was answered in this turn; this loop blocks now
    int err = suppress_list_begin(s->list);
    list_each(link, &s->changes)
    {
        if (!err)
            err = apply_change(s, list_get(link, struct change, link), now);
    }
    if (!err)
        err = suppress_list_commit(s->list);
    else
        suppress_list_rollback(s->list);
    if (err)
        log_error("the suppression list is not changed", LOG_ERR(err));
    suppress_note_counts(s);
    list_each(link, &s->changes)
    {
        struct change *c = list_get(link, struct change, link);
        list_remove(&c->link);
        answer_change(c, err);
    }
}

static void on_change(struct sys_task *task)
{
    struct change *c = container_of(task, struct change, task);
    list_push_back(&c->suppress->changes, &c->link);
    sys_at_turn_end(&c->suppress->turn_end);
}

static void change(struct suppress *s, const struct suppress_entry *entry, bool is_removal,
                   struct bytes actor, struct sys_loop *home, void (*done)(void *ctx, int err),
                   void *ctx)
{
    struct change *c = mem_new(sizeof *c);
    c->suppress = s;
    c->home = home;
    c->entry = *entry;
    c->entry.address = arena_dup(&c->arena, entry->address);
    c->entry.stream = arena_dup(&c->arena, entry->stream);
    c->entry.note = arena_dup(&c->arena, entry->note);
    c->actor = arena_dup(&c->arena, actor);
    c->is_removal = is_removal;
    c->done = done;
    c->ctx = ctx;
    c->task.run = on_change;
    sys_post(s->loop, &c->task);
}

void suppress_add(struct suppress *s, const struct suppress_entry *entry, struct bytes actor,
                  struct sys_loop *home, void (*done)(void *ctx, int err), void *ctx)
{
    change(s, entry, false, actor, home, done, ctx);
}

void suppress_remove(struct suppress *s, const struct suppress_entry *entry, struct bytes actor,
                     struct sys_loop *home, void (*done)(void *ctx, int err), void *ctx)
{
    change(s, entry, true, actor, home, done, ctx);
}

// ---- commands --------------------------------------------------------------------------------------------

struct command {
    struct sys_task task;
    struct suppress *suppress;
    struct suppress_op op;
    struct arena arena;
    void (*done)(void *ctx, int err, struct json_object *result, struct bytes error);
    void *ctx;
};

static void on_command(struct sys_task *task)
{
    struct command *c = container_of(task, struct command, task);
    struct json_object *result = NULL;
    struct buf error = {0};
    c->op.now = sys_wall();
    sys_hand_over();
    int err = suppress_list_apply(c->suppress->list, &c->op, &result, &error);
    suppress_note_counts(c->suppress);
    c->done(c->ctx, err, result, buf_bytes(&error));
    buf_done(&error);
    arena_done(&c->arena);
    free(c);
}

void suppress_command(struct suppress *s, const char *op, struct json_object *args,
                      const struct store_directory *directory, struct bytes actor,
                      void (*done)(void *ctx, int err, struct json_object *result,
                                   struct bytes error),
                      void *ctx)
{
    struct command *c = mem_new(sizeof *c);
    c->suppress = s;
    c->op = (struct suppress_op){.name = arena_cstr(&c->arena, bytes_cstr(op)),
                                 .args = args,
                                 .actor = arena_dup(&c->arena, actor),
                                 .directory = directory};
    c->done = done;
    c->ctx = ctx;
    c->task.run = on_command;
    sys_post(s->loop, &c->task);
}

// ---- copies ----------------------------------------------------------------------------------------------

struct copy {
    struct sys_task task;
    struct list link; // in suppress->copies once it has begun
    struct sys_timer next;
    struct suppress *suppress;
    struct suppress_copy *copy;
    struct arena arena;
    const char *path;
    void (*done)(void *ctx, int err);
    void *ctx;
};

static void end_copy(struct copy *c, int err)
{
    suppress_copy_end(c->copy);
    list_remove(&c->link);
    c->done(c->ctx, err);
    arena_done(&c->arena);
    free(c);
}

static void on_copy_next(struct sys_timer *timer)
{
    struct copy *c = container_of(timer, struct copy, next);
    sys_hand_over();
    int err = suppress_copy_step(c->copy, COPY_PAGES);
    if (err == E_AGAIN)
        sys_timer_set(&c->next, sys_mono()); // others first
    else
        end_copy(c, err);
}

static void on_copy(struct sys_task *task)
{
    struct copy *c = container_of(task, struct copy, task);
    c->next.fire = on_copy_next;
    list_push_back(&c->suppress->copies, &c->link);
    int err = suppress_copy_begin(c->suppress->list, c->path, &c->copy);
    if (err)
        end_copy(c, err);
    else
        on_copy_next(&c->next);
}

void suppress_copy(struct suppress *s, const char *path, void (*done)(void *ctx, int err),
                   void *ctx)
{
    struct copy *c = mem_new(sizeof *c);
    c->suppress = s;
    c->path = arena_cstr(&c->arena, bytes_cstr(path));
    c->done = done;
    c->ctx = ctx;
    c->task.run = on_copy;
    sys_post(s->loop, &c->task);
}

// ---- by itself -------------------------------------------------------------------------------------------

static void on_load(struct sys_timer *timer)
{
    struct suppress *s = container_of(timer, struct suppress, load);
    bool all;
    sys_hand_over();
    int err = suppress_list_load(s->list, LOAD_SLICE, &all);
    if (err)
        log_error("suppression list not loaded yet, trying again", LOG_ERR(err));
    if (err || !all) {
        sys_timer_set(&s->load, err ? mono_add_ms(sys_mono(), RETRY_MS) : sys_mono());
        return;
    }
    atomic_store(&s->load_ms, mono_ms_between(s->load_began, sys_mono()));
    atomic_store_explicit(&s->loaded, true, memory_order_release);
    log_info("suppression list loaded", LOG_INT("addresses", suppress_table_count(&s->table)),
             LOG_INT("ms", atomic_load(&s->load_ms)));
}

// Entries are removed by a time that begins at the last change and comes up to the wall clock by an hour a look. Till then
// questions find them over, by the wall clock.
static void on_sweep(struct sys_timer *timer)
{
    struct suppress *s = container_of(timer, struct suppress, sweep);
    uint32_t removed = 0;
    sys_hand_over();
    if (!s->sweeping)
        (void)wall_trust(&s->trusted, sys_wall(), SWEEP_TRUST_MS);
    int err = suppress_list_begin(s->list);
    if (!err)
        err =
            suppress_list_expire(s->list, wall_min(s->trusted, sys_wall()), SWEEP_SLICE, &removed);
    if (!err)
        err = suppress_list_commit(s->list);
    else
        suppress_list_rollback(s->list);
    if (err)
        log_error("expired suppressions not removed", LOG_ERR(err));
    suppress_note_counts(s);
    s->sweeping = removed == SWEEP_SLICE && !err;
    sys_timer_set(&s->sweep, s->sweeping ? sys_mono() : mono_add_ms(sys_mono(), SWEEP_MS));
}

// ---- life ------------------------------------------------------------------------------------------------

int suppress_open(struct bytes folder, struct suppress **out, struct buf *error)
{
    struct suppress *s = mem_new(sizeof *s);
    suppress_table_init(&s->table);
    list_init(&s->changes);
    list_init(&s->copies);
    s->turn_end.fn = on_turn_end;
    int err = suppress_list_open(folder, &s->table, &s->list, error);
    if (err) {
        suppress_close(s);
        s = NULL;
    }
    *out = s;
    return err;
}

static void on_start(struct sys_task *task)
{
    struct suppress *s = container_of(task, struct suppress, start);
    s->load.fire = on_load;
    s->sweep.fire = on_sweep;
    s->load_began = sys_mono();
    sys_timer_set(&s->load, s->load_began);
    sys_timer_set(&s->sweep, mono_add_ms(s->load_began, SWEEP_MS));
    suppress_follow_start(s);
}

void suppress_set_policy(struct suppress *s, const struct suppress_policy *policy)
{
    atomic_store(&s->hard_bounces, policy->hard_bounces);
    atomic_store(&s->bounce_keep_ms, policy->bounce_keep_ms);
}

int suppress_start(struct suppress *s, struct spool *spool, const struct suppress_policy *policy)
{
    suppress_set_policy(s, policy);
    s->follow.spool = spool;
    int err = suppress_follow_prepare(s);
    if (!err)
        err = suppress_list_last_change(s->list, &s->trusted);
    if (err)
        return err;
    s->loop = sys_loop_start("suppress");
    s->start.run = on_start;
    sys_post(s->loop, &s->start);
    return OK;
}

static void on_stop(struct sys_task *task)
{
    struct suppress *s = container_of(task, struct suppress, stop);
    spool_follow_stop(&s->follow);
    sys_timer_stop(&s->load);
    sys_timer_stop(&s->sweep);
    list_each(link, &s->copies)
    {
        struct copy *c = list_get(link, struct copy, link);
        sys_timer_stop(&c->next);
        end_copy(c, E_CLOSED);
    }
}

void suppress_stop(struct suppress *s)
{
    if (!s || !s->loop)
        return;
    s->stop.run = on_stop;
    sys_post(s->loop, &s->stop);
    sys_loop_stop(s->loop);
}

void suppress_close(struct suppress *s)
{
    if (!s)
        return;
    suppress_list_close(s->list);
    suppress_table_done(&s->table);
    free(s);
}

void suppress_count_removed(struct suppress *s, uint32_t recipients)
{
    atomic_fetch_add_explicit(&s->recipients_removed, recipients, memory_order_relaxed);
}

void suppress_get_stats(const struct suppress *list, struct suppress_stats *out)
{
    struct suppress *s = (struct suppress *)(uintptr_t)list; // its locks change, nothing else
    *out = (struct suppress_stats){
        .loaded = atomic_load(&s->loaded),
        .addresses = suppress_table_count(&s->table),
        .bytes = suppress_table_bytes(&s->table),
        .questions = atomic_load_explicit(&s->questions, memory_order_relaxed),
        .added = atomic_load_explicit(&s->added, memory_order_relaxed),
        .removed = atomic_load_explicit(&s->removed, memory_order_relaxed),
        .expired = atomic_load_explicit(&s->expired, memory_order_relaxed),
        .recipients_removed = atomic_load_explicit(&s->recipients_removed, memory_order_relaxed),
        .sequence = atomic_load_explicit(&s->sequence, memory_order_relaxed),
        .load_ms = atomic_load(&s->load_ms),
    };
}
