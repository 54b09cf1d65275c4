// SPDX-License-Identifier: MIT
//
// conf_value - one value of the configuration or the command line: text to number, address, pattern
//
// All are pure. They return 0, E_SYNTAX (not of that form) or E_LIMIT (of that form, too large to
// hold).
#pragma once

#include "conf/conf.h"

// "10s", "1h30m", "5d": numbers with units w, d, h, m, s, largest first, each at most once.
// Milliseconds.
int conf_value_duration(struct bytes text, int64_t *out_ms) MUST_USE;
// "25MiB", "200MB", "1.5GiB", "4096": B, KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (of
// 1024).
int conf_value_size(struct bytes text, uint64_t *out_bytes) MUST_USE;
// "20", "1_000": digits, '_' between them allowed.
int conf_value_count(struct bytes text, uint64_t *out) MUST_USE;
// "2", "0.5", "1.75": up to three decimals, in thousandths.
int conf_value_decimal(struct bytes text, uint64_t *out_milli) MUST_USE;
// true, false, yes, no, on, off.
int conf_value_bool(struct bytes text, bool *out) MUST_USE;
// "192.0.2.0/24", "2001:db8::/32", or an address alone; bits behind the prefix must be zero
// (E_LIMIT).
int conf_value_cidr(struct bytes text, struct conf_cidr *out) MUST_USE;
// An IPv4 or IPv6 address; 4 or 16 bytes.
int conf_value_ip(struct bytes text, uint8_t out_ip[16], bool *out_ip6) MUST_USE;

// "192.0.2.1:587", "[::1]:587", "*:587": canonical text in the arena.
struct conf_endpoint {
    struct bytes text; // "[::]:587" for "*:587"
    uint16_t port;
    bool any_family;
};
int conf_value_endpoint(struct bytes text, struct arena *arena, struct conf_endpoint *out) MUST_USE;
// "192.0.2.1@53", "2001:db8::1@53", "192.0.2.1" (port 53): canonical "IP@PORT".
int conf_value_server(struct bytes text, struct arena *arena, struct bytes *out) MUST_USE;

// A host name in ASCII (RFC 1123 section 2.1), lower case; a final dot is dropped.
int conf_value_hostname(struct bytes text, struct arena *arena, struct bytes *out) MUST_USE;
// The same, and names in UTF-8 become A-labels (IDNA 2008, UTS 46).
int conf_value_domain(struct bytes text, struct arena *arena, struct bytes *out) MUST_USE;
// user@DOMAIN without quotes, comments or anything that a DNS record or URI would have to escape;
// the domain in lower case.
int conf_value_mailbox(struct bytes text, struct arena *arena, struct bytes *out) MUST_USE;
// Letters, digits, '.', '_' and '-', starting with a letter or digit, at most CONF_NAME_MAX, lower
// case.
#define CONF_NAME_MAX 64
int conf_value_name(struct bytes text, struct arena *arena, struct bytes *out) MUST_USE;
// An address pattern: "*", DOMAIN, "*.DOMAIN", "user@DOMAIN", "[192.0.2.1]".
int conf_value_pattern(struct bytes text, struct arena *arena, struct bytes *out) MUST_USE;
// See enum conf_via_kind.
int conf_value_via(struct bytes text, struct arena *arena, struct conf_via *out) MUST_USE;

// Number to text as a person would write it: "1h30m", "25MiB", "0.5".
void conf_format_duration(int64_t ms, struct buf *out);
void conf_format_size(uint64_t bytes, struct buf *out);
void conf_format_decimal(uint64_t milli, struct buf *out);
