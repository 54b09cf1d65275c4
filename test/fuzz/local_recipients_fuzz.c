// SPDX-License-Identifier: MIT
//
// A recipient table of any bytes: errors that name its lines, or answers within the limits for whoever is asked.
#include "base/check.h"
#include "route/local_recipients.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const struct local_recipients *t, struct bytes address)
{
    struct arena arena = {0};
    struct bytes *targets = NULL;
    size_t count = 0;
    enum local_answer answer = local_recipients_find(t, address, &arena, &targets, &count);
    CHECK(answer <= LOCAL_ALIAS && count <= LOCAL_TARGETS_MAX);
    CHECK(answer != LOCAL_ALIAS || count > 0);
    for (size_t i = 0; i < count; i++)
        CHECK(targets[i].len > 0 && !bytes_has_control(targets[i], NULL));
    arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct local_recipients *t;
    struct buf errors = {0};
    if (size > 65536)
        return 0;
    struct bytes text = bytes_of(data, size), line;
    int err = local_recipients_parse(text, "users", &t, &errors);
    CHECK((err == OK) == (errors.len == 0) && (err == OK) == (t != NULL));
    for (int i = 0; i < 50 && !err && bytes_cut(&text, '\n', &line); i++) {
        struct bytes word;
        while (bytes_cut(&line, ' ', &word))
            ask(t,
                word.len && word.at[word.len - 1] == ':' ? bytes_first(word, word.len - 1) : word);
    }
    if (!err)
        ask(t, BYTES("x+y@example.org"));
    local_recipients_free(t);
    buf_done(&errors);
    return 0;
}
