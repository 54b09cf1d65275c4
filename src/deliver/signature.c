// SPDX-License-Identifier: MIT
//
// How it works: `askers` of a rendering is a stack: whoever finds it empty makes the signatures, whoever comes later
// is pushed, and at the end the maker takes all and posts to them. A failure leaves it empty, so that the next one to
// ask tries again.
#include "deliver/signature.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/check.h"
#include "mail/mail_address_list.h"
#include "mail/mail_header.h"
#include "net/sign_port.h"
#include "sign/dkim_sign.h"
#include "store/store_directory.h"

#define SIGNERS_MAX 4 // two keys of the From domain, two of the service's
#define RSA_INFO_BYTES 19

struct job;

struct signer {
    struct job *job;
    const struct store_dkim_key *key; // of the snapshot
    struct dkim_sign sign;
    struct sign_request request;
    unsigned char input[RSA_INFO_BYTES + DKIM_HASH_BYTES];
    struct buf signature;
};

// One making of signatures.
struct job {
    struct signature_ask *ask; // whose `done` is not called in its own turn
    struct conf_snapshot *snapshot;
    struct stored_message *message;
    bool shared;   // else for `ask` alone
    bool answered; // by the signer: so this is not inside signature_start()
    struct signer signers[SIGNERS_MAX];
    size_t signers_count, pending;
    struct render render; // where the body has to be read
    bool reading, in_body;
    struct buf header;
    struct dkim_body body;
};

static void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

// ---- who signs -----------------------------------------------------------------------------------------

static void add_signers(struct job *job, const struct store_dkim *dkim)
{
    const struct store_dkim_key *keys[] = {dkim->ed25519, dkim->rsa};
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (keys[i])
            job->signers[job->signers_count++] = (struct signer){.job = job, .key = keys[i]};
}

// The routing form of the first From address's domain; empty: none.
static void from_domain(struct bytes header, struct buf *out)
{
    struct mail_field field;
    struct arena arena = {0};
    struct mail_address_list list;
    if (mail_header_find(header, BYTES("From"), &field) &&
        mail_address_list_parse(field.value, &arena, &list) == OK && list.count &&
        mail_domain_route(list.mailboxes[0].address.domain, out) != OK)
        buf_clear(out);
    arena_done(&arena);
}

static void find_signers(struct job *job)
{
    const struct store_directory *accounts = job->snapshot->accounts;
    const struct envelope *e = job->message->envelope;
    struct bytes service = job->snapshot->conf->dkim.service_domain;
    struct buf domain = {0};
    const struct store_dkim *own = NULL, *ours = store_directory_dkim(accounts, 0, service);
    const struct store_account *account = store_directory_account_number(accounts, e->account);
    if (account) {
        from_domain(job->message->header, &domain);
        own = store_directory_aligned_dkim(accounts, account, buf_bytes(&domain));
    }
    buf_done(&domain);
    if (own)
        add_signers(job, own);
    if (ours)
        add_signers(job, ours);
}

// ---- the end -------------------------------------------------------------------------------------------

static void on_told(struct sys_task *task)
{
    struct signature_ask *ask = container_of(task, struct signature_ask, task);
    ask->done(ask);
}

// At once where that can't be inside signature_start().
static void tell(const struct job *job, struct signature_ask *ask)
{
    if (ask->loop == sys_loop_self() && job->answered) {
        ask->done(ask);
        return;
    }
    ask->task.run = on_told;
    sys_post(ask->loop, &ask->task);
}

static struct stored_made *made_of(const struct signature_ask *ask)
{
    size_t form = ask->kind == RENDER_SEVEN_BIT ? 1 : ask->kind == RENDER_EIGHT_BIT ? 2 : 0;
    return &ask->message->made[form];
}

static void job_free(struct job *job)
{
    for (size_t i = 0; i < job->signers_count; i++) {
        dkim_sign_done(&job->signers[i].sign);
        buf_done(&job->signers[i].signature);
    }
    if (job->reading)
        render_done(&job->render);
    dkim_body_done(&job->body);
    buf_done(&job->header);
    conf_snapshot_release(job->snapshot);
    stored_message_unref(job->message);
    free(job);
}

