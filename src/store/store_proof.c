// SPDX-License-Identifier: MIT
#include "store/store_proof.h"

#include <arpa/inet.h>

#include "base/check.h"
#include "conf/conf_value.h"

static const char *const names[STORE_PROOFS] = {[STORE_PROOF_NONE] = "password",
                                                [STORE_PROOF_NETWORK] = "network",
                                                [STORE_PROOF_CERTIFICATE] = "certificate",
                                                [STORE_PROOF_NAME] = "certificate-name"};

const char *store_proof_name(enum store_proof proof)
{
    return names[proof];
}

enum store_proof store_proof_of(struct bytes login)
{
    struct bytes prefix, rest = login;
    if (!bytes_cut(&rest, ':', &prefix) || !rest.at)
        return STORE_PROOF_NONE;
    for (int i = STORE_PROOF_NETWORK; i < STORE_PROOFS; i++)
        if (bytes_eq(prefix, bytes_cstr(names[i])))
            return (enum store_proof)i;
    return STORE_PROOF_NONE;
}

// An IPv4-mapped network is the IPv4 one that it maps: clients are known by that.
static void unmap(struct conf_cidr *cidr)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (!cidr->ip6 || cidr->bits < 96 || memcmp(cidr->ip, mapped, sizeof mapped) != 0)
        return;
    memmove(cidr->ip, cidr->ip + 12, 4);
    memset(cidr->ip + 4, 0, 12);
    cidr->bits = (uint8_t)(cidr->bits - 96);
    cidr->ip6 = false;
}

static int add_network(struct bytes value, struct buf *out)
{
    struct conf_cidr cidr;
    char ip[INET6_ADDRSTRLEN];
    int err = conf_value_cidr(value, &cidr);
    if (err)
        return err;
    unmap(&cidr);
    if (cidr.bits < (cidr.ip6 ? STORE_NETWORK6_BITS_MIN : STORE_NETWORK_BITS_MIN))
        return E_LIMIT;
    inet_ntop(cidr.ip6 ? AF_INET6 : AF_INET, cidr.ip, ip, sizeof ip);
    buf_printf(out, "%s/%u", ip, cidr.bits);
    return OK;
}

// "ab:CD:..." as openssl prints it, or without colons.
static int add_digits(struct bytes value, struct buf *out)
{
    size_t digits = 0;
    for (size_t i = 0; i < value.len; i++) {
        char c = ascii_lower(value.at[i]);
        if (c == ':' && digits % 2 == 0)
            continue;
        if (!ascii_is_digit(c) && (c < 'a' || c > 'f'))
            return E_SYNTAX;
        buf_add_byte(out, c);
        digits++;
    }
    return digits == 64 ? OK : E_SYNTAX;
}

static int add_name(struct bytes value, struct buf *out)
{
    if (value.len == 0 || value.len > STORE_PROOF_NAME_MAX || bytes_has_control(value, NULL) ||
        !bytes_is_utf8(value))
        return E_SYNTAX;
    for (size_t i = 0; i < value.len; i++)
        buf_add_byte(out, ascii_lower(value.at[i]));
    return OK;
}

int store_proof_format(enum store_proof proof, struct bytes value, struct buf *out)
{
    CHECK(proof != STORE_PROOF_NONE);
    buf_printf(out, "%s:", names[proof]);
    switch (proof) {
    case STORE_PROOF_NETWORK:
        return add_network(value, out);
    case STORE_PROOF_CERTIFICATE:
        return add_digits(value, out);
    default:
        return add_name(value, out);
    }
}

void store_proof_format_hash(const uint8_t sha256[32], struct buf *out)
{
    buf_printf(out, "%s:", names[STORE_PROOF_CERTIFICATE]);
    for (int i = 0; i < 32; i++)
        buf_printf(out, "%02x", sha256[i]);
}
