// SPDX-License-Identifier: MIT
//
// disk - files as the spool sees them: one directory tree, synchronous calls
//
// Blocking: only for the spool's own loop, jobs on the offload pool, and start-up. sys_uv calls the
// kernel; sys_sim keeps pages in memory, forgets unflushed ones in a crash, tears writes and
// injects errors. Names are relative to the root the disk was opened with ("segments/00000001").
#pragma once

#include <sys/uio.h>

#include "base/bytes.h"

struct disk;
struct disk_file;

enum disk_open_flags {
    DISK_READ = 1,
    DISK_WRITE = 2,
    DISK_CREATE = 4,
    DISK_EXCLUSIVE = 8,
    DISK_TRUNCATE = 16
};

// Opens (and makes, mode 0700) the root directory. E_IO, E_DENIED, E_FULL.
int disk_open(const char *root, struct disk **out) MUST_USE;
void disk_close(struct disk *d);
// Takes the exclusive lock of the root (file "lock"); E_BUSY if another process has it.
int disk_lock(struct disk *d) MUST_USE;
int disk_mkdir(struct disk *d, const char *name) MUST_USE; // OK if it is there already
// Names in a directory (no "." and ".."), each passed to fn; "" is the root.
int disk_list(struct disk *d, const char *dir, void (*fn)(void *ctx, const char *name),
              void *ctx) MUST_USE;
int disk_rename(struct disk *d, const char *from, const char *to) MUST_USE;
int disk_unlink(struct disk *d, const char *name) MUST_USE;
int disk_sync_dir(struct disk *d, const char *dir) MUST_USE;
// Free bytes and inodes for an unprivileged user.
int disk_free(struct disk *d, uint64_t *out_bytes, uint64_t *out_inodes) MUST_USE;

int disk_file_open(struct disk *d, const char *name, int flags, struct disk_file **out) MUST_USE;
void disk_file_close(struct disk_file *f);
// Writes everything or fails (E_FULL on ENOSPC/EDQUOT, else E_IO); what was written before a
// failure is undefined.
int disk_pwritev(struct disk_file *f, const struct iovec *iov, int count, uint64_t offset) MUST_USE;
// Reads up to n bytes; *out_n < n only at the end of the file.
int disk_pread(struct disk_file *f, void *out, size_t n, uint64_t offset, size_t *out_n) MUST_USE;
// As disk_pread, but E_AGAIN rather than wait for the disk (page cache only). May be called on any
// loop.
int disk_pread_nowait(struct disk_file *f, void *out, size_t n, uint64_t offset,
                      size_t *out_n) MUST_USE;
int disk_sync(struct disk_file *f) MUST_USE; // fdatasync
int disk_truncate(struct disk_file *f, uint64_t size) MUST_USE;
int disk_size(struct disk_file *f, uint64_t *out) MUST_USE;
