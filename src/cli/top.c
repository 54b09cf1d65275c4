// SPDX-License-Identifier: MIT
#include "cli/top.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "cli/cli_table.h"

#define FIRST_GAUGE TOP_SESSIONS

static const char *const METRICS[TOP_COUNTERS] = {
    "posthaste_messages_accepted_total",
    "posthaste_messages_refused_total",
    "posthaste_recipients_total{outcome=\"delivered\"}",
    "posthaste_recipients_total{outcome=\"deferred\"}",
    "posthaste_recipients_total{outcome=\"failed\"}",
    "posthaste_bytes_sent_total",
    "posthaste_spool_flushes_total",
    "posthaste_sessions",
    "posthaste_queue_connections",
    "posthaste_queue_recipients{state=\"queued\"}",
    "posthaste_queue_recipients{state=\"scheduled\"}",
    "posthaste_queue_recipients{state=\"held\"}",
    "posthaste_queue_recipients{state=\"active\"}",
    "posthaste_queue_oldest_seconds",
    "posthaste_spool_accepting",
    "posthaste_queue_loading",
};

void top_take_metric(struct top_look *look, struct bytes line)
{
    static const char alert[] = "posthaste_alert{alert=\"";
    ptrdiff_t space = bytes_find_last(line, ' ');
    if (space < 0 || line.at[0] == '#')
        return;
    struct bytes name = bytes_first(line, (size_t)space);
    double value = strtod(arena_cstr(&look->arena, bytes_skip(line, (size_t)space + 1)), NULL);
    for (int i = 0; i < TOP_COUNTERS; i++)
        if (bytes_eq(name, bytes_cstr(METRICS[i])))
            look->values[i] = value;
    if (value > 0 && bytes_starts(name, bytes_cstr(alert)) &&
        look->alerts_count < COUNT_OF(look->alerts)) {
        struct bytes rest = bytes_skip(name, sizeof alert - 1), text;
        bytes_cut(&rest, '"', &text);
        look->alerts[look->alerts_count++] = arena_dup(&look->arena, text);
    }
}

double top_rate(const struct top_look *before, const struct top_look *now, enum top_counter counter)
{
    double seconds = (double)(now->at.us - before->at.us) / 1e6;
    double grown = now->values[counter] - before->values[counter];
    if (counter >= FIRST_GAUGE)
        return now->values[counter];
    return seconds > 0 && grown > 0 ? grown / seconds : 0; // a restart begins at 0
}

struct bytes top_binding(const struct top_lane *lane, struct arena *arena)
{
    if (lane->backoff_until.len && !bytes_eq(lane->backoff_until, BYTES("-")))
        return arena_printf(arena, "backs off until %.*s: %.*s",
                            BYTES_FMT(bytes_first(bytes_skip(lane->backoff_until, 11), 8)),
                            BYTES_FMT(lane->text));
    if (lane->ready && lane->connections_max && lane->connections >= lane->connections_max)
        return arena_printf(arena, "all %llu connections are in use",
                            (unsigned long long)lane->connections_max);
    return BYTES("-");
}

