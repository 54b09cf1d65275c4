// SPDX-License-Identifier: MIT
//
// The parts of the journal that touch no disk: numbers and attributes, envelopes, outcomes, the table.
#include "spool/envelope_codec.h"
#include "spool/outcome_codec.h"
#include "spool/spool_test.h"
#include "spool/table.h"
#include "spool/tlv.h"

// ---- numbers and attributes ---------------------------------------------------------------------

static void test_varints(void **state)
{
    static const struct {
        const char *name;
        struct bytes in;
        int err;
        uint64_t want;
        size_t left;
    } rows[] = {
        {"zero", BYTES("\0"), OK, 0, 0},
        {"one byte", BYTES("\x7f\x01"), OK, 127, 1},
        {"two bytes", BYTES("\x80\x01"), OK, 128, 0},
        {"largest", BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), OK, UINT64_MAX, 0},
        {"too large", BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), E_SYNTAX, 0, 0},
        {"too long", BYTES("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"), E_SYNTAX, 0, 0},
        {"cut", BYTES("\x80"), E_SYNTAX, 0, 0},
        {"nothing", BYTES_NONE, E_SYNTAX, 0, 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct bytes in = rows[i].in;
        struct buf out = {0};
        uint64_t got = 0;
        int err = varint_take(&in, &got);
        if (err != rows[i].err || got != rows[i].want || (!err && in.len != rows[i].left))
            fail_msg("%s", rows[i].name);
        varint_add(&out, got);
        if (!err)
            assert_true(
                bytes_eq(buf_bytes(&out), bytes_first(rows[i].in, rows[i].in.len - in.len)));
        buf_done(&out);
    }
}

static void test_attributes(void **state)
{
    struct buf out = {0};
    struct bytes in, value;
    uint32_t tag;
    int err = OK;
    tlv_add(&out, 1, BYTES("one"));
    tlv_add(&out, 2, BYTES("")); // not written
    tlv_add_u64(&out, 300, 0x1234567890);
    tlv_add_u64(&out, 4, 0); // not written
    tlv_add_always(&out, 5, BYTES(""));
    in = buf_bytes(&out);
    assert_true(tlv_next(&in, &tag, &value, &err) && tag == 1 && bytes_eq(value, BYTES("one")));
    assert_true(tlv_next(&in, &tag, &value, &err) && tag == 300 && tlv_u64(value) == 0x1234567890);
    assert_int_equal(value.len, 5);
    assert_true(tlv_next(&in, &tag, &value, &err) && tag == 5 && value.len == 0);
    assert_false(tlv_next(&in, &tag, &value, &err));
    assert_int_equal(err, OK);
    for (size_t cut = 1; cut < out.len; cut++) { // every cut ends at an attribute or is an error
        in = bytes_first(buf_bytes(&out), cut);
        err = OK;
        while (tlv_next(&in, &tag, &value, &err))
            ;
        assert_true(err == (cut == 5 || cut == 13 ? OK : E_SYNTAX));
    }
    assert_int_equal(tlv_u64(BYTES("123456789")), 0);
    buf_done(&out);
}

// ---- envelopes ----------------------------------------------------------------------------------

// One with every field set, so that a field that is not written is missed.
static struct stored_message *full_message(void)
{
    struct stored_message *m = test_message(5, 100); // three recipients
    struct envelope *e = m->envelope;
    e->not_before.us = 1700000000000001;
    e->class = MAIL_BULK;
    e->account_name = BYTES("acme");
    e->credential = BYTES("login@acme");
    e->listener = BYTES("submission");
    e->helo = BYTES("[192.0.2.1]");
    e->envid = BYTES("QQ314159");
    e->message_id = BYTES("<1@example.org>");
    e->origin = ORIGIN_BOUNCE;
    e->body = BODY_8BITMIME;
    e->ret = RET_HDRS;
    e->smtputf8 = e->requiretls = e->tls = true;
    e->return_path = e->unsubscribe = e->singly = true;
    e->priority = -9;
    e->wall_jumped_ms = -172800000;
    e->deliver_by.us = 1700000000000077;
    e->by_mode = BY_RETURN;
    e->by_trace = true;
    e->release = BYTES("for; 3600");
    e->metadata_count = 3;
    e->metadata = arena_new(&m->arena, 3 * sizeof(*e->metadata));
    e->metadata[0] = (struct metadata){BYTES("order"), BYTES("4711")};
    e->metadata[1] = (struct metadata){BYTES("empty"), BYTES("")};
    e->metadata[2] = (struct metadata){BYTES("order"), BYTES("4712")};
    e->has_body_hash = true;
    memset(e->body_hash, 7, sizeof(e->body_hash));
    e->recipients[1].orcpt = BYTES("rfc822;Bob+40example.org");
    e->recipients[1].token = BYTES("t1");
    e->recipients[1].notify = NOTIFY_SUCCESS | NOTIFY_DELAY;
    e->recipients[2].notify = NOTIFY_NEVER;
    m->extent_sum = 0x8877665544332211;
    return m;
}

