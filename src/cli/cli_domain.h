// SPDX-License-Identifier: MIT
//
// cli_domain - a sender domain as commands show it, with all the records that its owner is to publish
#pragma once

#include "cli/cli.h"

struct json_object;

// Fills in what the store does not know: "records" gets the others beside the ownership record, "notes" what the
// operator has left open. `domain` is a DOMAIN of the store.
void cli_domain_complete(struct cli *cli, struct json_object *domain);
// For people: the records by purpose, as a zone file would have them, and the notes.
void cli_domain_print_records(struct json_object *domain);
// The first record: the one that proves whose the domain is. NULL if there is none.
struct json_object *cli_domain_proof(struct json_object *domain);
