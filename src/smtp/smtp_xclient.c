// SPDX-License-Identifier: MIT
//
// smtp_xclient - the arguments of XCLIENT
#include "smtp/smtp_xclient.h"

#include "base/check.h"
#include "smtp/sasl.h"
#include "smtp/smtp_command.h"
#include "smtp/smtp_xtext.h"

static bool is_port(struct bytes value, uint16_t *out)
{
    uint64_t port;
    if (value.len > 5 || bytes_to_u64(value, 65535, &port) != OK)
        return false;
    *out = (uint16_t)port;
    return true;
}

static bool is_host(struct bytes value, uint16_t *out)
{
    struct bytes name;
    return smtp_command_hello(value, &name) == SMTP_REPLY_NONE;
}

static bool is_protocol(struct bytes value, uint16_t *out)
{
    return bytes_eq_nocase(value, BYTES("SMTP")) || bytes_eq_nocase(value, BYTES("ESMTP"));
}

static bool is_login(struct bytes value, uint16_t *out)
{
    return sasl_name_is_valid(value);
}

static const struct row {
    const char *name;
    bool (*is_valid)(struct bytes value, uint16_t *out_port);
} rows[SMTP_XCLIENT_NAMES] = {
    [SMTP_XCLIENT_NAME] = {"NAME", is_host},
    [SMTP_XCLIENT_ADDR] = {"ADDR", is_host},
    [SMTP_XCLIENT_PORT] = {"PORT", is_port},
    [SMTP_XCLIENT_PROTO] = {"PROTO", is_protocol},
    [SMTP_XCLIENT_HELO] = {"HELO", is_host},
    [SMTP_XCLIENT_LOGIN] = {"LOGIN", is_login},
    [SMTP_XCLIENT_DESTADDR] = {"DESTADDR", is_host},
    [SMTP_XCLIENT_DESTPORT] = {"DESTPORT", is_port},
};

static bool take_value(struct bytes text, size_t n, struct smtp_xclient *out)
{
    out->given[n] = true;
    if (bytes_eq_nocase(text, BYTES("[UNAVAILABLE]")) ||
        bytes_eq_nocase(text, BYTES("[TEMPUNAVAIL]")))
        return true;
    size_t from = out->text.len;
    if (!smtp_xtext_decode(text, SMTP_XCLIENT_VALUE_MAX, &out->text))
        return false;
    out->value[n] = bytes_skip(buf_bytes(&out->text), from);
    return rows[n].is_valid(out->value[n], &out->port[n]);
}

static enum smtp_reply_id take_attribute(struct bytes attribute, struct smtp_xclient *out,
                                         struct bytes *out_slot)
{
    struct bytes value = attribute;
    bytes_cut(&value, '=', out_slot);
    for (size_t n = 0; n < COUNT_OF(rows); n++) {
        if (!bytes_eq_nocase(*out_slot, bytes_cstr(rows[n].name)))
            continue;
        if (out->given[n])
            return SMTP_REPLY_PARAM_TWICE;
        return take_value(value, n, out) ? SMTP_REPLY_NONE : SMTP_REPLY_XCLIENT_VALUE;
    }
    return SMTP_REPLY_XCLIENT_ATTRIBUTE;
}

enum smtp_reply_id smtp_xclient_parse(struct bytes args, struct smtp_xclient *out,
                                      struct bytes *out_slot)
{
    *out = (struct smtp_xclient){0};
    *out_slot = BYTES("XCLIENT name=value ...");
    buf_reserve(&out->text, args.len); // values point into it: it must not move
    struct bytes attribute;
    if (args.len == 0)
        return SMTP_REPLY_ARGUMENTS;
    while (bytes_cut(&args, ' ', &attribute)) {
        enum smtp_reply_id bad =
            attribute.len ? take_attribute(attribute, out, out_slot) : SMTP_REPLY_NONE;
        if (bad)
            return bad;
    }
    return SMTP_REPLY_NONE;
}

void smtp_xclient_done(struct smtp_xclient *x)
{
    buf_done(&x->text);
}
