// SPDX-License-Identifier: MIT
//
// The Prometheus text format (version 0.0.4): names end in a unit, counters in _total.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "api/api_private.h"
#include "store/suppress.h"

static uint64_t load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)counter, memory_order_relaxed);
}

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP posthaste_%s %s\n# TYPE posthaste_%s %s\n", name, help, name, type);
}

static void one(struct buf *out, const char *name, const char *type, uint64_t value,
                const char *help)
{
    head(out, name, type, help);
    buf_printf(out, "posthaste_%s %llu\n", name, (unsigned long long)value);
}

// Classes add up, as Prometheus has them.
static void histogram_metric(struct buf *out, const char *name, const struct histogram *h,
                             const char *help)
{
    uint64_t count = 0;
    head(out, name, "histogram", help);
    for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
        count += load(&h->counts[i]);
        buf_printf(out, "posthaste_%s_bucket{le=\"%g\"} %llu\n", name,
                   (double)histogram_bounds_us[i] / 1e6, (unsigned long long)count);
    }
    count += load(&h->counts[HISTOGRAM_BOUNDS]);
    buf_printf(out, "posthaste_%s_bucket{le=\"+Inf\"} %llu\nposthaste_%s_sum %.6f\n", name,
               (unsigned long long)count, name, (double)load(&h->sum_us) / 1e6);
    buf_printf(out, "posthaste_%s_count %llu\n", name, (unsigned long long)count);
}

static void intake_metrics(const struct intake_counters *c, struct buf *out)
{
    one(out, "messages_accepted_total", "counter", load(&c->messages_accepted),
        "messages answered with 250");
    one(out, "recipients_accepted_total", "counter", load(&c->recipients_accepted),
        "recipients of accepted messages");
    one(out, "bytes_accepted_total", "counter", load(&c->bytes_accepted),
        "bytes of accepted messages");
    histogram_metric(out, "acceptance_seconds", &c->acceptance,
                     "from the end of a message's content to its 250");
    one(out, "messages_refused_total", "counter", load(&c->messages_refused),
        "messages refused at MAIL or at the end of their content");
    one(out, "recipients_refused_total", "counter", load(&c->recipients_refused),
        "recipients refused at RCPT");
    one(out, "recipients_suppressed_total", "counter", load(&c->recipients_suppressed),
        "recipients refused because they are on the suppression list");
    one(out, "sessions_total", "counter", load(&c->sessions), "client sessions begun");
    one(out, "sessions_refused_total", "counter", load(&c->sessions_refused),
        "sessions turned away by a limit");
    one(out, "sessions_tls_total", "counter", load(&c->tls_sessions), "sessions that began TLS");
    one(out, "logins_total", "counter", load(&c->logins), "logins that succeeded");
    one(out, "logins_failed_total", "counter", load(&c->logins_failed), "logins that failed");
    head(out, "feedback_total", "counter", "what came back about recipients");
    for (int i = 0; i < FEEDBACK_KINDS; i++)
        buf_printf(out, "posthaste_feedback_total{kind=\"%s\"} %llu\n",
                   feedback_kind_name((enum feedback_kind)i),
                   (unsigned long long)load(&c->returns[i]));
    one(out, "feedback_forged_total", "counter", load(&c->returns_forged),
        "return paths refused because they were not made here");
    one(out, "feedback_unmatched_total", "counter", load(&c->returns_unmatched),
        "reports that name no mail of ours");
    one(out, "feedback_refused_total", "counter", load(&c->returns_too_many),
        "reports refused by bounce.rate");
    int64_t open =
        atomic_load_explicit((_Atomic int64_t *)(uintptr_t)&c->sessions_open, memory_order_relaxed);
    one(out, "sessions", "gauge", open < 0 ? 0 : (uint64_t)open, "client sessions open now");
}

static void reason_row(struct buf *out, const char *outcome, unsigned reason, uint64_t value)
{
    if (value)
        buf_printf(out, "posthaste_refusals_total{outcome=\"%s\",reason=\"%s\"} %llu\n", outcome,
                   bounce_reason_name((enum bounce_reason)reason), (unsigned long long)value);
}

