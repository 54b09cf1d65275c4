// SPDX-License-Identifier: MIT
//
// net_proxy - the PROXY protocol's header
#include "net/net_proxy.h"

#include "base/check.h"

#define SIGNATURE ((struct bytes){"\r\n\r\n\0\r\nQUIT\n", 12})

static enum net_proxy_step bad(struct net_proxy_header *out, const char *why)
{
    out->why = why;
    return NET_PROXY_BAD;
}

// ---- version 1 ------------------------------------------------------------------------------------------

// Section 2.1: only the address, in the form of the family that was named.
static bool take_ip(struct bytes text, bool ip6, struct sys_addr *out)
{
    for (size_t i = 0; i < text.len; i++)
        if (!strchr(ip6 ? "0123456789abcdefABCDEF:." : "0123456789.", text.at[i]) || !text.at[i])
            return false;
    return (bytes_find(text, ':') >= 0) == ip6 && sys_addr_parse_ip(text, 0, out) == OK;
}

// No leading zeros.
static bool take_port(struct bytes text, uint16_t *out)
{
    uint64_t port;
    if (text.len > 5 || (text.len > 1 && text.at[0] == '0') ||
        bytes_to_u64(text, 65535, &port) != OK)
        return false;
    *out = (uint16_t)port;
    return true;
}

static enum net_proxy_step read_line(struct bytes line, struct net_proxy_header *out)
{
    struct bytes part[6];
    size_t count = 0;
    struct bytes family, rest = bytes_skip(line, strlen("PROXY "));
    bytes_cut(&rest, ' ', &family);
    if (bytes_eq(family, BYTES("UNKNOWN"))) { // what follows it is to be ignored
        out->whose = NET_PROXY_NOBODYS;
        return NET_PROXY_DONE;
    }
    bool ip6 = bytes_eq(family, BYTES("TCP6"));
    if (!ip6 && !bytes_eq(family, BYTES("TCP4")))
        return bad(out, "a family other than TCP4, TCP6 and UNKNOWN");
    while (count < COUNT_OF(part) && bytes_cut(&rest, ' ', &part[count]))
        count++;
    if (count != 4 || !take_ip(part[0], ip6, &out->source) ||
        !take_ip(part[1], ip6, &out->destination))
        return bad(out, "no two addresses of the family");
    if (!take_port(part[2], &out->source.port) || !take_port(part[3], &out->destination.port))
        return bad(out, "no two ports");
    return NET_PROXY_DONE;
}

static enum net_proxy_step parse_v1(struct bytes in, struct net_proxy_header *out, size_t *out_used)
{
    static const struct bytes begin = BYTES("PROXY ");
    struct bytes head = bytes_first(in, NET_PROXY_V1_MAX);
    ptrdiff_t end = bytes_search(head, BYTES("\r\n"));
    if (!bytes_starts(bytes_first(head, begin.len), bytes_first(begin, head.len)))
        return bad(out, "no PROXY header");
    if (end < 0)
        return head.len == NET_PROXY_V1_MAX ? bad(out, "a line of more than 107 octets")
                                            : NET_PROXY_MORE;
    *out_used = (size_t)end + 2;
    return read_line(bytes_first(head, (size_t)end), out);
}

// ---- version 2 ------------------------------------------------------------------------------------------

static uint16_t read_u16(const char *at)
{
    return (uint16_t)((uint8_t)at[0] << 8 | (uint8_t)at[1]);
}

static void take_block(const char *ip, const char *port, size_t size, struct sys_addr *out)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    bool is_mapped = size == 16 && memcmp(ip, mapped, sizeof mapped) == 0;
    bool ip4 = size == 4 || is_mapped;
    *out = (struct sys_addr){.kind = ip4 ? SYS_ADDR_IP4 : SYS_ADDR_IP6, .port = read_u16(port)};
    memcpy(out->ip, is_mapped ? ip + sizeof mapped : ip, ip4 ? 4 : 16);
}

// Source and destination, then both ports (section 2.2).
static enum net_proxy_step take_addresses(struct bytes block, size_t size,
                                          struct net_proxy_header *out)
{
    if (block.len < 2 * size + 4)
        return bad(out, "a length that is too small for its addresses");
    const char *ports = block.at + 2 * size;
    take_block(block.at, ports, size, &out->source);
    take_block(block.at + size, ports + 2, size, &out->destination);
    return NET_PROXY_DONE;
}

static enum net_proxy_step read_block(uint8_t command, uint8_t family, struct bytes block,
                                      struct net_proxy_header *out)
{
    if (command == 0) { // LOCAL: whatever it says of addresses is to be ignored
        out->whose = NET_PROXY_OWN;
        return NET_PROXY_DONE;
    }
    switch (family) {
    case 0x11: // TCP over IPv4
        return take_addresses(block, 4, out);
    case 0x21: // TCP over IPv6
        return take_addresses(block, 16, out);
    case 0x00: // unspecified
    case 0x31: // a Unix socket
        out->whose = NET_PROXY_NOBODYS;
        return NET_PROXY_DONE;
    default:
        return bad(out, "a family or transport that is none of a stream");
    }
}

static enum net_proxy_step parse_v2(struct bytes in, struct net_proxy_header *out, size_t *out_used)
{
    if (!bytes_starts(bytes_first(in, SIGNATURE.len), bytes_first(SIGNATURE, in.len)))
        return bad(out, "no PROXY header");
    if (in.len > 12 && (uint8_t)in.at[12] >> 4 != 2)
        return bad(out, "a version other than 1 and 2");
    if (in.len > 12 && (in.at[12] & 0xf) > 1)
        return bad(out, "a command other than LOCAL and PROXY");
    if (in.len < NET_PROXY_V2_HEAD)
        return NET_PROXY_MORE;
    size_t length = read_u16(in.at + 14);
    if (NET_PROXY_V2_HEAD + length > NET_PROXY_V2_MAX)
        return bad(out, "more than 4096 octets of addresses and TLVs");
    if (in.len < NET_PROXY_V2_HEAD + length)
        return NET_PROXY_MORE;
    *out_used = NET_PROXY_V2_HEAD + length;
    return read_block(in.at[12] & 0xf, (uint8_t)in.at[13], bytes_mid(in, NET_PROXY_V2_HEAD, length),
                      out);
}

enum net_proxy_step net_proxy_parse(struct bytes in, struct net_proxy_header *out, size_t *out_used)
{
    *out = (struct net_proxy_header){.why = ""};
    *out_used = 0;
    if (in.len == 0)
        return NET_PROXY_MORE;
    enum net_proxy_step step =
        in.at[0] == '\r' ? parse_v2(in, out, out_used) : parse_v1(in, out, out_used);
    if (step != NET_PROXY_DONE)
        *out_used = 0;
    return step;
}
