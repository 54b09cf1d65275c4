// SPDX-License-Identifier: MIT
#include "cli/cli_txt.h"

#include "dns/dns_query.h"

static enum cli_txt_answer look_through(const struct dns_answer *answer, struct bytes want,
                                        struct buf *out_seen)
{
    enum cli_txt_answer result = CLI_TXT_NONE;
    for (size_t i = 0; i < answer->count; i++) {
        if (bytes_eq(answer->records[i].text, want))
            return CLI_TXT_FOUND;
        buf_clear(out_seen);
        buf_add_visible(out_seen, answer->records[i].text, 120);
        result = CLI_TXT_OTHER;
    }
    return result;
}

static enum cli_txt_answer judge(const struct dns_answer *answer, struct bytes want,
                                 struct buf *out_seen)
{
    if (answer->code == DNS_OK)
        return look_through(answer, want, out_seen);
    if (answer->code == DNS_NODATA || answer->code == DNS_NXDOMAIN)
        return CLI_TXT_NONE;
    buf_printf(out_seen, "%s%s%s", dns_code_text(answer->code), answer->why[0] ? ": " : "",
               answer->why);
    return CLI_TXT_UNKNOWN;
}

int cli_txt_ask(const struct conf *conf, struct bytes name, struct bytes want,
                enum cli_txt_answer *out_answer, struct buf *out_seen)
{
    struct dns_conf dns = {.servers = conf->dns.servers,
                           .server_count = conf->dns.servers_count,
                           .trust_anchor =
                               conf->dns.trust_anchor.len ? conf->dns.trust_anchor.at : NULL};
    struct dns_question question = {.name = name, .type = DNS_TXT};
    struct dns_resolver resolver;
    struct arena arena = {0};
    int err = dns_resolver_open(&dns, NULL, &resolver, out_seen);
    if (err)
        return err;
    buf_clear(out_seen);
    dns_query_wait(resolver.dns, &question, 1, CLI_TXT_TIMEOUT_MS, &arena);
    dns_resolver_close(&resolver);
    *out_answer = judge(&question.answer, want, out_seen);
    arena_done(&arena);
    return OK;
}