static void reason_metrics(const struct report_counters *c, struct buf *out)
{
    head(out, "refusals_total", "counter", "why recipients failed or were deferred");
    for (unsigned i = BOUNCE_NONE + 1; i < BOUNCE_REASONS; i++) {
        reason_row(out, "failed", i, load(&c->failed[i]));
        reason_row(out, "deferred", i, load(&c->deferred[i]));
    }
}

static void deliver_metrics(const struct deliver_counters *c, struct buf *out)
{
    static const struct {
        enum verdict_kind kind;
        const char *name;
    } OTHERS[] = {
        {VERDICT_FAILED, "failed"}, {VERDICT_DEFERRED, "deferred"}, {VERDICT_EXPIRED, "expired"}};
    head(out, "recipients_total", "counter", "what delivery attempts and decisions came to");
    // Handed to the mailbox, or to a server that goes on with it: delivered, as `message show` says.
    uint64_t delivered = load(&c->recipients[VERDICT_DELIVERED]) +
                         load(&c->recipients[VERDICT_RELAYED]) +
                         load(&c->recipients[VERDICT_PASSED]);
    buf_printf(out, "posthaste_recipients_total{outcome=\"delivered\"} %llu\n",
               (unsigned long long)delivered);
    for (size_t i = 0; i < COUNT_OF(OTHERS); i++)
        buf_printf(out, "posthaste_recipients_total{outcome=\"%s\"} %llu\n", OTHERS[i].name,
                   (unsigned long long)load(&c->recipients[OTHERS[i].kind]));
    reason_metrics(&c->reasons, out);
    histogram_metric(out, "delivery_seconds", &c->reasons.delivery,
                     "from when a recipient's mail could go out to its delivery");
    one(out, "transactions_total", "counter", load(&c->transactions), "outgoing transactions");
    one(out, "connections_opened_total", "counter", load(&c->connections_opened),
        "outgoing connections opened");
    one(out, "connections_tls_total", "counter", load(&c->connections_tls), "of them with TLS");
    one(out, "connections_failed_total", "counter", load(&c->connections_failed),
        "times that no address of a site could be used");
    one(out, "bytes_sent_total", "counter", load(&c->bytes_sent), "bytes of messages sent");
    const struct signature_counters *s = &c->signatures;
    head(out, "dkim_signatures_total", "counter", "DKIM signatures made");
    buf_printf(out, "posthaste_dkim_signatures_total{algorithm=\"rsa\"} %llu\n",
               (unsigned long long)load(&s->rsa));
    buf_printf(out, "posthaste_dkim_signatures_total{algorithm=\"ed25519\"} %llu\n",
               (unsigned long long)load(&s->ed25519));
    one(out, "dkim_failures_total", "counter", load(&s->failed),
        "renderings that could not be signed");
    one(out, "dkim_bodies_read_total", "counter", load(&s->bodies_read),
        "bodies read once more for their hash");
}

static void alert_metrics(const struct alerts *alerts, struct buf *out)
{
    head(out, "alert", "gauge", "1 while the alert is raised");
    for (int id = 0; id < ALERTS; id++)
        buf_printf(out, "posthaste_alert{alert=\"%s\"} %d\n", alert_name((enum alert_id)id),
                   alert_is_raised(alerts, (enum alert_id)id));
    const struct alert_seen *seen = &alerts->seen;
    int64_t ends_s = atomic_load((_Atomic int64_t *)(uintptr_t)&seen->certificate_ends_s);
    head(out, "certificate_not_after_seconds", "gauge", "when the listeners' certificate ends");
    if (ends_s)
        buf_printf(out, "posthaste_certificate_not_after_seconds %lld\n", (long long)ends_s);
    head(out, "disk_free_ratio", "gauge", "free on the fuller disk of spool and state");
    buf_printf(out, "posthaste_disk_free_ratio %.2f\n",
               atomic_load((_Atomic uint32_t *)(uintptr_t)&seen->disk_percent) / 100.0);
    head(out, "dns_questions_total", "counter", "questions to the DNS, by what came of them");
    buf_printf(out, "posthaste_dns_questions_total{result=\"answered\"} %llu\n",
               (unsigned long long)load(&seen->dns_answered));
    buf_printf(out, "posthaste_dns_questions_total{result=\"failed\"} %llu\n",
               (unsigned long long)load(&seen->dns_failed));
}

