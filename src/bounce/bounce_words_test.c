// SPDX-License-Identifier: MIT
#include "bounce/bounce_words.h"

#include "base/check.h"
#include "base/test_base.h"

#define PHRASES_MAX 8

static void note(void *ctx, uint32_t phrase)
{
    buf_printf(ctx, "%u ", phrase);
}

static void phrases_are_found_at_the_borders_of_words(void **state)
{
    (void)state;
    static const struct {
        const char *name, *phrases[PHRASES_MAX], *text, *want;
    } ROWS[] = {
        {"alone", {"spam"}, "spam", "0 "},
        {"any case", {"Spam"}, "SPAM!", "0 "},
        {"inside a word", {"spam"}, "spamhaus antispam 1spam", ""},
        {"beside what is no word", {"spam"}, "<spam>", "0 "},
        {"beyond ASCII is a word", {"voll"}, "\xc3\xbcvoll", ""},
        {"blanks of any kind", {"over quota"}, "over\r\n\t quota", "0 "},
        {"once each", {"a"}, "a a a", "0 "},
        {"nothing", {"a"}, "", ""},
        {"one in another", {"user", "user unknown", "unknown"}, "user unknown", "0 1 2 "},
        {"one the end of another", {"b c", "a b c", "c"}, "a b c", "1 0 2 "},
        {"fallback", {"abcd", "bce"}, "abce bce", "1 "},
        {"same words twice", {"a", "a"}, "a", "1 0 "},
        {"star", {"user * unknown"}, "user bob is unknown", "0 "},
        {"star for nothing", {"user * unknown"}, "user unknown", "0 "},
        {"star, wrong order", {"user * unknown"}, "unknown user", ""},
        {"star, only the first", {"user * unknown"}, "user bob", ""},
        {"star, parts must not overlap", {"a b * b c"}, "a b c", ""},
        {"star, later is fine", {"a b * b c"}, "a b c b c", "0 "},
        {"equal parts", {"a * a"}, "a a", "0 "},
        {"three parts", {"a * b * c"}, "c a b a c", "0 "},
        {"a sign at an end needs no border", {"[ts03]"}, "x[TS03]y", "0 "},
        {"star as a sign", {"4*4"}, "is 4*4", "0 "},
        {"NUL is white", {"a b"}, "a b", "0 "},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct bounce_words *w = bounce_words_new();
        struct buf got = {0};
        for (size_t k = 0; k < PHRASES_MAX && ROWS[i].phrases[k]; k++)
            assert_number(ROWS[i].name, bounce_words_add(w, bytes_cstr(ROWS[i].phrases[k])), OK);
        assert_int_equal(bounce_words_compile(w), OK);
        bounce_words_find(w, bytes_cstr(ROWS[i].text), note, &got);
        assert_bytes(ROWS[i].name, buf_bytes(&got), bytes_cstr(ROWS[i].want));
        buf_done(&got);
        bounce_words_free(w);
    }
}

static void bad_phrases_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *phrase;
        int want;
    } ROWS[] = {{"", E_SYNTAX},
                {"  ", E_SYNTAX},
                {"*", E_SYNTAX},
                {"* a", E_SYNTAX},
                {"a *", E_SYNTAX},
                {"a * * b", E_SYNTAX},
                {"a * b * c * d * e * f * g * h", OK},
                {"a * b * c * d * e * f * g * h * i", E_LIMIT}};
    struct bounce_words *w = bounce_words_new();
    for (size_t i = 0; i < COUNT_OF(ROWS); i++)
        assert_number(ROWS[i].phrase, bounce_words_add(w, bytes_cstr(ROWS[i].phrase)),
                      ROWS[i].want);
    bounce_words_free(w);
}

static void too_many_states_are_refused(void **state)
{
    (void)state;
    struct bounce_words *w = bounce_words_new();
    char phrase[101];
    struct test_random random = {1};
    for (int i = 0; i < 1000; i++) {
        for (int k = 0; k < 100; k++)
            phrase[k] = (char)('a' + test_random_below(&random, 26));
        phrase[100] = '\0';
        assert_int_equal(bounce_words_add(w, bytes_cstr(phrase)), OK);
    }
    assert_int_equal(bounce_words_compile(w), E_LIMIT);
    bounce_words_free(w);
}

// ---- against looking for each phrase alone -----------------------------------------------------------------

#define WORDS 60
#define TEXTS 400

static bool is_word_byte(char c)
{
    return ascii_is_alnum(c);
}

static bool has_alone(struct bytes text, struct bytes phrase)
{
    for (size_t i = 0; i + phrase.len <= text.len; i++)
        if (bytes_eq(bytes_mid(text, i, phrase.len), phrase) &&
            (i == 0 || !is_word_byte(text.at[i - 1]) || !is_word_byte(phrase.at[0])) &&
            (i + phrase.len == text.len || !is_word_byte(text.at[i + phrase.len]) ||
             !is_word_byte(phrase.at[phrase.len - 1])))
            return true;
    return false;
}

static struct bytes random_words(struct test_random *random, char *at, uint32_t most)
{
    uint32_t n = 1 + test_random_below(random, most);
    for (uint32_t i = 0; i < n; i++)
        at[i] = "ab.-"[test_random_below(random, 4)];
    return bytes_of(at, n);
}

static void mark(void *ctx, uint32_t phrase)
{
    ((bool *)ctx)[phrase] = true;
}

static void agrees_with_looking_for_each(void **state)
{
    (void)state;
    struct test_random random = {7};
    char phrases[WORDS][6], text_at[200];
    struct bytes words[WORDS];
    struct bounce_words *w = bounce_words_new();
    for (size_t i = 0; i < WORDS; i++) {
        words[i] = random_words(&random, phrases[i], 6);
        assert_int_equal(bounce_words_add(w, words[i]), OK);
    }
    assert_int_equal(bounce_words_compile(w), OK);
    for (size_t t = 0; t < TEXTS; t++) {
        bool found[WORDS] = {false};
        struct bytes text = random_words(&random, text_at, sizeof text_at);
        bounce_words_find(w, text, mark, found);
        for (size_t i = 0; i < WORDS; i++)
            assert_number(phrases[i], found[i], has_alone(text, words[i]));
    }
    bounce_words_free(w);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(phrases_are_found_at_the_borders_of_words),
    cmocka_unit_test(bad_phrases_are_refused),
    cmocka_unit_test(too_many_states_are_refused),
    cmocka_unit_test(agrees_with_looking_for_each),
};
RUN_TESTS(tests)
