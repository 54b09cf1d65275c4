// SPDX-License-Identifier: MIT
//
// cli_progress - long work: how far it is, and ^C
//
// On a terminal one line of standard error that is drawn again and again; elsewhere nothing, or with --progress a
// line each second. A first ^C (SIGTERM) asks for an end at the next safe place; a second one is not caught.
#pragma once

#include "cli/cli.h"

struct cli_progress {
    bool terminal, lines;
    const char *unit; // "lines"
    double began, last;
    bool drawn;
};

void cli_progress_begin(struct cli *cli, struct cli_progress *p, const char *unit);
// So many are done; `of` 0: nobody knows how many there are. Bytes (unit "bytes") are shown as MB.
void cli_progress_show(struct cli_progress *p, uint64_t done, uint64_t of);
// The last word: the line goes from a terminal, elsewhere it is told once more.
void cli_progress_end(struct cli_progress *p, uint64_t done, uint64_t of);
double cli_progress_seconds(const struct cli_progress *p); // since it began

// From now on ^C and SIGTERM are noted; calls that wait return with EINTR.
void cli_interrupt_catch(void);
bool cli_interrupted(void);
