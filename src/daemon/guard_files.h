// SPDX-License-Identifier: MIT
//
// guard_files - the files that the configuration names, opened for a relay that can't
//
// The relay is shut in from its start (sandbox.h); what a reload newly names it could not open. So the guard opens
// recipient tables, password files and authorities, and hands over the descriptors.
#pragma once

#include "conf/conf.h"

// Sends each file once, as CHANNEL_FILE. One that can't be opened is the relay's to complain about. E_CLOSED, E_IO.
int guard_files_send(int channel, const struct conf *conf) MUST_USE;
// The file of trusted authorities, empty if there is none; NULL: no route verifies.
const char *guard_files_authorities(const struct conf *conf);