static void answer(struct signature_ask *ask, const struct signature_ask *like, struct bytes fields)
{
    ask->err = like->err;
    ask->has_8bit_header = like->has_8bit_header;
    ask->fields = fields;
}

// Answers all who asked, with job->ask->err; the fields are taken over.
static void finish(struct job *job, struct buf *fields)
{
    struct signature_ask *first = job->ask;
    if (first->err)
        count(&first->counters->failed);
    if (!job->shared) {
        first->own = *fields;
        answer(first, first, buf_bytes(&first->own));
        tell(job, first);
        job_free(job);
        return;
    }
    struct stored_made *made = made_of(first);
    struct signature_ask like = *first;
    if (!like.err)
        made->fields = buf_bytes(fields);
    struct bytes text = made->fields;
    // Before the askers know: they may give the message back.
    struct signature_ask *asker = atomic_exchange(&made->askers, like.err ? NULL : STORED_MADE);
    while (asker) {
        struct signature_ask *next = asker->next;
        answer(asker, &like, like.err ? BYTES_NONE : text);
        tell(job, asker);
        asker = next;
    }
    job_free(job);
}

static void fail(struct job *job, int err)
{
    struct buf none = {0};
    job->ask->err = err;
    finish(job, &none);
}

// ---- signing -------------------------------------------------------------------------------------------

static void on_all_signed(struct job *job)
{
    struct buf fields = {0};
    for (size_t i = 0; i < job->signers_count; i++) {
        struct signer *s = &job->signers[i];
        if (!s->signature.len) {
            buf_done(&fields);
            fail(job, E_CLOSED);
            return;
        }
        dkim_sign_finish(&s->sign, buf_bytes(&s->signature), &fields);
        count(s->key->is_ed25519 ? &job->ask->counters->ed25519 : &job->ask->counters->rsa);
    }
    finish(job, &fields);
}

static void on_signed(struct sign_request *request, struct bytes signature)
{
    struct signer *s = container_of(request, struct signer, request);
    s->job->answered = true;
    buf_add(&s->signature, signature);
    if (--s->job->pending == 0)
        on_all_signed(s->job);
}

static struct bytes input_of(struct signer *s)
{
    // DigestInfo of SHA-256: RFC 8017 9.2, note 1
    static const unsigned char info[RSA_INFO_BYTES] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60,
                                                       0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
                                                       0x01, 0x05, 0x00, 0x04, 0x20};
    if (s->key->is_ed25519)
        return bytes_of(s->sign.digest, sizeof s->sign.digest);
    memcpy(s->input, info, sizeof info);
    memcpy(s->input + sizeof info, s->sign.digest, sizeof s->sign.digest);
    return bytes_of(s->input, sizeof s->input);
}

static bool ask_signer(struct signer *s)
{
    s->request = (struct sign_request){.kind = s->key->is_ed25519 ? SIGN_ED25519 : SIGN_RSA_PKCS1,
                                       .key = s->key->number,
                                       .input = input_of(s),
                                       .sealed = s->key->sealed,
                                       .done = on_signed};
    return sign_ask(&s->request);
}

static void sign_all(struct job *job, struct bytes header, const uint8_t *body_hash)
{
    int err = OK;
    struct wall now = sys_wall();
    for (size_t i = 0; i < job->signers_count && !err; i++) {
        struct signer *s = &job->signers[i];
        struct dkim_sign_want want = {.domain = s->key->domain,
                                      .selector = s->key->selector,
                                      .algorithm = s->key->is_ed25519 ? DKIM_ED25519_SHA256
                                                                      : DKIM_RSA_SHA256,
                                      .body_hash = body_hash,
                                      .now = now};
        err = dkim_sign_start(&s->sign, &want, header);
    }
    job->pending = 1; // this function
    for (size_t i = 0; i < job->signers_count && !err; i++) {
        job->pending++;
        if (!ask_signer(&job->signers[i]))
            job->pending--; // without a signature in the end
    }
    job->pending--;
    if (err == E_SYNTAX) { // no From field: nothing that DKIM could vouch for
        job->signers_count = 0;
        err = OK;
    }
    if (err)
        fail(job, err);
    else if (!job->pending)
        on_all_signed(job);
}

