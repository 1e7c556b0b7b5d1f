/* Kafka's messages: the C types of fields, descriptors of messages, and the one interpreter that decodes, encodes and
 * initialises every message at every version. The generated kafka_messages.h holds the structs and descriptors, and
 * typed wrappers of the functions here.
 *
 * Decoding works on one contiguous frame. Strings, bytes and records are views into it; arrays live in the caller's
 * arena. A length is never believed: an array may claim at most as many elements as the rest of the frame, less what
 * the arrays around it still need, can hold at their smallest encoding. Since an element's struct is at most
 * KAFKA_DECODE_RATIO times that (asserted at compile time for each), the arena is asked for at most KAFKA_DECODE_RATIO
 * times the frame and some rounding; kafka_decode_bound states what it then holds. Honest frames need far less, for
 * their bytes are records and names: arena.limit_bytes says how much this one may take.
 *
 * A field that a version does not have takes its default when decoded. When encoded, it is left out if it is ignorable
 * or has its default value; otherwise the message cannot be said in that version: ERR_UNSUPPORTED_VERSION. Therefore
 * messages are initialised to their defaults first. */
#ifndef OXBOW_KAFKA_CODEC_H
#define OXBOW_KAFKA_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/slice.h"
#include "kafka/outbuf.h"

struct kafka_string {
    const char *data; /* not NUL-terminated */
    int32_t size;     /* -1: null */
};
struct kafka_bytes {
    const uint8_t *data;
    int32_t size; /* -1: null */
};
struct kafka_uuid {
    uint8_t bytes[16]; /* in wire order; all zero: none */
};
/* Record data. Decoders set `data` and `size`. Encoders take `slices` when it is not NULL, whose sizes must add up to
 * `size`, and reference the large ones; else they copy `data`. */
struct kafka_records {
    const uint8_t *data;
    const struct slice *slices; /* borrowed during encoding */
    uint32_t slice_count;
    int32_t size; /* in all; -1: null */
};

/* count -1: a null array. */
#define KAFKA_ARRAY(name, type)                                                                                        \
    struct name {                                                                                                      \
        type *items;                                                                                                   \
        int32_t count;                                                                                                 \
    }
KAFKA_ARRAY(kafka_array, void);
KAFKA_ARRAY(kafka_bool_array, bool);
KAFKA_ARRAY(kafka_int8_array, int8_t);
KAFKA_ARRAY(kafka_int16_array, int16_t);
KAFKA_ARRAY(kafka_uint16_array, uint16_t);
KAFKA_ARRAY(kafka_int32_array, int32_t);
KAFKA_ARRAY(kafka_uint32_array, uint32_t);
KAFKA_ARRAY(kafka_int64_array, int64_t);
KAFKA_ARRAY(kafka_float64_array, double);
KAFKA_ARRAY(kafka_uuid_array, struct kafka_uuid);
KAFKA_ARRAY(kafka_string_array, struct kafka_string);
KAFKA_ARRAY(kafka_bytes_array, struct kafka_bytes);

static inline struct kafka_string kafka_string_of(const char *s) { /* NULL: null */
    return (struct kafka_string){s, s ? (int32_t)strlen(s) : -1};
}
static inline struct kafka_string kafka_string_view(const char *s, size_t n) {
    return (struct kafka_string){s, (int32_t)n};
}
static inline bool kafka_string_equal(struct kafka_string a, struct kafka_string b) {
    return a.size == b.size && (a.size <= 0 || memcmp(a.data, b.data, (size_t)a.size) == 0);
}
static inline bool kafka_uuid_is_zero(const struct kafka_uuid *u) {
    static const struct kafka_uuid zero;
    return memcmp(u, &zero, sizeof(zero)) == 0;
}
static inline bool kafka_uuid_equal(const struct kafka_uuid *a, const struct kafka_uuid *b) {
    return memcmp(a, b, sizeof(*a)) == 0;
}

enum kafka_kind {
    KAFKA_BOOL,
    KAFKA_INT8,
    KAFKA_INT16,
    KAFKA_UINT16,
    KAFKA_INT32,
    KAFKA_UINT32,
    KAFKA_INT64,
    KAFKA_FLOAT64,
    KAFKA_UUID,
    KAFKA_STRING,
    KAFKA_BYTES,
    KAFKA_RECORDS,
    KAFKA_STRUCT,         /* embedded */
    KAFKA_STRUCT_POINTER, /* nullable struct: NULL is null, and the default */
};

