// SPDX-License-Identifier: MIT
#include "dns/dns_query.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>

#include "base/check.h"
#include "dns/dns_request.h"
#include "dns/dns_zone.h"

// One call of dns_query_wait(): asked on the resolver's own loop, told by `done`.
struct waiting {
    struct sys_task task;
    struct dns *dns;
    struct asked *asked;
    size_t count, left;
    int timeout_ms;
    struct arena *arena;
    sem_t done;
};
struct asked {
    struct dns_query query;
    struct waiting *waiting;
    struct dns_question *question;
};

static void keep(struct dns_answer *answer, struct arena *arena)
{
    struct dns_record *records = arena_new(arena, (answer->count + 1) * sizeof *records);
    for (size_t i = 0; i < answer->count; i++) {
        records[i] = answer->records[i];
        records[i].name = arena_dup(arena, answer->records[i].name);
        records[i].text = arena_dup(arena, answer->records[i].text);
    }
    answer->records = records;
}

static void on_answer(struct dns_query *query, const struct dns_answer *answer)
{
    struct asked *asked = container_of(query, struct asked, query);
    struct waiting *w = asked->waiting;
    asked->question->answer = *answer;
    keep(&asked->question->answer, w->arena);
    if (--w->left == 0)
        sem_post(&w->done);
}

static void ask_all(struct sys_task *task)
{
    struct waiting *w = container_of(task, struct waiting, task);
    struct mono deadline = mono_add_ms(sys_mono(), w->timeout_ms);
    for (size_t i = 0; i < w->count; i++) {
        struct asked *a = &w->asked[i];
        a->query.done = on_answer;
        dns_ask(w->dns, &a->query, a->question->name, a->question->type, deadline);
    }
}

void dns_query_wait(struct dns *dns, struct dns_question *questions, size_t count, int timeout_ms,
                    struct arena *arena)
{
    if (count == 0)
        return;
    struct waiting w = {.task.run = ask_all,
                        .dns = dns,
                        .asked = mem_new(count * sizeof(struct asked)),
                        .count = count,
                        .left = count,
                        .timeout_ms = timeout_ms,
                        .arena = arena};
    for (size_t i = 0; i < count; i++)
        w.asked[i] = (struct asked){.waiting = &w, .question = &questions[i]};
    sem_init(&w.done, 0, 0);
    sys_post(dns->loop, &w.task);
    sys_hand_over(); // a loop of its own may wait here, too
    while (sem_wait(&w.done) != 0)
        CHECK(errno == EINTR);
    sem_destroy(&w.done);
    free(w.asked);
}

// ---- for commands -------------------------------------------------------------------------------

int dns_resolver_open(const struct dns_conf *conf, const char *zone_file, struct dns_resolver *out,
                      struct buf *error)
{
    struct dns_zone *zone = NULL;
    buf_clear(error);
    int err = zone_file ? dns_zone_read(zone_file, &zone, error) : OK;
    if (err)
        return err;
    out->loop = sys_loop_start("resolver");
    if (zone)
        out->dns = dns_zone_open(zone, out->loop);
    else
        err = dns_open(conf, out->loop, &out->dns);
    if (err) {
        buf_printf(error, "the resolver does not start (dns.servers, dns.trust_anchor): %s",
                   err_text(err));
        sys_loop_stop(out->loop);
    }
    return err;
}

void dns_resolver_close(struct dns_resolver *resolver)
{
    sys_loop_stop(resolver->loop);
    dns_close(resolver->dns);
}
