/* Moments and durations as people write them (ISO 8601), in milliseconds. Pure functions. */
#ifndef OXBOW_CLI_WHEN_H
#define OXBOW_CLI_WHEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "2024-02-29", "2024-02-29T12:30", "...:45", "...:45.123", then nothing or "Z" (UTC) or "+02:00", "-0530"; a blank may
 * stand for the T. Years 1970 to 9999. */
bool when_parse(const char *text, int64_t *unix_ms);
/* "P1DT2H3M4S": days, hours, minutes and seconds, each at most once, at least one. */
bool duration_parse(const char *text, int64_t *ms);
#define WHEN_TEXT_SIZE 96u
/* "2024-02-29T12:30:45.123Z" */
void when_format(int64_t unix_ms, char out[WHEN_TEXT_SIZE]);

#endif
