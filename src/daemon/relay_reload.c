// SPDX-License-Identifier: MIT
//
// relay_reload - a reload that the API asks for, and the audit log of those that others did
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/relay_inside.h"
#include "store/store_audit.h"

#define ASKED "asked"

void relay_ask_for_reload(void *ctx, void (*decided)(void *ctx, int err, struct bytes why),
                          void *decided_ctx)
{
    struct relay *r = ctx;
    if (r->stopping || r->reload_decided) {
        decided(decided_ctx, E_BUSY, BYTES("the service is stopping or reloading already"));
        return;
    }
    r->reload_decided = decided;
    r->reload_ctx = decided_ctx;
    relay_tell_guard(r, CHANNEL_RELOAD, BYTES(ASKED));
}

static void answer(struct relay *r, bool done, struct bytes why)
{
    void (*decided)(void *ctx, int err, struct bytes why) = r->reload_decided;
    r->reload_decided = NULL;
    if (decided)
        decided(r->reload_ctx, done ? OK : E_SYNTAX, why);
}

// ---- the audit log ---------------------------------------------------------------------------------------

struct record {
    struct sys_job job;
    struct store *store;
    struct store_who who; // pid 0: nobody's signal
    struct wall at;
    bool signal, done;
    char why[CHANNEL_TEXT_MAX];
};

static struct bytes actor_of(const struct record *rec, char *out, size_t size)
{
    struct passwd entry, *found = NULL;
    char space[4096];
    if (!rec->signal)
        return BYTES("posthaste");
    if (getpwuid_r((uid_t)rec->who.uid, &entry, space, sizeof space, &found) == 0 && found)
        snprintf(out, size, "signal:%.60s", found->pw_name);
    else
        snprintf(out, size, "signal:uid %lld", (long long)rec->who.uid);
    return bytes_cstr(out);
}

static void run_record(struct sys_job *job)
{
    struct record *rec = container_of(job, struct record, job);
    char actor[80];
    struct store_op op = {.name = "config.reload",
                          .actor = actor_of(rec, actor, sizeof actor),
                          .time = rec->at,
                          .who = rec->signal ? &rec->who : NULL};
    int err = store_audit_add(rec->store, &op, rec->done ? STORE_AUDIT_DONE : STORE_AUDIT_FAILED,
                              bytes_cstr(rec->why));
    if (err)
        log_error("the audit log cannot be written", LOG_CSTR("action", op.name), LOG_ERR(err));
}

static void on_recorded(struct sys_job *job)
{
    free(container_of(job, struct record, job));
}

// "signal UID PID" or "certificate", then done or failed, then why it failed or what of it needs a restart; a line each.
void relay_reloaded(struct relay *r, struct bytes text)
{
    struct bytes by, outcome, word;
    bytes_cut(&text, '\n', &by);
    bytes_cut(&text, '\n', &outcome);
    bool done = bytes_eq(outcome, BYTES("done"));
    if (bytes_eq(by, BYTES(ASKED))) {
        answer(r, done, text);
        return;
    }
    struct record *rec = mem_new(sizeof *rec);
    uint64_t number = 0;
    rec->job = (struct sys_job){.kind = SYS_JOB_DISK, .run = run_record, .done = on_recorded};
    rec->store = r->store;
    rec->at = sys_wall();
    rec->done = done;
    rec->who = (struct store_who){.via = "signal", .gid = -1};
    bytes_cut(&by, ' ', &word);
    rec->signal = bytes_eq(word, BYTES("signal"));
    if (bytes_cut(&by, ' ', &word) && bytes_to_u64(word, UINT32_MAX, &number) == OK)
        rec->who.uid = (int64_t)number;
    if (bytes_cut(&by, ' ', &word) && bytes_to_u64(word, INT32_MAX, &number) == OK)
        rec->who.pid = (int64_t)number;
    snprintf(rec->why, sizeof rec->why, "%.*s",
             BYTES_FMT(text.len || rec->signal ? text : BYTES("the certificate changed")));
    if (done && text.len)
        snprintf(rec->why, sizeof rec->why, "after a restart: %.*s", BYTES_FMT(text));
    sys_offload(&rec->job);
}
