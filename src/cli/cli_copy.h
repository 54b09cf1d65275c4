// SPDX-License-Identifier: MIT
//
// cli_copy - files and folders of a backup copied, with progress, until it is interrupted
//
// What root copies, gives away or removes may lie in folders of the service's user: it is done by descriptors, and that
// user's links there are not followed (sys/safe_folder.h).
//
// Functions that return an int without saying what: 0 or an errno value; EINTR: interrupted (cli_progress.h).
#pragma once

#include "cli/cli_progress.h"

struct passwd;
struct cli_copy {
    const struct passwd *user; // what is made is this user's; NULL: ours
    char *piece;
    const char *failed; // the path, when something fails
    uint64_t files, bytes, of;
    struct cli_progress progress;
};

void cli_copy_begin(struct cli *cli, struct cli_copy *c, const struct passwd *user);
void cli_copy_end(struct cli_copy *c);
// Copies a file, or a folder with all that is in it but locks; `to` must not be there. Flushed when it returns 0.
int cli_copy_part(struct cli_copy *c, const char *from, const char *to);

// The user that the service runs as, where we are root and have to give it what we make; else NULL.
const struct passwd *cli_copy_user(const struct conf *conf);
int cli_copy_give(const char *path, const struct passwd *user);
// Makes a folder, or takes an empty one.
int cli_copy_make_empty(const char *path, const struct passwd *user, bool *out_made);
// Makes a folder, and `below` in it, which are not there.
int cli_copy_make_new(const char *path, const char *below, const struct passwd *user);
int cli_copy_sync_folder(const char *path);
void cli_copy_remove(const char *path);   // with all that is in it; what is not there is fine
uint64_t cli_copy_size(const char *path); // bytes of all files in it
// "WHAT PATH: why" on standard error; the exit code.
int cli_copy_fail(int e, const char *what, const char *path);
