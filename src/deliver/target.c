// SPDX-License-Identifier: MIT
#include "deliver/target.h"

void target_format(const struct target *t, struct buf *out)
{
    buf_printf(out, "%d %d %u\n", t->kind, t->tls, t->route);
    char addr[SYS_ADDR_TEXT];
    for (uint32_t i = 0; i < t->count; i++)
        buf_printf(out, "%.*s %s\n", BYTES_FMT(t->addresses[i].host),
                   sys_addr_format(&t->addresses[i].addr, addr));
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
