// SPDX-License-Identifier: MIT
//
// safe_folder - a folder that root opens, though others may write in those above it
#pragma once

// Opens the folder for reading. A symbolic link in the path is followed only where it stands in a folder that nobody
// but root may write in, so that what root then does with the folder is done to no other one; by other users than root
// all are followed. -1 with errno, ENOTDIR for such a link.
int safe_folder_open(const char *path);
