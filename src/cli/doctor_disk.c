// SPDX-License-Identifier: MIT
//
// doctor_disk - the folders of spool and state, the disk below them, and how fast it flushes
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "cli/doctor.h"
#include "conf/conf_value.h"

#define FREE_WARN_PERCENT 10
#define FREE_FAIL_PERCENT 2
#define SEGMENT_BYTES ((uint64_t)64 << 20) // where limits.spool_segment leaves it open
#define SEGMENTS_MIN 2
#define INODES_WARN 10000
#define INODES_FAIL 100
#define FLUSHES 100
#define FLUSHES_MS 3000
#define BLOCK 4096
#define FLUSH_WARN_US 20000
#define FLUSH_P99_WARN_US 200000
#define FLUSH_TOO_FAST_US 8
#define DAY_MS 86400000

// ---- folders -----------------------------------------------------------------------------------------

static void check_owner(struct doctor *d, struct bytes path, const struct stat *st)
{
    const struct passwd *user = d->conf->user.len ? getpwnam(d->conf->user.at) : NULL;
    if (st->st_mode & 0077) {
        doctor_warn(d, "folder", path, "others than its owner may look into it (mode %04o)",
                    (unsigned)st->st_mode & 07777);
        doctor_fix(d, "chmod 0700 %.*s", BYTES_FMT(path));
    } else if (user && st->st_uid != user->pw_uid) {
        doctor_warn(d, "folder", path, "belongs to uid %u, not to %s", st->st_uid, user->pw_name);
        doctor_fix(
            d, "chown -R %s %.*s, unless the service starts as root, which does it for the folder",
            user->pw_name, BYTES_FMT(path));
    } else {
        doctor_ok(d, "folder", path, "is its owner's alone");
    }
}

static void cannot_be_used(struct doctor *d, struct bytes path, const char *why)
{
    doctor_fail(d, "folder", path, "can't be used: %s", why);
    doctor_fix(d, "make it a folder of the user that the service runs as");
}

// One that the first start makes: can it?
static void check_absent(struct doctor *d, struct bytes path)
{
    struct bytes why = doctor_obstacle(d, path);
    if (d->service) {
        cannot_be_used(d, path, strerror(ENOENT));
    } else if (why.len) {
        doctor_fail(d, "folder", path, "is not there, and a start can't make it: %.*s",
                    BYTES_FMT(why));
        doctor_fix(d, "make it a folder of the user that the service runs as");
    } else {
        doctor_ok(d, "folder", path, "is made by the first start");
    }
}

// `own`: nobody else is to look into it.
static void check_folder(struct doctor *d, struct bytes path, bool own)
{
    struct stat st;
    int err = stat(path.at, &st) == -1 ? errno : S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
    if (err == ENOENT)
        check_absent(d, path);
    else if (err)
        cannot_be_used(d, path, strerror(err));
    else if (own)
        check_owner(d, path, &st);
    else
        doctor_ok(d, "folder", path, "is there");
}

// The folder, or the nearest above it that exists.
static struct bytes existing(struct doctor *d, struct bytes path)
{
    struct stat st;
    while (path.len > 1 && stat(path.at, &st) == -1) {
        ptrdiff_t slash = bytes_find_last(path, '/');
        path = arena_dup(&d->arena, bytes_first(path, slash > 0 ? (size_t)slash : 1));
    }
    return path;
}

// ---- space -------------------------------------------------------------------------------------------

static uint64_t needed(const struct doctor *d, bool spool)
{
    uint64_t segment =
        d->conf->limits.spool_segment ? d->conf->limits.spool_segment : SEGMENT_BYTES;
    return spool ? SEGMENTS_MIN * segment : SEGMENT_BYTES;
}

