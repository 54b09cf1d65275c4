// SPDX-License-Identifier: MIT
//
// sim_inode - the simulated disk's pages, files and directories, each as the cache and as the
// platter has it
//
// How it works: a page that equals the platter shares its memory (mem == dur). A write copies it
// first; a sync makes the copy the platter's. A directory keeps two maps, what the kernel shows and
// what is on the platter, and the row of changes between them.
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "sim_disk.h"

struct fault {
    uint64_t in, times; // calls until it strikes (0: none), how often
    int err;
};

struct sim_disk {
    struct list link;
    char root[256];
    struct sim_host *host;
    struct list inodes, dirs, files, handles;
    bool locked, sync_drops;
    uint64_t capacity_pages, inodes_max, used_pages, inode_count;
    uint32_t sync_us_min, sync_us_max, read_us;
    struct fault faults[SIM_DISK_OPS];
    uint64_t counts[SIM_DISK_OPS], struck;
};

struct page {
    char *mem, *dur; // equal pointers: clean; NULL: zeros, not allocated
    bool lost;       // dirty, but the kernel believes it clean (after a failed sync)
};

#define SIM_BAD_MAX 4

struct inode {
    struct list link; // in its disk
    uint64_t size, durable_size;
    struct page *pages;
    size_t page_count;
    struct sim_dir *dir;          // what it holds, if it is a directory
    uint32_t refs;                // names (both views), pending changes, open files
    uint32_t shown;               // names in the cache's view, open files: what counts as used
    uint64_t bad_at[SIM_BAD_MAX]; // pages that can't be read
    uint32_t bad_count;
};

// One change of a directory: `name` now means `inode`, or nothing. A rename in one directory is two
// changes of which the second goes with the first.
struct change {
    struct list link;
    struct inode *inode; // NULL: removed
    bool with_next;
    size_t len;
    char name[];
};

struct sim_dir {
    struct list link;
    char path[256];
    struct map shown, durable;
    struct list changes;
};

bool page_is_dirty(const struct page *p);
// The platter takes over what the cache has.
void page_persist(struct page *p);

struct inode *inode_new(struct sim_disk *d);
// One more, one less name or open file; the last one gives the space back.
void inode_show(struct inode *inode);
void inode_hide(struct sim_disk *d, struct inode *inode);
uint64_t inode_pages_used(const struct inode *inode);
// False: no room for all of it.
bool inode_write(struct sim_disk *d, struct inode *inode, struct bytes data, uint64_t offset);
void inode_read(const struct inode *inode, char *out, size_t n, uint64_t offset);
// Cuts the cache's view; the platter keeps its pages until a sync or a later write.
void inode_truncate(struct sim_disk *d, struct inode *inode, uint64_t size);
// A sync: of all dirty pages, or of those the dice choose.
void inode_persist(struct inode *inode);
void inode_persist_some(struct inode *inode);
// The kernel writes back one dirty page early, as it may at any time.
void inode_write_back_one(struct inode *inode);

struct sim_dir *dir_new(struct sim_disk *d, struct bytes path);
struct sim_dir *dir_find(struct sim_disk *d, struct bytes path);
// "a/b/c" is c in the directory a/b; NULL if there is no such directory.
struct sim_dir *dir_of(struct sim_disk *d, const char *name, struct bytes *out_base);
// The name means the inode from now on, or nothing (NULL).
struct change *dir_set(struct sim_disk *d, struct sim_dir *dir, struct bytes name,
                       struct inode *inode);
void dir_sync(struct sim_dir *dir);
void dir_free(struct sim_disk *d, struct sim_dir *dir);

// What a power cut leaves of unflushed things: the old, the new, or each as the dice say.
enum fate { FATE_OLD, FATE_NEW, FATE_MIXED };
void inode_settle(struct inode *inode, enum fate fate);
void dir_settle(struct sim_disk *d, struct sim_dir *dir, enum fate fate);
