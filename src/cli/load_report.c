// SPDX-License-Identifier: MIT
#include "cli/load_report.h"

#include "base/check.h"

#define SUB_BITS 5 // 32 buckets for each power of two

static uint32_t bucket_of(uint64_t us)
{
    if (us < (1u << SUB_BITS))
        return (uint32_t)us;
    uint32_t power = 63u - (uint32_t)__builtin_clzll(us);
    uint32_t sub = (uint32_t)(us >> (power - SUB_BITS)) & ((1u << SUB_BITS) - 1);
    uint32_t bucket = ((power - SUB_BITS + 1) << SUB_BITS) + sub;
    return bucket < LOAD_BUCKETS ? bucket : LOAD_BUCKETS - 1;
}

// The largest value that falls into the bucket.
static uint64_t bucket_end(uint32_t bucket)
{
    if (bucket < (1u << SUB_BITS))
        return bucket;
    uint32_t shift = (bucket >> SUB_BITS) - 1;
    uint64_t base = (bucket & ((1u << SUB_BITS) - 1)) + (UINT64_C(1) << SUB_BITS);
    return ((base + 1) << shift) - 1;
}

void load_report_latency(struct load_report *r, uint64_t us)
{
    r->latency[bucket_of(us)]++;
    r->latency_count++;
    r->latency_us_sum += us;
    if (us > r->latency_us_max)
        r->latency_us_max = us;
}

uint64_t load_report_percentile(const struct load_report *r, double percent)
{
    uint64_t below = (uint64_t)((double)r->latency_count * percent / 100.0), seen = 0;
    for (uint32_t i = 0; i < LOAD_BUCKETS; i++) {
        seen += r->latency[i];
        if (seen > below) {
            uint64_t end = bucket_end(i);
            return end < r->latency_us_max ? end : r->latency_us_max;
        }
    }
    return r->latency_us_max;
}

double load_report_seconds(const struct load_report *r)
{
    return r->last.us > r->first.us ? (double)(r->last.us - r->first.us) / 1e6 : 0;
}

static double per_second(uint64_t count, double seconds)
{
    return seconds > 0 ? (double)count / seconds : 0;
}

static const struct {
    const char *name;
    double percent;
} percentiles[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p999", 99.9}};

static void json_latency(const struct load_report *r, struct buf *out)
{
    buf_add_cstr(out, ",\"latency_ms\":{");
    for (size_t i = 0; i < COUNT_OF(percentiles); i++)
        buf_printf(out, "\"%s\":%.3f,", percentiles[i].name,
                   (double)load_report_percentile(r, percentiles[i].percent) / 1000);
    double mean = r->latency_count ? (double)r->latency_us_sum / (double)r->latency_count : 0;
    buf_printf(out, "\"mean\":%.3f,\"max\":%.3f}", mean / 1000, (double)r->latency_us_max / 1000);
}

static void json_counts(const uint64_t *counts, size_t n, bool are_errors, struct buf *out)
{
    const char *comma = "";
    for (size_t i = 0; i < n; i++) {
        if (!counts[i])
            continue;
        if (are_errors)
            buf_printf(out, "%s\"%s\":%llu", comma, err_text(-(int)i),
                       (unsigned long long)counts[i]);
        else
            buf_printf(out, "%s\"%zu\":%llu", comma, i, (unsigned long long)counts[i]);
        comma = ",";
    }
}

void load_report_json(const struct load_report *r, struct buf *out)
{
    double seconds = load_report_seconds(r);
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {{"messages", r->messages},
                {"accepted", r->accepted},
                {"refused", r->messages_refused},
                {"broken", r->messages_broken},
                {"recipients_accepted", r->recipients_accepted},
                {"recipients_refused", r->recipients_refused},
                {"bytes", r->bytes},
                {"connections", r->connections},
                {"connections_failed", r->connections_failed},
                {"resumed", r->resumed}};
    buf_add_byte(out, '{');
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        buf_printf(out, "\"%s\":%llu,", rows[i].name, (unsigned long long)rows[i].value);
    buf_printf(out, "\"seconds\":%.3f,\"messages_per_second\":%.1f", seconds,
               per_second(r->accepted, seconds));
    json_latency(r, out);
    buf_add_cstr(out, ",\"replies\":{");
    json_counts(r->replies, COUNT_OF(r->replies), false, out);
    buf_add_cstr(out, "},\"errors\":{");
    json_counts(r->errors, COUNT_OF(r->errors), true, out);
    buf_add_cstr(out, "}}\n");
}

void load_report_text(const struct load_report *r, struct buf *out)
{
    double seconds = load_report_seconds(r);
    buf_printf(out, "messages    %llu accepted, %llu refused, %llu broken\n",
               (unsigned long long)r->accepted, (unsigned long long)r->messages_refused,
               (unsigned long long)r->messages_broken);
    buf_printf(out, "recipients  %llu accepted, %llu refused\n",
               (unsigned long long)r->recipients_accepted,
               (unsigned long long)r->recipients_refused);
    buf_printf(out, "time        %.3f s, %.1f messages/s, %.2f MB/s\n", seconds,
               per_second(r->accepted, seconds), per_second(r->bytes, seconds) / 1e6);
    buf_printf(out, "latency     p50 %.2f ms, p90 %.2f ms, p99 %.2f ms, max %.2f ms\n",
               (double)load_report_percentile(r, 50) / 1000,
               (double)load_report_percentile(r, 90) / 1000,
               (double)load_report_percentile(r, 99) / 1000, (double)r->latency_us_max / 1000);
    buf_printf(out, "connections %llu, %llu failed\n", (unsigned long long)r->connections,
               (unsigned long long)r->connections_failed);
    for (size_t i = 0; i < COUNT_OF(r->replies); i++)
        if (r->replies[i])
            buf_printf(out, "reply %zu   %llu\n", i, (unsigned long long)r->replies[i]);
    for (size_t i = 0; i < COUNT_OF(r->errors); i++)
        if (r->errors[i])
            buf_printf(out, "error       %llu x %s\n", (unsigned long long)r->errors[i],
                       err_text(-(int)i));
}
