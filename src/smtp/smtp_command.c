// SPDX-License-Identifier: MIT
//
// smtp_command - the grammar of commands: from a line to a verb and its checked arguments

#include "smtp/smtp_command.h"

#include "base/check.h"
#include "smtp/smtp_xtext.h"

#define HELLO_MAX 255
#define NINE_DIGITS 999999999
#define ENVID_MAX 100 // RFC 3461 section 4.4

void smtp_command_split(struct bytes line, struct smtp_verb *out)
{
    memset(out, 0, sizeof *out);
    struct bytes verb;
    bool any = bytes_cut(&line, ' ', &verb);
    if (!any || verb.len >= sizeof out->name)
        return;
    for (size_t i = 0; i < verb.len; i++)
        out->name[i] =
            (char)(verb.at[i] >= 'a' && verb.at[i] <= 'z' ? verb.at[i] - 32 : verb.at[i]);
    out->args = bytes_trim(line);
}

bool smtp_command_is_foreign(const struct smtp_verb *verb)
{
    static const char *const foreign[] = {"GET",     "POST",  "PUT",   "HEAD",    "DELETE",
                                          "OPTIONS", "PATCH", "TRACE", "CONNECT", "PRI"};
    for (size_t i = 0; i < COUNT_OF(foreign); i++)
        if (strcmp(verb->name, foreign[i]) == 0)
            return true;
    return false;
}

enum smtp_reply_id smtp_command_hello(struct bytes args, struct bytes *out_name)
{
    *out_name = args;
    if (args.len == 0 || args.len > HELLO_MAX)
        return SMTP_REPLY_HELLO_NAME;
    // The name goes into Received fields and logs, so what could end a comment there is refused.
    // More than RFC 5321 4.1.2 allows is taken, as clients name themselves carelessly.
    for (size_t i = 0; i < args.len; i++)
        if (!ascii_is_alnum(args.at[i]) && !ascii_is_one_of(args.at[i], ".-_:[]"))
            return SMTP_REPLY_HELLO_NAME;
    return SMTP_REPLY_NONE;
}

// ---- parameters of MAIL and RCPT

struct param_target {
    struct smtp_mail *mail;
    struct smtp_rcpt *rcpt;
    bool utf8, binarymime;
};

static bool take_size(struct bytes value, const struct param_target *t)
{
    return bytes_to_u64(value, UINT64_MAX, &t->mail->size) == OK; // RFC 1870: 1*20DIGIT
}

static bool take_body(struct bytes value, const struct param_target *t)
{
    if (bytes_eq_nocase(value, BYTES("7BIT")))
        t->mail->body = BODY_7BIT;
    else if (bytes_eq_nocase(value, BYTES("8BITMIME")))
        t->mail->body = BODY_8BITMIME;
    else if (t->binarymime && bytes_eq_nocase(value, BYTES("BINARYMIME"))) // RFC 3030
        t->mail->body = BODY_BINARYMIME;
    else
        return false;
    return true;
}

static bool take_smtputf8(struct bytes value, const struct param_target *t)
{
    t->mail->smtputf8 = true;
    return value.at == NULL; // RFC 6531 3.4: no value
}

static bool take_ret(struct bytes value, const struct param_target *t)
{
    if (bytes_eq_nocase(value, BYTES("FULL")))
        t->mail->ret = RET_FULL;
    else if (bytes_eq_nocase(value, BYTES("HDRS")))
        t->mail->ret = RET_HDRS;
    else
        return false;
    return true;
}

static bool take_envid(struct bytes value, const struct param_target *t)
{
    t->mail->envid = value;
    return smtp_xtext_is_valid(value, ENVID_MAX);
}

static bool take_auth(struct bytes value, const struct param_target *t)
{
    t->mail->auth = value;
    return smtp_auth_param_is_valid(value);
}

// RFC 4865 section 4: future-release-integer = %x31-39 *8DIGIT; HOLDFOR or HOLDUNTIL, not both.
static bool take_hold_for(struct bytes value, const struct param_target *t)
{
    uint64_t seconds;
    if (t->mail->hold.len || value.len == 0 || value.at[0] == '0' ||
        bytes_to_u64(value, NINE_DIGITS, &seconds) != OK)
        return false;
    t->mail->hold = value;
    t->mail->hold_is_for = true;
    t->mail->hold_for_s = (uint32_t)seconds;
    return true;
}

static bool take_hold_until(struct bytes value, const struct param_target *t)
{
    bool again = t->mail->hold.len > 0;
    t->mail->hold = value;
    return !again && wall_parse(value, &t->mail->hold_until) == OK;
}

