// SPDX-License-Identifier: MIT
//
// How it works: at a reload the old sockets stay open until the relay has taken the new ones, so "*:25" is in the way of
// "192.0.2.1:25" then. The kernel lets both listen where both have SO_REUSEPORT and one owner. They have it for that
// moment only: two services would else share a port without a word. Who connects in the very moment that the old one
// is closed is reset, and connects again.
#include "daemon/guard_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/sys_sockaddr.h"

#define BACKLOG 4096
#define ACTIVATED "/activated" // no name of a listener

static int bound_port(int fd, struct sys_addr *addr)
{
    struct sockaddr_storage sa;
    struct sys_addr bound;
    socklen_t len = sizeof sa;
    if (getsockname(fd, (struct sockaddr *)&sa, &len) == -1)
        return E_IO;
    sys_addr_from_sockaddr(&sa, len, &bound);
    addr->port = bound.port;
    return OK;
}

static int set_share(int fd, bool share)
{
    int on = share;
    return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
}

static int set_up(int fd, const struct sys_addr *addr, bool both_families, bool share)
{
    int on = 1, v6only = both_families ? 0 : 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == -1)
        return -1;
    if (addr->kind == SYS_ADDR_IP6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only) == -1)
        return -1;
    if (share && set_share(fd, true) == -1)
        return -1;
    struct sockaddr_storage sa;
    socklen_t len = sys_addr_to_sockaddr(addr, &sa);
    if (bind(fd, (struct sockaddr *)&sa, len) == -1 || listen(fd, BACKLOG) == -1)
        return -1;
    return share ? set_share(fd, false) : 0;
}

// A file refuses a connection, as a socket does that nobody listens at; but it is nobody's to remove.
static bool is_no_socket(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode);
}

// A socket that nobody listens at is what the last service left.
static bool is_abandoned(const struct sockaddr_storage *sa, socklen_t len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool refused =
        fd != -1 && connect(fd, (const struct sockaddr *)sa, len) == -1 && errno == ECONNREFUSED;
    if (fd != -1)
        close(fd);
    return refused;
}

// The folder that it stands in, where that is the only one missing: after a boot /run is empty.
static void make_folder(const struct sys_addr *addr)
{
    char folder[sizeof addr->path];
    snprintf(folder, sizeof folder, "%s", addr->path);
    char *slash = strrchr(folder, '/');
    if (slash && slash != folder) {
        *slash = '\0';
        mode_t before = umask(022);
        (void)mkdir(folder, 0755);
        umask(before);
    }
}

// With its mode from the first moment: what has its name a moment later may be something else.
static int bind_for_all(int fd, const struct sockaddr_storage *sa, socklen_t len)
{
    mode_t before = umask(0111);
    int rc = bind(fd, (const struct sockaddr *)sa, len), saved = errno;
    umask(before);
    errno = saved;
    return rc;
}

// The Unix socket that all users of this host may connect to: who they are the kernel tells.
static int bind_path(const struct sys_addr *addr, int *out_fd)
{
    struct sockaddr_storage sa;
    socklen_t len = sys_addr_to_sockaddr(addr, &sa);
    make_folder(addr);
    if (is_no_socket(addr->path)) {
        errno = ENOTSOCK;
        return -1;
    }
    if (is_abandoned(&sa, len))
        (void)unlink(addr->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd != -1 && bind_for_all(fd, &sa, len) == 0 && listen(fd, BACKLOG) == 0) {
        *out_fd = fd;
        return 0;
    }
    int saved = errno;
    if (fd != -1)
        close(fd);
    errno = saved;
    return -1;
}

static int bind_address(struct sys_addr *addr, bool both_families, bool share, int *out_fd)
{
    int family = addr->kind == SYS_ADDR_IP4 ? AF_INET : AF_INET6;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd == -1)
        return -1;
    if (set_up(fd, addr, both_families, share) == -1 || bound_port(fd, addr) != OK) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    *out_fd = fd;
    return 0;
}

// "*:PORT" is both families where the host has IPv6, and IPv4 alone where it has not.
static int open_address(const char *text, bool any_family, bool share, struct sys_addr *addr,
                        int *out_fd)
{
    if (sys_addr_parse(bytes_cstr(text), addr) != OK)
        return -1;
    if (addr->kind == SYS_ADDR_UNIX)
        return bind_path(addr, out_fd);
    if (!any_family)
        return bind_address(addr, false, share, out_fd);
    uint16_t port = addr->port;
    *addr = (struct sys_addr){.kind = SYS_ADDR_IP6, .port = port};
    if (bind_address(addr, true, share, out_fd) == 0)
        return 0;
    if (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL)
        return -1;
    *addr = (struct sys_addr){.kind = SYS_ADDR_IP4, .port = port};
    return bind_address(addr, false, share, out_fd);
}