static void assert_same_rest(const struct envelope *a, const struct envelope *b)
{
    assert_int_equal(a->not_before.us, b->not_before.us);
    assert_true(bytes_eq(a->account_name, b->account_name));
    assert_true(bytes_eq(a->credential, b->credential));
    assert_true(bytes_eq(a->listener, b->listener));
    assert_true(bytes_eq(a->helo, b->helo));
    assert_true(bytes_eq(a->envid, b->envid));
    assert_true(bytes_eq(a->message_id, b->message_id));
    assert_int_equal(a->origin, b->origin);
    assert_int_equal(a->body, b->body);
    assert_int_equal(a->ret, b->ret);
    assert_true(a->smtputf8 == b->smtputf8 && a->requiretls == b->requiretls && a->tls == b->tls);
    assert_true(a->return_path == b->return_path && a->unsubscribe == b->unsubscribe);
    assert_true(a->singly == b->singly);
    assert_int_equal(a->priority, b->priority);
    assert_int_equal(a->deliver_by.us, b->deliver_by.us);
    assert_true(a->by_mode == b->by_mode && a->by_trace == b->by_trace);
    assert_true(bytes_eq(a->release, b->release));
    assert_int_equal(a->wall_jumped_ms, b->wall_jumped_ms);
    assert_int_equal(a->header_bytes, b->header_bytes);
    assert_int_equal(a->body_bytes, b->body_bytes);
    assert_int_equal(a->has_body_hash, b->has_body_hash);
    assert_memory_equal(a->body_hash, b->body_hash, sizeof(a->body_hash));
    assert_int_equal(a->metadata_count, b->metadata_count);
    for (uint32_t i = 0; i < a->metadata_count; i++)
        assert_true(bytes_eq(a->metadata[i].name, b->metadata[i].name) &&
                    bytes_eq(a->metadata[i].value, b->metadata[i].value));
    for (uint32_t i = 0; i < a->recipients_count; i++)
        assert_true(bytes_eq(a->recipients[i].orcpt, b->recipients[i].orcpt) &&
                    bytes_eq(a->recipients[i].token, b->recipients[i].token));
}

static void test_every_field_of_an_envelope_is_kept(void **state)
{
    struct stored_message *m = full_message(), *again = stored_message_new();
    struct buf summary = {0}, rest = {0};
    assert_int_equal(envelope_encode(m, &summary, &rest), OK);
    assert_int_equal(envelope_decode(m->envelope->id, buf_bytes(&summary), buf_bytes(&rest), again),
                     OK);
    assert_int_equal(again->extent_sum, m->extent_sum);
    assert_same_rest(m->envelope, again->envelope);
    again->header = m->header;
    chain_move(&again->body, &m->body);
    chain_add(&m->body, BYTES("")); // compare envelopes only
    struct chain body = again->body;
    again->body = (struct chain){0};
    assert_true(test_same_message(m, again));
    chain_done(&body);
    buf_done(&summary);
    buf_done(&rest);
    stored_message_unref(m);
    stored_message_unref(again);
}

