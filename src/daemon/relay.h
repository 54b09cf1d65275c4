// SPDX-License-Identifier: MIT
//
// relay - the unprivileged process: everything that touches the network and the mail
#pragma once

#include "conf/conf.h"

// Runs the relay with the guard at the other end of `channel` until told to stop. Returns the exit code:
// 0 after an ordered stop; 75 spool busy or unreadable, 78 spool of a newer release or bad configuration.
int relay_main(int channel);

// Parses a configuration the same way in both processes: `path` gives the name in errors and the folder that
// relative paths start from (NULL: the embedded default, relative to the working directory).
int relay_parse_config(struct bytes text, const char *path, struct conf_host *host,
                       struct conf **out, struct buf *errors) MUST_USE;
