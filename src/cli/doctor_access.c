// SPDX-License-Identifier: MIT
//
// doctor_access - whether those who need to can get at files, Maildirs and sockets
//
// A service that is started as a user of its own (the packages' unit does) reads all files as that user; root, who
// runs this command, sees no difference. So owners, groups and modes are looked at, on the whole way there; access
// lists are not.
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli/doctor.h"

#define GROUPS_MAX 64
#define MAY_READ 4u
#define MAY_WRITE 2u
#define MAY_PASS 1u

struct who {
    const char *name;
    uid_t uid;
    gid_t groups[GROUPS_MAX];
    int count;
};

static bool is_in(const struct who *w, gid_t group)
{
    for (int i = 0; i < w->count; i++)
        if (w->groups[i] == group)
            return true;
    return false;
}

static bool may(const struct who *w, const struct stat *st, unsigned bits)
{
    unsigned shift = st->st_uid == w->uid ? 6 : is_in(w, st->st_gid) ? 3 : 0;
    return w->uid == 0 || (st->st_mode >> shift & bits) == bits;
}

static bool is_read_only(const char *path)
{
    struct statvfs fs;
    return statvfs(path, &fs) == 0 && (fs.f_flag & ST_RDONLY);
}

// 0, ENOENT, EROFS, or EACCES with what bars the way in `bar`.
static int reach(const struct who *w, const char *path, unsigned bits, char bar[PATH_MAX])
{
    struct stat st;
    if (!realpath(path, bar))
        return errno;
    for (char *c = bar + 1; *c; c++) {
        if (*c != '/')
            continue;
        *c = '\0';
        if (stat(bar, &st) != 0)
            return errno;
        if (!may(w, &st, MAY_PASS))
            return EACCES;
        *c = '/';
    }
    if (stat(bar, &st) != 0)
        return errno;
    if (bits & MAY_WRITE && is_read_only(bar))
        return EROFS;
    return may(w, &st, bits) ? 0 : EACCES;
}

// ---- the service's user ------------------------------------------------------------------------------

static bool take_user(const struct passwd *user, struct who *out)
{
    if (!user)
        return false;
    *out = (struct who){.name = user->pw_name, .uid = user->pw_uid, .count = GROUPS_MAX};
    if (getgrouplist(user->pw_name, user->pw_gid, out->groups, &out->count) == -1)
        out->count = GROUPS_MAX; // the first ones
    return true;
}

const char *doctor_folder_owner(const struct doctor *d)
{
    struct stat st;
    const struct passwd *user =
        stat(d->conf->state.at, &st) == 0 && st.st_uid != 0 ? getpwuid(st.st_uid) : NULL;
    return user ? user->pw_name : NULL;
}

// As whom the relay works: where there is no state folder yet, whoever asks.
static bool take_worker(const struct doctor *d, struct who *out)
{
    struct stat st;
    if (d->conf->user.len)
        return take_user(getpwnam(d->conf->user.at), out);
    return take_user(getpwuid(stat(d->conf->state.at, &st) == 0 ? st.st_uid : geteuid()), out);
}

// Who makes what is missing at a start: root, where it gives up its privileges itself.
static bool take_starter(const struct doctor *d, struct who *out)
{
    return d->conf->user.len ? take_user(getpwuid(0), out) : take_worker(d, out);
}

static const char *group_name(const struct who *w)
{
    const struct passwd *user = getpwuid(w->uid);
    const struct group *group = user ? getgrgid(user->pw_gid) : NULL;
    return group ? group->gr_name : w->name;
}

// ---- what is not there yet ---------------------------------------------------------------------------

// What keeps him from making something in the folder; empty: nothing.
static struct bytes obstacle(struct doctor *d, const struct who *w, const char *folder)
{
    char bar[PATH_MAX];
    struct stat st;
    int err = reach(w, folder, MAY_WRITE | MAY_PASS, bar);
    if (stat(folder, &st) == 0 && !S_ISDIR(st.st_mode))
        return arena_printf(&d->arena, "%s is no folder", folder);
    if (err == EACCES)
        return arena_printf(&d->arena, "%s may not write to %s", w->name, bar);
    if (err == ENOENT)
        return arena_printf(&d->arena, "there is no folder %s", folder);
    return err ? arena_printf(&d->arena, "%s: %s", folder, strerror(err)) : BYTES_NONE;
}

struct bytes doctor_obstacle(struct doctor *d, struct bytes path)
{
    struct who w;
    ptrdiff_t slash = bytes_find_last(path, '/');
    const char *folder =
        arena_cstr(&d->arena, slash > 0 ? bytes_first(path, (size_t)slash) : BYTES("/"));
    return take_starter(d, &w) ? obstacle(d, &w, folder) : BYTES_NONE;
}

// ---- files -------------------------------------------------------------------------------------------

struct files {
    struct doctor *d;
    struct who who;
    uint32_t bad;
};

static void check_file(struct files *f, struct bytes path, const char *what)
{
    char bar[PATH_MAX];
    if (!path.len || reach(&f->who, path.at, MAY_READ, bar) != EACCES)
        return; // one that is not there is told elsewhere
    struct doctor *d = f->d;
    struct stat st;
    bool folder = stat(bar, &st) == 0 && S_ISDIR(st.st_mode);
    f->bad++;
    doctor_fail(d, "file_access", path, "%s: the service's user %s can't read it%s%s", what,
                f->who.name, folder ? ", as it may not pass " : "", folder ? bar : "");
    if (folder)
        doctor_fix(d, "copy the file to a folder that %s may pass, such as /etc/posthaste",
                   f->who.name);
    else
        doctor_fix(d, "chgrp %s %s; chmod 640 %s", group_name(&f->who), bar, bar);
}

