#include "cli/when.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DAY_MS ((int64_t)86400000)

/* Days from 1970-01-01, by the civil calendar: years begin in March, so that the leap day is the last one. */
static int64_t days_from_civil(int64_t year, unsigned month, unsigned day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (int64_t)((month + 9) % 12) + 2) / 5 + (int64_t)day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static unsigned days_in_month(unsigned year, unsigned month) {
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

/* Exactly n digits; moves on behind them. */
static bool digits(const char **at, unsigned n, unsigned *out) {
    *out = 0;
    for (unsigned i = 0; i < n; i++, (*at)++) {
        if (**at < '0' || **at > '9') return false;
        *out = *out * 10 + (unsigned)(**at - '0');
    }
    return true;
}

static bool literal(const char **at, char c) {
    if (**at != c) return false;
    (*at)++;
    return true;
}

static bool zone_parse(const char *s, int64_t *offset_ms) {
    *offset_ms = 0;
    if (*s == '\0' || strcmp(s, "Z") == 0 || strcmp(s, "z") == 0) return true;
    int sign = *s == '+' ? 1 : *s == '-' ? -1 : 0;
    unsigned hours, minutes = 0;
    s++;
    if (sign == 0 || !digits(&s, 2, &hours)) return false;
    if (*s != '\0') {
        (void)literal(&s, ':');
        if (!digits(&s, 2, &minutes)) return false;
    }
    if (*s != '\0' || hours > 18 || minutes > 59) return false;
    *offset_ms = sign * (int64_t)(hours * 60 + minutes) * 60000;
    return true;
}

/* "12:30[:45[.123]]"; fractions beyond milliseconds are cut off. */
static bool clock_parse(const char **at, int64_t *ms) {
    unsigned hour, minute, second = 0, milli = 0;
    if (!digits(at, 2, &hour) || !literal(at, ':') || !digits(at, 2, &minute)) return false;
    if (literal(at, ':')) {
        if (!digits(at, 2, &second)) return false;
        if (literal(at, '.') || literal(at, ',')) {
            if (**at < '0' || **at > '9') return false;
            for (unsigned unit = 100; **at >= '0' && **at <= '9'; unit /= 10, (*at)++)
                milli += unit * (unsigned)(**at - '0');
        }
    }
    if (hour > 23 || minute > 59 || second > 59) return false;
    *ms = ((int64_t)hour * 3600 + minute * 60 + second) * 1000 + milli;
    return true;
}

bool when_parse(const char *text, int64_t *unix_ms) {
    unsigned year, month, day;
    int64_t clock_ms = 0, zone_ms = 0;
    const char *s = text;
    if (!digits(&s, 4, &year) || !literal(&s, '-') || !digits(&s, 2, &month) || !literal(&s, '-') ||
        !digits(&s, 2, &day))
        return false;
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month)) return false;
    if (*s == 'T' || *s == 't' || *s == ' ') {
        s++;
        if (!clock_parse(&s, &clock_ms) || !zone_parse(s, &zone_ms)) return false;
    } else if (*s != '\0') {
        return false;
    }
    int64_t ms = days_from_civil(year, month, day) * DAY_MS + clock_ms - zone_ms;
    if (ms < 0) return false;
    *unix_ms = ms;
    return true;
}

bool duration_parse(const char *text, int64_t *ms) {
    static const char units[] = "DHMS";
    static const int64_t sizes[] = {86400000, 3600000, 60000, 1000};
    const char *s = text;
    size_t next = 0; /* units come in this order */
    bool in_time = false, any = false;
    *ms = 0;
    if (!literal(&s, 'P')) return false;
    while (*s) {
        if (!in_time && literal(&s, 'T')) {
            in_time = true;
            if (next == 0) next = 1;
            if (*s == '\0') return false;
            continue;
        }
        int64_t v = 0, total;
        const char *start = s;
        for (; *s >= '0' && *s <= '9'; s++) {
            if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s - '0', &v)) return false;
        }
        const char *unit = *s && s > start ? strchr(units, *s) : NULL;
        if (!unit || (size_t)(unit - units) < next || (unit == units) == in_time) return false;
        if (__builtin_mul_overflow(v, sizes[unit - units], &total) || __builtin_add_overflow(*ms, total, ms))
            return false;
        next = (size_t)(unit - units) + 1;
        any = true;
        s++;
    }
    return any;
}

void when_format(int64_t unix_ms, char out[WHEN_TEXT_SIZE]) {
    int64_t days = unix_ms / DAY_MS, rest = unix_ms % DAY_MS;
    if (rest < 0) {
        rest += DAY_MS;
        days--;
    }
    /* The inverse of days_from_civil. */
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097, day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153;
    int64_t day = day_of_year - (153 * shifted + 2) / 5 + 1, month = shifted < 10 ? shifted + 3 : shifted - 9;
    int64_t year = year_of_era + era * 400 + (month <= 2);
    (void)snprintf(out, WHEN_TEXT_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", (int)year, (int)month, (int)day,
                   (int)(rest / 3600000), (int)(rest / 60000 % 60), (int)(rest / 1000 % 60), (int)(rest % 1000));
}
