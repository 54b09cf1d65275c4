// SPDX-License-Identifier: MIT
//
// doctor_ports - can each listener have its port, and who has it; can mail get out
//
// How it works: an address that can't be bound is taken. By whom say /proc/net/tcp, which has the inode of each
// listening socket, and the descriptors in /proc/PID/fd. A bound socket that does not listen disturbs nobody.
#include <dirent.h>
#include <errno.h>
#include <json-c/json.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli_control.h"
#include "cli/doctor.h"
#include "conf/conf_value.h"
#include "sys/sys_sockaddr.h"

#define INODES_MAX 64
#define OUTGOING_MS 10000
#define STATE_LISTEN "0A"
#define COLUMN_ADDRESS 1 // of /proc/net/tcp
#define COLUMN_STATE 3
#define COLUMN_INODE 9

// ---- who has a port ----------------------------------------------------------------------------------

struct inodes {
    uint64_t at[INODES_MAX];
    size_t count;
};

static bool is_any(const uint8_t *ip, size_t size)
{
    static const uint8_t zero[16];
    return memcmp(ip, zero, size) == 0;
}

// "0100007F:0019", 4 or 16 bytes in words of 32 bits as this host stores them.
static bool parse_place(struct bytes text, struct sys_addr *out)
{
    struct bytes ip, port = text;
    *out = (struct sys_addr){0};
    bytes_cut(&port, ':', &ip);
    out->kind = ip.len == 8 ? SYS_ADDR_IP4 : SYS_ADDR_IP6;
    if ((ip.len != 8 && ip.len != 32) || port.len != 4)
        return false;
    for (size_t i = 0; i < ip.len / 8; i++) {
        char digits[9];
        snprintf(digits, sizeof digits, "%.8s", ip.at + i * 8);
        uint32_t word = (uint32_t)strtoul(digits, NULL, 16);
        memcpy(out->ip + i * 4, &word, sizeof word);
    }
    out->port = (uint16_t)strtoul(port.at, NULL, 16);
    return true;
}

// Is a listener at `has` in the way of one at `wants`? That of [::] may serve IPv4, too.
static bool is_in_the_way(const struct sys_addr *has, const struct sys_addr *wants, bool any_family)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    bool has6 = has->kind == SYS_ADDR_IP6, wants6 = wants->kind == SYS_ADDR_IP6;
    if (has->port != wants->port)
        return false;
    if (any_family || (has6 && is_any(has->ip, 16)) ||
        (has6 == wants6 && is_any(has->ip, has6 ? 16 : 4)))
        return true;
    if (has6 && !wants6)
        return memcmp(has->ip, mapped, 12) == 0 &&
               (is_any(wants->ip, 4) || memcmp(has->ip + 12, wants->ip, 4) == 0);
    return has6 == wants6 &&
           (is_any(wants->ip, wants6 ? 16 : 4) || memcmp(has->ip, wants->ip, wants6 ? 16 : 4) == 0);
}

struct wanted {
    const struct sys_addr *addr;
    bool any_family;
};

static void take_line(struct bytes line, const struct wanted *w, struct inodes *out)
{
    struct bytes words[COLUMN_INODE + 1] = {0}, word;
    struct sys_addr has;
    size_t n = 0;
    while (n <= COLUMN_INODE && bytes_cut(&line, ' ', &word))
        if (word.len)
            words[n++] = word;
    if (n > COLUMN_INODE && out->count < INODES_MAX &&
        bytes_eq(words[COLUMN_STATE], BYTES(STATE_LISTEN)) &&
        parse_place(words[COLUMN_ADDRESS], &has) && is_in_the_way(&has, w->addr, w->any_family) &&
        bytes_to_u64(words[COLUMN_INODE], UINT64_MAX, &out->at[out->count]) == OK)
        out->count++;
}

static void find_inodes(const struct wanted *w, struct inodes *out)
{
    static const char *const files[] = {"/proc/net/tcp", "/proc/net/tcp6"};
    char line[512];
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        FILE *file = fopen(files[i], "re");
        while (file && fgets(line, sizeof line, file))
            take_line(bytes_trim(bytes_cstr(line)), w, out);
        if (file)
            fclose(file);
    }
}

