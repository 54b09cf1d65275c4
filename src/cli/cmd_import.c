// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli_commands.h"
#include "cli/import_postfix.h"
#include "route/route_file.h"

#define HOST_MAX 256

static int read_cf(struct import *im, const char *path,
                   int (*parse)(struct postfix_cf *cf, struct bytes text, const char *file,
                                struct buf *errors))
{
    struct buf text;
    buf_init(&text, POSTFIX_FILE_MAX);
    int err = route_file_read(path, &text);
    int exit = CLI_OK;
    if (err)
        exit =
            cli_fail(err == E_LIMIT ? CLI_DATA : cli_exit_of(err), "%s: %s", path, err_text(err));
    else if (parse(&im->cf, buf_bytes(&text), path, &im->errors) != OK)
        exit = CLI_DATA;
    buf_done(&text);
    return exit;
}

// Every one of ours would be a mistake of this command; what main.cf asks for may still not go together.
static int check_result(struct import *im)
{
    struct conf *conf;
    struct buf errors = {0};
    int err = conf_load_text(buf_bytes(&im->out), "the result", "/etc/posthaste", &conf, &errors);
    if (err)
        fprintf(stderr, "%s", buf_cstr(&errors));
    conf_free(conf);
    buf_done(&errors);
    return err ? cli_fail(CLI_DATA, "what is printed needs these changes before it can be used")
               : CLI_OK;
}

static int run(struct cli *cli)
{
    char host[HOST_MAX] = "";
    struct import im = {.main_file = cli->arguments[0], .files = cli_value(cli, "files")};
    if (gethostname(host, sizeof host - 1) == -1)
        host[0] = '\0';
    im.cf.host = bytes_cstr(host);
    int exit = read_cf(&im, cli->arguments[0], postfix_cf_main);
    if (!exit && cli->arguments_count > 1)
        exit = read_cf(&im, cli->arguments[1], postfix_cf_master);
    if (!exit && import_postfix(&im) != OK)
        exit = CLI_TEMPORARY;
    fputs(buf_cstr(&im.errors), stderr);
    if (!exit) {
        fputs(buf_cstr(&im.out), stdout);
        exit = check_result(&im);
    }
    postfix_cf_done(&im.cf);
    buf_done(&im.out);
    buf_done(&im.replaced);
    buf_done(&im.left);
    buf_done(&im.errors);
    return exit;
}

static const struct cli_option options[] = {
    {"files", "DIR", "an existing folder, where passwords and recipient tables are written"},
    {NULL},
};

const struct cli_command cli_import_postfix = {
    .name = "import postfix",
    .arguments = "MAIN.CF [MASTER.CF]",
    .help = "print a configuration made from Postfix's",
    .more =
        "Above each key stands the Postfix parameter that it came from; at the end, what was\n"
        "replaced by something of ours and what was not taken over, why, and what to do.\n"
        "Tables with a text (hash:, lmdb:, texthash:, ...) are read, from where they are or from\n"
        "beside MAIN.CF. Without MASTER.CF there is one listener, on port 25. Logins of people\n"
        "are not in these files: make accounts and credentials.\n"
        "Exit code 65: a file that is no such configuration, or a result that needs changes.\n",
    .options = options,
    .arguments_min = 1,
    .arguments_max = 2,
    .no_config = true,
    .no_json = true,
    .run = run,
};
