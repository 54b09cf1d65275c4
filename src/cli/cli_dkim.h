// SPDX-License-Identifier: MIT
//
// cli_dkim - the DKIM keys of a domain, for whoever prints records
#pragma once

#include "cli/cli.h"

struct json_object;

// Has the running service make what keys are missing; without one nothing happens, it makes them when it starts.
// CLI_OK in both cases.
int cli_dkim_look_after(struct cli *cli);
// The keys that are to stand in the DNS for the account's domain (account empty: the service's own): an array of
// {"selector", "record", "algorithm", "state"}, the caller's (json_object_put). Old ones are among them while their
// grace time lasts. With CNAMEs (domains.dkim: cname) both names of a pair stand there, also while only one has a key.
int cli_dkim_published(struct cli *cli, struct bytes account, struct bytes domain,
                       struct json_object **out_keys);