static void check_files(struct doctor *d)
{
    const struct conf *c = d->conf;
    struct files f = {.d = d};
    const char *owner = doctor_folder_owner(d);
    if (c->user.len || !owner || !take_user(getpwnam(owner), &f.who))
        return; // started as root, it reads them as root
    check_file(&f, c->file, "the configuration");
    check_file(&f, c->tls.certificate, "tls.certificate");
    check_file(&f, c->tls.key, "tls.key");
    check_file(&f, c->tls.authorities, "tls.authorities");
    check_file(&f, c->tls.client_authorities, "tls.client_authorities");
    check_file(&f, c->dns.trust_anchor, "dns.trust_anchor");
    check_file(&f, c->bounce.rules, "bounce.rules");
    check_file(&f, c->dkim.master_key, "dkim.master_key");
    for (uint32_t i = 0; i < c->routes_count; i++) {
        check_file(&f, c->routes[i].password_file, "password_file of a route");
        check_file(&f, c->routes[i].recipients, "recipients of a route");
    }
    if (!f.bad)
        doctor_ok(d, "file_access", bytes_cstr(f.who.name),
                  "this user, the service's, can read all files that the configuration names");
}

// ---- Maildirs ----------------------------------------------------------------------------------------

// As the relay does, which makes what is missing: the folder, or the next one above that is there.
static void climb_to_folder(char *path)
{
    struct stat st;
    char *slash;
    while (stat(path, &st) != 0 && path[1] && (slash = strrchr(path, '/')))
        slash[slash == path] = '\0';
}

static void check_maildir(struct doctor *d, const struct who *w, const struct conf_route *route)
{
    struct bytes path = route->via.path;
    ptrdiff_t percent = bytes_find(path, '%');
    if (percent >= 0) {
        ptrdiff_t slash = bytes_find_last(bytes_first(path, (size_t)percent), '/');
        path = bytes_first(path, slash > 0 ? (size_t)slash : 1);
    }
    const char *folder = arena_cstr(&d->arena, path);
    char *there = arena_cstr(&d->arena, path);
    climb_to_folder(there);
    struct bytes why = obstacle(d, w, there);
    if (!why.len) {
        doctor_ok(d, "maildir", path, "%s can make Maildirs there", w->name);
        return;
    }
    doctor_fail(d, "maildir", path, "%s can't make Maildirs there: %.*s", w->name, BYTES_FMT(why));
    doctor_fix(
        d,
        "install -d -o %s -m 750 %s, and restart the service; a unit of systemd's needs it in "
        "ReadWritePaths=, too",
        w->name, folder);
}

static void check_maildirs(struct doctor *d)
{
    struct who w;
    if (!take_worker(d, &w))
        return;
    for (uint32_t i = 0; i < d->conf->routes_count; i++)
        if (d->conf->routes[i].via.kind == CONF_VIA_MAILDIR)
            check_maildir(d, &w, &d->conf->routes[i]);
}

// ---- sockets -----------------------------------------------------------------------------------------

static void check_way(struct doctor *d, const struct who *w, const char *whom, struct bytes socket,
                      const char *key)
{
    char bar[PATH_MAX];
    ptrdiff_t slash = bytes_find_last(socket, '/');
    const char *folder =
        arena_cstr(&d->arena, slash > 0 ? bytes_first(socket, (size_t)slash) : BYTES("/"));
    int err = reach(w, folder, MAY_PASS, bar);
    if (err != EACCES) {
        if (!err)
            doctor_ok(d, "socket_access", socket, "%s can reach it", whom);
        return;
    }
    doctor_fail(d, "socket_access", socket, "%s can't reach it: they may not pass %s", whom, bar);
    doctor_fix(d, "set %s: to a path in a folder that they may pass, such as /run/posthaste", key);
}

static void check_role(struct doctor *d, struct bytes name, const char *role)
{
    char bar[PATH_MAX];
    const struct group *group = name.len ? getgrnam(name.at) : NULL;
    if (!group)
        return; // check-config says so
    struct who w = {.name = name.at, .uid = (uid_t)-2, .groups = {group->gr_gid}, .count = 1};
    const char *whom = arena_printf(&d->arena, "members of the group %s", name.at).at;
    check_way(d, &w, whom, d->conf->control, "control");
    if (reach(&w, d->conf->file.at, MAY_READ, bar) != EACCES)
        return;
    doctor_warn(d, "socket_access", d->conf->file,
                "%s (roles.%s) can't read it, so their commands do not find the socket", whom,
                role);
    doctor_fix(d, "chgrp %s %s; chmod 640 %s", name.at, d->conf->file.at, d->conf->file.at);
}

void doctor_check_access(struct doctor *d)
{
    struct who nobody = {.name = "nobody", .uid = (uid_t)-2};
    check_files(d);
    check_maildirs(d);
    check_role(d, d->conf->roles.operators, "operators");
    check_role(d, d->conf->roles.readers, "readers");
    if (d->conf->sendmail.socket.len)
        check_way(d, &nobody, "users of this host", d->conf->sendmail.socket, "sendmail.socket");
}