// RFC 2852 section 4: by-value = by-time ";" by-mode [by-trace]; by-time = ["-" / "+"] 1*9DIGIT, not zero or less
// with by-mode "R".
static bool take_by(struct bytes value, const struct param_target *t)
{
    struct bytes time, mode = value;
    uint64_t seconds;
    if (!bytes_cut(&mode, ';', &time) || time.len == 0)
        return false;
    bool minus = time.at[0] == '-';
    if (minus || time.at[0] == '+')
        time = bytes_skip(time, 1);
    if (time.len > 9 || bytes_to_u64(time, NINE_DIGITS, &seconds) != OK)
        return false;
    t->mail->by_s = minus ? -(int32_t)seconds : (int32_t)seconds;
    t->mail->by_trace = mode.len == 2 && ascii_lower(mode.at[1]) == 't';
    if (mode.len == 2 && !t->mail->by_trace)
        return false;
    struct bytes letter = bytes_first(mode, mode.len - t->mail->by_trace);
    t->mail->by_mode = bytes_eq_nocase(letter, BYTES("R"))   ? BY_RETURN
                       : bytes_eq_nocase(letter, BYTES("N")) ? BY_NOTIFY
                                                             : BY_NONE;
    return t->mail->by_mode == BY_NOTIFY || (t->mail->by_mode == BY_RETURN && t->mail->by_s > 0);
}

// RFC 6710 section 4: priority-value = (["-"] %x31-39) / "0"
static bool take_priority(struct bytes value, const struct param_target *t)
{
    bool minus = value.len == 2 && value.at[0] == '-';
    struct bytes digit = minus ? bytes_skip(value, 1) : value;
    if (digit.len != 1 || !ascii_is_digit(digit.at[0]) || (minus && digit.at[0] == '0'))
        return false;
    t->mail->priority = (int8_t)(minus ? '0' - digit.at[0] : digit.at[0] - '0');
    return true;
}

// RFC 3461 4.1: "NEVER" / 1#( "SUCCESS" / "FAILURE" / "DELAY" ).
static bool take_notify(struct bytes value, const struct param_target *t)
{
    static const struct {
        const char *word;
        uint32_t bit;
    } words[] = {{"NEVER", NOTIFY_NEVER},
                 {"SUCCESS", NOTIFY_SUCCESS},
                 {"FAILURE", NOTIFY_FAILURE},
                 {"DELAY", NOTIFY_DELAY}};
    struct bytes part;
    while (bytes_cut(&value, ',', &part)) {
        uint32_t bit = 0;
        for (size_t i = 0; i < COUNT_OF(words); i++)
            if (bytes_eq_nocase(part, bytes_cstr(words[i].word)))
                bit = words[i].bit;
        if (bit == 0 || (t->rcpt->notify & bit))
            return false;
        t->rcpt->notify |= bit;
    }
    return t->rcpt->notify != 0 &&
           ((t->rcpt->notify & NOTIFY_NEVER) == 0 || t->rcpt->notify == NOTIFY_NEVER);
}

static bool take_orcpt(struct bytes value, const struct param_target *t)
{
    t->rcpt->orcpt = value;
    return smtp_orcpt_is_valid(value, t->utf8);
}

enum param_offer { ALWAYS, IF_DSN, IF_SMTPUTF8, IF_SCHEDULING };

struct param_row {
    const char *keyword;
    bool of_mail;
    enum param_offer offer;
    bool (*take)(struct bytes value, const struct param_target *t);
};

static const struct param_row params[] = {
    {"SIZE", true, ALWAYS, take_size},              // RFC 1870
    {"BODY", true, ALWAYS, take_body},              // RFC 6152
    {"SMTPUTF8", true, IF_SMTPUTF8, take_smtputf8}, // RFC 6531
    {"RET", true, IF_DSN, take_ret},                // RFC 3461
    {"ENVID", true, IF_DSN, take_envid},
    {"AUTH", true, ALWAYS, take_auth}, // RFC 4954
    {"HOLDFOR", true, IF_SCHEDULING, take_hold_for},
    {"HOLDUNTIL", true, IF_SCHEDULING, take_hold_until},
    {"BY", true, IF_SCHEDULING, take_by},
    {"MT-PRIORITY", true, IF_SCHEDULING, take_priority},
    {"NOTIFY", false, IF_DSN, take_notify}, // RFC 3461
    {"ORCPT", false, IF_DSN, take_orcpt},
};

static bool is_offered(enum param_offer need, struct smtp_offer offer)
{
    return need == ALWAYS || (need == IF_DSN && offer.dsn) ||
           (need == IF_SMTPUTF8 && offer.smtputf8) || (need == IF_SCHEDULING && offer.scheduling);
}

// One parameter; `seen` has a bit for each row met.
static enum smtp_reply_id take_param(struct bytes param, const struct param_target *t,
                                     struct smtp_offer offer, uint32_t *seen,
                                     struct bytes *out_slot)
{
    struct bytes keyword, value = param;
    bytes_cut(&value, '=', &keyword);
    *out_slot = keyword;
    for (size_t i = 0; i < COUNT_OF(params); i++) {
        if (params[i].of_mail != (t->mail != NULL) || !is_offered(params[i].offer, offer) ||
            !bytes_eq_nocase(keyword, bytes_cstr(params[i].keyword)))
            continue;
        if (*seen & 1u << i)
            return SMTP_REPLY_PARAM_TWICE;
        *seen |= 1u << i;
        return params[i].take(value, t) ? SMTP_REPLY_NONE : SMTP_REPLY_PARAM_VALUE;
    }
    return SMTP_REPLY_PARAM_UNKNOWN; // RFC 5321 4.1.1.11: 555
}

