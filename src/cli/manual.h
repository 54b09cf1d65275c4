// SPDX-License-Identifier: MIT
//
// manual - the tables of commands and parameters as manual pages, in mdoc(7)
//
// From the same rows as `posthaste help`: one page for the program, one for each command, one for each group of
// commands ("queue"), and one for the configuration. `date` is that of the page's head, "November 22, 2026".
#pragma once

#include "cli/cli.h"

// posthaste(1)
void manual_program(const char *date, struct buf *out);
// posthaste-queue-hold(1)
void manual_command(const struct cli_command *command, const char *date, struct buf *out);
// posthaste-queue(1); `group` is the first word of the group's commands.
void manual_group(struct bytes group, const char *date, struct buf *out);
// posthaste.yaml(5)
void manual_configuration(const char *date, struct buf *out);
// The page's name: "posthaste-queue-hold" of "queue hold".
void manual_name(struct bytes words, struct buf *out);
// The group that a command belongs to; empty for one of a single word.
struct bytes manual_group_of(const struct cli_command *command);
// Is the command the first of its group in the table?
bool manual_begins_group(int command);
