// SPDX-License-Identifier: MIT
//
// dkim_tags - the tag=value lists of DKIM (RFC 6376 section 3.2)
//
//     tag-list  = tag-spec *( ";" tag-spec ) [ ";" ]
//     tag-spec  = [FWS] tag-name [FWS] "=" [FWS] tag-value [FWS]
//     tag-name  = ALPHA *ALNUMPUNC
//
// Slices point into the list. Names are compared with their case.
#pragma once

#include "base/bytes.h"

#define DKIM_TAGS_MAX 100

struct dkim_tag {
    struct bytes name;
    struct bytes value; // without white space at its ends; folding inside stays
    struct bytes raw;   // what stands between "=" and ";"
};
struct dkim_tags {
    struct dkim_tag tags[DKIM_TAGS_MAX];
    size_t count;
};

// E_SYNTAX; E_EXISTS: a name occurs twice; E_LIMIT: more than DKIM_TAGS_MAX.
int dkim_tags_parse(struct bytes list, struct dkim_tags *out) MUST_USE;
// False: there is no such tag; *out is then BYTES_NONE.
bool dkim_tags_find(const struct dkim_tags *tags, const char *name, struct bytes *out);
// Cuts the next item off a list with colons (h=, q=, s=, t=), without white space around it; false
// at the end.
bool dkim_tags_next_item(struct bytes *list, struct bytes *out);
// Does the list have this item (any case)?
bool dkim_tags_has_item(struct bytes list, const char *item);
// Base64 with folding anywhere (section 2.10) into at most `max` bytes. False: not base64, or more.
bool dkim_tags_base64(struct bytes value, size_t max, uint8_t *out, size_t *out_len);
