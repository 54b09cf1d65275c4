// SPDX-License-Identifier: MIT
//
// cli_store - one operation of the store, whether the service runs or not
//
// The service holds the store's lock while it runs; then the operation goes through the control
// socket and takes effect there at once. Otherwise it is applied to the files here, under the lock.
#pragma once

#include "base/clock.h"
#include "base/json.h"
#include "cli/cli.h"

struct json_object;

// Applies it; `args` is taken over and may be NULL. On success *out_result is the caller's
// (json_object_put). Otherwise the reason is on standard error and the exit code comes back.
int cli_store_apply(struct cli *cli, const char *op, struct json_object *args,
                    struct json_object **out_result);
// The store opened here, under its lock, for a command that needs more of it than one operation;
// *out NULL with CLI_OK: the service has it, ask there. Otherwise as above.
struct store;
int cli_store_open(struct cli *cli, struct store **out);
// Who types: "cli:root". Lives in `arena`.
struct bytes cli_store_actor(struct arena *arena);
// The time of day.
struct wall cli_store_now(void);
// How many elements; 0 where it is no list: what came need not be what was asked for.
size_t cli_json_count(struct json_object *list);
