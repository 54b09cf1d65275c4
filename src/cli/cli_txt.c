// SPDX-License-Identifier: MIT
#include "cli/cli_txt.h"

#include <errno.h>
#include <semaphore.h>

#include "base/check.h"
#include "dns/dns.h"

struct question {
    struct sys_task task;
    struct dns_query query;
    struct dns *dns;
    struct bytes name, want;
    enum cli_txt_answer answer;
    struct buf *seen;
    sem_t done;
};

static void take_records(struct question *q, const struct dns_answer *answer)
{
    q->answer = CLI_TXT_NONE;
    for (size_t i = 0; i < answer->count; i++) {
        struct bytes text = answer->records[i].text;
        if (answer->records[i].type != DNS_TXT)
            continue;
        if (bytes_eq(text, q->want)) {
            q->answer = CLI_TXT_FOUND;
            return;
        }
        buf_clear(q->seen);
        buf_add_escaped(q->seen, text, 120);
        q->answer = CLI_TXT_OTHER;
    }
}

static void on_answer(struct dns_query *query, const struct dns_answer *answer)
{
    struct question *q = container_of(query, struct question, query);
    if (answer->code == DNS_OK) {
        take_records(q, answer);
    } else if (answer->code == DNS_NODATA || answer->code == DNS_NXDOMAIN) {
        q->answer = CLI_TXT_NONE;
    } else {
        buf_printf(q->seen, "%s%s%s", dns_code_text(answer->code), answer->why[0] ? ": " : "",
                   answer->why);
        q->answer = CLI_TXT_UNKNOWN;
    }
    sem_post(&q->done);
}

static void ask(struct sys_task *task)
{
    struct question *q = container_of(task, struct question, task);
    q->query.done = on_answer;
    dns_ask(q->dns, &q->query, q->name, DNS_TXT, mono_add_ms(sys_mono(), CLI_TXT_TIMEOUT_MS));
}

static void ask_and_wait(struct question *q, struct sys_loop *loop)
{
    sem_init(&q->done, 0, 0);
    q->task.run = ask;
    sys_post(loop, &q->task);
    while (sem_wait(&q->done) != 0)
        CHECK(errno == EINTR);
    sem_destroy(&q->done);
}

int cli_txt_ask(const struct conf *conf, struct bytes name, struct bytes want,
                enum cli_txt_answer *out_answer, struct buf *out_seen)
{
    struct question q = {.name = name, .want = want, .seen = out_seen};
    struct dns_conf dns = {.servers = conf->dns.servers,
                           .server_count = conf->dns.servers_count,
                           .trust_anchor =
                               conf->dns.trust_anchor.len ? conf->dns.trust_anchor.at : NULL};
    struct sys_loop *loop = sys_loop_start("resolver");
    int err = dns_open(&dns, loop, &q.dns);
    if (!err) {
        ask_and_wait(&q, loop);
        *out_answer = q.answer;
    }
    sys_loop_stop(loop);
    if (!err)
        dns_close(q.dns);
    return err;
}
