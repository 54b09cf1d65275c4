// SPDX-License-Identifier: MIT
//
// cli_control - a question to the running service, with its failures told and turned into exit codes
#pragma once

#include "cli/cli.h"

struct json_object;

// As control_request(). 0: *out is the caller's (json_object_put). Otherwise the reason is on
// standard error and the exit code comes back: 69 when the service does not run.
int cli_ask(struct cli *cli, const char *path, struct json_object *body, struct json_object **out);

// The same for what may take longer than CONTROL_TIMEOUT_S; it waits for as long as it takes.
int cli_ask_long(struct cli *cli, const char *path, struct json_object *body,
                 struct json_object **out);

// Work that takes long: shows how far it is, and ends it when it is interrupted (cli_progress.h). Then the service has
// stopped it, at a safe place, when this returns CLI_INTERRUPTED; what was done then, is told.
int cli_ask_work(struct cli *cli, const char *path, struct json_object *body,
                 struct json_object **out);

// A question whose answer is one object a line: on_object() for each, borrowed; false ends it.
int cli_ask_lines(struct cli *cli, const char *path,
                  bool (*on_object)(void *ctx, struct json_object *object), void *ctx);

// Appends "?name=value" or "&name=value" with the value percent-encoded; an empty one is left out.
void cli_add_query(struct buf *path, const char *name, struct bytes value);

// ---- fields of an answer ------------------------------------------------------------------------------

// NULL where it is missing or null.
struct json_object *cli_json_field(struct json_object *object, const char *key);
uint64_t cli_json_number(struct json_object *object, const char *key);
// Text of any kind for a table's cell; "-" where there is nothing. Lives in `arena`.
struct bytes cli_json_cell(struct json_object *object, const char *key, struct arena *arena);
