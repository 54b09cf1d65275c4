// SPDX-License-Identifier: MIT
//
// guard_files - the files that the configuration names, read for a relay that can't
//
// The relay is shut in from its start (sandbox.h); what a reload newly names it could not open. So the guard reads
// recipient tables, password files and authorities, and hands over copies. It keeps them as long as the configuration:
// a relay that follows one that died gets what worked, whatever has become of the files.
//
// Limits: GUARD_FILE_MAX bytes of a file; a larger one goes as it is, and the relay says that it is too large.
#pragma once

#include "base/map.h"
#include "conf/conf.h"

#define GUARD_FILE_MAX ((size_t)64 << 20)

// The files of one configuration, by path. Zeroed is empty.
struct guard_files {
    struct map by_path;
};
// Reads each file once. One that can't be read is the relay's to complain about.
void guard_files_read(struct guard_files *files, const struct conf *conf);
// Sends each, as CHANNEL_FILE. E_CLOSED, E_IO.
int guard_files_send(int channel, const struct guard_files *files) MUST_USE;
// Wipes and frees them.
void guard_files_done(struct guard_files *files);
// The file of trusted authorities, empty if there is none; NULL: no route verifies.
const char *guard_files_authorities(const struct conf *conf);