static void test_unknown_attributes_are_kept(void **state)
{
    struct stored_message *m = full_message(), *again = stored_message_new(),
                          *third = stored_message_new();
    struct buf summary = {0}, rest = {0}, summary2 = {0}, rest2 = {0};
    assert_int_equal(envelope_encode(m, &summary, &rest), OK);
    tlv_add(&rest, 4000, BYTES("of a later release"));
    tlv_add(&summary, 20, BYTES("that too"));
    assert_int_equal(envelope_decode(m->envelope->id, buf_bytes(&summary), buf_bytes(&rest), again),
                     OK);
    assert_int_equal(envelope_encode(again, &summary2, &rest2), OK);
    assert_int_equal(
        envelope_decode(m->envelope->id, buf_bytes(&summary2), buf_bytes(&rest2), third), OK);
    assert_true(bytes_search(third->envelope->unknown, BYTES("of a later release")) > 0);
    assert_true(bytes_search(third->envelope->unknown, BYTES("that too")) > 0);
    buf_done(&summary);
    buf_done(&rest);
    buf_done(&summary2);
    buf_done(&rest2);
    stored_message_unref(m);
    stored_message_unref(again);
    stored_message_unref(third);
}

static void test_summary_is_what_recovery_tells(void **state)
{
    struct stored_message *m = full_message();
    struct buf summary = {0}, rest = {0};
    struct spool_summary fresh, told;
    struct spool_summary_recipient recipients[3];
    assert_int_equal(envelope_encode(m, &summary, &rest), OK);
    spool_summary_of(m, &m->arena, &fresh);
    assert_int_equal(summary_decode(m->envelope->id, buf_bytes(&summary), recipients, &told), OK);
    assert_int_equal(fresh.account, told.account);
    assert_int_equal(fresh.class, told.class);
    assert_int_equal(fresh.body, told.body);
    assert_int_equal(fresh.priority, told.priority);
    assert_true(fresh.smtputf8 == told.smtputf8 && fresh.requiretls == told.requiretls);
    assert_true(fresh.singly == told.singly);
    assert_int_equal(fresh.null_sender, told.null_sender);
    assert_int_equal(fresh.accepted_at.us, told.accepted_at.us);
    assert_int_equal(fresh.not_before.us, told.not_before.us);
    assert_int_equal(fresh.expires_at.us, told.expires_at.us);
    assert_int_equal(fresh.deliver_by.us, told.deliver_by.us);
    assert_true(fresh.by_mode == told.by_mode && fresh.by_trace == told.by_trace);
    assert_int_equal(fresh.size, told.size);
    assert_true(bytes_eq(fresh.tag, told.tag));
    assert_int_equal(fresh.recipients_count, told.recipients_count);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(fresh.recipients[i].number, told.recipients[i].number);
        assert_true(bytes_eq(fresh.recipients[i].domain, told.recipients[i].domain));
        assert_int_equal(fresh.recipients[i].notify, told.recipients[i].notify);
    }
    buf_done(&summary);
    buf_done(&rest);
    stored_message_unref(m);
}

static void test_limits_of_an_envelope(void **state)
{
    struct buf summary = {0}, rest = {0};
    struct stored_message *m = full_message();
    m->envelope->recipients[2].number = 2;
    assert_int_equal(envelope_encode(m, &summary, &rest), E_LIMIT);
    m->envelope->recipients[2].number = 3;
    m->envelope->metadata_count = ENVELOPE_METADATA_MAX + 1;
    assert_int_equal(envelope_encode(m, &summary, &rest), E_LIMIT);
    m->envelope->metadata_count = 0;
    m->envelope->recipients_count = 0;
    assert_int_equal(envelope_encode(m, &summary, &rest), E_LIMIT);
    assert_int_equal(summary.len + rest.len, 0);
    stored_message_unref(m);
}

// ---- outcomes -----------------------------------------------------------------------------------

