// SPDX-License-Identifier: MIT
//
// relay_files - what the relay process gets of the file system: files by the guard, folders by its sandbox
//
// Thread:   as the parts of a configuration: the first thread, then the main loop.
#pragma once

#include "base/map.h"
#include "conf/conf.h"
#include "daemon/channel.h"
#include "route/route_file.h"

// The files of one configuration, by path. Zeroed is empty.
struct relay_files {
    struct map by_path;
};
// Takes over what a CHANNEL_FILE brought.
void relay_files_take(struct relay_files *files, struct channel_message *message);
void relay_files_done(struct relay_files *files);
// For route_table_new(). Borrows files. A file that the guard did not send is E_NOT_FOUND.
struct route_files relay_files_reader(struct relay_files *files);

// The folders that this process may write, from its start to its end.
struct relay_folders {
    struct buf maildirs; // LF between them
    int landlock;        // what keeps it to them: the version of Landlock, 0 for none
};
// Shuts the process in: spool, state, the control socket's folder and the Maildirs of the configuration are what
// it can write. A Maildir folder that is made later is written too; one that is removed and made again is out of
// reach until a restart. As sandbox_enter().
int relay_folders_shut_in(struct relay_folders *folders, const struct conf *conf) MUST_USE;
// Are all Maildirs of a later configuration among them? E_DENIED with a line in `errors` for each that is not.
int relay_folders_check(const struct relay_folders *folders, const struct conf *conf,
                        struct buf *errors) MUST_USE;
