// SPDX-License-Identifier: MIT
//
// doctor_service - the running service: its processes, what they may do, and the clocks
//
// What a process may do stands in /proc, for everybody to read; what the kernel does not show there (Landlock), the
// relay says of itself.
#include <errno.h>
#include <json-c/json.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli_control.h"
#include "cli/cli_store.h"
#include "cli/doctor.h"

#define PROC_FILE_MAX 16384
#define DESCRIPTORS_BESIDE 256 // spool, databases, listeners, pipes
#define CLOCKS_APART_MAX_MS 1000
#define CLOCK_ERROR_MAX_US 500000

// ---- /proc -------------------------------------------------------------------------------------------

static struct bytes read_proc(struct doctor *d, uint64_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%llu/%s", (unsigned long long)pid, name);
    FILE *file = fopen(path, "re");
    char *text = arena_new(&d->arena, PROC_FILE_MAX);
    size_t n = file ? fread(text, 1, PROC_FILE_MAX - 1, file) : 0;
    if (file)
        fclose(file);
    return bytes_of(text, n);
}

// The value behind "KEY:" in the lines of /proc/PID/status.
static struct bytes status_field(struct bytes status, const char *key)
{
    struct bytes line;
    while (bytes_cut(&status, '\n', &line))
        if (bytes_starts(line, bytes_cstr(key)) && bytes_mid(line, strlen(key), 1).len &&
            line.at[strlen(key)] == ':')
            return bytes_trim(bytes_skip(line, strlen(key) + 1));
    return BYTES_NONE;
}

// The child of the guard with that name; 0: none.
static uint64_t child_named(struct doctor *d, uint64_t guard, struct bytes name)
{
    char path[64];
    uint64_t pid;
    struct bytes word, children;
    snprintf(path, sizeof path, "task/%llu/children", (unsigned long long)guard);
    children = read_proc(d, guard, path);
    while (bytes_cut(&children, ' ', &word))
        if (bytes_to_u64(bytes_trim(word), INT32_MAX, &pid) == OK &&
            bytes_eq(bytes_trim(read_proc(d, pid, "comm")), name))
            return pid;
    return 0;
}

// ---- sandbox -----------------------------------------------------------------------------------------

static bool is_zero(struct bytes hex)
{
    for (size_t i = 0; i < hex.len; i++)
        if (hex.at[i] != '0')
            return false;
    return hex.len > 0;
}

static void check_process(struct doctor *d, const char *id, uint64_t pid)
{
    struct bytes status = read_proc(d, pid, "status"), uids = status_field(status, "Uid"), uid;
    bool caps =
        !is_zero(status_field(status, "CapEff")) || !is_zero(status_field(status, "CapPrm"));
    bool open = !bytes_eq(status_field(status, "NoNewPrivs"), BYTES("1")) ||
                !bytes_eq(status_field(status, "Seccomp"), BYTES("2"));
    bytes_cut(&uids, '\t', &uid);
    if (!status.len) {
        doctor_warn(d, id, BYTES_NONE, "process %llu can't be looked at", (unsigned long long)pid);
        doctor_fix(d, "run posthaste doctor as root");
    } else if (caps || open) {
        doctor_fail(d, id, BYTES_NONE, "process %llu is not shut in:%s%s", (unsigned long long)pid,
                    caps ? " it has capabilities;" : "",
                    open ? " it may gain privileges, or make any system call" : "");
        doctor_fix(d, "run it on a kernel with seccomp, and see the warnings at the start of the "
                      "service's log");
    } else if (bytes_eq(uid, BYTES("0"))) {
        doctor_warn(d, id, BYTES_NONE,
                    "process %llu has no capability and a seccomp filter, but is the user root",
                    (unsigned long long)pid);
        doctor_fix(d, "make a user for it, name it by `user:`, and restart the service");
    } else {
        doctor_ok(d, id, BYTES_NONE,
                  "process %llu: uid %.*s, no capability, no_new_privs, seccomp filter",
                  (unsigned long long)pid, BYTES_FMT(uid));
    }
}