static void test_every_field_of_an_outcome_is_kept(void **state)
{
    struct buf summary = {0}, rest = {0};
    char word[OUTCOME_TEXT_MAX + 10];
    memset(word, 'w', sizeof(word));
    const struct spool_outcome o = {
        .id = test_id(1),
        .recipient = 70000,
        .state = RECIPIENT_QUEUED,
        .event = SPOOL_EVENT_DSN,
        .attempts = 12,
        .warned = true,
        .at = {1700000000123456},
        .next_attempt_at = {1700000060000000},
        .mx = BYTES("mx.example"),
        .ip = BYTES("192.0.2.1:25"),
        .tls = BYTES("TLSv1.3"),
        .lane = BYTES("default -> mx.example"),
        .code = 451,
        .enhanced = BYTES("4.7.1"),
        .text = bytes_of(word, sizeof(word)),
        .class = {BOUNCE_OTHER, true},
        .account = 7,
        .address = BYTES("no-one@example.com"),
        .actor = BYTES("operator"),
        .reason = BYTES("asked to"),
        .related = test_id(2),
    };
    struct spool_outcome got;
    outcome_encode(&o, &summary, &rest);
    assert_int_equal(outcome_decode(o.id, buf_bytes(&summary), buf_bytes(&rest), &got), OK);
    assert_true(message_id_eq(got.id, o.id) && message_id_eq(got.related, o.related));
    assert_int_equal(got.recipient, o.recipient);
    assert_int_equal(got.state, o.state);
    assert_int_equal(got.event, o.event);
    assert_int_equal(got.attempts, o.attempts);
    assert_true(got.warned && !got.exempt);
    assert_int_equal(got.at.us, o.at.us);
    assert_int_equal(got.next_attempt_at.us, o.next_attempt_at.us);
    assert_true(bytes_eq(got.mx, o.mx) && bytes_eq(got.ip, o.ip) && bytes_eq(got.tls, o.tls));
    assert_true(bytes_eq(got.lane, o.lane) && bytes_eq(got.enhanced, o.enhanced));
    assert_true(bytes_eq(got.actor, o.actor) && bytes_eq(got.reason, o.reason));
    assert_int_equal(got.code, o.code);
    assert_int_equal(got.text.len, OUTCOME_TEXT_MAX);
    assert_true(got.class.reason == BOUNCE_OTHER && got.class.hard);
    assert_true(got.account == 7 && bytes_eq(got.address, o.address));
    struct recipient_status s = recipient_status_of(&o);
    assert_int_equal(recipient_status_state(s), RECIPIENT_QUEUED);
    assert_int_equal(recipient_status_attempts(s), 12);
    assert_true(recipient_status_warned(s) && !recipient_status_exempt(s));
    assert_int_equal(recipient_status_next(s).us, o.next_attempt_at.us);
    for (size_t cut = 0; cut < summary.len; cut++)
        assert_int_equal(
            outcome_decode(o.id, bytes_first(buf_bytes(&summary), cut), BYTES_NONE, &got),
            E_DAMAGED);
    buf_done(&summary);
    buf_done(&rest);
}

static void test_every_field_of_a_feedback_is_kept(void **state)
{
    struct buf rest = {0};
    char word[FEEDBACK_TEXT_MAX + 10];
    memset(word, 'w', sizeof(word));
    const struct spool_feedback f = {
        .id = test_id(1),
        .recipient = 70000,
        .kind = FEEDBACK_UNSUBSCRIBE,
        .class = {BOUNCE_USER_UNKNOWN, true},
        .at = {1700000000123456},
        .account = 77,
        .address = BYTES("reader@example.org"),
        .tag = BYTES("news"),
        .stream_only = true,
        .code = 550,
        .status = BYTES("5.1.1"),
        .diagnostic = bytes_of(word, sizeof(word)),
        .from = BYTES("192.0.2.1:4711"),
        .detail = BYTES("abuse"),
    };
    struct spool_feedback got;
    feedback_encode(&f, &rest);
    size_t known = rest.len;
    tlv_add(&rest, 99, BYTES("of a newer version"));
    assert_int_equal(feedback_decode(f.id, buf_bytes(&rest), &got), OK);
    assert_true(message_id_eq(got.id, f.id) && got.recipient == f.recipient);
    assert_true(got.kind == f.kind && got.class.reason == f.class.reason && got.class.hard &&
                got.stream_only);
    assert_true(got.at.us == f.at.us && got.account == f.account && got.code == f.code);
    assert_true(bytes_eq(got.address, f.address) && bytes_eq(got.tag, f.tag));
    assert_true(bytes_eq(got.status, f.status) && bytes_eq(got.from, f.from));
    assert_true(bytes_eq(got.detail, f.detail));
    assert_int_equal(got.diagnostic.len, FEEDBACK_TEXT_MAX);
    assert_int_equal(feedback_decode(f.id, BYTES_NONE, &got), E_DAMAGED);
    for (size_t cut = 1; cut < known; cut++) // never beyond its end
        (void)!feedback_decode(f.id, bytes_first(buf_bytes(&rest), cut), &got);
    buf_done(&rest);
}

// ---- the table ----------------------------------------------------------------------------------

