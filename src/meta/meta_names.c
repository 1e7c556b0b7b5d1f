/* Names and ids as Kafka has them. */
#include <string.h>

#include "base/assert.h"
#include "meta/meta_image.h"
#include "rt/env.h"

#define TOPIC_NAME_MAX 249u

void uuid_text(const struct uuid *u, char out[23]) {
    static const char digits[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t n = 0;
    for (size_t i = 0; i < 16; i += 3) {
        uint32_t v = (uint32_t)u->bytes[i] << 16;
        if (i + 1 < 16) v |= (uint32_t)u->bytes[i + 1] << 8 | u->bytes[i + 2];
        out[n++] = digits[v >> 18];
        out[n++] = digits[v >> 12 & 63];
        if (i + 1 < 16) {
            out[n++] = digits[v >> 6 & 63];
            out[n++] = digits[v & 63];
        }
    }
    ASSERT(n == 22);
    out[n] = '\0';
}

void uuid_draw(struct env *env, struct uuid *out) {
    do {
        env_random(env, out->bytes, sizeof(out->bytes));
        out->bytes[6] = (uint8_t)((out->bytes[6] & 0x0f) | 0x40);
        out->bytes[8] = (uint8_t)((out->bytes[8] & 0x3f) | 0x80);
    } while (out->bytes[0] >> 2 ==
             62); /* its text would begin with '-', which command lines take for an option; Kafka avoids it too */
}

bool meta_topic_name_valid(const char *name, size_t size) {
    if (size < 1 || size > TOPIC_NAME_MAX) return false;
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                    c == '_' || c == '-';
        if (!good) return false;
    }
    return !(name[0] == '.' && (size == 1 || (size == 2 && name[1] == '.')));
}
