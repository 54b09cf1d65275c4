// SPDX-License-Identifier: MIT
//
// How it works: the control thread reads what the store has of the domain, the main loop adds the configuration and
// the certificate of that moment, and a loop of its own does the check: it may wait for the DNS, which none of the
// others may. There domain_check_run() is run in rounds: what it asks in one is known in the next. Each check has a
// fresh resolver, for what was published a minute ago is what is wanted. Back on the control thread the store learns
// what was found.
#include <stdlib.h>

#include "api/api_private.h"
#include "api/domain_check.h"
#include "dns/dns_query.h"
#include "store/store_directory.h"

#define ROUND_MS 4000
#define CHECK_MS 15000 // all rounds; what is not answered by then is unknown
#define QUESTIONS_MAX 256

struct domain_request {
    struct api_request *r;
    struct sys_task task;
    struct conf_snapshot *snapshot;
    struct domain_check check;
    struct arena arena;
    struct bytes account;
    bool verified;
    struct domain_key keys[DOMAIN_KEYS_MAX];
    struct dns_question questions[QUESTIONS_MAX];
    size_t asked, count; // [asked, count): of this round
};

static struct domain_request *request_of(struct sys_task *task)
{
    return container_of(task, struct domain_request, task);
}

static void domain_request_free(struct domain_request *d)
{
    if (d->snapshot)
        conf_snapshot_release(d->snapshot);
    arena_done(&d->arena);
    free(d);
}

// ---- the check, on its loop --------------------------------------------------------------------------------

static const struct dns_answer *ask(void *ctx, struct bytes name, enum dns_type type)
{
    static const struct dns_answer too_many = {.code = DNS_SERVFAIL, .why = "too many questions"};
    struct domain_request *d = ctx;
    for (size_t i = 0; i < d->count; i++)
        if (d->questions[i].type == type && bytes_eq_nocase(d->questions[i].name, name))
            return i < d->asked ? &d->questions[i].answer : NULL;
    if (d->count == QUESTIONS_MAX)
        return &too_many;
    d->questions[d->count++] =
        (struct dns_question){.name = arena_dup(&d->arena, name), .type = type};
    return NULL;
}

// Answers what this round has asked.
static void find_answers(struct domain_request *d, struct dns *dns, int64_t left_ms)
{
    size_t count = d->count - d->asked;
    if (left_ms > 0 && !atomic_load(&d->r->api->stopping))
        dns_query_wait(dns, d->questions + d->asked, count,
                       left_ms < ROUND_MS ? (int)left_ms : ROUND_MS, &d->arena);
    else
        for (size_t i = d->asked; i < d->count; i++)
            d->questions[i].answer = (struct dns_answer){.code = DNS_TIMEOUT};
    d->asked = d->count;
}

static void check_in_rounds(struct domain_request *d, struct dns *dns)
{
    struct mono end = mono_add_ms(sys_mono(), CHECK_MS);
    while (!domain_check_run(&d->check, &d->arena))
        find_answers(d, dns, mono_ms_between(sys_mono_now(), end));
}

static struct json_object *text_or_null(struct bytes text)
{
    return text.len ? api_json_text(text) : NULL;
}

static void reply(struct domain_request *d)
{
    struct json_object *object = json_object_new_object(), *checks = json_object_new_array();
    json_object_object_add(object, "domain", api_json_text(d->check.setup.domain));
    json_object_object_add(object, "account", api_json_text(d->account));
    for (int i = 0; i < DOMAIN_CHECKS; i++) {
        const struct domain_finding *f = &d->check.findings[i];
        struct json_object *check = json_object_new_object();
        json_object_object_add(check, "id", json_object_new_string(domain_check_name(i)));
        json_object_object_add(check, "state", json_object_new_string(domain_state_name(f->state)));
        json_object_object_add(check, "want", text_or_null(f->want));
        json_object_object_add(check, "found", text_or_null(f->found));
        json_object_object_add(check, "fix", text_or_null(f->fix));
        json_object_array_add(checks, check);
    }
    json_object_object_add(object, "checks", checks);
    api_reply(d->r, object);
}

static void on_check(struct sys_task *task)
{
    struct domain_request *d = request_of(task);
    const struct conf *conf = d->snapshot->conf;
    struct dns_conf options = {.servers = conf->dns.servers,
                               .server_count = conf->dns.servers_count,
                               .trust_anchor =
                                   conf->dns.trust_anchor.len ? conf->dns.trust_anchor.at : NULL};
    struct dns_resolver resolver;
    struct buf error = {0};
    if (dns_resolver_open(&options, NULL, &resolver, &error) == OK) {
        check_in_rounds(d, resolver.dns);
        dns_resolver_close(&resolver);
        reply(d);
    } else {
        d->r->finish = NULL;
        api_reply_error(d->r, E_IO, "%s", buf_cstr(&error));
    }
    buf_done(&error);
    struct api_request *r = d->r;
    if (!r->finish)
        domain_request_free(d);
    api_resume(r);
}

// Names without a key are of interest where there are CNAMEs for them.
static void drop_unused_names(struct domain_setup *setup, struct domain_key *keys)
{
    size_t count = 0;
    for (size_t i = 0; i < setup->keys_count; i++)
        if (keys[i].record.len || setup->conf->domains.dkim == CONF_DKIM_CNAME)
            keys[count++] = keys[i];
    setup->keys_count = count;
}

