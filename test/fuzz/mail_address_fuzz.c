// SPDX-License-Identifier: MIT
// Any path that parses has a canonical form, which parses to itself.
#include "base/check.h"
#include "mail/mail_address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_canonical(const struct mail_address *a)
{
    struct buf first = {0}, second = {0};
    struct mail_address again;
    CHECK(mail_address_canonical(a, &first) == OK);
    CHECK(!bytes_has_control(buf_bytes(&first), NULL));
    if (a->domain.len) {
        CHECK(mail_address_parse(buf_bytes(&first), &again) == OK);
        CHECK(mail_address_canonical(&again, &second) == OK);
        CHECK(bytes_eq(buf_bytes(&first), buf_bytes(&second)));
    }
    buf_done(&first);
    buf_done(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mail_address a;
    struct buf b = {0};
    size_t used = 0;
    struct bytes text = bytes_of(data, size);
    if (mail_path_parse(text, MAIL_PATH_NULL | MAIL_PATH_POSTMASTER, &a, &used) == OK) {
        CHECK(used <= size && text.at[used - 1] == '>');
        CHECK(a.text.len + 2 <= MAIL_PATH_MAX && a.local.len <= MAIL_LOCAL_MAX);
        check_canonical(&a);
    }
    if (mail_domain_route(text, &b) == OK)
        CHECK(b.len <= MAIL_NAME_MAX && bytes_is_ascii(buf_bytes(&b)));
    mail_domain_show(text, &b);
    buf_done(&b);
    return 0;
}
