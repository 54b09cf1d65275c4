// SPDX-License-Identifier: MIT
//
// domain_records - what the owner of a sender domain is to publish, so that receivers recognise its mail
//
// Pure: from the domain, its token and keys, and what the operator has configured. What the operator has left out is
// not among the records; a note says what it would take.
#pragma once

#include "conf/conf.h"

#define DOMAIN_RECORDS_MAX 24
#define DOMAIN_NOTES_MAX 4
#define DOMAIN_KEYS_MAX 16

// What a DKIM key is to be found by.
struct domain_key {
    struct bytes selector;
    struct bytes record; // the TXT record's text; empty: a CNAME into the service's zone is enough
};

struct domain_setup {
    struct bytes domain; // lower-case A-labels
    struct bytes token;  // of the ownership record
    const struct domain_key *keys;
    size_t keys_count; // at most DOMAIN_KEYS_MAX
    const struct conf *conf;
};

struct domain_record {
    const char *purpose; // "verification", "spf", "dkim", "dmarc", "return_path"
    const char *type;    // "TXT", "CNAME"
    struct bytes name;   // without a final dot
    struct bytes value;  // a TXT's text as one; a CNAME's target without a final dot
};

struct domain_records {
    struct domain_record records[DOMAIN_RECORDS_MAX];
    size_t count;
    const char *notes[DOMAIN_NOTES_MAX]; // what is missing, for the operator; sentences
    size_t notes_count;
};

// All slices live in the arena, or in what `setup` has.
void domain_records_make(const struct domain_setup *setup, struct arena *arena,
                         struct domain_records *out);

// Names and values by themselves.
struct bytes domain_ownership_name(struct bytes domain, struct arena *arena);
struct bytes domain_ownership_value(struct bytes token, struct arena *arena);
// The SPF term that stands for our addresses: "include:spf.example.net", or the addresses themselves.
struct bytes domain_spf_term(const struct conf *conf, struct arena *arena);
struct bytes domain_dmarc_value(const struct conf *conf, struct arena *arena);
// "bounces.DOMAIN", where a domain's mail asks its bounces to go.
struct bytes domain_return_path_name(struct bytes domain, struct arena *arena);
// What the key's CNAME points to: "SELECTOR.DOMAIN.ZONE".
struct bytes domain_key_target(const struct conf *conf, struct bytes domain, struct bytes selector,
                               struct arena *arena);

// A TXT record's text as a zone file has it: quoted strings of at most 255 octets, RFC 1035 section 5.1.
void domain_format_txt(struct bytes text, struct buf *out);