static enum smtp_reply_id take_params(struct bytes text, const struct param_target *t,
                                      struct smtp_offer offer, struct bytes *out_slot)
{
    uint32_t seen = 0;
    struct bytes param;
    while (bytes_cut(&text, ' ', &param)) {
        if (param.len == 0)
            continue;
        enum smtp_reply_id bad = take_param(param, t, offer, &seen, out_slot);
        if (bad)
            return bad;
    }
    return SMTP_REPLY_NONE;
}

// "FROM:" and the path; blanks between them are taken, as old clients send them. *out_rest: the
// parameters.
static bool cut_keyword(struct bytes args, struct bytes keyword, struct bytes *out_rest)
{
    if (!bytes_starts_nocase(args, keyword))
        return false;
    *out_rest = bytes_trim(bytes_skip(args, keyword.len));
    return true;
}

// The path behind the keyword; *out_params is what follows it.
static bool take_path(struct bytes text, unsigned allowed, struct mail_address *out,
                      struct bytes *out_params)
{
    size_t used;
    if (mail_path_parse(text, allowed, out, &used) != OK)
        return false;
    *out_params = bytes_skip(text, used);
    return out_params->len == 0 || out_params->at[0] == ' ';
}

enum smtp_reply_id smtp_command_mail(struct bytes args, struct smtp_offer offer,
                                     struct smtp_mail *out, struct bytes *out_slot)
{
    *out = (struct smtp_mail){0};
    *out_slot = BYTES("MAIL FROM:<address> [parameters]");
    struct bytes rest, tail;
    if (!cut_keyword(args, BYTES("FROM:"), &rest))
        return SMTP_REPLY_ARGUMENTS;
    if (!take_path(rest, MAIL_PATH_NULL, &out->address, &tail))
        return SMTP_REPLY_PATH_SENDER;
    out->reverse_path = out->address.text;
    struct param_target target = {.mail = out, .utf8 = true, .binarymime = offer.binarymime};
    enum smtp_reply_id bad = take_params(tail, &target, offer, out_slot);
    if (bad)
        return bad;
    // RFC 6531 3.4: the parameter must come with such an address.
    return out->address.is_utf8 && !out->smtputf8 ? SMTP_REPLY_ADDRESS_UTF8 : SMTP_REPLY_NONE;
}

enum smtp_reply_id smtp_command_rcpt(struct bytes args, struct smtp_offer offer, bool utf8,
                                     struct smtp_rcpt *out, struct bytes *out_slot)
{
    *out = (struct smtp_rcpt){0};
    *out_slot = BYTES("RCPT TO:<address> [parameters]");
    struct bytes rest, tail;
    if (!cut_keyword(args, BYTES("TO:"), &rest))
        return SMTP_REPLY_ARGUMENTS;
    if (!take_path(rest, MAIL_PATH_POSTMASTER, &out->address, &tail))
        return SMTP_REPLY_PATH_RECIPIENT;
    out->path = out->address.text;
    if (out->address.is_utf8 && !utf8)
        return SMTP_REPLY_ADDRESS_UTF8;
    struct param_target target = {.rcpt = out, .utf8 = utf8};
    return take_params(tail, &target, offer, out_slot);
}

enum smtp_reply_id smtp_command_bdat(struct bytes args, uint64_t *out_size, bool *out_last)
{
    struct bytes size, rest = args;
    *out_last = false;
    if (!bytes_cut(&rest, ' ', &size) || bytes_to_u64(size, INT64_MAX, out_size) != OK)
        return SMTP_REPLY_CHUNK_SIZE;
    rest = bytes_trim(rest);
    *out_last = bytes_eq_nocase(rest, BYTES("LAST"));
    return rest.len == 0 || *out_last ? SMTP_REPLY_NONE : SMTP_REPLY_CHUNK_SIZE;
}

enum smtp_reply_id smtp_command_auth(struct bytes args, enum sasl_mechanism *out_mechanism,
                                     struct bytes *out_initial)
{
    struct bytes name, rest = args;
    *out_initial = BYTES_NONE;
    if (!bytes_cut(&rest, ' ', &name) || name.len == 0)
        return SMTP_REPLY_ARGUMENTS;
    if (sasl_mechanism_find(name, out_mechanism) != OK)
        return SMTP_REPLY_AUTH_MECHANISM; // RFC 4954 section 4: 504
    rest = bytes_trim(rest);
    if (rest.len > 0)
        *out_initial = rest;
    return SMTP_REPLY_NONE;
}
