/* Fuzz targets that make something of their input, rather than parse it as it is, take it apart with this: numbers, sizes
 * and bytes, in the order asked for. At the end of the input everything is zero, so that every input is a whole one, and
 * a shorter one is simpler. */
#ifndef OXBOW_TESTS_FUZZ_FEED_H
#define OXBOW_TESTS_FUZZ_FEED_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct feed {
    const uint8_t *at, *end;
};

static inline struct feed feed_of(const uint8_t *data, size_t size) {
    return (struct feed){data, data + size};
}
static inline size_t feed_left(const struct feed *f) {
    return (size_t)(f->end - f->at);
}
static inline uint8_t feed_u8(struct feed *f) {
    return f->at < f->end ? *f->at++ : 0;
}
static inline uint16_t feed_u16(struct feed *f) {
    uint16_t high = feed_u8(f);
    return (uint16_t)(high << 8 | feed_u8(f));
}
static inline uint64_t feed_u64(struct feed *f) {
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v = v << 8 | feed_u8(f);
    return v;
}
/* At most n bytes of the input; *got of them are there. */
static inline const uint8_t *feed_bytes(struct feed *f, size_t n, size_t *got) {
    const uint8_t *p = f->at;
    *got = n < feed_left(f) ? n : feed_left(f);
    f->at += *got;
    return p;
}
/* A piece with a size of two bytes in front. */
static inline const uint8_t *feed_piece(struct feed *f, size_t *size) {
    size_t n = feed_u16(f);
    return feed_bytes(f, n, size);
}

#endif