static void check_space(struct doctor *d, struct bytes path, const struct statfs *fs, bool spool)
{
    uint64_t free_bytes = (uint64_t)fs->f_bavail * (uint64_t)fs->f_bsize;
    uint64_t all = (uint64_t)fs->f_blocks * (uint64_t)fs->f_bsize;
    uint64_t percent = all ? free_bytes * 100 / all : 100;
    enum doctor_state state = percent < FREE_FAIL_PERCENT || free_bytes < needed(d, spool)
                                  ? DOCTOR_FAIL
                              : percent < FREE_WARN_PERCENT ? DOCTOR_WARN
                                                            : DOCTOR_OK;
    doctor_add(d, "disk_space", path, state, "%llu MiB of %llu MiB are free (%llu %%)",
               (unsigned long long)(free_bytes >> 20), (unsigned long long)(all >> 20),
               (unsigned long long)percent);
    if (state != DOCTOR_OK)
        doctor_fix(d, "make room, or move %s to a larger disk%s", spool ? "spool" : "state",
                   spool ? ": on a full one new mail is refused with 452" : "");
}

static void check_inodes(struct doctor *d, struct bytes path, const struct statfs *fs)
{
    if (!fs->f_files)
        return; // made as they are needed
    enum doctor_state state = fs->f_ffree < INODES_FAIL   ? DOCTOR_FAIL
                              : fs->f_ffree < INODES_WARN ? DOCTOR_WARN
                                                          : DOCTOR_OK;
    doctor_add(d, "disk_inodes", path, state, "%llu files can still be made",
               (unsigned long long)fs->f_ffree);
    if (state != DOCTOR_OK)
        doctor_fix(d, "remove files from that disk, or move the folder to one with more inodes");
}

// ---- what kind of disk -------------------------------------------------------------------------------

static const char *kind_of(const struct statfs *fs)
{
    static const struct {
        long type;
        const char *what;
    } kinds[] = {
        {0x01021994, "lies in memory (tmpfs): a power cut loses all mail"},
        {0x858458f6, "lies in memory (ramfs): a power cut loses all mail"},
        {0x6969, "lies on NFS, whose locks and flushes are not to be relied on"},
        {0xff534d42, "lies on a Windows share, whose flushes are not to be relied on"},
        {0x794c7630, "lies in a container's own layer (overlayfs), and is gone with the container"},
    };
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        if ((unsigned long)fs->f_type == (unsigned long)kinds[i].type)
            return kinds[i].what;
    return NULL;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

// A file without a name in the folder, written before it is measured: what is timed is overwriting, as the journal
// overwrites its recycled segments. -1: errno says why.
static int open_scratch(struct doctor *d, struct bytes folder)
{
    char block[BLOCK] = {0};
    char *path =
        arena_cstr(&d->arena, arena_printf(&d->arena, "%.*s/.doctor-XXXXXX", BYTES_FMT(folder)));
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd == -1)
        return -1;
    unlink(path);
    for (int i = 0; i < FLUSHES; i++)
        if (pwrite(fd, block, sizeof block, (off_t)i * BLOCK) != BLOCK) {
            int e = errno;
            close(fd);
            errno = e;
            return -1;
        }
    fdatasync(fd);
    return fd;
}

// How many flushes were timed, sorted; -1: errno says why.
static int time_flushes(int fd, int64_t *out_us)
{
    char block[BLOCK] = "posthaste doctor";
    int64_t began = now_us();
    int n = 0;
    for (; n < FLUSHES && now_us() - began < FLUSHES_MS * 1000; n++) {
        int64_t before = now_us();
        if (pwrite(fd, block, sizeof block, (off_t)n * BLOCK) != BLOCK || fdatasync(fd) == -1)
            return -1;
        out_us[n] = now_us() - before;
    }
    qsort(out_us, (size_t)n, sizeof *out_us, compare);
    return n;
}

static void judge_flushes(struct doctor *d, struct bytes path, const int64_t *us, int n)
{
    int64_t median = us[n / 2], p99 = us[(n * 99 - 1) / 100];
    enum doctor_state state =
        median > FLUSH_WARN_US || p99 > FLUSH_P99_WARN_US || median < FLUSH_TOO_FAST_US
            ? DOCTOR_WARN
            : DOCTOR_OK;
    doctor_add(d, "disk_flush", path, state,
               "a flush takes %lld.%03lld ms (median), %lld.%03lld ms (p99 of %d)",
               (long long)median / 1000, (long long)median % 1000, (long long)p99 / 1000,
               (long long)p99 % 1000, n);
    if (median < FLUSH_TOO_FAST_US)
        doctor_fix(d,
                   "so fast only a cache is: see that the disk, or the virtual machine's, really "
                   "writes when it is told to");
    else if (state != DOCTOR_OK)
        doctor_fix(
            d, "every sender waits for at least one flush: give the spool a faster disk, or one "
               "of its own");
}

