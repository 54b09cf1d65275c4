// SPDX-License-Identifier: MIT
#include "deliver/target.h"

#include "dns/dns_rdata.h"

#define HEAD_MAX 32
_Static_assert(HEAD_MAX + DNS_NAME_MAX + SYS_ADDR_TEXT + 2 <= TARGET_TEXT_MAX, "one always fits");

uint32_t target_format(const struct target *t, struct buf *out)
{
    size_t start = out->len;
    buf_printf(out, "%d %d %u\n", t->kind, t->tls, t->route);
    char addr[SYS_ADDR_TEXT];
    for (uint32_t i = 0; i < t->count; i++) {
        size_t line = out->len;
        buf_printf(out, "%.*s %s\n", BYTES_FMT(t->addresses[i].host),
                   sys_addr_format(&t->addresses[i].addr, addr));
        if (out->len - start > TARGET_TEXT_MAX) {
            buf_truncate(out, line);
            return i;
        }
    }
    return t->count;
}

static int parse_head(struct bytes line, struct target *out)
{
    uint64_t values[3];
    for (int i = 0; i < 3; i++) {
        struct bytes word;
        if (!bytes_cut(&line, ' ', &word))
            return E_SYNTAX;
        int err = bytes_to_u64(word, UINT32_MAX, &values[i]);
        if (err)
            return err;
    }
    out->kind = (enum target_kind)values[0];
    out->tls = (enum target_tls)values[1];
    out->route = (uint32_t)values[2];
    return OK;
}

int target_parse(struct bytes text, struct arena *arena, struct target *out)
{
    *out = (struct target){0};
    struct bytes line, host;
    if (!bytes_cut(&text, '\n', &line))
        return E_SYNTAX;
    int err = parse_head(line, out);
    while (!err && bytes_cut(&text, '\n', &line) && line.len) {
        if (out->count == TARGET_ADDRESSES_MAX || !bytes_cut(&line, ' ', &host))
            return E_SYNTAX;
        struct target_address *a = &out->addresses[out->count++];
        a->host = arena_dup(arena, host);
        err = sys_addr_parse(line, &a->addr);
    }
    return err;
}