static bool has_one(const char *pid, const struct inodes *inodes)
{
    char path[320], target[64];
    struct dirent *entry;
    bool found = false;
    snprintf(path, sizeof path, "/proc/%.16s/fd", pid);
    DIR *dir = opendir(path);
    while (dir && !found && (entry = readdir(dir))) {
        snprintf(path, sizeof path, "/proc/%.16s/fd/%.32s", pid, entry->d_name);
        ssize_t n = readlink(path, target, sizeof target - 1);
        uint64_t inode;
        struct bytes text = bytes_of(target, n > 0 ? (size_t)n : 0);
        if (!bytes_starts(text, BYTES("socket:[")) || !bytes_ends(text, BYTES("]")) ||
            bytes_to_u64(bytes_mid(text, 8, text.len - 9), UINT64_MAX, &inode) != OK)
            continue;
        for (size_t i = 0; i < inodes->count; i++)
            found = found || inodes->at[i] == inode;
    }
    if (dir)
        closedir(dir);
    return found;
}

// The process that listens there, or in the way; 0: not to be seen.
static uint64_t find_owner(const struct wanted *w)
{
    struct inodes inodes = {0};
    uint64_t owner = 0, pid;
    struct dirent *entry;
    find_inodes(w, &inodes);
    DIR *proc = inodes.count ? opendir("/proc") : NULL;
    while (proc && !owner && (entry = readdir(proc)))
        if (bytes_to_u64(bytes_cstr(entry->d_name), INT32_MAX, &pid) == OK &&
            has_one(entry->d_name, &inodes))
            owner = pid;
    if (proc)
        closedir(proc);
    return owner;
}

static struct bytes program_of(struct doctor *d, uint64_t pid)
{
    char path[64], name[64] = "";
    snprintf(path, sizeof path, "/proc/%llu/comm", (unsigned long long)pid);
    FILE *file = fopen(path, "re");
    if (file && !fgets(name, sizeof name, file))
        name[0] = '\0';
    if (file)
        fclose(file);
    return arena_dup(&d->arena, bytes_trim(bytes_cstr(name)));
}

// ---- binding -----------------------------------------------------------------------------------------

static int bind_to(const struct sys_addr *addr, bool any_family)
{
    struct sockaddr_storage sa;
    socklen_t len = sys_addr_to_sockaddr(addr, &sa);
    int one = 1, only = !any_family, e = 0;
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd == -1)
        return errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (sa.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
    if (bind(fd, (struct sockaddr *)&sa, len) == -1)
        e = errno;
    close(fd);
    return e;
}

// 0, or an errno: as the guard would bind it.
static int try_address(const struct sys_addr *addr, bool any_family)
{
    int e = bind_to(addr, any_family);
    if (!any_family || (e != EAFNOSUPPORT && e != EADDRNOTAVAIL))
        return e;
    return bind_to(&(struct sys_addr){.kind = SYS_ADDR_IP4, .port = addr->port}, false);
}

static void judge_taken(struct doctor *d, struct bytes name, const char *address,
                        const struct wanted *w)
{
    uint64_t guard = cli_json_number(d->service, "pid"), owner = find_owner(w);
    bool ours = owner && (owner == guard || owner == cli_json_number(d->service, "relay_pid"));
    if (ours || (!owner && d->service)) {
        doctor_ok(d, "port", name, "posthaste listens on %s", address);
    } else if (owner) {
        doctor_fail(d, "port", name, "%s is taken by %.*s (process %llu)", address,
                    BYTES_FMT(program_of(d, owner)), (unsigned long long)owner);
        doctor_fix(d, "stop that program, or give the listener another port");
    } else {
        doctor_fail(d, "port", name, "%s is taken by another program", address);
        doctor_fix(
            d, "stop it, or give the listener another port; as root, posthaste doctor names it");
    }
}

static void check_port(struct doctor *d, struct bytes name, struct bytes endpoint, bool any_family)
{
    char text[SYS_ADDR_TEXT];
    struct sys_addr addr;
    if (sys_addr_parse(endpoint, &addr) != OK)
        return;
    sys_addr_format(&addr, text);
    if (!addr.port) {
        doctor_ok(d, "port", name, "the system chooses the port");
        return;
    }
    int e = try_address(&addr, any_family);
    if (e == EADDRINUSE) {
        judge_taken(d, name, text, &(struct wanted){&addr, any_family});
    } else if (e == EACCES) {
        doctor_warn(d, "port", name, "this user may not take %s", text);
        doctor_fix(d, "start the service as root with `user:`, or give it CAP_NET_BIND_SERVICE");
    } else if (e == EADDRNOTAVAIL || e == EAFNOSUPPORT) {
        doctor_fail(d, "port", name, "this host has no such address: %s", text);
        doctor_fix(d, "use an address of this host, or *:%u for all", addr.port);
    } else if (e) {
        doctor_fail(d, "port", name, "%s can't be had: %s", text, strerror(e));
        doctor_fix(d, "check the listener's address");
    } else if (d->service) {
        doctor_fail(d, "port", name, "the service runs, but nobody listens on %s", text);
        doctor_fix(
            d, "if the configuration has changed: `posthaste config reload`, which says whether it "
               "is taken; http and unsubscribe need a restart");
    } else {
        doctor_ok(d, "port", name, "%s is free", text);
    }
}

