// SPDX-License-Identifier: MIT
#include "cli/cli_commands.h"
#include "cli/sink.h"

const struct cli_command cli_sink = {
    .name = "sink",
    .arguments = "--listen HOST:PORT",
    .help = "a receiving server for trials: takes mail, or misbehaves by rule",
    .run_itself = cmd_sink,
};
const struct cli_command cli_load = {
    .name = "load",
    .arguments = "--to HOST:PORT",
    .help = "a sending client for trials: sends much mail and measures",
    .run_itself = cmd_load,
};