static void check_sandbox(struct doctor *d, uint64_t guard, uint64_t relay)
{
    check_process(d, "sandbox_relay", relay);
    uint64_t signer = child_named(d, guard, BYTES("signer"));
    if (signer) {
        check_process(d, "sandbox_signer", signer);
    } else {
        doctor_warn(d, "sandbox_signer", BYTES_NONE, "no signer process is to be seen");
        doctor_fix(
            d, "run posthaste doctor again, as root; if it stays away, the service's log says why");
    }
    uint64_t landlock = cli_json_number(cli_json_field(d->service, "sandbox"), "landlock");
    if (landlock) {
        doctor_ok(d, "sandbox_files", BYTES_NONE,
                  "Landlock (version %llu) leaves the relay its own files only",
                  (unsigned long long)landlock);
        return;
    }
    doctor_warn(d, "sandbox_files", BYTES_NONE,
                "without Landlock the relay can open whatever its user may");
    doctor_fix(d, "run Linux 5.19 or later with landlock among lsm= of the boot parameters");
}

// ---- descriptors -------------------------------------------------------------------------------------

// The hard limit: the relay raises its soft one to it.
static uint64_t descriptors_of(struct doctor *d, uint64_t relay)
{
    struct rlimit limit = {0};
    uint64_t value = 0;
    if (!relay)
        return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : 0;
    struct bytes limits = read_proc(d, relay, "limits"), line, soft, hard;
    while (bytes_cut(&limits, '\n', &line))
        if (bytes_starts(line, BYTES("Max open files"))) {
            line = bytes_trim(bytes_skip(line, strlen("Max open files")));
            bytes_cut(&line, ' ', &soft);
            line = bytes_trim(line);
            bytes_cut(&line, ' ', &hard);
            return bytes_to_u64(hard, UINT64_MAX, &value) == OK ? value : UINT64_MAX; // unlimited
        }
    return 0;
}

static void check_descriptors(struct doctor *d, uint64_t relay)
{
    const struct conf *conf = d->conf;
    uint64_t has = descriptors_of(d, relay);
    uint64_t wants =
        (uint64_t)conf->limits.sessions + conf->limits.connections + DESCRIPTORS_BESIDE;
    const char *who = relay ? "the relay" : "a process started like this one";
    if (has >= wants) {
        doctor_ok(d, "descriptors", BYTES_NONE,
                  "%s may have %llu descriptors; %llu are needed at most", who,
                  (unsigned long long)has, (unsigned long long)wants);
        return;
    }
    doctor_warn(d, "descriptors", BYTES_NONE,
                "%s may have %llu descriptors; limits.sessions (%u) and limits.connections (%u) "
                "can need %llu",
                who, (unsigned long long)has, conf->limits.sessions, conf->limits.connections,
                (unsigned long long)wants);
    doctor_fix(d,
               "raise the hard limit (LimitNOFILE=%llu in the systemd unit, ulimit -Hn), or "
               "lower those two",
               (unsigned long long)wants);
}

// ---- clocks ------------------------------------------------------------------------------------------

static void check_clock_sync(struct doctor *d)
{
    struct timex t = {0};
    int rc = adjtimex(&t);
    if (rc == -1) {
        doctor_warn(d, "clock_sync", BYTES_NONE,
                    "the kernel does not say whether the clock is set");
        doctor_fix(d, "look with `timedatectl` or `chronyc tracking`");
    } else if (rc == TIME_ERROR || t.status & STA_UNSYNC) {
        doctor_warn(d, "clock_sync", BYTES_NONE, "nothing keeps this host's clock in step");
        doctor_fix(d,
                   "run chrony or systemd-timesyncd: signatures, certificates and DNSSEC depend on "
                   "the time");
    } else if (t.maxerror > CLOCK_ERROR_MAX_US) {
        doctor_warn(d, "clock_sync", BYTES_NONE, "the clock may be wrong by %ld ms",
                    t.maxerror / 1000);
        doctor_fix(d, "see why the time service has lost its servers (`chronyc sources`)");
    } else {
        doctor_ok(d, "clock_sync", BYTES_NONE, "the clock is kept in step, within %ld ms",
                  t.maxerror / 1000);
    }
}

