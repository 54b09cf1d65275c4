// SPDX-License-Identifier: MIT
//
// safe_folder - a folder that root works in, though others may write in those above it
#pragma once

#include <pwd.h>
#include <sys/types.h>

// Opens the folder as O_PATH does: for fstat(), fchownat(AT_EMPTY_PATH) and the calls that end in "at"; no right to the
// folder itself is needed. -1 with errno.
//
// As root a symbolic link on the way, or on the way that a link leads, is followed only where it stands in a folder that
// nobody but root may write in, or where it is root's own and no second name of one that stands elsewhere: what root then
// does with the folder is done to no other one. EMLINK for another link. By other users than root all are followed.
int safe_folder_open(const char *path);

// The folder that the path ends in, opened so, and the name in it: *out_name points into `path`.
int safe_folder_open_above(const char *path, const char **out_name);

// Makes the folder in the one above it, which is reached as safe_folder_open() does, and gives it to `owner`, where that is
// not NULL; one that can't be given is removed. 0 or an errno value; EEXIST: there is something of that name.
int safe_folder_make(const char *path, mode_t mode, const struct passwd *owner);

// What is wrong, for people: strerror(), but for EMLINK; and as err_from_errno() says it, but E_DENIED for EMLINK.
const char *safe_folder_why(int errno_value);
int safe_folder_err(int errno_value);
