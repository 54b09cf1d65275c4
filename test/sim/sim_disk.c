// SPDX-License-Identifier: MIT
//
// sim_disk - files in memory that may be lost, torn, full or broken, as the dice say
//
// How it works: a page that equals the platter shares its memory (mem == dur). A write copies it
// first; a sync makes the copy the platter's. A directory keeps two maps, what the kernel shows and
// what is on the platter, and the row of changes between them. A power cut applies a random start
// of each row, decides for every dirty page what of it got written, and makes the cache equal to
// the platter.
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/map.h"
#include "sim_disk.h"
#include "sim_inode.h"
#include "sim_internal.h"

#define FILE_BYTES_MAX (UINT64_C(1) << 32)

struct disk {
    struct list link;
    struct sim_disk *d;
    bool has_lock;
};

struct disk_file {
    struct list link;
    struct sim_disk *d;
    struct inode *inode;
    bool may_write;
};

static struct list disks;

// ---- faults ------------------------------------------------------------------------------------

static void spend(int64_t low, int64_t high)
{
    if (sim_here())
        sim_spend_us(sim_between(DICE_DISK, low, high));
}

static void write_back_one(struct sim_disk *d)
{
    if (sim_chance(DICE_DISK, 1, 8) && !list_is_empty(&d->files))
        inode_write_back_one(list_get(list_first(&d->files), struct disk_file, link)->inode);
}

// Counts the operation; the error it is to fail with, or 0.
static int strike(struct sim_disk *d, enum sim_disk_op op)
{
    struct fault *fault = &d->faults[op];
    d->counts[op]++;
    sim_note("disk", op, d->counts[op]);
    write_back_one(d);
    if (!fault->in || --fault->in > 0)
        return OK;
    fault->in = --fault->times ? 1 : 0;
    d->struck++;
    sim_note("disk fault", op, (uint64_t)-fault->err);
    return fault->err;
}

// An operation on names: it may crash before or after it is done.
static bool crash_before(bool crashes)
{
    return crashes && sim_chance(DICE_DISK, 1, 2);
}

static void crash_after(bool crashes)
{
    if (crashes)
        sim_crash_now();
}

void sim_disk_fail(struct sim_disk *d, enum sim_disk_op op, uint64_t n, uint64_t times, int err)
{
    CHECK(n > 0 && times > 0 && err < 0);
    d->faults[op] = (struct fault){n, times, err};
}

void sim_disk_sync_drops(struct sim_disk *d, bool drops)
{
    d->sync_drops = drops;
}

void sim_disk_capacity(struct sim_disk *d, uint64_t bytes, uint64_t inodes)
{
    d->capacity_pages = bytes / SIM_PAGE_BYTES;
    d->inodes_max = inodes;
}

void sim_disk_sync_us(struct sim_disk *d, uint32_t min, uint32_t max)
{
    d->sync_us_min = min;
    d->sync_us_max = max;
}

void sim_disk_read_us(struct sim_disk *d, uint32_t us)
{
    d->read_us = us;
}

uint64_t sim_disk_count(const struct sim_disk *d, enum sim_disk_op op)
{
    return d->counts[op];
}

uint64_t sim_disk_struck(const struct sim_disk *d)
{
    return d->struck;
}

uint64_t sim_disk_used_bytes(const struct sim_disk *d)
{
    return d->used_pages * SIM_PAGE_BYTES;
}

// ---- disk.h: the root --------------------------------------------------------------------------

struct sim_disk *sim_disk_find(const char *root)
{
    list_each(link, &disks)
    {
        struct sim_disk *d = list_get(link, struct sim_disk, link);
        if (strcmp(d->root, root) == 0)
            return d;
    }
    return NULL;
}

static struct sim_disk *disk_make(const char *root)
{
    struct sim_disk *d = mem_new(sizeof *d);
    CHECK(strlen(root) < sizeof d->root);
    snprintf(d->root, sizeof d->root, "%s", root);
    d->host = sim_here();
    list_init(&d->inodes);
    list_init(&d->dirs);
    list_init(&d->files);
    list_init(&d->handles);
    dir_new(d, BYTES_NONE);
    d->sync_drops = true;
    sim_disk_capacity(d, UINT64_C(1) << 30, 100000);
    sim_disk_sync_us(d, 300, 3000);
    list_push_back(&disks, &d->link);
    return d;
}

