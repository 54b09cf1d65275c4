// SPDX-License-Identifier: MIT
#include <json-c/json.h>
#include <stdio.h>

#include "cli/cli_commands.h"
#include "cli/cli_store.h"

static const char *plural(uint32_t n)
{
    return n == 1 ? "" : "s";
}

static void show_good(const struct cli *cli, const struct conf *conf)
{
    if (cli->json) {
        struct json_object *object = json_object_new_object();
        cli_json_add(object, "file", conf->file);
        json_object_object_add(object, "ok", json_object_new_boolean(true));
        cli_print_json(object);
        json_object_put(object);
        return;
    }
    printf("%s: ok: %u listener%s, %u route%s, %u lane%s\n", conf->file.at, conf->listeners_count,
           plural(conf->listeners_count), conf->routes_count, plural(conf->routes_count),
           conf->lanes_count, plural(conf->lanes_count));
}

static int run(struct cli *cli)
{
    struct buf errors = {0};
    const struct conf *conf = cli_conf(cli);
    if (!conf)
        return CLI_CONFIG;
    bool good = conf_check_files(conf, &errors) == 0;
    if (good)
        show_good(cli, conf);
    else
        fputs(buf_cstr(&errors), stderr);
    buf_done(&errors);
    return good ? CLI_OK : CLI_CONFIG;
}

const struct cli_command cli_check_config = {
    .name = "check-config",
    .help = "read the configuration and tell all that is wrong with it",
    .more = "Errors go to standard error as FILE:LINE:COLUMN: error: TEXT; the exit code is 78.\n",
    .run = run,
};
