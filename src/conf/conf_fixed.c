// SPDX-License-Identifier: MIT
#include "conf/conf_fixed.h"

#include "base/check.h"
#include "conf/conf_params.h"

static bool is_text(enum conf_type type)
{
    return type == CONF_NAME || type == CONF_HOSTNAME || type == CONF_TEXT || type == CONF_PATH ||
           type == CONF_MAILBOX;
}

static bool is_plain(enum conf_type type)
{
    return type == CONF_DURATION || type == CONF_SIZE || type == CONF_COUNT ||
           type == CONF_DECIMAL || type == CONF_BOOL || type == CONF_ENUM;
}

// A list of resolvers.
struct servers {
    const struct bytes *at;
    uint32_t count;
};

static struct servers servers_of(const struct conf_param *param, const char *base)
{
    return (struct servers){
        .at = *(struct bytes *const *)(const void *)(base + param->offset),
        .count = *(const uint32_t *)(const void *)(base + param->count_offset),
    };
}

static bool same_servers(struct servers a, struct servers b)
{
    bool same = a.count == b.count;
    for (uint32_t i = 0; same && i < a.count; i++)
        same = bytes_eq(a.at[i], b.at[i]);
    return same;
}

static void set_servers(const struct conf_param *param, struct conf *conf, struct servers by)
{
    char *base = (char *)conf;
    struct bytes *servers = arena_new(&conf->arena, (by.count + 1) * sizeof *servers);
    for (uint32_t i = 0; i < by.count; i++)
        servers[i] = arena_dup(&conf->arena, by.at[i]);
    *(struct bytes **)(void *)(base + param->offset) = servers;
    *(uint32_t *)(void *)(base + param->count_offset) = by.count;
}

static bool keep_text(struct conf *conf, struct bytes *text, const struct bytes *by)
{
    if (bytes_eq(*text, *by))
        return false;
    *text = arena_dup(&conf->arena, *by);
    return true;
}

static bool keep_plain(char *field, const char *by, size_t width)
{
    if (memcmp(field, by, width) == 0)
        return false;
    memcpy(field, by, width);
    return true;
}

// "*:PORT" and "[::]:PORT" have one text.
static bool keep_endpoint(const struct conf_param *param, struct conf *conf, const char *running)
{
    bool *any = (bool *)((char *)conf + param->any_offset);
    bool by = *(const bool *)(running + param->any_offset);
    bool other = *any != by;
    *any = by;
    return keep_text(conf, (void *)((char *)conf + param->offset),
                     (const void *)(running + param->offset)) ||
           other;
}

static bool keep_servers(const struct conf_param *param, struct conf *conf, struct servers by)
{
    if (same_servers(servers_of(param, (const char *)conf), by))
        return false;
    set_servers(param, conf, by);
    return true;
}

// Was it another one?
static bool keep(const struct conf_param *param, struct conf *conf, const char *running)
{
    char *field = (char *)conf + param->offset;
    const char *by = running + param->offset;
    if (param->type == CONF_ENDPOINT)
        return keep_endpoint(param, conf, running);
    if (is_text(param->type))
        return keep_text(conf, (void *)field, (const void *)by);
    if (is_plain(param->type))
        return keep_plain(field, by, param->width);
    CHECK(param->type == CONF_SERVERS);
    return keep_servers(param, conf, servers_of(param, running));
}

void conf_keep_fixed(struct conf *conf, const struct conf *running, struct buf *changed)
{
    for (uint32_t i = 0; i < conf_params_count; i++) {
        const struct conf_param *param = &conf_params[i];
        if (param->reloadable || param->type == CONF_MAP)
            continue;
        CHECK(bytes_find(bytes_cstr(param->name), '[') < 0); // none in an entry of a list
        if (keep(param, conf, (const char *)running) && changed)
            buf_printf(changed, "%s%s", changed->len ? ", " : "", param->name);
    }
}