int disk_open(const char *root, struct disk **out)
{
    struct sim_disk *d = sim_disk_find(root);
    if (!d)
        d = disk_make(root);
    struct disk *handle = mem_new(sizeof *handle);
    handle->d = d;
    list_push_back(&d->handles, &handle->link);
    *out = handle;
    return OK;
}

void disk_close(struct disk *d)
{
    if (!d)
        return;
    if (d->has_lock)
        d->d->locked = false;
    list_remove(&d->link);
    free(d);
}

int disk_lock(struct disk *d)
{
    if (d->has_lock)
        return OK;
    if (d->d->locked)
        return E_BUSY;
    d->has_lock = d->d->locked = true;
    return OK;
}

int disk_free(struct disk *d, uint64_t *out_bytes, uint64_t *out_inodes)
{
    const struct sim_disk *sim = d->d;
    bool room = sim->capacity_pages > sim->used_pages;
    *out_bytes = room ? (sim->capacity_pages - sim->used_pages) * SIM_PAGE_BYTES : 0;
    *out_inodes = sim->inodes_max > sim->inode_count ? sim->inodes_max - sim->inode_count : 0;
    return OK;
}

// ---- disk.h: names -----------------------------------------------------------------------------

int disk_mkdir(struct disk *handle, const char *name)
{
    struct sim_disk *d = handle->d;
    bool crashes = sim_op_crashes();
    int err = strike(d, SIM_DISK_MKDIR);
    if (crash_before(crashes))
        sim_crash_now();
    struct bytes base;
    struct sim_dir *parent = dir_of(d, name, &base);
    if (!err && !parent)
        err = E_NOT_FOUND;
    if (!err && !map_find(&parent->shown, base)) {
        struct inode *inode = inode_new(d);
        inode->dir = dir_new(d, bytes_cstr(name));
        dir_set(d, parent, base, inode);
    }
    crash_after(crashes);
    return err;
}

int disk_list(struct disk *handle, const char *path, void (*fn)(void *ctx, const char *name),
              void *ctx)
{
    struct sim_dir *dir = dir_find(handle->d, bytes_cstr(path));
    if (!dir)
        return E_NOT_FOUND;
    struct map names = {0}; // fn may change the directory
    size_t cursor = 0;
    struct bytes name;
    void *value;
    while (map_next(&dir->shown, &cursor, &name, &value))
        map_set(&names, name, value);
    cursor = 0;
    while (map_next(&names, &cursor, &name, &value)) {
        char text[256];
        CHECK(name.len < sizeof text);
        memcpy(text, name.at, name.len);
        text[name.len] = '\0';
        fn(ctx, text);
    }
    map_done(&names);
    return OK;
}

int disk_rename(struct disk *handle, const char *from, const char *to)
{
    struct sim_disk *d = handle->d;
    bool crashes = sim_op_crashes();
    int err = strike(d, SIM_DISK_RENAME);
    if (crash_before(crashes))
        sim_crash_now();
    struct bytes from_base, to_base;
    struct sim_dir *from_dir = dir_of(d, from, &from_base);
    struct sim_dir *to_dir = dir_of(d, to, &to_base);
    struct inode *inode = from_dir ? map_find(&from_dir->shown, from_base) : NULL;
    if (!err && (!inode || !to_dir))
        err = E_NOT_FOUND;
    if (!err && map_find(&to_dir->shown, to_base) != inode) {
        CHECK(!inode->dir); // no user renames directories
        struct change *change = dir_set(d, to_dir, to_base, inode);
        change->with_next = from_dir == to_dir;
        dir_set(d, from_dir, from_base, NULL);
    }
    crash_after(crashes);
    return err;
}

int disk_unlink(struct disk *handle, const char *name)
{
    struct sim_disk *d = handle->d;
    bool crashes = sim_op_crashes();
    int err = strike(d, SIM_DISK_UNLINK);
    if (crash_before(crashes))
        sim_crash_now();
    struct bytes base;
    struct sim_dir *dir = dir_of(d, name, &base);
    struct inode *inode = dir ? map_find(&dir->shown, base) : NULL;
    if (!err && !inode)
        err = E_NOT_FOUND;
    if (!err)
        dir_set(d, dir, base, NULL);
    crash_after(crashes);
    return err;
}

