// SPDX-License-Identifier: MIT
#include "cli/cli_commands.h"
#include "daemon/guard.h"

static int run(struct cli *cli)
{
    return guard_main(cli->config, cli_value(cli, "ready-file"));
}

static const struct cli_option options[] = {
    {"ready-file", "PATH",
     "written, whole, once every listener accepts; gone when the service ends"},
    {NULL},
};

const struct cli_command cli_serve = {
    .name = "serve",
    .help = "run the service in the foreground",
    .more =
        "SIGHUP reads the configuration again; SIGTERM lets running transactions end and stops.\n"
        "The log goes to standard error.\n",
    .options = options,
    .no_json = true,
    .run = run,
};
