// SPDX-License-Identifier: MIT
//
// How it works. A round: LOOK (on the pool, from the store: the list of what is to be done), WORK (on the main loop:
// the DNS is asked for all of it at once, the signer for one key after the other), APPLY (on the pool: each as an
// operation of the store).
#include "daemon/dkim_keeper.h"

#include <json-c/json.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/json.h"
#include "net/sign_port.h"
#include "sign/dkim_key.h"
#include "store/store_dkim.h"

struct work {
    struct dkim_keeper *keeper;
    struct store_dkim_due due; // its slices in the round's arena
    struct sign_request make;
    struct dns_query query;
    bool pending, done; // done: there is something to apply
    struct buf record, sealed;
};

struct waiter {
    struct list link;
    bool begun; // its round is under way
    void (*done)(void *ctx);
    void *ctx;
};

struct dkim_keeper {
    struct dkim_keeper_options options;
    struct conf_snapshot *snapshot, *round; // round: of the one under way
    struct sys_timer timer;
    struct sys_job job;
    struct list waiters;
    int64_t checked; // the last key whose record was asked for
    bool running, again, again_dns, ask_dns, stopped;
    void (*on_stopped)(void *ctx);
    void *stopped_ctx;
    // of the round
    struct arena arena;
    struct work *works;
    size_t count, pending;
    size_t next_make; // of the works: where to look for the next key to make
    size_t makes[2];  // to make, of RSA and Ed25519
    bool makes_left;  // there may be more
    bool has_made;
    struct wall now;
};

static void begin_round(struct dkim_keeper *k);

// ---- look ----------------------------------------------------------------------------------------------

static void add_due(void *ctx, const struct store_dkim_due *due)
{
    struct dkim_keeper *k = ctx;
    if (due->what == STORE_DKIM_CHECK && !k->ask_dns)
        return;
    if (due->what == STORE_DKIM_CHECK)
        k->checked = due->number;
    CHECK(k->count < KEEPER_ROUND_MAX);
    if (due->what == STORE_DKIM_MAKE && ++k->makes[due->ed25519] == KEEPER_MAKES_MAX)
        k->makes_left = true;
    struct work *w = &k->works[k->count++];
    w->keeper = k;
    w->due = *due;
    struct bytes *const texts[] = {&w->due.account, &w->due.domain, &w->due.selector,
                                   &w->due.record};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        *texts[i] = arena_dup(&k->arena, *texts[i]);
}

static void look(struct sys_job *job)
{
    struct dkim_keeper *k = container_of(job, struct dkim_keeper, job);
    const struct conf *conf = k->round->conf;
    struct store_dkim_query query = {
        .rsa = conf->dkim.keys != CONF_DKIM_ED25519,
        .ed25519 = conf->dkim.keys != CONF_DKIM_RSA,
        .service_domain = conf->dkim.service_domain,
        .made_before = {conf->dkim.rotate_after_ms ? k->now.us - conf->dkim.rotate_after_ms * 1000
                                                   : INT64_MIN},
        .old_before = {k->now.us - conf->dkim.grace_ms * 1000},
        .pairs = conf->domains.dkim == CONF_DKIM_CNAME,
        .checked = k->checked,
        .each_max = KEEPER_KIND_MAX,
        .makes_max = KEEPER_MAKES_MAX,
    };
    int err = store_dkim_look(k->options.store, &query, add_due, k);
    if (err)
        log_error("DKIM keys not looked after", LOG_ERR(err));
}

// ---- apply ---------------------------------------------------------------------------------------------

static void add_text(struct json_object *args, const char *key, struct bytes text)
{
    if (text.len)
        json_add_text(args, key, text);
}

static void add_hex(struct json_object *args, const char *key, struct bytes data)
{
    struct buf hex = {0};
    for (size_t i = 0; i < data.len; i++)
        buf_printf(&hex, "%02x", (unsigned char)data.at[i]);
    add_text(args, key, buf_bytes(&hex));
    buf_done(&hex);
}