static void check_flush(struct doctor *d, struct bytes path, const struct statfs *fs)
{
    int64_t us[FLUSHES];
    const char *kind = kind_of(fs);
    if (kind) {
        doctor_warn(d, "disk_kind", path, "%s", kind);
        doctor_fix(d, "put spool and state on a local disk (ext4, xfs) or a volume that stays");
    }
    int fd = open_scratch(d, path), n = fd == -1 ? -1 : time_flushes(fd, us);
    if (n > 0) {
        judge_flushes(d, path, us, n);
    } else if (errno == EACCES) {
        doctor_warn(d, "disk_flush", path, "not timed: this user may not write there");
        doctor_fix(d, "run posthaste doctor as root, or as the user of the service");
    } else {
        doctor_fail(d, "disk_flush", path, "writing fails: %s", strerror(errno));
        doctor_fix(d, "see the kernel's log; while this lasts new mail is refused");
    }
    if (fd != -1)
        close(fd);
}

static void check_disk(struct doctor *d, struct bytes folder, bool spool)
{
    struct bytes path = existing(d, folder);
    struct statfs fs;
    if (statfs(path.at, &fs) == -1) {
        doctor_fail(d, "disk_space", path, "the disk can't be asked: %s", strerror(errno));
        doctor_fix(d, "see the kernel's log");
        return;
    }
    check_space(d, path, &fs, spool);
    check_inodes(d, path, &fs);
    if (spool)
        check_flush(d, path, &fs);
}

// ---- history -----------------------------------------------------------------------------------------

struct history_size {
    uint64_t bytes, days;
};

static void add_day(int folder, const char *name, struct history_size *sum)
{
    struct stat st;
    if (!bytes_ends(bytes_cstr(name), BYTES(".db")) || fstatat(folder, name, &st, 0) == -1)
        return;
    sum->bytes += (uint64_t)st.st_blocks * 512;
    sum->days++;
}

static void measure_history(struct doctor *d, struct history_size *out)
{
    struct bytes path = arena_printf(&d->arena, "%.*s/events", BYTES_FMT(d->conf->state));
    DIR *dir = opendir(path.at);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)))
        add_day(dirfd(dir), entry->d_name, out);
    if (dir)
        closedir(dir);
}

static void check_history(struct doctor *d)
{
    struct history_size h = {0};
    struct statfs fs;
    uint64_t keep = (uint64_t)d->conf->events.keep_ms / DAY_MS;
    measure_history(d, &h);
    if (!h.days || statfs(d->conf->state.at, &fs) == -1)
        return; // nothing yet
    uint64_t a_day = h.bytes / h.days, more = keep > h.days ? (keep - h.days) * a_day : 0;
    uint64_t free_bytes = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
    enum doctor_state state = more > free_bytes ? DOCTOR_WARN : DOCTOR_OK;
    doctor_add(d, "history_space", d->conf->state, state,
               "%llu days of history take %llu MiB; events.keep asks for %llu days, %llu MiB more",
               (unsigned long long)h.days, (unsigned long long)(h.bytes >> 20),
               (unsigned long long)keep, (unsigned long long)(more >> 20));
    if (state != DOCTOR_OK)
        doctor_fix(d, "only %llu MiB are free: shorten events.keep, or move state to a larger disk",
                   (unsigned long long)(free_bytes >> 20));
}

void doctor_check_disk(struct doctor *d)
{
    check_folder(d, d->conf->spool, true);
    check_folder(d, d->conf->state, true);
    if (d->conf->sendmail.pickup.len)
        check_folder(d, d->conf->sendmail.pickup, false);
    check_disk(d, d->conf->spool, true);
    check_disk(d, d->conf->state, false);
    check_history(d);
}
