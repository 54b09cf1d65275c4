// SPDX-License-Identifier: MIT
#include <json-c/json.h>
#include <stdio.h>

#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_store.h"
#include "conf/conf_show.h"

static int print(struct buf *out)
{
    fwrite(out->at ? out->at : "", 1, out->len, stdout);
    buf_done(out);
    return CLI_OK;
}

static int run_show(struct cli *cli)
{
    const struct conf *conf = cli_conf(cli);
    struct buf out = {0};
    if (!conf)
        return CLI_CONFIG;
    conf_show(conf, cli_flag(cli, "defaults"), &out);
    return print(&out);
}

static const struct cli_option show_options[] = {
    {"defaults", NULL, "defaults stand there like what the file says, not as comments"},
    {NULL},
};

const struct cli_command cli_config_show = {
    .name = "config show",
    .help = "print the configuration that holds, as YAML",
    .more = "All that the file says, and what it leaves to its default as comments. Paths are\n"
            "absolute, numbers in their usual units; secrets are shown as " CONF_MASK ".\n"
            "What is printed can be used as a configuration itself. It is read from the file; a\n"
            "running service has it once it was started, or got SIGHUP, after the last change.\n",
    .options = show_options,
    .no_json = true,
    .run = run_show,
};

static void print_reloaded(struct json_object *answer)
{
    struct json_object *restart = cli_json_field(answer, "restart");
    printf("the configuration is read again\n");
    for (size_t i = 0; i < cli_json_count(restart); i++)
        printf("%s holds after a restart\n",
               json_object_get_string(json_object_array_get_idx(restart, i)));
}

static int run_reload(struct cli *cli)
{
    struct json_object *answer, *request = json_object_new_object();
    int exit = cli_ask_long(cli, "/v1/reload", request, &answer); // reads the file itself, first
    json_object_put(request);
    if (exit)
        return exit == CLI_DATA ? CLI_CONFIG : exit;
    if (cli->json)
        cli_print_json(answer);
    else
        print_reloaded(answer);
    json_object_put(answer);
    return CLI_OK;
}

const struct cli_command cli_config_reload = {
    .name = "config reload",
    .help = "have the service read its configuration again, and say whether it took it",
    .more =
        "As SIGHUP does: the configuration and all files that it names, certificates too. If\n"
        "anything is wrong with them the old ones go on, and the exit code is 78. What needs a\n"
        "restart holds after one.\n",
    .run = run_reload,
};

static int run_schema(struct cli *cli)
{
    struct buf out = {0};
    (void)cli; // it is JSON already
    conf_schema(&out);
    return print(&out);
}

const struct cli_command cli_config_schema = {
    .name = "config schema",
    .help = "print a JSON Schema of the configuration, for editors",
    .more =
        "Draft 2020-12. With it an editor completes keys, shows what they mean, and marks what\n"
        "is wrong; for the YAML language server write at the top of the file:\n"
        "    # yaml-language-server: $schema=/etc/posthaste/schema.json\n"
        "`posthaste check-config` has the last word.\n",
    .no_config = true,
    .run = run_schema,
};