static bool is_any(const struct sys_addr *addr)
{
    static const uint8_t zero[sizeof addr->ip];
    return memcmp(addr->ip, zero, addr->kind == SYS_ADDR_IP4 ? 4 : sizeof addr->ip) == 0;
}

static bool overlap(const struct sys_addr *a, const struct sys_addr *b)
{
    if (a->kind == SYS_ADDR_UNIX || b->kind == SYS_ADDR_UNIX || a->port != b->port)
        return false;
    return is_any(a) || is_any(b) ||
           (a->kind == b->kind && memcmp(a->ip, b->ip, a->kind == SYS_ADDR_IP4 ? 4 : 16) == 0);
}

static const struct guard_socket *find_own(const struct guard_sockets *sockets,
                                           const struct guard_socket *s)
{
    struct sys_addr addr;
    if (sys_addr_parse(bytes_cstr(s->asked), &addr) != OK)
        return NULL;
    for (int i = 0; i < sockets->count; i++)
        if (overlap(&addr, &sockets->at[i].address))
            return &sockets->at[i];
    return NULL;
}

// Opens it beside those of ours that end with this reload.
static int open_beside(struct guard_sockets *sockets, struct guard_socket *s)
{
    struct sys_addr addr;
    int saved, count = 0;
    if (sys_addr_parse(bytes_cstr(s->asked), &addr) != OK)
        return -1;
    for (int i = 0; i < sockets->count; i++)
        if (!sockets->at[i].wanted && overlap(&addr, &sockets->at[i].address))
            count += set_share(sockets->at[i].fd, true) == 0;
    int rc = count ? open_address(s->asked, s->any_family, true, &s->address, &s->fd) : -1;
    saved = count ? errno : EADDRINUSE;
    for (int i = 0; i < sockets->count; i++)
        if (count && !sockets->at[i].wanted && overlap(&addr, &sockets->at[i].address))
            (void)set_share(sockets->at[i].fd, false);
    errno = saved;
    return rc;
}

static const char *remedy(int errno_value, const struct guard_socket *own)
{
    switch (errno_value) {
    case EADDRINUSE:
        if (own && own->wanted)
            return "another listener of this configuration has it: give each its own address";
        return own ? "posthaste itself has it as a socket that only a restart can replace: restart"
                   : "another program listens there: stop it, or choose another port";
    case EACCES:
        return "ports below 1024 need root or CAP_NET_BIND_SERVICE, a socket a folder to write in";
    case EADDRNOTAVAIL:
        return "this host has no such address";
    case ENOTSOCK:
        return "something else than a socket has this path: move it, or choose another path";
    case ENOENT:
        return "make the folder that the socket is to stand in";
    default:
        return "check the listener's address";
    }
}

// Where the configuration has us listen.
struct place {
    struct bytes name, asked;
    bool any_family;
};

static bool is_at(const struct guard_socket *s, struct bytes name, struct bytes asked)
{
    return bytes_eq(bytes_cstr(s->name), name) && bytes_eq(bytes_cstr(s->asked), asked);
}

static struct guard_socket *find(struct guard_sockets *sockets, const struct place *p)
{
    for (int i = 0; i < sockets->count; i++)
        if (is_at(&sockets->at[i], p->name, p->asked) && sockets->at[i].any_family == p->any_family)
            return &sockets->at[i];
    return NULL;
}

// The socket of a listener that had another name: the address is taken, by ourselves. Not where the kernel chose
// the port: there each has its own.
static bool take_from_renamed(struct guard_sockets *sockets, struct guard_socket *s)
{
    if (bytes_ends(bytes_cstr(s->asked), BYTES(":0")))
        return false;
    for (int i = 0; i < sockets->count && s->fd == -1; i++) {
        const struct guard_socket *other = &sockets->at[i];
        if (other != s && strcmp(other->asked, s->asked) == 0 &&
            other->any_family == s->any_family && other->name[0] && s->name[0]) {
            s->address = other->address;
            s->fd = fcntl(other->fd, F_DUPFD_CLOEXEC, 0);
        }
    }
    return s->fd != -1;
}

// A socket of the service manager's is that of whoever has its address. Whether it takes IPv4 at "[::]:PORT", too, is
// the manager's to say; so it can't be told from the socket what it was adopted as.
static void adopt(struct guard_sockets *sockets, const struct place *p)
{
    for (int i = 0; i < sockets->count && !find(sockets, p); i++) {
        struct guard_socket *s = &sockets->at[i];
        if (!is_at(s, BYTES(ACTIVATED), p->asked) &&
            !(s->family_untold && is_at(s, p->name, p->asked)))
            continue;
        snprintf(s->name, sizeof s->name, "%.*s", BYTES_FMT(p->name));
        s->any_family = p->any_family;
    }
}

