// SPDX-License-Identifier: MIT
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

#include "sys/sys_sockaddr.h"

static char *put_decimal(char *at, unsigned value)
{
    if (value >= 10)
        at = put_decimal(at, value / 10);
    *at++ = (char)('0' + value % 10);
    return at;
}

// Each message names an address three times: without printf, which inet_ntop() uses too.
static char *put_ip4(char *at, const uint8_t ip[4])
{
    for (int i = 0; i < 4; i++) {
        at = put_decimal(at, ip[i]);
        *at++ = '.';
    }
    *--at = '\0';
    return at;
}

const char *sys_addr_format_ip(const struct sys_addr *addr, char out[SYS_ADDR_TEXT])
{
    out[0] = '\0';
    if (addr->kind == SYS_ADDR_IP4)
        put_ip4(out, addr->ip);
    else if (addr->kind == SYS_ADDR_IP6)
        inet_ntop(AF_INET6, addr->ip, out, SYS_ADDR_TEXT);
    else if (addr->kind == SYS_ADDR_UNIX)
        snprintf(out, SYS_ADDR_TEXT, "unix:%.107s", addr->path);
    else
        snprintf(out, SYS_ADDR_TEXT, "none");
    return out;
}

const char *sys_addr_format(const struct sys_addr *addr, char out[SYS_ADDR_TEXT])
{
    if (addr->kind == SYS_ADDR_IP4) {
        char *at = put_ip4(out, addr->ip);
        *at++ = ':';
        *put_decimal(at, addr->port) = '\0';
        return out;
    }
    char ip[SYS_ADDR_TEXT];
    sys_addr_format_ip(addr, ip);
    if (addr->kind == SYS_ADDR_IP6)
        snprintf(out, SYS_ADDR_TEXT, "[%.46s]:%u", ip, addr->port);
    else
        snprintf(out, SYS_ADDR_TEXT, "%.127s", ip);
    return out;
}

// ::ffff:a.b.c.d reaches the IPv4 host a.b.c.d, so it is that address: limits, trust and loop
// detection must not be walked around by another spelling.
static void unmap(struct sys_addr *addr)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (addr->kind != SYS_ADDR_IP6 || memcmp(addr->ip, mapped, 12) != 0)
        return;
    addr->kind = SYS_ADDR_IP4;
    memmove(addr->ip, addr->ip + 12, 4);
    memset(addr->ip + 4, 0, 12);
}

static bool strip_brackets(struct bytes *text)
{
    if (text->len == 0 || text->at[0] != '[')
        return true;
    if (text->len < 2 || text->at[text->len - 1] != ']')
        return false;
    *text = bytes_mid(*text, 1, text->len - 2);
    return true;
}

int sys_addr_parse_ip(struct bytes text, uint16_t port, struct sys_addr *out)
{
    *out = (struct sys_addr){.port = port};
    char ip[INET6_ADDRSTRLEN];
    if (!strip_brackets(&text))
        return E_SYNTAX;
    bool tagged = bytes_starts_nocase(text, BYTES("IPv6:"));
    if (tagged)
        text = bytes_skip(text, 5);
    if (text.len == 0 || text.len >= sizeof ip || memchr(text.at, '\0', text.len))
        return E_SYNTAX;
    memcpy(ip, text.at, text.len);
    ip[text.len] = '\0';
    if (!tagged && inet_pton(AF_INET, ip, out->ip) == 1)
        out->kind = SYS_ADDR_IP4;
    else if (inet_pton(AF_INET6, ip, out->ip) == 1)
        out->kind = SYS_ADDR_IP6;
    else
        return E_SYNTAX;
    unmap(out);
    return OK;
}

static int parse_path(struct bytes path, struct sys_addr *out)
{
    *out = (struct sys_addr){.kind = SYS_ADDR_UNIX};
    if (path.len < 2 || path.at[0] != '/' || memchr(path.at, '\0', path.len))
        return E_SYNTAX;
    if (path.len >= sizeof out->path)
        return E_LIMIT;
    memcpy(out->path, path.at, path.len);
    return OK;
}

int sys_addr_parse(struct bytes text, struct sys_addr *out)
{
    *out = (struct sys_addr){0};
    if (bytes_starts(text, BYTES("unix:")))
        return parse_path(bytes_skip(text, 5), out);
    if (bytes_starts(text, BYTES("/")))
        return parse_path(text, out);
    ptrdiff_t cut = bytes_find(text, '@');
    bool at_sign = cut >= 0;
    if (!at_sign)
        cut = bytes_find_last(text, ':');
    if (cut < 0)
        return E_SYNTAX;
    struct bytes ip = bytes_first(text, (size_t)cut), digits = bytes_skip(text, (size_t)cut + 1);
    if (!at_sign && bytes_find(ip, ':') >= 0 && ip.at[0] != '[')
        return E_SYNTAX; // 2001:db8::25: where the address ends is anyone's guess
    uint64_t port;
    if (digits.len > 5 || bytes_to_u64(digits, 65535, &port) != OK)
        return E_SYNTAX;
    return sys_addr_parse_ip(ip, (uint16_t)port, out);
}

bool sys_addr_eq(const struct sys_addr *a, const struct sys_addr *b)
{
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case SYS_ADDR_IP4:
        return a->port == b->port && memcmp(a->ip, b->ip, 4) == 0;
    case SYS_ADDR_IP6:
        return a->port == b->port && memcmp(a->ip, b->ip, 16) == 0;
    case SYS_ADDR_UNIX:
        return strncmp(a->path, b->path, sizeof a->path) == 0;
    default:
        return true;
    }
}

socklen_t sys_addr_to_sockaddr(const struct sys_addr *addr, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (addr->kind == SYS_ADDR_IP4) {
        struct sockaddr_in *in = (struct sockaddr_in *)out;
        in->sin_family = AF_INET;
        in->sin_port = htons(addr->port);
        memcpy(&in->sin_addr, addr->ip, 4);
        return sizeof *in;
    }
    if (addr->kind == SYS_ADDR_IP6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(addr->port);
        memcpy(&in6->sin6_addr, addr->ip, 16);
        return sizeof *in6;
    }
    if (addr->kind == SYS_ADDR_UNIX) {
        struct sockaddr_un *un = (struct sockaddr_un *)out;
        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, addr->path, sizeof un->sun_path);
        un->sun_path[sizeof un->sun_path - 1] = '\0';
        return sizeof *un;
    }
    return 0;
}

void sys_addr_from_sockaddr(const struct sockaddr_storage *from, socklen_t len,
                            struct sys_addr *out)
{
    *out = (struct sys_addr){0};
    if (from->ss_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)from;
        out->kind = SYS_ADDR_IP4;
        out->port = ntohs(in->sin_port);
        memcpy(out->ip, &in->sin_addr, 4);
    } else if (from->ss_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
        out->kind = SYS_ADDR_IP6;
        out->port = ntohs(in6->sin6_port);
        memcpy(out->ip, &in6->sin6_addr, 16);
        unmap(out);
    } else if (from->ss_family == AF_UNIX) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)from;
        size_t skip = offsetof(struct sockaddr_un, sun_path);
        out->kind = SYS_ADDR_UNIX;
        size_t room = len > skip ? len - skip : 0;
        if (room > sizeof out->path - 1)
            room = sizeof out->path - 1;
        memcpy(out->path, un->sun_path, strnlen(un->sun_path, room));
    }
}