#define KAFKA_FIELD_ARRAY 1u        /* of `kind` */
#define KAFKA_FIELD_IGNORABLE 2u    /* silently left out of versions without it */
#define KAFKA_FIELD_DEFAULT_NULL 4u /* string, bytes, records, array: default is null, not empty */
#define KAFKA_FIELD_INFLEXIBLE 8u   /* old length encoding even in flexible versions */

/* min > max: no version. */
struct kafka_versions {
    int8_t min, max;
};
static inline bool kafka_versions_have(struct kafka_versions v, int16_t version) {
    return v.min <= version && version <= v.max;
}

struct kafka_struct;

struct kafka_field {
    const char *name;
    const struct kafka_struct *of; /* for structs */
    const char *default_string;    /* NULL: empty (or null, by the flag) */
    int64_t default_int;           /* for integers and bool */
    uint16_t offset;               /* in the struct */
    int16_t tag;                   /* -1: never tagged */
    uint8_t kind, flags;
    uint8_t width; /* of an integer or float64 that is no array: its bytes, in C as on the wire; else 0 */
    struct kafka_versions versions, nullable, tagged;
};

/* What a struct is in one version; bit i is field i. */
struct kafka_layout {
    uint16_t wire;     /* the fields that are there, one behind the other */
    uint16_t tagged;   /* those that are tagged */
    uint16_t lacking;  /* those that it has not and that are not ignorable: they have to have their defaults */
    uint16_t min_size; /* smallest encoding */
};

struct kafka_struct {
    const char *name;
    const struct kafka_field *fields;
    const struct kafka_layout *layouts; /* by version - first_version */
    const void *defaults;               /* a message with every field at its default */
    uint16_t field_count;
    uint16_t size; /* sizeof the C struct */
    int8_t first_version, last_version;
    int8_t first_flexible; /* 127: none */
};

static inline const struct kafka_layout *kafka_layout_of(const struct kafka_struct *type, int16_t version) {
    return &type->layouts[version - type->first_version];
}

struct kafka_api {
    int16_t key, min_version, max_version;
    int16_t first_flexible; /* 127: none */
    const char *name;
    const struct kafka_struct *request, *response;
};

#define KAFKA_DECODE_RATIO 24
/* Beside what decoding takes, arena.limit_bytes must have so much for each element of an array: what is done about it, and
 * the answer to it, take more than its few bytes. */
#define KAFKA_ELEMENT_BYTES ((size_t)128)

/* What an arena may hold after decoding a frame of n bytes, whatever it says: a nonempty array takes at least two bytes
 * of the frame, so that rounding adds at most 8 per byte, and an arena holds at most twice what it was asked for and a
 * chunk. */
static inline size_t kafka_decode_bound(size_t frame_size) {
    return 2 * (KAFKA_DECODE_RATIO + 8) * frame_size + ARENA_CHUNK_MAX;
}

/* Size in C of one value of a field, or of one element of an array. */
size_t kafka_field_size(const struct kafka_field *f);
/* Sets every field to its default. `message` has type->size bytes. */
void kafka_init(const struct kafka_struct *type, void *message);
/* `count` messages with their defaults. */
void *kafka_new(const struct kafka_struct *type, struct arena *a, size_t count);

/* Decodes data[0..size), which must be used up exactly; *message borrows from `data` and `a` until the arena is reset,
 * also after an error, when its contents mean nothing. ERR_PROTOCOL for anything malformed, ERR_TOO_LARGE when
 * the arena's limit_bytes do not suffice, ERR_UNSUPPORTED_VERSION for a version that is not in the schema. */
enum err kafka_decode(const struct kafka_struct *type, int16_t version, const uint8_t *data, size_t size,
                      struct arena *a, void *message) WARN_UNUSED;
/* The same for a message with more bytes behind it; *used is what it took. */
enum err kafka_decode_prefix(const struct kafka_struct *type, int16_t version, const uint8_t *data, size_t size,
                             struct arena *a, void *message, size_t *used) WARN_UNUSED;

/* Appends the encoded message. ERR_TOO_LARGE for a length that does not fit its field (strings: 32767), ERR_INVALID for
 * null where the version has no null and for slices that do not add up, ERR_UNSUPPORTED_VERSION for a version that is
 * not in the schema or that lacks a field which is set. After an error *out holds a part of the message: clear it. */
enum err kafka_encode(const struct kafka_struct *type, int16_t version, const void *message,
                      struct outbuf *out) WARN_UNUSED;
/* How many bytes kafka_encode would append; the same errors. */
enum err kafka_encoded_size(const struct kafka_struct *type, int16_t version, const void *message,
                            size_t *size) WARN_UNUSED;

#endif