static bool apply_one(struct dkim_keeper *k, const struct work *w)
{
    static const char *const ops[] = {[STORE_DKIM_MAKE] = "dkim.add",
                                      [STORE_DKIM_CHECK] = "dkim.seen",
                                      [STORE_DKIM_REMOVE] = "dkim.remove"};
    struct json_object *args = json_object_new_object();
    struct buf error = {0};
    struct store_answer answer;
    if (w->due.what == STORE_DKIM_MAKE) {
        bool fixed = k->round->conf->domains.dkim == CONF_DKIM_CNAME;
        add_text(args, "account", w->due.account);
        add_text(args, "domain", w->due.domain);
        add_text(args, "algorithm", w->due.ed25519 ? BYTES("ed25519") : BYTES("rsa"));
        add_text(args, "record", buf_bytes(&w->record));
        add_hex(args, "sealed", buf_bytes(&w->sealed));
        json_object_object_add(args, "fixed", json_object_new_boolean(fixed));
    } else {
        json_object_object_add(args, "number", json_object_new_int64(w->due.number));
    }
    struct store_op op = {ops[w->due.what], args, BYTES("posthaste"), k->now, NULL};
    int err = store_apply(k->options.store, &op, &answer, &error);
    if (err)
        log_debug("DKIM key not changed", LOG_CSTR("op", op.name), LOG_STR("domain", w->due.domain),
                  LOG_STR("because", buf_bytes(&error)));
    else
        log_info("DKIM key", LOG_CSTR("op", op.name), LOG_STR("domain", w->due.domain),
                 LOG_STR("selector", w->due.selector));
    bool changed = !err && answer.changed;
    if (!err)
        json_object_put(answer.result);
    json_object_put(args);
    buf_done(&error);
    return changed;
}

static void apply(struct sys_job *job)
{
    struct dkim_keeper *k = container_of(job, struct dkim_keeper, job);
    bool changed = false;
    for (size_t i = 0; i < k->count; i++)
        if (k->works[i].done && apply_one(k, &k->works[i])) {
            changed = true;
            k->has_made |= k->works[i].due.what == STORE_DKIM_MAKE;
        }
    if (changed)
        k->options.changed(k->options.ctx);
}

static void on_applied(struct sys_job *job)
{
    struct dkim_keeper *k = container_of(job, struct dkim_keeper, job);
    for (size_t i = 0; i < k->count; i++) {
        buf_done(&k->works[i].record);
        buf_done(&k->works[i].sealed);
    }
    free(k->works);
    arena_done(&k->arena);
    conf_snapshot_release(k->round);
    k->works = NULL;
    k->running = false;
    list_each(link, &k->waiters)
    {
        struct waiter *w = list_get(link, struct waiter, link);
        if (!w->begun && !k->stopped) // else there will be no other round
            continue;
        list_remove(&w->link);
        w->done(w->ctx);
        free(w);
    }
    if (k->on_stopped)
        k->on_stopped(k->stopped_ctx);
    else if ((k->again || (k->makes_left && k->has_made)) && !k->stopped)
        begin_round(k);
}

// ---- work ----------------------------------------------------------------------------------------------

static void work_done(struct work *w)
{
    struct dkim_keeper *k = w->keeper;
    w->pending = false;
    if (--k->pending)
        return;
    k->job.run = apply;
    k->job.done = on_applied;
    sys_offload(&k->job);
}

static void make_next(struct dkim_keeper *k);

static void on_made(struct sign_request *r, struct bytes answer)
{
    struct work *w = container_of(r, struct work, make);
    struct bytes record, sealed;
    if (sign_made_parse(answer, &record, &sealed) == OK) {
        buf_add(&w->record, record);
        buf_add(&w->sealed, sealed);
        w->done = true;
    } else {
        log_warn("no DKIM key made: is there a master key?", LOG_STR("domain", w->due.domain));
    }
    make_next(w->keeper);
    work_done(w);
}

// One at a time: a key for RSA keeps a thread of the signer for a tenth of a second and more, and handshakes wait for
// them all.
static void make_next(struct dkim_keeper *k)
{
    while (k->next_make < k->count && !k->stopped) {
        struct work *w = &k->works[k->next_make++];
        if (w->due.what != STORE_DKIM_MAKE)
            continue;
        w->make = (struct sign_request){.kind = w->due.ed25519 ? SIGN_MAKE_ED25519 : SIGN_MAKE_RSA,
                                        .done = on_made};
        w->pending = sign_ask(&w->make);
        if (!w->pending)
            continue;
        k->pending++;
        return;
    }
}

// Whether the record publishes the key.
static bool is_same_key(struct bytes record, struct bytes wanted)
{
    struct dkim_key found = {0}, own = {0};
    bool same = dkim_key_parse(record, &found) == DKIM_KEY_GOOD &&
                dkim_key_parse(wanted, &own) == DKIM_KEY_GOOD &&
                EVP_PKEY_eq(found.key, own.key) == 1;
    dkim_key_done(&found);
    dkim_key_done(&own);
    return same;
}

