// SPDX-License-Identifier: MIT
//
// conf_host - this host's own full name, for files that leave `hostname` out
//
// The kernel's, if it has a domain; else what /etc/hosts has for it. The DNS is not asked: a start must not wait for it.
//
// Thread: conf_host_find() on one at a time (gethostent(3)).
#pragma once

#include "base/bytes.h"

struct conf_host {
    char name[256]; // "": not looked for yet
};

// Looks for the name where that has not been done; false if there is none.
bool conf_host_find(struct conf_host *host);
// Is it a name to be known by in the world: with a domain, and not one that means this host everywhere?
bool conf_host_is_full(struct bytes name);
