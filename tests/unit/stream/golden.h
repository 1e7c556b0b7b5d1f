/* Golden bytes: what was once written must be read for ever, and is written the same way. GOLDEN_PRINT=1 in the
 * environment prints them instead, for a new format. */
#ifndef OXBOW_TESTS_STREAM_GOLDEN_H
#define OXBOW_TESTS_STREAM_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* hex: pairs of digits; "*N" repeats the pair before it so that there are N of it. Returns the size. */
static inline size_t golden_bytes(const char *hex, uint8_t *out, size_t capacity) {
    size_t n = 0;
    for (const char *s = hex; *s;) {
        if (*s == '*') {
            char *end;
            for (unsigned long more = strtoul(s + 1, &end, 10); more > 1; more--, n++) {
                assert_true(n > 0 && n < capacity);
                out[n] = out[n - 1];
            }
            s = end;
        } else if (*s == ' ') {
            s++;
        } else {
            unsigned v;
            assert_int_equal(sscanf(s, "%2x", &v), 1);
            assert_true(n < capacity);
            out[n++] = (uint8_t)v;
            s += 2;
        }
    }
    return n;
}

static inline void golden_check(const char *name, const char *hex, const uint8_t *data, size_t size) {
    if (getenv("GOLDEN_PRINT")) {
        printf("%s: \"", name);
        for (size_t i = 0; i < size;) {
            size_t run = 1;
            while (i + run < size && data[i + run] == data[i]) run++;
            printf("%02x", data[i]);
            if (run > 3) {
                printf("*%zu ", run);
                i += run;
            } else {
                i++;
            }
        }
        printf("\"\n");
        return;
    }
    uint8_t want[4096];
    assert_int_equal(golden_bytes(hex, want, sizeof(want)), size);
    assert_memory_equal(data, want, size);
}

#endif
