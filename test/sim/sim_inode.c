// SPDX-License-Identifier: MIT
#include "sim_inode.h"

#include <stdlib.h>

#include "base/check.h"

#define SECTORS (SIM_PAGE_BYTES / SIM_SECTOR_BYTES)

// ---- pages -------------------------------------------------------------------------------------

static void page_free(struct page *p)
{
    if (p->dur != p->mem)
        free(p->dur);
    free(p->mem);
    memset(p, 0, sizeof *p);
}

bool page_is_dirty(const struct page *p)
{
    return p->mem != p->dur;
}

// The platter takes over what the cache has.
void page_persist(struct page *p)
{
    if (p->dur != p->mem)
        free(p->dur);
    p->dur = p->mem;
    p->lost = false;
}

// A copy of the page that may be written, NULL if there is no room for one more.
static char *page_dirty(struct sim_disk *d, struct page *p)
{
    p->lost = false;
    if (p->mem && page_is_dirty(p))
        return p->mem;
    if (!p->mem) {
        if (d->used_pages >= d->capacity_pages)
            return NULL;
        d->used_pages++;
    }
    char *copy = mem_new(SIM_PAGE_BYTES);
    if (p->mem)
        memcpy(copy, p->mem, SIM_PAGE_BYTES);
    p->mem = copy;
    return copy;
}

// Of a dirty page, the sectors the dice choose get to the platter; the cache keeps its own.
static void page_tear(struct page *p)
{
    char *platter = mem_new(SIM_PAGE_BYTES);
    if (p->dur)
        memcpy(platter, p->dur, SIM_PAGE_BYTES);
    for (int i = 0; p->mem && i < SECTORS; i++)
        if (sim_chance(DICE_DISK, 1, 2))
            memcpy(platter + i * SIM_SECTOR_BYTES, p->mem + i * SIM_SECTOR_BYTES, SIM_SECTOR_BYTES);
    free(p->dur);
    p->dur = platter;
}

// ---- inodes ------------------------------------------------------------------------------------

struct inode *inode_new(struct sim_disk *d)
{
    struct inode *inode = mem_new(sizeof *inode);
    list_push_back(&d->inodes, &inode->link);
    d->inode_count++;
    return inode;
}

uint64_t inode_pages_used(const struct inode *inode)
{
    uint64_t used = 0;
    for (size_t i = 0; i < inode->page_count; i++)
        used += inode->pages[i].mem != NULL;
    return used;
}

static void inode_free(struct inode *inode)
{
    for (size_t i = 0; i < inode->page_count; i++)
        page_free(&inode->pages[i]);
    free(inode->pages);
    list_remove(&inode->link);
    free(inode);
}

static void inode_ref(struct inode *inode)
{
    if (inode)
        inode->refs++;
}

static void inode_unref(struct inode *inode)
{
    if (inode && --inode->refs == 0)
        inode_free(inode);
}

void inode_show(struct inode *inode)
{
    inode->shown++;
    inode_ref(inode);
}

// The kernel frees the space when the last name and open file are gone, whatever the platter still
// says.
void inode_hide(struct sim_disk *d, struct inode *inode)
{
    if (--inode->shown == 0) {
        d->used_pages -= inode_pages_used(inode);
        d->inode_count--;
    }
    inode_unref(inode);
}

static struct page *inode_page(struct inode *inode, uint64_t number)
{
    if (number >= inode->page_count) {
        size_t count = number + 1 > inode->page_count * 2 ? number + 1 : inode->page_count * 2;
        inode->pages = mem_resize(inode->pages, count * sizeof *inode->pages);
        memset(inode->pages + inode->page_count, 0,
               (count - inode->page_count) * sizeof *inode->pages);
        inode->page_count = count;
    }
    return &inode->pages[number];
}

bool inode_write(struct sim_disk *d, struct inode *inode, struct bytes data, uint64_t offset)
{
    while (data.len) {
        size_t in_page = offset % SIM_PAGE_BYTES;
        size_t n = SIM_PAGE_BYTES - in_page < data.len ? SIM_PAGE_BYTES - in_page : data.len;
        char *mem = page_dirty(d, inode_page(inode, offset / SIM_PAGE_BYTES));
        if (!mem)
            return false;
        memcpy(mem + in_page, data.at, n);
        offset += n;
        data = bytes_skip(data, n);
        if (inode->size < offset)
            inode->size = offset;
    }
    return true;
}

