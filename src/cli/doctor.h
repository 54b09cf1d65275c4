// SPDX-License-Identifier: MIT
//
// doctor - what is wrong with this host, the configuration and the service, and what to do about it
//
// `posthaste doctor` runs each group of checks below, in this order; a check adds one finding, or one for each thing
// that it looked at (a listener, an address, a folder). Ids are stable (docs/DOCTOR.md lists them). Nothing is
// changed: the one file that is written, to time the disk, has no name.
//
// Limits: DOCTOR_FINDINGS_MAX findings; what comes after is not kept.
#pragma once

#include "cli/cli.h"
#include "dns/dns_query.h"

#define DOCTOR_FINDINGS_MAX 400
#define DOCTOR_DNS_MS 5000

enum doctor_state { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };

struct doctor_finding {
    const char *id;
    struct bytes subject; // which listener, address, folder; empty: there is one only
    enum doctor_state state;
    struct bytes found; // a sentence
    struct bytes fix;   // what to do; empty when ok
};

struct json_object;
struct doctor {
    struct cli *cli;
    const struct conf *conf;
    struct json_object *service; // what GET /v1/service says; NULL: it does not run, or not for us
    int service_err;             // why it is NULL
    struct json_object *alerts;  // GET /v1/alerts; NULL: not told
    struct dns_resolver resolver;
    bool has_dns; // the resolver answers
    struct arena arena;
    struct doctor_finding findings[DOCTOR_FINDINGS_MAX];
    uint32_t count;
};

// ---- telling -----------------------------------------------------------------------------------------

// Adds a finding. `subject` is copied. One that is not ok is followed by doctor_fix().
void doctor_add(struct doctor *d, const char *id, struct bytes subject, enum doctor_state state,
                const char *found, ...) __attribute__((format(printf, 5, 6)));
#define doctor_ok(d, id, subject, ...) doctor_add((d), (id), (subject), DOCTOR_OK, __VA_ARGS__)
#define doctor_warn(d, id, subject, ...) doctor_add((d), (id), (subject), DOCTOR_WARN, __VA_ARGS__)
#define doctor_fail(d, id, subject, ...) doctor_add((d), (id), (subject), DOCTOR_FAIL, __VA_ARGS__)
// What to do about the last finding.
void doctor_fix(struct doctor *d, const char *fix, ...) __attribute__((format(printf, 2, 3)));
const char *doctor_state_name(enum doctor_state state);
// For people: a line for each finding, what to do below it, `width` characters wide (0: no limit).
void doctor_format(const struct doctor *d, uint32_t width, bool colours, struct buf *out);

// ---- the checks --------------------------------------------------------------------------------------

void doctor_check_service(struct doctor *d); // service, sandbox, descriptors, clock
void doctor_check_ports(struct doctor *d);   // listeners; outgoing, with --outgoing
void doctor_check_dns(struct doctor *d);     // resolver, hostname, sources, postmaster
void doctor_check_tls(struct doctor *d);     // certificate
void doctor_check_disk(struct doctor *d);    // folders, space, flushes, history
void doctor_check_access(struct doctor *d);  // files, Maildirs, sockets: can those who need to?
void doctor_check_conf(struct doctor *d);    // what is allowed and still unwise

// ---- helpers of several checks -----------------------------------------------------------------------

// The user that the state folder belongs to, as whom the service is then started; NULL: root, or there is none yet.
const char *doctor_folder_owner(const struct doctor *d);
// What keeps who starts the service from making a file or folder of that path, for a sentence; empty: nothing.
struct bytes doctor_obstacle(struct doctor *d, struct bytes path);
// One question, at most DOCTOR_DNS_MS.
const struct dns_answer *doctor_ask(struct doctor *d, struct bytes name, enum dns_type type);
struct bytes doctor_ip_text(struct doctor *d, const uint8_t *ip, bool ip6);
// Is the host part of a listener's address one that only this host reaches?
bool doctor_is_loopback(struct bytes endpoint);