// "3d4h", "12m5s": the two largest units.
static struct bytes age_text(int64_t seconds, struct arena *arena)
{
    static const struct {
        int64_t seconds;
        char unit;
    } UNITS[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    if (seconds < 0)
        return BYTES("-");
    size_t i = 0;
    while (i < COUNT_OF(UNITS) - 1 && seconds < UNITS[i].seconds)
        i++;
    long long large = seconds / UNITS[i].seconds, rest = seconds % UNITS[i].seconds;
    if (i == COUNT_OF(UNITS) - 1)
        return arena_printf(arena, "%llds", large);
    return arena_printf(arena, "%lld%c%lld%c", large, UNITS[i].unit,
                        rest / (long long)UNITS[i + 1].seconds, UNITS[i + 1].unit);
}

// ---- a frame -----------------------------------------------------------------------------------------

// The most waiting mail first, then the busiest.
static int compare(const void *a, const void *b)
{
    const struct top_lane *x = a, *y = b;
    if (x->ready != y->ready)
        return x->ready < y->ready ? 1 : -1;
    if (x->busy != y->busy)
        return x->busy < y->busy ? 1 : -1;
    return bytes_cmp(x->name, y->name);
}

static void add_line(struct buf *out, struct bytes text, uint32_t width)
{
    buf_add(out, width ? bytes_first(text, width) : text);
    buf_add_byte(out, '\n');
}

static void add_head(const struct top_look *before, struct top_look *now, uint32_t width,
                     struct buf *out)
{
    struct buf line = {0};
    buf_printf(&line, "in   %8.1f/s accepted %8.1f/s refused  %8.0f sessions%s",
               top_rate(before, now, TOP_ACCEPTED), top_rate(before, now, TOP_REFUSED),
               now->values[TOP_SESSIONS],
               now->values[TOP_ACCEPTING] > 0 ? "" : "  THE SPOOL TAKES NO MAIL");
    add_line(out, buf_bytes(&line), width);
    buf_clear(&line);
    buf_printf(&line, "out  %8.1f/s delivered%8.1f/s deferred %8.1f/s failed",
               top_rate(before, now, TOP_DELIVERED), top_rate(before, now, TOP_DEFERRED),
               top_rate(before, now, TOP_FAILED));
    add_line(out, buf_bytes(&line), width);
    buf_clear(&line);
    buf_printf(&line, "     %8.2f MB/s sent   %8.0f connections %8.1f/s flushes",
               top_rate(before, now, TOP_SENT_BYTES) / 1e6, now->values[TOP_CONNECTIONS],
               top_rate(before, now, TOP_FLUSHES));
    add_line(out, buf_bytes(&line), width);
    buf_clear(&line);
    buf_printf(&line, "queue%8.0f queued %8.0f active %8.0f scheduled %8.0f held",
               now->values[TOP_QUEUED], now->values[TOP_ACTIVE], now->values[TOP_SCHEDULED],
               now->values[TOP_HELD]);
    if (now->values[TOP_OLDEST] > 0)
        buf_printf(&line, "  oldest %.*s",
                   BYTES_FMT(age_text((int64_t)now->values[TOP_OLDEST], &now->arena)));
    buf_add_cstr(&line, now->values[TOP_LOADING] > 0 ? "  (being loaded)" : "");
    add_line(out, buf_bytes(&line), width);
    buf_clear(&line);
    buf_add_cstr(&line, now->alerts_count ? "ALERTS " : "no alerts");
    for (size_t i = 0; i < now->alerts_count; i++)
        buf_printf(&line, "%s%.*s", i ? ", " : "", BYTES_FMT(now->alerts[i]));
    add_line(out, buf_bytes(&line), width);
    add_line(out, BYTES_NONE, width);
    buf_done(&line);
}

void top_frame(const struct top_look *before, struct top_look *now, uint32_t width, uint32_t height,
               struct buf *out)
{
    static const char *const headings[] = {"LANE", "READY",  "CONNECTIONS", "BUSY",
                                           "HOUR", "OLDEST", "BINDS",       NULL};
    struct cli_table table;
    struct buf frame = {0}, lanes = {0};
    add_head(before, now, width, &frame);
    qsort(now->lanes, now->lanes_count, sizeof *now->lanes, compare);
    cli_table_init(&table, headings);
    for (size_t i = 0; i < now->lanes_count; i++) {
        const struct top_lane *l = &now->lanes[i];
        cli_table_add(&table, l->name);
        cli_table_add(&table, arena_printf(&now->arena, "%llu", (unsigned long long)l->ready));
        cli_table_add(&table,
                      arena_printf(&now->arena, "%llu/%llu", (unsigned long long)l->connections,
                                   (unsigned long long)l->connections_max));
        cli_table_add(&table, arena_printf(&now->arena, "%llu", (unsigned long long)l->busy));
        cli_table_add(&table, arena_printf(&now->arena, "%llu", (unsigned long long)l->hour_used));
        cli_table_add(&table, age_text(l->oldest_s, &now->arena));
        cli_table_add(&table, top_binding(l, &now->arena));
    }
    cli_table_format(&table, width, &lanes);
    buf_add(&frame, buf_bytes(&lanes));
    struct bytes rest = buf_bytes(&frame), line;
    for (uint32_t n = 0;
         (!height || n < height) && bytes_cut(&rest, '\n', &line) && (line.len || rest.len); n++)
        buf_printf(out, "%.*s\n", BYTES_FMT(line));
    cli_table_done(&table);
    buf_done(&frame);
    buf_done(&lanes);
}
