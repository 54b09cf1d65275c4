// SPDX-License-Identifier: MIT
//
// sink - `posthaste sink` and `posthaste load`: a receiving server and a sending client for trials
// and tests
#pragma once

// Subcommands; argv[0] is the subcommand's name. They return the exit code (0, 64 usage, 65 a bad
// rules file, 69 the other side is not there, 75 not all was accepted, 77 permission).
int cmd_sink(int argc, char **argv);
int cmd_load(int argc, char **argv);
