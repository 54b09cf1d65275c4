// SPDX-License-Identifier: MIT
#include "base/clock.h"

#include "base/buf.h"
#include "base/check.h"

#define US_PER_S 1000000LL
#define S_PER_DAY 86400LL

static int64_t add_ms(int64_t us, int64_t ms)
{
    int64_t delta, sum;
    if (us == INT64_MAX || __builtin_mul_overflow(ms, (int64_t)1000, &delta) ||
        __builtin_add_overflow(us, delta, &sum))
        return us != INT64_MAX && ms < 0 ? INT64_MIN : INT64_MAX;
    return sum;
}

struct mono mono_add_ms(struct mono t, int64_t ms)
{
    return (struct mono){add_ms(t.us, ms)};
}

struct wall wall_add_ms(struct wall t, int64_t ms)
{
    return (struct wall){add_ms(t.us, ms)};
}

// The algorithms count from 0000-03-01, so that a leap day ends a year; 400 years are an era.
int64_t clock_days(int year, int month, int day)
{
    int64_t y = year - (month <= 2);
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

void wall_split(struct wall t, struct civil *out)
{
    int64_t seconds = t.us / US_PER_S;
    int64_t rest_us = t.us % US_PER_S;
    if (rest_us < 0) {
        rest_us += US_PER_S;
        seconds--;
    }
    int64_t days = seconds / S_PER_DAY;
    int64_t of_day = seconds % S_PER_DAY;
    if (of_day < 0) {
        of_day += S_PER_DAY;
        days--;
    }
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    int month = (int)(mp < 10 ? mp + 3 : mp - 9);
    *out = (struct civil){.year = (int)(yoe + era * 400 + (month <= 2)),
                          .month = month,
                          .day = (int)(doy - (153 * mp + 2) / 5 + 1),
                          .hour = (int)(of_day / 3600),
                          .minute = (int)(of_day / 60 % 60),
                          .second = (int)(of_day % 60),
                          .us = (int)rest_us,
                          .weekday = (int)(((days % 7) + 11) % 7)}; // 1970-01-01 was a Thursday
}

int clock_month_days(int year, int month)
{
    static const char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && is_leap ? 29 : days[month - 1];
}

int wall_join(const struct civil *c, int offset_minutes, struct wall *out)
{
    if (c->month < 1 || c->month > 12 || c->day < 1 || c->day > clock_month_days(c->year, c->month))
        return E_SYNTAX;
    if (c->hour < 0 || c->hour > 23 || c->minute < 0 || c->minute > 59 || c->second < 0 ||
        c->second > 60)
        return E_SYNTAX;
    if (c->year < 0 || c->year > 9999)
        return E_LIMIT;
    int second = c->second == 60 ? 59 : c->second; // a leap second has no place in UTC arithmetic
    int64_t s = clock_days(c->year, c->month, c->day) * S_PER_DAY + c->hour * 3600 +
                c->minute * 60 + second - offset_minutes * 60LL;
    if (s < 0 || s > 253402300799LL) // 9999-12-31T23:59:59Z
        return E_LIMIT;
    out->us = s * US_PER_S + c->us;
    return OK;
}

struct wall wall_trust(struct wall *trusted, struct wall now, int64_t step_ms)
{
    if (trusted->us < now.us)
        *trusted = wall_min(wall_add_ms(*trusted, step_ms), now);
    return wall_min(*trusted, now);
}

void wall_format(struct wall t, struct buf *out)
{
    struct civil c;
    wall_split(t, &c);
    const struct {
        int value;
        unsigned digits;
        char end;
    } parts[] = {{c.year, 4, '-'},   {c.month, 2, '-'},  {c.day, 2, 'T'},      {c.hour, 2, ':'},
                 {c.minute, 2, ':'}, {c.second, 2, '.'}, {c.us / 1000, 3, 'Z'}};
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        buf_add_padded(out, (uint64_t)parts[i].value, parts[i].digits);
        buf_add_byte(out, parts[i].end);
    }
}

// Takes exactly n digits and the byte behind them, unless `end` is 0. False if they are not there.
static bool take_digits(struct bytes *s, size_t n, const char *end, int *out)
{
    uint64_t value;
    if (s->len < n + (end ? 1 : 0) || bytes_to_u64(bytes_first(*s, n), 9999, &value) != OK)
        return false;
    if (end && !ascii_is_one_of(s->at[n], end))
        return false;
    *out = (int)value;
    *s = bytes_skip(*s, n + (end ? 1 : 0));
    return true;
}

// time-secfrac: "." 1*DIGIT, of which six count.
static bool take_fraction(struct bytes *s, int *out_us)
{
    *out_us = 0;
    if (s->len == 0 || s->at[0] != '.')
        return true;
    *s = bytes_skip(*s, 1);
    int scale = 100000;
    size_t digits = 0;
    for (; digits < s->len && ascii_is_digit(s->at[digits]); digits++, scale /= 10)
        *out_us += (s->at[digits] - '0') * scale;
    *s = bytes_skip(*s, digits);
    return digits > 0;
}

// time-offset: "Z" or ("+" / "-") HH ":" MM
static bool take_offset(struct bytes *s, int *out_minutes)
{
    int hours, minutes;
    *out_minutes = 0;
    if (s->len == 1 && (s->at[0] == 'Z' || s->at[0] == 'z')) {
        *s = BYTES_NONE;
        return true;
    }
    if (s->len != 6 || (s->at[0] != '+' && s->at[0] != '-'))
        return false;
    int sign = s->at[0] == '-' ? -1 : 1;
    *s = bytes_skip(*s, 1);
    if (!take_digits(s, 2, ":", &hours) || !take_digits(s, 2, NULL, &minutes) || hours > 23 ||
        minutes > 59)
        return false;
    *out_minutes = sign * (hours * 60 + minutes);
    return true;
}

int wall_parse(struct bytes text, struct wall *out)
{
    struct civil c = {0};
    int offset;
    // section 5.6: "T" may be lower case or, by agreement, a space
    if (bytes_find(text, '\0') >= 0 || !take_digits(&text, 4, "-", &c.year) ||
        !take_digits(&text, 2, "-", &c.month) || !take_digits(&text, 2, "Tt ", &c.day) ||
        !take_digits(&text, 2, ":", &c.hour) || !take_digits(&text, 2, ":", &c.minute) ||
        !take_digits(&text, 2, NULL, &c.second) || !take_fraction(&text, &c.us) ||
        !take_offset(&text, &offset))
        return E_SYNTAX;
    return wall_join(&c, offset, out);
}