// ---- out ---------------------------------------------------------------------------------------------

// Connects and waits for a greeting. 0, or an errno; `out` gets its first bytes.
static int greet(const struct sys_addr *to, char *out, size_t size)
{
    struct sockaddr_storage sa;
    int e = 0;
    socklen_t sa_len = sys_addr_to_sockaddr(to, &sa), len = sizeof e;
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd == -1)
        return errno;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if (connect(fd, (struct sockaddr *)&sa, sa_len) == -1 && errno != EINPROGRESS)
        e = errno;
    else if (poll(&p, 1, OUTGOING_MS) != 1)
        e = ETIMEDOUT;
    else
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len);
    p.events = POLLIN;
    if (!e && poll(&p, 1, OUTGOING_MS) != 1)
        e = ETIMEDOUT;
    ssize_t n = e ? 0 : read(fd, out, size - 1);
    out[n > 0 ? n : 0] = '\0';
    close(fd);
    return e;
}

static bool find_address(struct doctor *d, struct bytes host, uint16_t port, struct sys_addr *out)
{
    static const enum dns_type types[] = {DNS_A, DNS_AAAA};
    if (sys_addr_parse_ip(host, port, out) == OK)
        return true;
    for (size_t i = 0; i < COUNT_OF(types) && d->resolver.dns; i++) {
        const struct dns_answer *answer = doctor_ask(d, host, types[i]);
        if (answer->code != DNS_OK)
            continue;
        *out = (struct sys_addr){.kind = types[i] == DNS_A ? SYS_ADDR_IP4 : SYS_ADDR_IP6,
                                 .port = port};
        memcpy(out->ip, answer->records[0].ip, 16);
        return true;
    }
    return false;
}

// HOST or HOST:PORT; a bare IPv6 address is a host.
static void split_target(struct bytes target, struct bytes *host, uint16_t *port)
{
    ptrdiff_t colon = bytes_find_last(target, ':');
    uint64_t number;
    *host = target;
    *port = 25;
    if (colon <= 0 || (bytes_find(target, ':') != colon && target.at[colon - 1] != ']') ||
        bytes_to_u64(bytes_skip(target, (size_t)colon + 1), 65535, &number) != OK)
        return;
    *host = bytes_first(target, (size_t)colon);
    *port = (uint16_t)number;
}

static void check_outgoing(struct doctor *d, struct bytes target)
{
    struct bytes host;
    uint16_t port;
    struct sys_addr to;
    char greeting[128], text[SYS_ADDR_TEXT];
    split_target(target, &host, &port);
    if (!find_address(d, host, port, &to)) {
        doctor_fail(d, "outgoing", target, "the DNS has no address for it");
        doctor_fix(d, "name a mail server, such as the MX host of a large provider");
        return;
    }
    sys_addr_format(&to, text);
    int e = greet(&to, greeting, sizeof greeting);
    struct bytes first = bytes_trim(bytes_cstr(greeting));
    if (e) {
        doctor_fail(d, "outgoing", target, "no connection to %s: %s", text, strerror(e));
        doctor_fix(
            d, "many networks block port 25: ask yours to open it, or route mail over a smarthost");
    } else if (!bytes_starts(first, BYTES("220"))) {
        doctor_fail(d, "outgoing", target, "%s does not greet as a mail server", text);
        doctor_fix(d, "see what stands between this host and the world: a proxy, a firewall");
    } else {
        doctor_ok(d, "outgoing", target, "%s answers", text);
    }
}

void doctor_check_ports(struct doctor *d)
{
    const struct conf *conf = d->conf;
    for (uint32_t i = 0; i < conf->listeners_count; i++)
        check_port(d, conf->listeners[i].name, conf->listeners[i].address,
                   conf->listeners[i].any_family);
    if (conf->http.address.len)
        check_port(d, BYTES("http"), conf->http.address, conf->http.any_family);
    if (conf->unsubscribe.address.len)
        check_port(d, BYTES("unsubscribe"), conf->unsubscribe.address,
                   conf->unsubscribe.any_family);
    if (cli_value(d->cli, "outgoing"))
        check_outgoing(d, bytes_cstr(cli_value(d->cli, "outgoing")));
}