int disk_sync_dir(struct disk *handle, const char *path)
{
    struct sim_disk *d = handle->d;
    bool crashes = sim_op_crashes();
    int err = strike(d, SIM_DISK_SYNC_DIR);
    spend(d->sync_us_min, d->sync_us_max);
    struct sim_dir *dir = dir_find(d, bytes_cstr(path));
    if (!err && !dir)
        err = E_NOT_FOUND;
    if (!err && !crash_before(crashes))
        dir_sync(dir);
    crash_after(crashes);
    return err;
}

// ---- disk.h: files -----------------------------------------------------------------------------

static int file_create(struct sim_disk *d, struct sim_dir *dir, struct bytes base,
                       struct inode **out)
{
    if (d->inode_count >= d->inodes_max)
        return E_FULL;
    *out = inode_new(d);
    dir_set(d, dir, base, *out);
    return OK;
}

static int file_lookup(struct sim_disk *d, const char *name, int flags, struct inode **out)
{
    struct bytes base;
    struct sim_dir *dir = dir_of(d, name, &base);
    if (!dir)
        return E_NOT_FOUND;
    *out = map_find(&dir->shown, base);
    if (*out && (flags & DISK_EXCLUSIVE) && (flags & DISK_CREATE))
        return E_EXISTS;
    if (*out && (*out)->dir)
        return E_IO;
    if (!*out && !(flags & DISK_CREATE))
        return E_NOT_FOUND;
    return *out ? OK : file_create(d, dir, base, out);
}

int disk_file_open(struct disk *handle, const char *name, int flags, struct disk_file **out)
{
    struct sim_disk *d = handle->d;
    bool crashes = sim_op_crashes();
    int err = strike(d, SIM_DISK_OPEN);
    if (crash_before(crashes))
        sim_crash_now();
    struct inode *inode = NULL;
    if (!err)
        err = file_lookup(d, name, flags, &inode);
    crash_after(crashes);
    if (err)
        return err;
    struct disk_file *f = mem_new(sizeof *f);
    f->d = d;
    f->inode = inode;
    f->may_write = flags & DISK_WRITE;
    inode_show(inode);
    list_push_front(&d->files, &f->link);
    if (flags & DISK_TRUNCATE)
        inode_truncate(d, inode, 0);
    *out = f;
    return OK;
}

void disk_file_close(struct disk_file *f)
{
    if (!f)
        return;
    inode_hide(f->d, f->inode);
    list_remove(&f->link);
    free(f);
}

// Writes the first `limit` bytes.
static bool write_some(struct disk_file *f, const struct iovec *iov, int count, uint64_t offset,
                       size_t limit)
{
    for (int i = 0; i < count && limit; i++) {
        size_t n = iov[i].iov_len < limit ? iov[i].iov_len : limit;
        if (!inode_write(f->d, f->inode, bytes_of(iov[i].iov_base, n), offset))
            return false;
        offset += n;
        limit -= n;
    }
    return true;
}

int disk_pwritev(struct disk_file *f, const struct iovec *iov, int count, uint64_t offset)
{
    CHECK(f->may_write);
    bool crashes = sim_op_crashes();
    int err = strike(f->d, SIM_DISK_WRITE);
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    CHECK(offset + total < FILE_BYTES_MAX);
    spend(5, 60);
    bool whole = !err && !crashes;
    bool room = write_some(f, iov, count, offset, whole ? total : sim_roll(DICE_DISK, total + 1));
    crash_after(crashes);
    return err ? err : room ? OK : E_FULL;
}

static bool is_bad(const struct inode *inode, size_t n, uint64_t offset)
{
    for (uint32_t i = 0; i < inode->bad_count; i++)
        if (inode->bad_at[i] < offset + n && offset < inode->bad_at[i] + SIM_PAGE_BYTES)
            return true;
    return false;
}

int disk_pread(struct disk_file *f, void *out, size_t n, uint64_t offset, size_t *out_n)
{
    int err = strike(f->d, SIM_DISK_READ);
    spend(1, 200);
    sim_spend_us(f->d->read_us);
    *out_n = 0;
    if (!err && is_bad(f->inode, n, offset))
        err = E_IO;
    if (err)
        return err;
    if (offset < f->inode->size)
        *out_n = f->inode->size - offset < n ? f->inode->size - offset : n;
    inode_read(f->inode, out, *out_n, offset);
    return OK;
}

