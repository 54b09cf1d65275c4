// SPDX-License-Identifier: MIT
#include "mail/mail_date.h"

#include "mail/mail_text.h"

static const char *const day_names[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char *const month_names[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

void mail_date_format(struct wall t, struct buf *out)
{
    struct civil c;
    wall_split(t, &c);
    buf_add_cstr(out, day_names[c.weekday]);
    buf_add_cstr(out, ", ");
    buf_add_padded(out, (uint64_t)c.day, 2);
    buf_add_byte(out, ' ');
    buf_add_cstr(out, month_names[c.month - 1]);
    buf_add_byte(out, ' ');
    buf_add_padded(out, (uint64_t)c.year, 4);
    buf_add_byte(out, ' ');
    buf_add_padded(out, (uint64_t)c.hour, 2);
    buf_add_byte(out, ':');
    buf_add_padded(out, (uint64_t)c.minute, 2);
    buf_add_byte(out, ':');
    buf_add_padded(out, (uint64_t)c.second, 2);
    buf_add_cstr(out, " +0000");
}

// The letters or the digits that *s starts with, and what white space follows them.
static bool take_run(struct bytes *s, bool (*is_member)(char c), struct bytes *out)
{
    size_t n = 0;
    while (n < s->len && is_member(s->at[n]))
        n++;
    *out = bytes_first(*s, n);
    *s = bytes_skip(*s, n);
    return n > 0 && mail_skip_cfws(s);
}

static bool take_number(struct bytes *s, size_t digits_min, size_t digits_max, int *out)
{
    struct bytes digits;
    uint64_t value;
    if (!take_run(s, ascii_is_digit, &digits) || digits.len < digits_min ||
        digits.len > digits_max || bytes_to_u64(digits, 99999, &value) != OK)
        return false;
    *out = (int)value;
    return true;
}

static bool take_char(struct bytes *s, char c)
{
    if (s->len == 0 || s->at[0] != c)
        return false;
    *s = bytes_skip(*s, 1);
    return mail_skip_cfws(s);
}

static bool take_name(struct bytes *s, const char *const *names, int count, int *out)
{
    struct bytes word;
    if (!take_run(s, ascii_is_alpha, &word))
        return false;
    for (*out = 0; *out < count; ++*out)
        if (bytes_eq_nocase(word, bytes_cstr(names[*out])))
            return true;
    return false;
}

// obs-zone by name. Military letters and unknown names say nothing: "-0000" (section 4.3).
static int zone_minutes(struct bytes name)
{
    static const struct {
        const char *name;
        int hours;
    } zones[] = {{"EST", -5}, {"EDT", -4}, {"CST", -6}, {"CDT", -5},
                 {"MST", -7}, {"MDT", -6}, {"PST", -8}, {"PDT", -7}};
    for (size_t i = 0; i < sizeof(zones) / sizeof(zones[0]); i++)
        if (bytes_eq_nocase(name, bytes_cstr(zones[i].name)))
            return zones[i].hours * 60;
    return 0; // UT, GMT and the rest
}

static bool take_zone(struct bytes *s, int *out_minutes)
{
    struct bytes word;
    uint64_t value;
    if (s->len && (s->at[0] == '+' || s->at[0] == '-')) {
        int sign = s->at[0] == '-' ? -1 : 1;
        *s = bytes_skip(*s, 1);
        if (!take_run(s, ascii_is_digit, &word) || word.len != 4 ||
            bytes_to_u64(word, 9959, &value) != OK || value % 100 > 59)
            return false;
        *out_minutes = sign * (int)(value / 100 * 60 + value % 100);
        return true;
    }
    if (!take_run(s, ascii_is_alpha, &word))
        return false;
    *out_minutes = zone_minutes(word);
    return true;
}

// day month year; an obsolete year has two or three digits (section 4.3).
static bool take_date(struct bytes *s, struct civil *c)
{
    size_t digits = 0;
    if (!take_number(s, 1, 2, &c->day) || !take_name(s, month_names, 12, &c->month))
        return false;
    c->month++;
    while (digits < s->len && ascii_is_digit(s->at[digits]))
        digits++;
    if (!take_number(s, 2, 5, &c->year))
        return false;
    if (digits == 2)
        c->year += c->year < 50 ? 2000 : 1900;
    else if (digits == 3)
        c->year += 1900;
    return true;
}

static bool take_time(struct bytes *s, struct civil *c)
{
    if (!take_number(s, 2, 2, &c->hour) || !take_char(s, ':') || !take_number(s, 2, 2, &c->minute))
        return false;
    if (s->len && s->at[0] == ':')
        return take_char(s, ':') && take_number(s, 2, 2, &c->second);
    return true;
}

int mail_date_parse(struct bytes text, struct wall *out)
{
    struct civil c = {0};
    int offset, weekday = -1;
    if (!mail_skip_cfws(&text))
        return E_SYNTAX;
    if (text.len && ascii_is_alpha(text.at[0]) &&
        (!take_name(&text, day_names, 7, &weekday) || !take_char(&text, ',')))
        return E_SYNTAX;
    if (!take_date(&text, &c) || !take_time(&text, &c) || !take_zone(&text, &offset) || text.len)
        return E_SYNTAX;
    int err = wall_join(&c, offset, out);
    if (err)
        return err;
    // section 3.3: the day of the week is that of the date, where the date was written
    struct civil written;
    wall_split((struct wall){out->us + offset * 60000000LL}, &written);
    return weekday >= 0 && weekday != written.weekday ? E_SYNTAX : OK;
}
