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

struct sim_site_options {
    const char *address; // "198.51.100.20:25"
    bool tls;            // from the first byte; else there is none
    bool wants_login;    // AUTH PLAIN before MAIL, which gets 530 without it
    int64_t greeting_ms; // how long it takes to greet
};
struct sim_site *sim_site_start(const struct sim_site_options *options);
void sim_site_stop(struct sim_site *site); // NULL is fine
// Everything that came, a line each: "LOGIN:PASSWORD > u@a.test"; "- > u@a.test" without a login.
const char *sim_site_log(const struct sim_site *site);
uint32_t sim_site_sessions(const struct sim_site *site); // so far