int disk_pread_nowait(struct disk_file *f, void *out, size_t n, uint64_t offset, size_t *out_n)
{
    *out_n = 0;
    if (f->d->read_us || sim_chance(DICE_DISK, 1, 10))
        return E_AGAIN;
    return disk_pread(f, out, n, offset, out_n);
}

// After a failed sync the pages it could not write count as clean (until they are written again).
static void sync_fails(struct sim_disk *d, struct inode *inode)
{
    inode_persist_some(inode);
    for (size_t i = 0; d->sync_drops && i < inode->page_count; i++)
        if (page_is_dirty(&inode->pages[i]))
            inode->pages[i].lost = true;
}

int disk_sync(struct disk_file *f)
{
    bool crashes = sim_op_crashes();
    int err = strike(f->d, SIM_DISK_SYNC);
    spend(f->d->sync_us_min, f->d->sync_us_max);
    if (sim_here() && sim_chance(DICE_DISK, 1, 200))
        spend(20000, 80000);
    if (crash_before(crashes)) {
        inode_persist_some(f->inode);
        sim_crash_now();
    }
    if (err)
        sync_fails(f->d, f->inode);
    else
        inode_persist(f->inode);
    crash_after(crashes);
    return err;
}

int disk_truncate(struct disk_file *f, uint64_t size)
{
    CHECK(f->may_write && size < FILE_BYTES_MAX);
    bool crashes = sim_op_crashes();
    int err = strike(f->d, SIM_DISK_TRUNCATE);
    if (!err && !crash_before(crashes))
        inode_truncate(f->d, f->inode, size);
    crash_after(crashes);
    return err;
}

int disk_size(struct disk_file *f, uint64_t *out)
{
    *out = f->inode->size;
    return OK;
}

// ---- crashes -----------------------------------------------------------------------------------

static bool dir_has_name(struct sim_disk *d, const struct sim_dir *dir)
{
    struct bytes base;
    struct sim_dir *parent = dir_of(d, dir->path, &base);
    return !dir->path[0] || (parent && map_find(&parent->shown, base));
}

static void disk_drop_handles(struct sim_disk *d)
{
    list_each(link, &d->files) disk_file_close(list_get(link, struct disk_file, link));
    list_each(link, &d->handles) disk_close(list_get(link, struct disk, link));
}

static void disk_power_cut(struct sim_disk *d)
{
    enum fate fate = (enum fate)sim_roll(DICE_DISK, 5);
    if (fate > FATE_MIXED)
        fate = FATE_MIXED;
    list_each(link, &d->inodes) inode_settle(list_get(link, struct inode, link), fate);
    list_each(link, &d->dirs) dir_settle(d, list_get(link, struct sim_dir, link), fate);
    list_each(link, &d->dirs) if (!dir_has_name(d, list_get(link, struct sim_dir, link)))
        dir_free(d, list_get(link, struct sim_dir, link));
    d->used_pages = d->inode_count = 0;
    list_each(link, &d->inodes)
    {
        d->inode_count++;
        d->used_pages += inode_pages_used(list_get(link, struct inode, link));
    }
}

void sim_disk_host_down(struct sim_host *host, enum sim_crash_kind kind)
{
    list_each(link, &disks)
    {
        struct sim_disk *d = list_get(link, struct sim_disk, link);
        if (d->host != host)
            continue;
        disk_drop_handles(d);
        memset(d->faults, 0, sizeof d->faults);
        if (kind == SIM_POWER)
            disk_power_cut(d);
    }
}

// ---- for tests ---------------------------------------------------------------------------------

static struct inode *shown_inode(struct sim_disk *d, const char *name)
{
    struct bytes base;
    struct sim_dir *dir = dir_of(d, name, &base);
    return dir ? map_find(&dir->shown, base) : NULL;
}

int sim_disk_flip(struct sim_disk *d, const char *name, uint64_t offset, uint8_t mask)
{
    struct inode *inode = shown_inode(d, name);
    size_t number = offset / SIM_PAGE_BYTES;
    if (!inode || offset >= inode->size || number >= inode->page_count || !inode->pages[number].mem)
        return E_NOT_FOUND;
    struct page *p = &inode->pages[number];
    p->mem[offset % SIM_PAGE_BYTES] ^= (char)mask;
    if (page_is_dirty(p) && p->dur)
        p->dur[offset % SIM_PAGE_BYTES] ^= (char)mask;
    return OK;
}