static void spool_metrics(struct spool *spool, struct buf *out)
{
    struct spool_stats s;
    spool_get_stats(spool, &s);
    one(out, "spool_flushes_total", "counter", s.flushes, "flushes of the journal");
    one(out, "spool_flush_failures_total", "counter", s.flush_failures, "flushes that failed");
    head(out, "spool_flush_seconds_total", "counter", "time that flushes took");
    buf_printf(out, "posthaste_spool_flush_seconds_total %.6f\n", (double)s.flush_us / 1e6);
    one(out, "spool_sequence", "counter", s.sequence, "the last flushed record of the journal");
    one(out, "spool_frames_total", "counter", s.frames, "atomic frames written");
    one(out, "spool_records_total", "counter", s.records, "records written");
    one(out, "spool_written_bytes_total", "counter", s.written_bytes,
        "bytes written to the journal");
    one(out, "spool_compacted_bytes_total", "counter", s.compacted_bytes,
        "bytes copied by compaction");
    one(out, "spool_damaged_records_total", "counter", s.damaged_records,
        "records set aside as damaged");
    one(out, "spool_segments", "gauge", s.segments, "segment files");
    one(out, "spool_segments_free", "gauge", s.free_segments, "segment files ready for reuse");
    one(out, "spool_live_messages", "gauge", s.live_messages, "messages with undecided recipients");
    one(out, "spool_live_bytes", "gauge", s.live_bytes, "bytes of their records");
    one(out, "spool_extents", "gauge", s.extents, "large bodies in files of their own");
    one(out, "spool_extent_bytes", "gauge", s.extent_bytes, "bytes of these");
    one(out, "spool_accepting", "gauge", spool_accepting(spool),
        "1: there is room for new messages");
}

// What a message, a recipient and a domain cost in memory: the queue's structures and the spool's table.
static void memory_metrics(const struct queue_counts *c, const struct spool_stats *s,
                           struct buf *out)
{
    const struct {
        const char *kind;
        uint64_t bytes;
    } rows[] = {{"message", c->message_bytes + s->table_message_bytes},
                {"recipient", c->recipient_bytes + s->table_recipient_bytes},
                {"domain", c->domain_bytes}};
    head(out, "queue_bytes", "gauge", "memory for all queued messages, recipients and domains");
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        buf_printf(out, "posthaste_queue_bytes{kind=\"%s\"} %llu\n", rows[i].kind,
                   (unsigned long long)rows[i].bytes);
}

// ---- lanes: the few that stand out -------------------------------------------------------------------

#define LANES_SHOWN 20
#define LANES_PAGE 64

struct lanes_shown {
    struct {
        char name[QUEUE_LANE_MAX + 1];
        uint64_t value;
    } at[LANES_SHOWN];
    size_t count;
};

// Keeps those with the highest values, in order.
static void show_lane(struct lanes_shown *shown, const char *name, uint64_t value)
{
    size_t i = shown->count;
    if (!value || (i == LANES_SHOWN && shown->at[i - 1].value >= value))
        return;
    i = i == LANES_SHOWN ? i - 1 : shown->count++;
    for (; i > 0 && shown->at[i - 1].value < value; i--)
        shown->at[i] = shown->at[i - 1];
    snprintf(shown->at[i].name, sizeof shown->at[i].name, "%s", name);
    shown->at[i].value = value;
}

