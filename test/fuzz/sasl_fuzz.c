// SPDX-License-Identifier: MIT
//
// sasl_fuzz - login exchanges: the first byte chooses side and mechanism, messages are separated by LF LF
#include "base/check.h"
#include "smtp/sasl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool cut_message(struct bytes *rest, struct bytes *out)
{
    ptrdiff_t at = bytes_search(*rest, BYTES("\n\n"));
    if (!rest->at)
        return false;
    *out = at < 0 ? *rest : bytes_first(*rest, (size_t)at);
    *rest = at < 0 ? BYTES_NONE : bytes_skip(*rest, (size_t)at + 2);
    return true;
}

static const struct sasl_bindings bindings = {{{32, "exporter"}, {32, "end point"}}};

static void run_server(enum sasl_mechanism mechanism, struct bytes rest)
{
    static const struct sasl_scram_key key = {
        .iterations = 4096, .salt_bytes = 4, .salt = {1, 2, 3, 4}};
    struct sasl_server s;
    struct buf out = {0};
    struct bytes message;
    enum sasl_server_step step = SASL_CHALLENGE;
    sasl_server_init(&s, mechanism, BYTES("nnnnnnnnnnnnnnnnnnnn"), &bindings);
    while (step == SASL_CHALLENGE && cut_message(&rest, &message)) {
        step = sasl_server_feed(&s, message, &out);
        if (step == SASL_FIND_KEY || step == SASL_CHECK_PASSWORD)
            CHECK(sasl_name_is_valid(buf_bytes(&s.login)));
        if (step == SASL_ASK_EXTERNAL)
            CHECK(!s.login.len || sasl_name_is_valid(buf_bytes(&s.login)));
        if (step == SASL_CHECK_PASSWORD)
            CHECK(sasl_password_is_valid(buf_bytes(&s.password)));
        if (step == SASL_FIND_KEY)
            step = sasl_server_key(&s, &key, false, &out);
    }
    CHECK(step != SASL_PROVEN && step != SASL_DONE); // nobody knows the password of a made-up key
    sasl_server_done(&s);
    buf_done(&out);
}

static void run_client(enum sasl_mechanism mechanism, struct bytes rest)
{
    struct sasl_client c;
    struct buf out = {0};
    struct bytes message;
    int err = OK;
    sasl_client_init(&c, mechanism, BYTES("us=e,r"), BYTES("secret"), BYTES("nnnnnnnnnnnnnnnnnnnn"),
                     &bindings);
    while (!err && cut_message(&rest, &message))
        err = sasl_client_feed(&c, message, &out);
    if (sasl_is_scram(mechanism))
        CHECK(sasl_client_finish(&c) == E_DENIED);
    sasl_client_done(&c);
    buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct bytes rest = bytes_of(data + 1, size - 1);
    enum sasl_mechanism mechanism = (enum sasl_mechanism)(data[0] % SASL_MECHANISMS);
    struct sasl_scram_key key;
    if (sasl_scram_key_parse(rest, &key) == OK)
        CHECK(key.salt_bytes > 0 && key.iterations >= SASL_SCRAM_ITERATIONS_MIN);
    if (data[0] & 16)
        run_client(mechanism, rest);
    else
        run_server(mechanism, rest);
    return 0;
}