static bool keep_one(struct guard_sockets *sockets, const struct place *p)
{
    adopt(sockets, p);
    struct guard_socket *s = find(sockets, p);
    if (s) {
        s->wanted = true;
        s->family_untold = false;
    }
    return s;
}

static int refuse(struct guard_sockets *sockets, const struct guard_socket *s, struct buf *errors)
{
    int e = errno;
    const char *name = s->name[0] ? s->name : "http";
    const char *what = remedy(e, find_own(sockets, s));
    log_error("cannot listen", LOG_CSTR("listener", name), LOG_CSTR("address", s->asked),
              LOG_CSTR("error", strerror(e)), LOG_CSTR("remedy", what));
    buf_printf(errors, "error: listener %s cannot listen on %s: %s: %s\n", name, s->asked,
               strerror(e), what);
    return e == EADDRINUSE ? E_BUSY : e == EACCES ? E_DENIED : E_IO;
}

static int open_one(struct guard_sockets *sockets, const struct place *p, struct buf *errors)
{
    if (keep_one(sockets, p))
        return OK;
    if (sockets->count == GUARD_SOCKETS_MAX) {
        log_error("too many listeners", LOG_INT("max", GUARD_SOCKETS_MAX));
        buf_printf(errors, "error: more than %d listeners\n", GUARD_SOCKETS_MAX);
        return E_LIMIT;
    }
    struct guard_socket *s = &sockets->at[sockets->count];
    *s = (struct guard_socket){.fd = -1, .wanted = true, .any_family = p->any_family};
    snprintf(s->name, sizeof s->name, "%.*s", BYTES_FMT(p->name));
    snprintf(s->asked, sizeof s->asked, "%.*s", BYTES_FMT(p->asked));
    if (!take_from_renamed(sockets, s) &&
        open_address(s->asked, s->any_family, false, &s->address, &s->fd) == -1 &&
        (errno != EADDRINUSE || open_beside(sockets, s) == -1))
        return refuse(sockets, s, errors);
    sockets->count++;
    return OK;
}

static void leave_one(const struct guard_socket *s)
{
    if (strcmp(s->name, ACTIVATED) == 0)
        log_warn(
            "the service manager listens where no listener is", LOG_CSTR("address", s->asked),
            LOG_CSTR("remedy", "let the addresses of the socket unit be those of `listeners`"));
    close(s->fd);
}

void guard_sockets_settle(struct guard_sockets *sockets)
{
    int kept = 0;
    for (int i = 0; i < sockets->count; i++) {
        if (sockets->at[i].wanted)
            sockets->at[kept++] = sockets->at[i];
        else
            leave_one(&sockets->at[i]);
    }
    sockets->count = kept;
}

// The i-th place; false behind the last. Those that are not set have asked.len 0.
static bool place_at(const struct conf *conf, bool running, uint32_t i, struct place *out)
{
    if (i < conf->listeners_count) {
        const struct conf_listener *l = &conf->listeners[i];
        *out = (struct place){l->name, l->address, l->any_family};
        return true;
    }
    const struct conf_listener *local = &conf->sendmail.listener;
    const struct place others[] = {
        {local->name, conf->sendmail.socket.len ? local->address : BYTES_NONE, false},
        {BYTES_NONE, conf->http.address, conf->http.any_family},
        {BYTES(GUARD_SOCKET_UNSUBSCRIBE), conf->unsubscribe.address, conf->unsubscribe.any_family},
    };
    i -= conf->listeners_count;
    if (i >= (running ? 1 : COUNT_OF(others)))
        return false;
    *out = others[i];
    return true;
}

int guard_sockets_open(struct guard_sockets *sockets, const struct conf *conf, bool running,
                       struct buf *errors)
{
    struct place p;
    int before = sockets->count, err = OK;
    for (int i = 0; i < before; i++)
        sockets->at[i].wanted = running && guard_socket_is_http(&sockets->at[i]);
    for (uint32_t i = 0; place_at(conf, running, i, &p); i++)
        if (p.asked.len)
            (void)keep_one(sockets, &p); // first: what is in nobody's way is known then
    for (uint32_t i = 0; place_at(conf, running, i, &p); i++) {
        int e = p.asked.len ? open_one(sockets, &p, errors) : OK;
        err = err ? err : e;
    }
    if (err) { // as it was: the old configuration goes on
        for (int i = 0; i < sockets->count; i++)
            sockets->at[i].wanted = i < before;
        guard_sockets_settle(sockets);
    }
    return err;
}

