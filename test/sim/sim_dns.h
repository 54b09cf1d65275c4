// SPDX-License-Identifier: MIT
//
// sim_dns - the twin of the port dns/dns.h: zones in a table, and names whose servers fail on
// purpose
//
// A name nobody added does not exist. The table is the world's: it outlives crashes of its askers.
#pragma once

#include "dns/dns.h"
#include "sim.h"

#define SIM_DNS_RECORDS_MAX 4096

enum sim_dns_mood {
    SIM_DNS_FINE,
    SIM_DNS_GONE,     // NXDOMAIN whatever was added
    SIM_DNS_SERVFAIL, // the servers fail
    SIM_DNS_BOGUS,    // validation fails
    SIM_DNS_SILENT,   // no answer: the asker's deadline ends it
    SIM_DNS_FLAPPING, // any of the above but GONE, a new one for each question
};

void sim_dns_start(void); // empties the table
void sim_dns_stop(void);
void sim_dns_add_mx(const char *domain, uint16_t preference,
                    const char *host); // host "" is the null MX
void sim_dns_add_address(const char *host, const struct sys_addr *address);
void sim_dns_add_text(const char *name, const char *text);
// How questions about the name (all types) fare from now on.
void sim_dns_mood(const char *name, enum sim_dns_mood mood);
// The same for all names ("" ends it: SIM_DNS_FINE).
void sim_dns_mood_all(enum sim_dns_mood mood);
uint64_t sim_dns_questions(void);