// Names of servers come from the DNS.
static void add_label(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buf_add_byte(out, '\\');
        buf_add_byte(out, *text >= ' ' && *text <= '~' ? *text : '?');
    }
}

static void lanes_metric(struct buf *out, const char *name, const char *type,
                         const struct lanes_shown *shown, const char *help)
{
    head(out, name, type, help);
    for (size_t i = 0; i < shown->count; i++) {
        buf_printf(out, "posthaste_%s{lane=\"", name);
        add_label(out, shown->at[i].name);
        buf_printf(out, "\"} %llu\n", (unsigned long long)shown->at[i].value);
    }
}

static void lane_metrics(struct queue *queue, struct buf *out)
{
    struct lanes_shown *shown = mem_new(2 * sizeof *shown);
    struct queue_lane_row *rows = mem_new(LANES_PAGE * sizeof *rows);
    struct queue_now now = api_now();
    uint64_t cursor = 0;
    for (size_t n; (n = queue_lanes(queue, &cursor, now, rows, LANES_PAGE)) > 0;) {
        for (size_t i = 0; i < n; i++) {
            show_lane(&shown[0], rows[i].name, rows[i].ready);
            show_lane(&shown[1], rows[i].name, rows[i].deferred);
        }
    }
    lanes_metric(out, "lane_ready", "gauge", &shown[0],
                 "messages that could go out and wait: the 20 longest lanes");
    lanes_metric(out, "lane_deferred_total", "counter", &shown[1],
                 "recipients that a site put off: the 20 lanes with the most");
    free(rows);
    free(shown);
}

static void queue_metrics(struct queue *queue, struct spool *spool, struct queue_now now,
                          struct buf *out)
{
    struct queue_counts c;
    struct spool_stats s;
    queue_look_for_oldest(queue, now);
    queue_count(queue, &c);
    spool_get_stats(spool, &s);
    memory_metrics(&c, &s, out);
    one(out, "queue_loading", "gauge", spool_is_telling(spool),
        "1 while mail from before the start is still being loaded");
    head(out, "queue_recipients", "gauge", "recipients in the queue");
    for (int i = 0; i < 4; i++)
        buf_printf(out, "posthaste_queue_recipients{state=\"%s\"} %llu\n",
                   queue_state_name((enum queue_state)i), (unsigned long long)c.recipients[i]);
    head(out, "queue_oldest_seconds", "gauge",
         "how long the oldest message waits that is neither held nor scheduled");
    int64_t oldest_ms = c.oldest_at.us ? wall_ms_between(c.oldest_at, now.wall) : 0;
    buf_printf(out, "posthaste_queue_oldest_seconds %.3f\n",
               oldest_ms > 0 ? (double)oldest_ms / 1000 : 0);
    one(out, "queue_messages", "gauge", c.messages, "messages in the queue");
    one(out, "queue_domains", "gauge", c.domains, "recipient domains known");
    one(out, "queue_lanes", "gauge", c.lanes, "lanes known");
    one(out, "queue_connections", "gauge", c.connections, "outgoing connections open or opening");
    one(out, "queue_memory_bytes", "gauge", c.memory_bytes, "memory of the queue itself");
    one(out, "queue_stored_bytes", "gauge", c.stored_bytes,
        "message bytes kept in memory for their first attempt");
}