#define TABLE_IDS 20000

// Adds and removes at random; a plain array knows better.
static void test_table_against_a_model(void **state)
{
    static uint32_t present[TABLE_IDS];
    struct table t = {.roomy = true};
    uint32_t random = 1, count = 0;
    for (uint32_t i = 0; i < 200000; i++) {
        random = random * 1664525 + 1013904223;
        uint32_t n = random >> 8;
        if (i == 100000)
            table_fit(&t);
        n %= TABLE_IDS;
        struct table_entry *e = table_find(&t, test_id(n));
        assert_int_equal(e != NULL, present[n] != 0);
        if (e) {
            assert_int_equal(e->offset16, n);
            table_remove(&t, e);
            present[n] = 0;
            count--;
        } else {
            e = table_add(&t, test_id(n), 1 + n % 3);
            e->offset16 = n;
            present[n] = 1;
            count++;
        }
        assert_int_equal(t.count, count);
    }
    for (int fitted = 0; fitted <= 1; fitted++) {
        for (uint32_t n = 0; n < TABLE_IDS; n++)
            assert_int_equal(table_find(&t, test_id(n)) != NULL, present[n]);
        table_fit(&t);
    }
    assert_null(table_find(&t, (struct message_id){0, 0}));
    assert_null(table_find(&t, (struct message_id){1, (uint64_t)1 << 36}));
    table_done(&t);
}

static void test_table_keeps_states(void **state)
{
    struct table t = {0};
    struct spool_outcome delivered = test_outcome(2, 1, RECIPIENT_DELIVERED);
    struct spool_outcome queued = test_outcome(2, 1, RECIPIENT_QUEUED);
    struct table_entry *e = table_add(&t, test_id(2), 3);
    struct recipient_status status;
    assert_int_equal(table_live(e), 3);
    assert_true(table_set_status(e, 2, recipient_status_of(&queued)));
    assert_int_equal(table_live(e), 3);
    assert_true(table_set_status(e, 2, recipient_status_of(&delivered)));
    assert_int_equal(table_live(e), 2);
    assert_false(table_set_status(e, 2, recipient_status_of(&queued))); // settled is settled
    struct spool_outcome warned = queued;
    warned.warned = true;
    assert_true(table_set_status(e, 1, recipient_status_of(&warned)));
    assert_true(table_set_status(e, 1, recipient_status_of(&queued)));
    assert_true(table_status(e, 1, &status));
    assert_true(recipient_status_warned(status)); // said is said
    struct spool_outcome exempt = queued, held = test_outcome(2, 1, RECIPIENT_HELD);
    exempt.exempt = true;
    assert_true(table_set_status(e, 1, recipient_status_of(&exempt)));
    assert_true(table_set_status(e, 1, recipient_status_of(&queued)));
    assert_true(table_status(e, 1, &status));
    assert_true(recipient_status_exempt(status) && recipient_status_warned(status));
    assert_int_equal(recipient_status_next(status).us,
                     recipient_status_next(recipient_status_of(&queued)).us);
    assert_true(table_set_status(e, 1, recipient_status_of(&held)));
    assert_true(table_set_status(e, 1, recipient_status_of(&queued)));
    assert_true(table_status(e, 1, &status));
    assert_false(recipient_status_exempt(status)); // held again is held
    assert_false(table_set_status(e, 0, recipient_status_of(&queued)));
    assert_false(table_set_status(e, 4, recipient_status_of(&queued)));
    assert_true(table_status(e, 2, &status));
    assert_int_equal(recipient_status_state(status), RECIPIENT_DELIVERED);
    assert_true(table_status(e, 3, &status));
    assert_int_equal(recipient_status_state(status), RECIPIENT_QUEUED);
    assert_false(table_status(e, 4, &status));
    table_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_varints),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_every_field_of_an_envelope_is_kept),
        cmocka_unit_test(test_unknown_attributes_are_kept),
        cmocka_unit_test(test_summary_is_what_recovery_tells),
        cmocka_unit_test(test_limits_of_an_envelope),
        cmocka_unit_test(test_every_field_of_an_outcome_is_kept),
        cmocka_unit_test(test_every_field_of_a_feedback_is_kept),
        cmocka_unit_test(test_table_against_a_model),
        cmocka_unit_test(test_table_keeps_states),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
