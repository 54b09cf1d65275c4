// SPDX-License-Identifier: MIT
//
// What a DNS that anybody may write says of a sender domain: answers are taken from the input, a line each, by whatever is
// asked. Laws: the checks end within a few rounds; each has a finding, which says what to do unless it is right; it is
// the same however late the answers come.
#include "api/domain_check.h"
#include "base/check.h"
#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINES_MAX 24
#define QUESTIONS_MAX 256
#define ROUNDS_MAX 40

struct world {
    struct bytes lines[LINES_MAX];
    size_t count;
    bool slow;
    uint64_t asked[QUESTIONS_MAX]; // hashes of the questions
    size_t asked_count, known;
    struct arena arena;
};

static uint64_t hash_of(struct bytes name, enum dns_type type)
{
    uint64_t hash = type;
    for (size_t i = 0; i < name.len; i++)
        hash = hash * 31 + (uint8_t)name.at[i];
    return hash;
}

// The line's first byte says what kind of answer, the second may be a preference; the rest is the record.
static void fill(struct bytes line, enum dns_type type, struct dns_answer *a, struct dns_record *r)
{
    static const enum dns_code codes[] = {DNS_NODATA, DNS_NXDOMAIN, DNS_SERVFAIL, DNS_TIMEOUT};
    struct bytes rest = bytes_first(bytes_skip(line, 1), DNS_TEXT_MAX);
    bool is_name = type == DNS_MX || type == DNS_CNAME || type == DNS_PTR;
    if (!line.len || line.at[0] == '!' || (is_name && rest.len && !dns_name_is_valid(rest))) {
        a->code = codes[line.len % COUNT_OF(codes)];
        return;
    }
    *r = (struct dns_record){.type = type, .ip = {192, 0, 2, (uint8_t)line.at[0]}};
    r->preference = (uint16_t)line.at[0];
    *(is_name ? &r->name : &r->text) = rest;
    a->code = DNS_OK;
    a->count = 1;
    a->records = r;
}

static const struct dns_answer *ask(void *ctx, struct bytes name, enum dns_type type)
{
    struct world *w = ctx;
    uint64_t hash = hash_of(name, type);
    size_t i = 0;
    while (i < w->asked_count && w->asked[i] != hash)
        i++;
    if (i == w->asked_count && i < QUESTIONS_MAX)
        w->asked[w->asked_count++] = hash;
    CHECK(i < QUESTIONS_MAX); // not any number of them
    if (w->slow && i >= w->known)
        return NULL;
    struct dns_answer *a = arena_new(&w->arena, sizeof *a);
    struct dns_record *r = arena_new(&w->arena, sizeof *r);
    size_t line = hash % (w->count + 1);
    if (dns_name_is_valid(name))
        fill(line < w->count ? w->lines[line] : BYTES_NONE, type, a, r);
    else
        a->code = DNS_NXDOMAIN; // as dns_ask() says
    return a;
}

static void run(struct world *w, const struct conf *conf, struct domain_check *out)
{
    static const struct domain_key keys[] = {
        {BYTES("s1"), BYTES("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")}};
    *out = (struct domain_check){.setup = {BYTES("shop.test"), BYTES("tok"), keys, 1, conf},
                                 .now = {1790000000000000},
                                 .ask = ask,
                                 .ask_ctx = w};
    int rounds = 0;
    for (; !domain_check_run(out, &w->arena); rounds++) {
        CHECK(w->slow && w->known < w->asked_count && rounds < ROUNDS_MAX);
        w->known++; // one answer a round comes in time
        if (rounds > ROUNDS_MAX / 2)
            w->known = w->asked_count;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct conf *conf;
    struct buf errors = {0};
    struct world w = {0}, late = {.slow = true};
    struct domain_check at_once, later;
    struct bytes rest = bytes_of(data, size);
    if (!conf)
        CHECK(
            conf_load_text(
                BYTES("hostname: relay.test\n"
                      "domains: {spf_include: spf.test, bounce_host: bounce.test,\n"
                      "          addresses: [192.0.2.1, \"2001:db8::1\"], dkim_zone: keys.test}\n"),
                "t.yaml", "/", &conf, &errors) == OK);
    while (w.count < LINES_MAX && bytes_cut(&rest, '\n', &w.lines[w.count]))
        w.count++;
    late.count = w.count;
    memcpy(late.lines, w.lines, sizeof w.lines);
    run(&w, conf, &at_once);
    run(&late, conf, &later);
    for (int id = 0; id < DOMAIN_CHECKS; id++) {
        const struct domain_finding *f = &at_once.findings[id];
        CHECK((f->state == DOMAIN_OK) == (f->fix.len == 0));
        CHECK(later.findings[id].state == f->state);
    }
    arena_done(&w.arena);
    arena_done(&late.arena);
    buf_done(&errors);
    return 0;
}
