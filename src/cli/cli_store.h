// SPDX-License-Identifier: MIT
//
// cli_store - one operation of the store, whether the service runs or not
//
// The service holds the store's lock while it runs; then the operation goes through the control
// socket and takes effect there at once. Otherwise it is applied to the files here, under the lock.
#pragma once

#include "cli/cli.h"

struct json_object;

// Applies it; `args` is borrowed and may be NULL. On success *out_result is the caller's
// (json_object_put). Otherwise the reason is on standard error and the exit code comes back.
int cli_store_apply(struct cli *cli, const char *op, struct json_object *args,
                    struct json_object **out_result);
// A string field of an object; empty if it is not there.
struct bytes cli_json_text(struct json_object *object, const char *key);
// Adds a string field.
void cli_json_add(struct json_object *object, const char *key, struct bytes text);