void inode_read(const struct inode *inode, char *out, size_t n, uint64_t offset)
{
    while (n) {
        size_t in_page = offset % SIM_PAGE_BYTES, number = offset / SIM_PAGE_BYTES;
        size_t part = SIM_PAGE_BYTES - in_page < n ? SIM_PAGE_BYTES - in_page : n;
        const char *mem = number < inode->page_count ? inode->pages[number].mem : NULL;
        if (mem)
            memcpy(out, mem + in_page, part);
        else
            memset(out, 0, part);
        out += part;
        offset += part;
        n -= part;
    }
}

void inode_persist(struct inode *inode)
{
    for (size_t i = 0; i < inode->page_count; i++)
        if (page_is_dirty(&inode->pages[i]) && !inode->pages[i].lost)
            page_persist(&inode->pages[i]);
    inode->durable_size = inode->size;
}

void inode_persist_some(struct inode *inode)
{
    for (size_t i = 0; i < inode->page_count; i++) {
        struct page *p = &inode->pages[i];
        if (p->mem && page_is_dirty(p) && !p->lost && sim_chance(DICE_DISK, 1, 2))
            page_persist(p);
    }
}

// Cuts the cache's view; the platter keeps its pages until a sync or a later write.
void inode_truncate(struct sim_disk *d, struct inode *inode, uint64_t size)
{
    for (uint64_t i = (size + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES; i < inode->page_count; i++) {
        struct page *p = &inode->pages[i];
        if (!p->mem)
            continue;
        if (page_is_dirty(p))
            free(p->mem);
        p->mem = NULL;
        d->used_pages--;
    }
    size_t tail = size % SIM_PAGE_BYTES;
    if (tail && size < inode->size && size / SIM_PAGE_BYTES < inode->page_count &&
        inode->pages[size / SIM_PAGE_BYTES].mem) {
        char *mem = page_dirty(d, &inode->pages[size / SIM_PAGE_BYTES]);
        memset(mem + tail, 0, SIM_PAGE_BYTES - tail);
    }
    inode->size = size;
}

void inode_write_back_one(struct inode *inode)
{
    if (!inode->page_count)
        return;
    struct page *p = &inode->pages[sim_roll(DICE_DISK, inode->page_count)];
    if (!page_is_dirty(p) || p->lost || !p->mem)
        return;
    char *copy = mem_new(SIM_PAGE_BYTES);
    memcpy(copy, p->mem, SIM_PAGE_BYTES);
    free(p->dur);
    p->dur = copy;
}

// ---- directories -------------------------------------------------------------------------------

struct sim_dir *dir_new(struct sim_disk *d, struct bytes path)
{
    struct sim_dir *dir = mem_new(sizeof *dir);
    CHECK(path.len < sizeof dir->path);
    if (path.len)
        memcpy(dir->path, path.at, path.len);
    list_init(&dir->changes);
    list_push_back(&d->dirs, &dir->link);
    return dir;
}

struct sim_dir *dir_find(struct sim_disk *d, struct bytes path)
{
    list_each(link, &d->dirs)
    {
        struct sim_dir *dir = list_get(link, struct sim_dir, link);
        if (bytes_eq(bytes_cstr(dir->path), path))
            return dir;
    }
    return NULL;
}

// "a/b/c" is c in the directory a/b.
struct sim_dir *dir_of(struct sim_disk *d, const char *name, struct bytes *out_base)
{
    struct bytes path = bytes_cstr(name);
    ptrdiff_t slash = bytes_find_last(path, '/');
    *out_base = slash < 0 ? path : bytes_skip(path, (size_t)slash + 1);
    return dir_find(d, slash < 0 ? BYTES_NONE : bytes_first(path, (size_t)slash));
}

static void view_set(struct map *view, struct bytes name, struct inode *inode)
{
    inode_ref(inode);
    inode_unref(inode ? map_set(view, name, inode) : map_remove(view, name));
}

static void change_apply(struct sim_dir *dir, struct change *change)
{
    view_set(&dir->durable, bytes_of(change->name, change->len), change->inode);
    inode_unref(change->inode);
    list_remove(&change->link);
    free(change);
}

struct change *dir_set(struct sim_disk *d, struct sim_dir *dir, struct bytes name,
                       struct inode *inode)
{
    struct inode *old = map_find(&dir->shown, name);
    if (inode)
        inode_show(inode);
    if (inode)
        map_set(&dir->shown, name, inode);
    else
        map_remove(&dir->shown, name);
    struct change *change = mem_new(sizeof *change + name.len);
    change->inode = inode;
    change->len = name.len;
    memcpy(change->name, name.at, name.len);
    inode_ref(inode);
    list_push_back(&dir->changes, &change->link);
    if (old)
        inode_hide(d, old);
    return change;
}

void dir_sync(struct sim_dir *dir)
{
    list_each(link, &dir->changes) change_apply(dir, list_get(link, struct change, link));
}

// A random start of the changes reaches the platter, a rename as a whole.
static void dir_sync_some(struct sim_dir *dir)
{
    size_t count = 0;
    list_each(link, &dir->changes) count++;
    size_t left = sim_roll(DICE_DISK, count + 1);
    bool bound = false;
    while ((left || bound) && !list_is_empty(&dir->changes)) {
        struct change *change = list_get(list_first(&dir->changes), struct change, link);
        bound = change->with_next;
        change_apply(dir, change);
        left -= left > 0;
    }
}

// ---- what a power cut leaves -------------------------------------------------------------------

void inode_settle(struct inode *inode, enum fate fate)
{
    bool grew = inode->size > inode->durable_size;
    if (fate == FATE_NEW || (fate == FATE_MIXED && sim_chance(DICE_DISK, 1, 2)))
        inode->durable_size = inode->size;
    else if (grew && fate == FATE_MIXED)
        inode->durable_size += sim_roll(DICE_DISK, inode->size - inode->durable_size + 1) /
                               SIM_PAGE_BYTES * SIM_PAGE_BYTES;
    for (size_t i = 0; i < inode->page_count; i++) {
        struct page *p = &inode->pages[i];
        if (!page_is_dirty(p))
            continue;
        uint64_t roll = fate == FATE_MIXED ? sim_roll(DICE_DISK, 3) : (uint64_t)fate;
        if (!p->lost && roll == FATE_NEW)
            page_persist(p);
        else if (!p->lost && roll == FATE_MIXED)
            page_tear(p);
        if (page_is_dirty(p)) {
            free(p->mem);
            p->mem = p->dur;
        }
        p->lost = false;
    }
    inode->size = inode->durable_size;
}

void dir_settle(struct sim_disk *d, struct sim_dir *dir, enum fate fate)
{
    if (fate == FATE_NEW)
        dir_sync(dir);
    else if (fate == FATE_MIXED)
        dir_sync_some(dir);
    list_each(link, &dir->changes)
    {
        struct change *change = list_get(link, struct change, link);
        inode_unref(change->inode);
        list_remove(&change->link);
        free(change);
    }
    size_t cursor = 0;
    struct bytes name;
    void *value;
    while (map_next(&dir->shown, &cursor, &name, &value))
        inode_hide(d, value);
    map_done(&dir->shown);
    memset(&dir->shown, 0, sizeof dir->shown);
    cursor = 0;
    while (map_next(&dir->durable, &cursor, &name, &value)) {
        inode_show(value);
        map_set(&dir->shown, name, value);
    }
}

void dir_free(struct sim_disk *d, struct sim_dir *dir)
{
    struct map *views[] = {&dir->shown, &dir->durable};
    list_each(link, &dir->changes)
    {
        struct change *change = list_get(link, struct change, link);
        inode_unref(change->inode);
        free(change);
    }
    for (size_t i = 0; i < COUNT_OF(views); i++) {
        size_t cursor = 0;
        struct bytes name;
        void *value;
        while (map_next(views[i], &cursor, &name, &value))
            if (i == 0)
                inode_hide(d, value);
            else
                inode_unref(value);
        map_done(views[i]);
    }
    list_remove(&dir->link);
    free(dir);
}
