// SPDX-License-Identifier: MIT
//
// smtp_server_fuzz - a server session fed arbitrary bytes, whole and again byte by byte
//
// The first byte chooses the setup. Laws: never more than one message from one end of content, on_reset only in
// a transaction (the testkit checks both); the cut of the bytes changes nothing.
#include "base/check.h"
#include "smtp/smtp_testkit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(struct testkit *t, uint8_t setup, struct bytes input, unsigned cuts)
{
    testkit_init(t);
    t->later = setup & 1;
    t->config.message_size_max = setup & 2 ? 100 : 0;
    t->config.text_line_max = setup & 4 ? 50 : 0;
    t->config.auth = setup & 8 ? SMTP_AUTH_REQUIRED : SMTP_AUTH_OPTIONAL;
    t->refuse_data = setup & 16;
    t->binds = setup & 128;
    t->config.scheduling = setup & 128;
    t->config.starttls = false; // how much stands behind STARTTLS depends on the cut
    testkit_start(t, setup & 32, setup & 64);
    if (setup & 128)
        smtp_server_set_rights(
            t->server, (struct smtp_server_rights){.xclient = true, .xclient_login = setup & 64});
    testkit_feed(t, input, cuts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 4096)
        return 0;
    struct testkit whole, cut;
    struct bytes input = bytes_of(data + 1, size - 1);
    run(&whole, data[0], input, 0);
    run(&cut, data[0], input, 1);
    CHECK(bytes_eq(buf_bytes(&whole.transcript), buf_bytes(&cut.transcript)));
    CHECK(bytes_eq(buf_bytes(&whole.last_body), buf_bytes(&cut.last_body)));
    CHECK(whole.messages == cut.messages);
    testkit_done(&whole);
    testkit_done(&cut);
    return 0;
}