int sim_disk_spoil(struct sim_disk *d, const char *name, uint64_t offset)
{
    struct inode *inode = shown_inode(d, name);
    if (!inode)
        return E_NOT_FOUND;
    CHECK(inode->bad_count < SIM_BAD_MAX);
    inode->bad_at[inode->bad_count++] = offset - offset % SIM_PAGE_BYTES;
    return OK;
}

bool sim_disk_rot(struct sim_disk *d, const char *name, uint64_t from)
{
    const struct inode *inode = shown_inode(d, name);
    uint64_t found = 0, chosen = 0;
    for (uint64_t at = from; inode && at < inode->size && at / SIM_PAGE_BYTES < inode->page_count;
         at++) {
        const char *page = inode->pages[at / SIM_PAGE_BYTES].mem;
        if (!page)
            at |= SIM_PAGE_BYTES - 1;
        else if (page[at % SIM_PAGE_BYTES] && sim_roll(DICE_DISK, ++found) == 0)
            chosen = at;
    }
    return found && sim_disk_flip(d, name, chosen, (uint8_t)(1 << sim_roll(DICE_DISK, 8))) == OK;
}

// Whether the needle begins in page `i` and ends in the next; both are on the platter up to `size`.
static bool joint_has(const struct inode *inode, size_t i, size_t size, struct bytes needle)
{
    char joint[2 * SIM_PAGE_BYTES];
    size_t half = needle.len - 1, next = (i + 1) * SIM_PAGE_BYTES;
    if (i + 1 >= inode->page_count || !inode->pages[i + 1].dur || size <= next || !half)
        return false;
    size_t len = half < size - next ? half : size - next;
    memcpy(joint, inode->pages[i].dur + SIM_PAGE_BYTES - half, half);
    memcpy(joint + half, inode->pages[i + 1].dur, len);
    return memmem(joint, half + len, needle.at, needle.len);
}

static bool inode_has_durable(const struct inode *inode, struct bytes needle)
{
    size_t size = inode->durable_size;
    for (size_t i = 0; i < inode->page_count && i * SIM_PAGE_BYTES < size; i++) {
        size_t left = size - i * SIM_PAGE_BYTES;
        if (inode->pages[i].dur &&
            (memmem(inode->pages[i].dur, left < SIM_PAGE_BYTES ? left : SIM_PAGE_BYTES, needle.at,
                    needle.len) ||
             joint_has(inode, i, size, needle)))
            return true;
    }
    return false;
}

bool sim_disk_has_durable(const struct sim_disk *d, struct bytes needle)
{
    CHECK(needle.len <= SIM_PAGE_BYTES);
    list_each(link, &d->dirs)
    {
        const struct sim_dir *dir = list_get(link, struct sim_dir, link);
        size_t cursor = 0;
        struct bytes name;
        void *value;
        while (map_next(&dir->durable, &cursor, &name, &value))
            if (inode_has_durable(value, needle))
                return true;
    }
    return false;
}

void sim_disk_each(const struct sim_disk *d, void (*fn)(void *ctx, const char *name, uint64_t size),
                   void *ctx)
{
    list_each(link, &d->dirs)
    {
        const struct sim_dir *dir = list_get(link, struct sim_dir, link);
        size_t cursor = 0;
        struct bytes name;
        void *value;
        while (map_next(&dir->shown, &cursor, &name, &value)) {
            const struct inode *inode = value;
            char path[600];
            snprintf(path, sizeof path, "%s%s%.*s", dir->path, dir->path[0] ? "/" : "",
                     BYTES_FMT(name));
            if (!inode->dir)
                fn(ctx, path, inode->size);
        }
    }
}

// ---- life --------------------------------------------------------------------------------------

void sim_disk_start(void)
{
    list_init(&disks);
}

void sim_disk_stop(void)
{
    list_each(disk_link, &disks)
    {
        struct sim_disk *d = list_get(disk_link, struct sim_disk, link);
        disk_drop_handles(d);
        list_each(link, &d->dirs) dir_free(d, list_get(link, struct sim_dir, link));
        list_remove(&d->link);
        free(d);
    }
}