static void on_record(struct dns_query *query, const struct dns_answer *answer)
{
    struct work *w = container_of(query, struct work, query);
    for (size_t i = 0; answer->code == DNS_OK && i < answer->count && !w->done; i++)
        w->done = is_same_key(answer->records[i].text, w->due.record);
    work_done(w);
}

static void start(struct dkim_keeper *k, struct work *w)
{
    if (w->due.what == STORE_DKIM_CHECK) {
        struct buf name = {0};
        k->pending++;
        w->pending = true;
        dkim_key_name(w->due.selector, w->due.domain, &name);
        w->query.done = on_record;
        dns_ask(k->options.dns, &w->query, buf_bytes(&name), DNS_TXT,
                mono_add_ms(sys_mono(), KEEPER_DNS_MS));
        buf_done(&name);
    } else if (w->due.what == STORE_DKIM_REMOVE) {
        w->done = true;
    }
}

static void on_looked(struct sys_job *job)
{
    struct dkim_keeper *k = container_of(job, struct dkim_keeper, job);
    struct work all = {.keeper = k};
    k->pending = 1; // this function
    for (size_t i = 0; i < k->count && !k->stopped; i++)
        start(k, &k->works[i]);
    make_next(k);
    work_done(&all);
}

// ---- rounds --------------------------------------------------------------------------------------------

static void begin_round(struct dkim_keeper *k)
{
    k->running = true;
    k->again = false;
    k->ask_dns = k->again_dns;
    k->again_dns = false;
    k->now = sys_wall();
    k->count = k->next_make = k->makes[0] = k->makes[1] = 0;
    k->makes_left = k->has_made = false;
    k->works = mem_new(KEEPER_ROUND_MAX * sizeof *k->works);
    k->round = conf_snapshot_hold(k->snapshot);
    list_each(link, &k->waiters) list_get(link, struct waiter, link)->begun = true;
    k->job.kind = SYS_JOB_DISK;
    k->job.run = look;
    k->job.done = on_looked;
    sys_offload(&k->job);
}

void dkim_keeper_run(struct dkim_keeper *k, bool ask_dns, void (*done)(void *ctx), void *ctx)
{
    if (done && k->stopped) {
        done(ctx);
        return;
    }
    if (done) {
        struct waiter *w = mem_new(sizeof *w);
        w->done = done;
        w->ctx = ctx;
        list_push_back(&k->waiters, &w->link);
    }
    k->again = true;
    k->again_dns = k->again_dns || ask_dns;
    if (!k->running && !k->stopped)
        begin_round(k);
}

static void on_timer(struct sys_timer *timer)
{
    struct dkim_keeper *k = container_of(timer, struct dkim_keeper, timer);
    sys_timer_set(&k->timer, mono_add_ms(sys_mono(), k->snapshot->conf->dkim.check_every_ms));
    dkim_keeper_run(k, true, NULL, NULL);
}

struct dkim_keeper *dkim_keeper_new(const struct dkim_keeper_options *options,
                                    struct conf_snapshot *snapshot)
{
    struct dkim_keeper *k = mem_new(sizeof *k);
    k->options = *options;
    k->snapshot = conf_snapshot_hold(snapshot);
    list_init(&k->waiters);
    k->timer.fire = on_timer;
    on_timer(&k->timer);
    return k;
}

void dkim_keeper_set_snapshot(struct dkim_keeper *k, struct conf_snapshot *snapshot)
{
    struct conf_snapshot *old = k->snapshot;
    bool every = old->conf->dkim.check_every_ms != snapshot->conf->dkim.check_every_ms;
    k->snapshot = conf_snapshot_hold(snapshot);
    conf_snapshot_release(old);
    if (every)
        on_timer(&k->timer);
}

static void cut_short(struct dkim_keeper *k)
{
    for (size_t i = 0; k->pending && i < k->count; i++) {
        struct work *w = &k->works[i];
        if (!w->pending)
            continue;
        dns_cancel(&w->query);
        sign_forget(&w->make);
        work_done(w);
    }
}

void dkim_keeper_stop(struct dkim_keeper *k, void (*done)(void *ctx), void *ctx)
{
    k->stopped = true;
    sys_timer_stop(&k->timer);
    if (!k->running) {
        done(ctx);
        return;
    }
    k->on_stopped = done;
    k->stopped_ctx = ctx;
    cut_short(k);
}
