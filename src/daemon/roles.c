// SPDX-License-Identifier: MIT
#include "daemon/roles.h"

#include <grp.h>

#include "conf/conf_yaml.h"

static int find(const struct conf *conf, const char *role, struct bytes name, int64_t *out,
                struct buf *errors)
{
    *out = -1;
    if (!name.len)
        return OK;
    const struct group *group = getgrnam(name.at);
    const struct conf_node *roles = conf_node_find(conf->given, "roles");
    if (group)
        *out = group->gr_gid;
    else
        conf_error_format(conf, conf_node_place(conf_node_find(roles, role)), errors,
                          "roles.%s: there is no group %.*s", role, BYTES_FMT(name));
    return group ? OK : E_NOT_FOUND;
}

int roles_find(const struct conf *conf, struct roles *out, struct buf *errors)
{
    int operators = find(conf, "operators", conf->roles.operators, &out->operators, errors);
    int readers = find(conf, "readers", conf->roles.readers, &out->readers, errors);
    return operators ? operators : readers;
}

void roles_format(const struct roles *roles, struct buf *out)
{
    buf_printf(out, "%lld %lld", (long long)roles->operators + 1, (long long)roles->readers + 1);
}

int roles_parse(struct bytes text, struct roles *out)
{
    struct bytes word;
    uint64_t n[2];
    for (int i = 0; i < 2; i++)
        if (!bytes_cut(&text, ' ', &word) || bytes_to_u64(word, UINT32_MAX, &n[i]) != OK)
            return E_SYNTAX;
    *out = (struct roles){(int64_t)n[0] - 1, (int64_t)n[1] - 1};
    return OK;
}