static void on_main(struct sys_task *task)
{
    struct api_request *r = container_of(task, struct api_request, task);
    struct domain_request *d = r->own;
    d->snapshot = conf_snapshot_hold(r->api->snapshot);
    d->check.setup.conf = d->snapshot->conf;
    drop_unused_names(&d->check.setup, d->keys);
    d->check.now = sys_wall();
    r->api->options.certificate(r->api->options.ctx, &d->check.certificate);
    d->task.run = on_check;
    sys_post(r->api->checks, &d->task);
}

// ---- the store, on the control thread --------------------------------------------------------------------

static int apply(struct api_request *r, const char *name, struct json_object *args,
                 struct store_answer *out, struct buf *error)
{
    struct store_who who;
    struct store_op op = api_audit_op(r, &who);
    op.name = name;
    op.args = args;
    int err = store_apply(r->api->options.store, &op, out, error);
    json_object_put(args);
    return err;
}

static struct json_object *domain_args(struct bytes account, struct bytes domain)
{
    struct json_object *args = json_object_new_object();
    if (account.len)
        json_object_object_add(args, "account", api_json_text(account));
    json_object_object_add(args, "domain", api_json_text(domain));
    return args;
}

static void read_domain(struct domain_request *d, struct json_object *row)
{
    struct json_object *records = NULL, *verified = NULL;
    d->account = arena_dup(&d->arena, json_find_text(row, "account"));
    d->check.setup.domain = arena_dup(&d->arena, json_find_text(row, "domain"));
    d->verified =
        json_object_object_get_ex(row, "verified", &verified) && json_object_get_boolean(verified);
    CHECK(json_object_object_get_ex(row, "records", &records));
    struct bytes proof =
        arena_dup(&d->arena, json_find_text(json_object_array_get_idx(records, 0), "value"));
    d->check.setup.token = bytes_skip(proof, (size_t)bytes_find(proof, '=') + 1);
}

// The one entry of that domain. E_NOT_FOUND; E_SYNTAX: several accounts have it.
static int find_domain(struct domain_request *d, struct bytes account, struct bytes domain,
                       struct buf *error)
{
    struct store_answer answer;
    struct json_object *list = NULL;
    int err = apply(d->r, "domain.show", domain_args(account, domain), &answer, error);
    if (err)
        return err;
    json_object_object_get_ex(answer.result, "domains", &list);
    if (json_object_array_length(list) == 1) {
        read_domain(d, json_object_array_get_idx(list, 0));
    } else {
        buf_printf(error, "several accounts have this domain: say which");
        err = E_SYNTAX;
    }
    json_object_put(answer.result);
    return err;
}

static int find_keys(struct domain_request *d, struct buf *error)
{
    struct store_answer answer;
    struct json_object *list = NULL, *args = domain_args(d->account, d->check.setup.domain);
    json_object_object_add(args, "pairs", json_object_new_boolean(true));
    int err = apply(d->r, "dkim.list", args, &answer, error);
    if (err)
        return err;
    json_object_object_get_ex(answer.result, "keys", &list);
    for (size_t i = 0; i < json_object_array_length(list) && i < DOMAIN_KEYS_MAX; i++) {
        struct json_object *key = json_object_array_get_idx(list, i);
        d->keys[d->check.setup.keys_count++] =
            (struct domain_key){arena_dup(&d->arena, json_find_text(key, "selector")),
                                arena_dup(&d->arena, json_find_text(key, "record"))};
    }
    json_object_put(answer.result);
    return OK;
}

// What the check has found is kept: law 3 wants to know who owns the domain, a return path is used once it is there.
static bool note_finding(struct domain_request *d, const char *op, struct json_object *args)
{
    struct store_answer answer;
    struct buf error = {0};
    int err = apply(d->r, op, args, &answer, &error);
    if (err)
        log_error("what a check of a domain found is not kept",
                  LOG_STR("domain", d->check.setup.domain), LOG_STR("because", buf_bytes(&error)),
                  LOG_ERR(err));
    json_object_put(answer.result);
    buf_done(&error);
    return !err && answer.changed;
}

static void on_checked(struct api_request *r)
{
    struct domain_request *d = r->own;
    const struct domain_finding *findings = d->check.findings;
    enum domain_state path = findings[DOMAIN_CHECK_RETURN_PATH].state;
    bool changed = false;
    if (r->caller.role != API_OPERATOR) {
        domain_request_free(d);
        return;
    }
    if (findings[DOMAIN_CHECK_OWNERSHIP].state == DOMAIN_OK && !d->verified)
        changed =
            note_finding(d, "domain.verified", domain_args(d->account, d->check.setup.domain));
    if (path != DOMAIN_UNKNOWN) {
        struct json_object *args = domain_args(d->account, d->check.setup.domain);
        json_object_object_add(args, "published", json_object_new_boolean(path == DOMAIN_OK));
        changed = note_finding(d, "domain.return_path", args) || changed;
    }
    domain_request_free(d);
    if (changed)
        api_tell_change(r);
}

void api_domain_check_get(struct api_request *r)
{
    const char *domain = api_argument(r, "domain"), *account = api_argument(r, "account");
    struct domain_request *d = mem_new(sizeof *d);
    struct buf error = {0};
    d->r = r;
    d->check.ask = ask;
    d->check.ask_ctx = d;
    d->check.setup.keys = d->keys;
    int err = find_domain(d, account ? bytes_cstr(account) : BYTES_NONE,
                          domain ? bytes_cstr(domain) : BYTES_NONE, &error);
    if (!err)
        err = find_keys(d, &error);
    if (err) {
        api_reply_error(r, err, "%s", buf_cstr(&error));
        domain_request_free(d);
    } else {
        r->own = d;
        r->finish = on_checked;
        api_to_main(r, on_main);
    }
    buf_done(&error);
}
