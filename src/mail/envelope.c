// SPDX-License-Identifier: MIT
#include "mail/envelope.h"

#include "base/check.h"
#include "mail/mail_encode.h"

static const char *const class_names[MAIL_CLASSES] = {"transactional", "personal", "bulk"};

const char *mail_class_name(enum mail_class class)
{
    CHECK((unsigned)class < MAIL_CLASSES);
    return class_names[class];
}

int mail_class_parse(struct bytes text, enum mail_class *out)
{
    for (unsigned i = 0; i < MAIL_CLASSES; i++) {
        if (bytes_eq_nocase(text, bytes_cstr(class_names[i]))) {
            *out = (enum mail_class)i;
            return OK;
        }
    }
    return E_SYNTAX;
}

bool recipient_original(const struct recipient *r, struct bytes *out_type, struct buf *out)
{
    struct bytes rest = r->orcpt;
    size_t before = out->len;
    if (!bytes_cut(&rest, ';', out_type))
        return false;
    int err = bytes_eq_nocase(*out_type, BYTES("utf-8")) ? mail_utf8_addr_decode(rest, out)
                                                         : mail_xtext_decode(rest, out);
    return err == OK && out->len > before;
}

static void copy_slice(struct arena *arena, struct bytes *slice)
{
    *slice = arena_dup(arena, *slice);
}

static void copy_recipients(struct envelope *e, struct arena *arena)
{
    struct recipient *rows = arena_new(arena, e->recipients_count * sizeof(*rows));
    for (uint32_t i = 0; i < e->recipients_count; i++) {
        rows[i] = e->recipients[i];
        copy_slice(arena, &rows[i].address);
        copy_slice(arena, &rows[i].domain);
        copy_slice(arena, &rows[i].orcpt);
        copy_slice(arena, &rows[i].token);
    }
    e->recipients = rows;
}

static void copy_metadata(struct envelope *e, struct arena *arena)
{
    struct metadata *rows = arena_new(arena, e->metadata_count * sizeof(*rows));
    for (uint32_t i = 0; i < e->metadata_count; i++) {
        rows[i] = e->metadata[i];
        copy_slice(arena, &rows[i].name);
        copy_slice(arena, &rows[i].value);
    }
    e->metadata = rows;
}

struct envelope *envelope_copy(const struct envelope *from, struct arena *arena)
{
    struct envelope *e = arena_new(arena, sizeof(*e));
    *e = *from;
    struct bytes *const slices[] = {&e->reverse_path, &e->account_name, &e->credential, &e->tag,
                                    &e->listener,     &e->client,       &e->helo,       &e->envid,
                                    &e->message_id,   &e->release,      &e->unknown};
    for (size_t i = 0; i < COUNT_OF(slices); i++)
        copy_slice(arena, slices[i]);
    copy_recipients(e, arena);
    copy_metadata(e, arena);
    return e;
}
