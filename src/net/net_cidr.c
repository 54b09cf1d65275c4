// SPDX-License-Identifier: MIT
#include "net/net_cidr.h"

static bool bits_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    if (memcmp(a, b, bits / 8) != 0)
        return false;
    unsigned rest = bits % 8;
    return rest == 0 || ((a[bits / 8] ^ b[bits / 8]) >> (8 - rest)) == 0;
}

bool net_cidr_has(const struct conf_cidr *cidr, const struct sys_addr *addr)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    bool is_ip4 = addr->kind == SYS_ADDR_IP4;
    if (!is_ip4 && addr->kind != SYS_ADDR_IP6)
        return false;
    if (is_ip4 && cidr->ip6)
        return cidr->bits >= 96 && memcmp(cidr->ip, mapped, 12) == 0 &&
               bits_equal(cidr->ip + 12, addr->ip, cidr->bits - 96u);
    return is_ip4 != cidr->ip6 && bits_equal(cidr->ip, addr->ip, cidr->bits);
}

bool net_cidr_any_has(const struct conf_cidr *cidrs, size_t count, const struct sys_addr *addr)
{
    for (size_t i = 0; i < count; i++)
        if (net_cidr_has(&cidrs[i], addr))
            return true;
    return false;
}
