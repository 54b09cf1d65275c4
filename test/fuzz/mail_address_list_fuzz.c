// SPDX-License-Identifier: MIT
// Every address found is an envelope address, and none is hidden: the list written again from its
// addresses gives the same addresses.
#include "base/check.h"
#include "mail/mail_address_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    struct mail_address_list list, again;
    struct buf b = {0};
    if (mail_address_list_parse(bytes_of(data, size), &arena, &list) == OK) {
        for (size_t i = 0; i < list.count; i++) {
            struct mail_address a;
            CHECK(mail_address_parse(list.mailboxes[i].address.text, &a) == OK);
            CHECK(bytes_is_utf8(list.mailboxes[i].name));
            buf_add_cstr(&b, i ? ",\r\n <" : "<");
            buf_add(&b, a.text);
            buf_add_byte(&b, '>');
        }
        CHECK(mail_address_list_parse(buf_bytes(&b), &arena, &again) == OK);
        CHECK(again.count == list.count);
        for (size_t i = 0; i < list.count; i++)
            CHECK(bytes_eq(list.mailboxes[i].address.text, again.mailboxes[i].address.text));
    }
    buf_done(&b);
    arena_done(&arena);
    return 0;
}
