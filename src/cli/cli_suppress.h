// SPDX-License-Identifier: MIT
//
// cli_suppress - operations of the suppression list, by the running service or on the files here
//
// Which of them is decided once, when it is opened: the files are then locked until it is closed.
#pragma once

#include "cli/cli.h"

struct json_object;
struct cli_suppress;

// 0, or an exit code with the reason on standard error.
int cli_suppress_open(struct cli *cli, struct cli_suppress **out);
void cli_suppress_close(struct cli_suppress *s); // NULL is fine
// An operation of store/suppress_list.h; args (may be NULL) are borrowed. On success *out is the caller's.
int cli_suppress_apply(struct cli_suppress *s, const char *op, struct json_object *args,
                       struct json_object **out);
// Open, one operation, close.
int cli_suppress_once(struct cli *cli, const char *op, struct json_object *args,
                      struct json_object **out);