static void check_clocks_agree(struct doctor *d)
{
    struct wall started = {0};
    struct bytes text = json_find_text(d->service, "started_at");
    uint64_t uptime = cli_json_number(d->service, "uptime_ms");
    if (wall_parse(text, &started) != OK || !cli_json_field(d->service, "now"))
        return;
    struct wall now = {0};
    if (wall_parse(json_find_text(d->service, "now"), &now) != OK)
        return;
    int64_t apart = wall_ms_between(started, now) - (int64_t)uptime;
    if (apart >= -CLOCKS_APART_MAX_MS && apart <= CLOCKS_APART_MAX_MS) {
        doctor_ok(d, "clock_agree", BYTES_NONE,
                  "the time of day and the steady clock have gone alike since the service started");
        return;
    }
    doctor_warn(d, "clock_agree", BYTES_NONE,
                "the time of day was moved by %lld.%03lld s since the service started",
                (long long)apart / 1000, (long long)llabs(apart) % 1000);
    doctor_fix(d, "find out what sets the clock; no message's lifetime was charged for it, and a "
                  "restart of the service forgets it");
}

// ---- alerts ------------------------------------------------------------------------------------------

static void check_alerts(struct doctor *d)
{
    struct json_object *list = cli_json_field(d->alerts, "alerts");
    bool any = false;
    for (size_t i = 0; i < cli_json_count(list); i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        if (!json_object_get_boolean(cli_json_field(one, "raised")))
            continue;
        doctor_fail(d, "alert", json_find_text(one, "alert"), "%.*s, since %.*s",
                    BYTES_FMT(json_find_text(one, "text")),
                    BYTES_FMT(json_find_text(one, "since")));
        doctor_fix(d, "see docs/DOCTOR.md for what this alert means");
        any = true;
    }
    if (list && !any)
        doctor_ok(d, "alert", BYTES_NONE, "no alert is raised");
}

// ---- the service -------------------------------------------------------------------------------------

static void check_user(struct doctor *d)
{
    struct bytes user = d->conf->user;
    if (user.len && !getpwnam(user.at)) {
        doctor_fail(d, "user", user, "there is no such user");
        doctor_fix(d, "make it: useradd --system --no-create-home %.*s", BYTES_FMT(user));
    } else if (user.len) {
        doctor_ok(d, "user", user, "the relay becomes this user when it is started as root");
    } else if (doctor_folder_owner(d)) {
        doctor_ok(d, "user", bytes_cstr(doctor_folder_owner(d)),
                  "the state folder is this user's, who starts the service");
    } else if (geteuid() == 0) {
        doctor_warn(d, "user", BYTES_NONE, "started as root, the relay stays the user root");
        doctor_fix(d, "make a user for it and name it by `user:`");
    }
}

void doctor_check_service(struct doctor *d)
{
    uint64_t guard = cli_json_number(d->service, "pid"),
             relay = cli_json_number(d->service, "relay_pid");
    if (d->service) {
        doctor_ok(d, "service", BYTES_NONE, "posthaste %s runs as process %llu",
                  json_object_get_string(cli_json_field(d->service, "version")),
                  (unsigned long long)guard);
        check_sandbox(d, guard, relay);
        check_clocks_agree(d);
        check_alerts(d);
    } else if (d->service_err == E_DENIED) {
        doctor_warn(d, "service", BYTES_NONE, "the control socket is not for this user");
        doctor_fix(d, "run posthaste doctor as root, or as the user of the service");
    } else if (d->service_err == E_CLOSED) {
        doctor_warn(d, "service", BYTES_NONE,
                    "the service does not run: what only it knows was not looked at");
        doctor_fix(d, "start it, and run posthaste doctor again");
    } else {
        doctor_fail(d, "service", BYTES_NONE, "the service does not answer: %s",
                    err_text(d->service_err));
        doctor_fix(d, "see its log; restart it if it stays so");
    }
    check_user(d);
    check_descriptors(d, relay);
    check_clock_sync(d);
}
