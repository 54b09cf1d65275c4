// SPDX-License-Identifier: MIT
//
// sim_site - for tests in the simulated world: a server that takes mail, says who sent it, and offers no more
// than it is told to
//
// Owner:    the test; sim_site_stop() after sim_stop(), when its clients have left.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sim_site;

// What becomes of STARTTLS, which is offered unless there is NONE. SILENT: it gets its 220, and no handshake.
enum sim_starttls {
    SIM_STARTTLS_NONE,
    SIM_STARTTLS_WORKS,
    SIM_STARTTLS_REFUSED,
    SIM_STARTTLS_CLOSED,
    SIM_STARTTLS_SILENT
};

struct sim_site_options {
    const char *address; // "198.51.100.20:25"
    bool tls;            // from the first byte
    enum sim_starttls starttls;
    bool wants_tls;      // MAIL gets 530 without it
    bool wants_login;    // AUTH PLAIN before MAIL, which gets 530 without it
    int64_t greeting_ms; // how long it takes to greet
    uint32_t strikes;    // not 0: so many recipients "no..." get 550, the next one 421
};
struct sim_site *sim_site_start(const struct sim_site_options *options);
void sim_site_stop(struct sim_site *site); // NULL is fine
// From now on.
void sim_site_set_starttls(struct sim_site *site, enum sim_starttls starttls);
// Everything that came, a line each: "LOGIN:PASSWORD > u@a.test"; "- > u@a.test" without a login; ">>" after STARTTLS.
const char *sim_site_log(const struct sim_site *site);
uint32_t sim_site_sessions(const struct sim_site *site); // so far
uint32_t sim_site_starttls(const struct sim_site *site); // how often it was asked for
