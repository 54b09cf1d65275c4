// SPDX-License-Identifier: MIT
//
// route_site - names lanes: SOURCE->SITE, where a site is the hosts that serve a domain, by rank
//
// Domains whose MX records rank the same hosts alike (whatever the numbers) get the same name, so that one provider's
// thousands of domains share one lane. Another ranking is another site: a connection serves a whole lane, and which host
// it tries first (RFC 5321 5.1) is for no other domain to say.
#pragma once

#include "base/buf.h"
#include "route/route.h"

#define ROUTE_SITE_MAX 255
#define ROUTE_TERMS_MAX 64

struct route_site_host {
    struct bytes name;
    uint16_t preference; // of its MX record: lower ones come first
};

// A site that stands behind MX hosts, in any order: their names in lower case, without repeats; those of one preference
// sorted and joined by commas, then ">" and those that come next; when that would pass ROUTE_SITE_MAX, the first ones and
// a hash of all. port 25 is left out.
void route_site_of_hosts(const struct route_site_host *hosts, size_t count, uint16_t port,
                         struct buf *out);
// The site of a route that names its target itself (smarthost, LMTP, Maildir, discard):
// "smtp:host:port", "smtps:host:port", "lmtp:host:port", "lmtp:/path", "maildir:/path/%d/%u", "discard". CHECKs that
// it is not by MX.
void route_site_of_via(const struct conf_via *via, struct buf *out);
// What of a route keeps its mail apart from other mail for the same site, as connections carry only mail that asks for
// the same: the TLS that it requires (" encrypted", " verified") or forbids (" without TLS"), then " as LOGIN", before it
// " login N" for the second and later ones of those that look alike. Nothing for `tls: may` without a login, nor for the
// encryption that smtps:// has in any case. At most ROUTE_TERMS_MAX bytes.
//
// Within one table no two logins have one name. Another table may number them otherwise: what has logged in by an older
// one is not to be used for mail of a newer.
void route_site_add_terms(const struct route *route, struct buf *out);
// "SOURCE->SITE".
void route_lane_name(struct bytes source, struct bytes site, struct buf *out);