// ---- reading the body ----------------------------------------------------------------------------------

static struct bytes take_header(struct job *job, struct bytes piece)
{
    size_t before = job->header.len;
    buf_add(&job->header, piece);
    struct bytes header = buf_bytes(&job->header);
    size_t from = before > 3 ? before - 3 : 0;
    ptrdiff_t at = bytes_starts(header, BYTES("\r\n"))
                       ? -2
                       : bytes_search(bytes_skip(header, from), BYTES("\r\n\r\n"));
    if (at == -1)
        return BYTES_NONE;
    size_t end = at == -2 ? 2 : from + (size_t)at + 4;
    job->in_body = true;
    buf_truncate(&job->header, end);
    return bytes_skip(piece, end - before);
}

static void read_more(void *ctx)
{
    struct job *job = ctx;
    uint8_t hash[DKIM_HASH_BYTES];
    for (bool end = false; !end;) {
        struct bytes piece;
        int err = render_next(&job->render, RENDER_PIECE_BYTES, &piece, &end);
        if (err == E_AGAIN)
            return;
        if (err) {
            job->ask->has_8bit_header = job->render.plan.has_8bit_header;
            fail(job, err);
            return;
        }
        if (!job->in_body)
            piece = take_header(job, piece);
        if (piece.len)
            dkim_body_feed(&job->body, piece);
    }
    dkim_body_finish(&job->body, hash);
    sign_all(job, buf_bytes(&job->header), hash);
}

static void read_rendering(struct job *job)
{
    struct signature_ask *ask = job->ask;
    enum render_kind kind =
        render_converts(ask->kind) ? ask->kind : RENDER_IDENTITY; // its bytes are the same
    count(&ask->counters->bodies_read);
    dkim_body_init(&job->body, DKIM_RELAXED);
    render_init(&job->render, ask->spool, job->message, kind, ask->added, read_more, job);
    job->reading = true;
    read_more(job);
}

static void sign_identity(struct job *job)
{
    const struct envelope *e = job->message->envelope;
    if (job->ask->added.len)
        buf_add_all(&job->header, job->ask->added, job->message->header);
    sign_all(job, job->header.len ? buf_bytes(&job->header) : job->message->header, e->body_hash);
}

// ---- asking --------------------------------------------------------------------------------------------

static struct job *job_new(struct signature_ask *ask)
{
    struct job *job = mem_new(sizeof *job);
    job->ask = ask;
    job->snapshot = conf_snapshot_hold(ask->snapshot);
    job->message = stored_message_ref(ask->message);
    find_signers(job);
    return job;
}

static void make(struct job *job)
{
    if (!render_converts(job->ask->kind) && job->message->envelope->has_body_hash)
        sign_identity(job);
    else
        read_rendering(job);
}

// True: this one is to make them.
static bool join(struct signature_ask *ask, bool *out_made)
{
    struct stored_made *made = made_of(ask);
    void *askers = atomic_load(&made->askers);
    do {
        *out_made = askers == STORED_MADE;
        if (*out_made)
            return false;
        ask->next = askers;
    } while (!atomic_compare_exchange_weak(&made->askers, &askers, ask));
    return askers == NULL;
}

bool signature_start(struct signature_ask *ask)
{
    bool made = false;
    ask->loop = sys_loop_self();
    ask->own = (struct buf){0};
    answer(ask, &(struct signature_ask){.err = OK}, BYTES_NONE);
    if (!store_directory_signs(ask->snapshot->accounts, ask->message->envelope->account))
        return true;
    bool shared = ask->added.len == 0;
    if (shared && made_of(ask)->askers == STORED_MADE) {
        ask->fields = made_of(ask)->fields;
        return true;
    }
    struct job *job = job_new(ask);
    if (!job->signers_count) {
        job_free(job);
        return true;
    }
    job->shared = shared;
    if (!shared || join(ask, &made)) {
        make(job);
        return false;
    }
    job_free(job); // another one makes them, or has
    if (made)
        ask->fields = made_of(ask)->fields;
    return made;
}

void signature_done(struct signature_ask *ask)
{
    buf_done(&ask->own);
    ask->fields = BYTES_NONE;
}
