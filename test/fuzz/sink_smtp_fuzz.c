// SPDX-License-Identifier: MIT
//
// The test server, spoken to by anybody, with rules of anybody: what it says are replies of its own, and the same however
// the bytes are cut; a message has a recipient that was told 250.
//
// The input is the rules up to an empty line, then what the client says; the first byte chooses the setup.
#include "base/check.h"
#include "cli/sink_smtp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_message(void *ctx, const struct sink_message *m)
{
    (*(size_t *)ctx)++;
    CHECK(m->recipients_count > 0 && m->header.len <= SINK_HEADER_MAX);
    CHECK(m->header.len + m->body.len <= m->size + 2 && m->body.len <= 100);
}

static void check_replies(struct bytes said)
{
    struct bytes line;
    while (said.len && bytes_cut(&said, '\n', &line)) {
        CHECK(line.len >= 4 && bytes_ends(line, BYTES("\r")));
        for (size_t i = 0; i < 3; i++)
            CHECK(ascii_is_digit(line.at[i]));
    }
}

// Until it wants no more, or there is no more. All that it said; false: it drops the connection, and what is unsent.
static bool run(uint8_t setup, struct bytes rules_text, struct bytes in, size_t step,
                struct buf *said, size_t *messages)
{
    struct sink_rules *rules = NULL;
    struct buf errors = {0};
    struct mono now = {1000000};
    (void)!sink_rules_parse(rules_text, "rules", &rules, &errors);
    struct sink_smtp_config config = {.hostname = BYTES("sink.test"),
                                      .rules = rules,
                                      .lmtp = setup & 1,
                                      .starttls = setup & 2,
                                      .hash = setup & 4,
                                      .without = setup >> 4,
                                      .keep_body_max = 100,
                                      .on_message = on_message,
                                      .ctx = messages};
    struct sink_smtp *s = sink_smtp_new(&config, now);
    size_t given = 0, taken = 0;
    bool dropped = false;
    for (;;) {
        struct buf *out = sink_smtp_output(s);
        enum sink_wants wants = sink_smtp_wants(s);
        dropped = wants == SINK_WANTS_DROP;
        if (!dropped)
            buf_add(said, buf_bytes(out));
        buf_consume(out, out->len);
        if (dropped || wants == SINK_WANTS_CLOSE)
            break;
        if (wants == SINK_WANTS_TIME) {
            now = sink_smtp_wake_at(s);
            sink_smtp_tick(s, now);
            continue;
        }
        if (wants == SINK_WANTS_TLS) {
            sink_smtp_tls_started(s);
            continue;
        }
        bool all = given == in.len;
        given = in.len - given > step ? given + step : in.len;
        size_t n = sink_smtp_feed(s, bytes_mid(in, taken, given - taken), now);
        CHECK(n <= given - taken);
        taken += n;
        if (all && n == 0 && sink_smtp_wants(s) == SINK_WANTS_INPUT)
            break; // a line without its end
    }
    sink_smtp_free(s);
    sink_rules_free(rules);
    buf_done(&errors);
    return !dropped;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 16384)
        return 0;
    struct bytes in = bytes_of(data + 1, size - 1), rules = BYTES_NONE;
    ptrdiff_t end = bytes_search(in, BYTES("\n\n"));
    if (end >= 0) {
        rules = bytes_first(in, (size_t)end + 1);
        in = bytes_skip(in, (size_t)end + 2);
    }
    struct buf whole = {0}, cut = {0};
    size_t messages = 0, again = 0;
    bool kept = run(data[0], rules, in, in.len + 1, &whole, &messages);
    CHECK(run(data[0], rules, in, 3, &cut, &again) == kept || data[0] & 2);
    check_replies(buf_bytes(&whole));
    check_replies(buf_bytes(&cut));
    if (!(data[0] & 2)) // what came with STARTTLS is gone
        CHECK(messages == again && (!kept || bytes_eq(buf_bytes(&whole), buf_bytes(&cut))));
    buf_done(&whole);
    buf_done(&cut);
    return 0;
}