static void suppress_metrics(const struct suppress *list, struct buf *out)
{
    struct suppress_stats s;
    if (!list)
        return;
    suppress_get_stats(list, &s);
    one(out, "suppress_loaded", "gauge", s.loaded,
        "0 while the suppression list is still being loaded: it is then asked for every recipient");
    one(out, "suppress_addresses", "gauge", s.addresses,
        "addresses in the table in memory, once for each scope");
    one(out, "suppress_bytes", "gauge", s.bytes, "memory of that table");
    head(out, "suppress_load_seconds", "gauge", "how long the load at the start took");
    buf_printf(out, "posthaste_suppress_load_seconds %.3f\n", (double)s.load_ms / 1000);
    one(out, "suppress_questions_total", "counter", s.questions,
        "recipients that the database was asked about");
    one(out, "suppress_removed_recipients_total", "counter", s.recipients_removed,
        "recipients that were taken out of messages before delivery");
    head(out, "suppress_changes_total", "counter", "entries added, removed by hand, and expired");
    buf_printf(out, "posthaste_suppress_changes_total{change=\"added\"} %llu\n",
               (unsigned long long)s.added);
    buf_printf(out, "posthaste_suppress_changes_total{change=\"removed\"} %llu\n",
               (unsigned long long)s.removed);
    buf_printf(out, "posthaste_suppress_changes_total{change=\"expired\"} %llu\n",
               (unsigned long long)s.expired);
    one(out, "suppress_sequence", "counter", s.sequence,
        "last record of the journal that the list has dealt with");
}

static void process_metrics(const struct api *api, struct buf *out)
{
    struct sys_process_use use;
    sys_process_look(api->options.process, &use);
    one(out, "process_resident_memory_bytes", "gauge", use.resident_bytes,
        "memory of the relay process");
    one(out, "process_open_fds", "gauge", use.descriptors, "descriptors of the relay process");
    one(out, "process_max_fds", "gauge", use.descriptors_max, "how many it may have");
    one(out, "start_time_seconds", "gauge", (uint64_t)(api->started.wall.us / 1000000),
        "when the relay process was ready");
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    head(out, "process_cpu_seconds_total", "counter", "CPU time of the relay process");
    buf_printf(out, "posthaste_process_cpu_seconds_total %lld.%06ld\n", (long long)cpu.tv_sec,
               cpu.tv_nsec / 1000);
    head(out, "build_info", "gauge", "the version that runs");
    buf_printf(out, "posthaste_build_info{version=\"%s\"} 1\n", POSTHASTE_VERSION);
}

static void pickup_metrics(const struct pickup_counters *c, struct buf *out)
{
    one(out, "pickup_taken_total", "counter", load(&c->taken), "files of the pickup folder sent");
    one(out, "pickup_refused_total", "counter", load(&c->refused), "files moved to its bad/");
    one(out, "pickup_waiting", "gauge", load(&c->waiting),
        "files that could not be taken when they were last tried");
}

static void unsubscribe_metrics(const struct unsubscribe_counters *c, struct buf *out)
{
    one(out, "unsubscribe_pages_total", "counter", load(&c->shown), "pages shown to people");
    one(out, "unsubscribe_done_total", "counter", load(&c->done),
        "readers who took themselves off");
    one(out, "unsubscribe_refused_total", "counter", load(&c->refused),
        "links that were none of ours, and methods that are not known");
}

void api_metrics(struct api *api, struct buf *out)
{
    intake_metrics(api->options.intake_counters, out);
    deliver_metrics(api->options.deliver_counters, out);
    unsubscribe_metrics(api->options.unsubscribe_counters, out);
    pickup_metrics(api->options.pickup_counters, out);
    spool_metrics(api->options.port->spool, out);
    alert_metrics(api->options.alerts, out);
    suppress_metrics(api->options.port->suppress, out);
    queue_metrics(api->options.port->queue, api->options.port->spool, api_now(), out);
    lane_metrics(api->options.port->queue, out);
    one(out, "history_sequence", "gauge", history_sequence(api->options.history),
        "the last record of the journal that is in the history");
    process_metrics(api, out);
}

bool api_is_ready(struct api *api, struct buf *out_why)
{
    if (atomic_load(&api->stopping)) {
        buf_add_cstr(out_why, "stopping\n");
        return false;
    }
    if (!spool_accepting(api->options.port->spool)) {
        buf_add_cstr(out_why,
                     "the spool has no room or its disk fails: new mail is answered 452\n");
        return false;
    }
    if (!intake_port_accepts(api->options.port)) {
        buf_add_cstr(out_why, "memory is short (limits.memory): new mail is answered 452\n");
        return false;
    }
    buf_add_cstr(out_why, "ready\n");
    return true;
}
