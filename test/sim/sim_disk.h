// SPDX-License-Identifier: MIT
//
// sim_disk - sys/disk.h in memory: what a file system may do to us, done on purpose
//
// A page has what the cache shows and what the platter has. Sync makes them equal; a power cut
// leaves for every dirty page the old one, the new one, or a mix of 512-byte sectors of both;
// directory changes survive in order up to a random one unless the directory was synced. The kernel
// writes some pages back early. A disk is named by its root path and belongs to the host that
// opened it first; it outlives crashes.
#pragma once

#include "sim.h"
#include "sys/disk.h"

#define SIM_PAGE_BYTES 4096
#define SIM_SECTOR_BYTES 512

enum sim_disk_op {
    SIM_DISK_OPEN,
    SIM_DISK_READ,
    SIM_DISK_WRITE,
    SIM_DISK_SYNC,
    SIM_DISK_SYNC_DIR,
    SIM_DISK_TRUNCATE,
    SIM_DISK_RENAME,
    SIM_DISK_UNLINK,
    SIM_DISK_MKDIR,
    SIM_DISK_OPS
};

struct sim_disk;

// The disk at a root path, or NULL if nobody has opened it yet.
struct sim_disk *sim_disk_find(const char *root);
// Fails the n-th operation from now (1: the next), and `times` - 1 more after it, with err.
void sim_disk_fail(struct sim_disk *d, enum sim_disk_op op, uint64_t n, uint64_t times, int err);
// What a failed sync does to the dirty pages: false, they stay dirty (a later sync writes them);
// true, they are marked clean without having been written, as Linux does. Default: true.
void sim_disk_sync_drops(struct sim_disk *d, bool drops);
// Room for data and files. Default: 1 GiB, 100,000 files.
void sim_disk_capacity(struct sim_disk *d, uint64_t bytes, uint64_t inodes);
// Time a sync takes, chosen between the two.
void sim_disk_sync_us(struct sim_disk *d, uint32_t min, uint32_t max);
// Time that each read takes, as nothing is in the cache. Default: 0, it is there, mostly.
void sim_disk_read_us(struct sim_disk *d, uint32_t us);
// Flips bits of one byte, on the platter and in the cache. E_NOT_FOUND.
int sim_disk_flip(struct sim_disk *d, const char *name, uint64_t offset, uint8_t mask) MUST_USE;
// The page at an offset can't be read from now on (E_IO). At most four of a file. E_NOT_FOUND.
int sim_disk_spoil(struct sim_disk *d, const char *name, uint64_t offset) MUST_USE;
// Flips a bit in one of the bytes that are not zero, from an offset on. False if there is none.
bool sim_disk_rot(struct sim_disk *d, const char *name, uint64_t from);
// True if `needle` (within one page, or crossing pages) is on the platter in a file whose name is
// too.
bool sim_disk_has_durable(const struct sim_disk *d, struct bytes needle);
// Operations so far.
uint64_t sim_disk_count(const struct sim_disk *d, enum sim_disk_op op);
uint64_t sim_disk_used_bytes(const struct sim_disk *d);
// Planned faults that have struck.
uint64_t sim_disk_struck(const struct sim_disk *d);
// Each file on the disk (cache view): name and size.
void sim_disk_each(const struct sim_disk *d, void (*fn)(void *ctx, const char *name, uint64_t size),
                   void *ctx);