#define ANY_FAMILY "any "
#define ONE_FAMILY "one "

// One line a socket: descriptor, name, any_family, address as configured. Names hold no spaces (the table of
// parameters), the path of a Unix socket may.
int guard_sockets_leave(const struct guard_sockets *sockets, struct buf *out)
{
    for (int i = 0; i < sockets->count; i++) {
        const struct guard_socket *s = &sockets->at[i];
        if (fcntl(s->fd, F_SETFD, 0) == -1)
            return E_IO;
        buf_printf(out, "%d %s %s%s\n", s->fd, s->name, s->any_family ? ANY_FAMILY : ONE_FAMILY,
                   s->asked);
    }
    return OK;
}

void guard_sockets_keep(const struct guard_sockets *sockets)
{
    for (int i = 0; i < sockets->count; i++)
        (void)fcntl(sockets->at[i].fd, F_SETFD, FD_CLOEXEC);
}

// Older programs leave lines without this word.
static void take_family(struct guard_socket *s, struct bytes *asked)
{
    struct bytes word;
    s->any_family = bytes_starts(*asked, BYTES(ANY_FAMILY));
    s->family_untold = !s->any_family && !bytes_starts(*asked, BYTES(ONE_FAMILY));
    if (!s->family_untold)
        (void)bytes_cut(asked, ' ', &word);
}

static bool take_one(struct guard_socket *s, struct bytes line)
{
    struct bytes fd, name, asked = line;
    uint64_t number;
    int is_listening = 0;
    socklen_t len = sizeof is_listening;
    if (!bytes_cut(&asked, ' ', &fd) || !bytes_cut(&asked, ' ', &name) ||
        bytes_to_u64(fd, INT32_MAX, &number) != OK)
        return false;
    *s = (struct guard_socket){.fd = (int)number};
    take_family(s, &asked);
    if (name.len >= sizeof s->name || asked.len >= sizeof s->asked)
        return false;
    snprintf(s->name, sizeof s->name, "%.*s", BYTES_FMT(name));
    snprintf(s->asked, sizeof s->asked, "%.*s", BYTES_FMT(asked));
    struct sockaddr_storage sa;
    socklen_t sa_len = sizeof sa;
    if (getsockopt(s->fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &len) == -1 || !is_listening ||
        getsockname(s->fd, (struct sockaddr *)&sa, &sa_len) == -1 ||
        fcntl(s->fd, F_SETFD, FD_CLOEXEC) == -1)
        return false;
    sys_addr_from_sockaddr(&sa, sa_len, &s->address);
    return true;
}

void guard_sockets_take(struct guard_sockets *sockets, struct bytes text)
{
    struct bytes line;
    while (bytes_cut(&text, '\n', &line) && sockets->count < GUARD_SOCKETS_MAX) {
        if (line.len && take_one(&sockets->at[sockets->count], line))
            sockets->count++;
        else if (line.len)
            log_warn("not a listening socket", LOG_STR("left_as", line));
    }
}

static bool take_activated(struct guard_socket *s, int fd)
{
    struct sockaddr_storage sa;
    socklen_t sa_len = sizeof sa, len = sizeof(int);
    int is_listening = 0;
    *s = (struct guard_socket){.fd = fd, .name = ACTIVATED};
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &len) == -1 || !is_listening ||
        getsockname(fd, (struct sockaddr *)&sa, &sa_len) == -1 ||
        (sa.ss_family != AF_INET && sa.ss_family != AF_INET6) || listen(fd, BACKLOG) == -1 ||
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == -1 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) == -1)
        return false;
    sys_addr_from_sockaddr(&sa, sa_len, &s->address);
    sys_addr_format(&s->address, s->asked);
    return true;
}

void guard_sockets_take_activated(struct guard_sockets *sockets, int first, int count)
{
    for (int fd = first; fd < first + count && sockets->count < GUARD_SOCKETS_MAX; fd++) {
        if (take_activated(&sockets->at[sockets->count], fd))
            sockets->count++;
        else
            log_warn("the service manager's socket is not for IP, or does not listen",
                     LOG_INT("descriptor", fd));
    }
}

void guard_sockets_revert(struct guard_sockets *sockets, const struct conf *conf)
{
    struct buf errors = {0};
    if (guard_sockets_open(sockets, conf, true, &errors) == OK)
        guard_sockets_settle(sockets);
    buf_done(&errors);
}

void guard_sockets_close(struct guard_sockets *sockets)
{
    for (int i = 0; i < sockets->count; i++)
        close(sockets->at[i].fd);
    sockets->count = 0;
}
