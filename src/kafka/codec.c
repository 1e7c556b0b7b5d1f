/* One interpreter for all messages. A decoder walks the field table of a struct and the bytes together; an encoder
 * walks the table and writes into a sink, which either appends to an outbuf or only counts: tagged fields carry their
 * size in front, so their bytes are counted first.
 *
 * Encodings (Kafka protocol, KIP-482): integers big-endian; a length is int16 (string) or int32 (the rest), -1 for
 * null, and in flexible versions an unsigned varint of length + 1, 0 for null; a struct in a flexible version ends with
 * its tagged fields: count, then tag, size, bytes, in ascending order. Unknown tags are skipped. */
#include "kafka/codec.h"

#include "base/assert.h"

#define STRING_MAX 32767

_Static_assert(sizeof(struct kafka_string) == sizeof(struct kafka_bytes), "strings and bytes are handled alike");
_Static_assert(sizeof(double) == 8, "float64");

static bool known_version(const struct kafka_struct *type, int16_t version) {
    return version >= type->first_version && version <= type->last_version;
}

size_t kafka_field_size(const struct kafka_field *f) {
    switch ((enum kafka_kind)f->kind) {
    case KAFKA_BOOL:
    case KAFKA_INT8:
        return 1;
    case KAFKA_INT16:
    case KAFKA_UINT16:
        return 2;
    case KAFKA_INT32:
    case KAFKA_UINT32:
        return 4;
    case KAFKA_INT64:
    case KAFKA_FLOAT64:
        return 8;
    case KAFKA_UUID:
        return sizeof(struct kafka_uuid);
    case KAFKA_STRING:
    case KAFKA_BYTES:
        return sizeof(struct kafka_bytes);
    case KAFKA_RECORDS:
        return sizeof(struct kafka_records);
    case KAFKA_STRUCT:
        return f->of->size;
    case KAFKA_STRUCT_POINTER:
        return sizeof(void *);
    }
    UNREACHABLE();
}

/* ---- Defaults ---- */

void kafka_init(const struct kafka_struct *type, void *message) {
    memcpy(message, type->defaults, type->size);
}

void *kafka_new(const struct kafka_struct *type, struct arena *a, size_t count) {
    ASSERT(count <= SIZE_MAX / 2 / type->size);
    uint8_t *items = arena_alloc(a, count * type->size);
    for (size_t i = 0; i < count; i++) kafka_init(type, items + i * type->size);
    return items;
}

static bool is_default(const struct kafka_field *f, const void *p) {
    bool null = f->flags & KAFKA_FIELD_DEFAULT_NULL;
    if (f->flags & KAFKA_FIELD_ARRAY) {
        struct kafka_array a;
        memcpy(&a, p, sizeof(a));
        return null ? a.count < 0 : a.count == 0;
    }
    switch ((enum kafka_kind)f->kind) {
    case KAFKA_BOOL:
        return *(const bool *)p == (f->default_int != 0);
    case KAFKA_INT8:
        return *(const int8_t *)p == (int8_t)f->default_int;
    case KAFKA_INT16:
    case KAFKA_UINT16:
        return *(const int16_t *)p == (int16_t)f->default_int;
    case KAFKA_INT32:
    case KAFKA_UINT32:
        return *(const int32_t *)p == (int32_t)f->default_int;
    case KAFKA_INT64:
        return *(const int64_t *)p == f->default_int;
    case KAFKA_FLOAT64: /* by its bits: -0.0 is not the default */
        return be64_get(p) == 0;
    case KAFKA_UUID:
        return kafka_uuid_is_zero(p);
    case KAFKA_STRING: {
        const struct kafka_string *s = p;
        if (null) return s->size < 0;
        return kafka_string_equal(*s, kafka_string_of(f->default_string ? f->default_string : ""));
    }
    case KAFKA_BYTES:
        return null ? ((const struct kafka_bytes *)p)->size < 0 : ((const struct kafka_bytes *)p)->size == 0;
    case KAFKA_RECORDS:
        return null ? ((const struct kafka_records *)p)->size < 0 : ((const struct kafka_records *)p)->size == 0;
    case KAFKA_STRUCT:
        for (unsigned i = 0; i < f->of->field_count; i++) {
            const struct kafka_field *inner = &f->of->fields[i];
            if (!is_default(inner, (const uint8_t *)p + inner->offset)) return false;
        }
        return true;
    case KAFKA_STRUCT_POINTER: {
        void *pointer;
        memcpy(&pointer, p, sizeof(pointer));
        return pointer == NULL;
    }
    }
    UNREACHABLE();
}

/* ---- Decoding ---- */

struct decoder {
    const uint8_t *at, *end;
    size_t reserved; /* the least that the elements still to come of the arrays around will take */
    struct arena *arena;
    int16_t version;
    bool flexible;
    size_t elements; /* of all arrays so far */
};

static inline size_t left(const struct decoder *d) {
    return (size_t)(d->end - d->at);
}

/* What something nested may claim. Without `reserved`, each level of nesting could claim the whole rest once more. */
static inline size_t unclaimed(const struct decoder *d) {
    return left(d) > d->reserved ? left(d) - d->reserved : 0;
}

static inline const uint8_t *take(struct decoder *d, size_t n) {
    if (OX_UNLIKELY(left(d) < n)) return NULL;
    const uint8_t *p = d->at;
    d->at += n;
    return p;
}

/* -1: malformed. */
static int64_t take_long_uvarint(struct decoder *d) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift <= 28; shift += 7) {
        const uint8_t *p = take(d, 1);
        if (!p) return -1;
        v |= (uint64_t)(*p & 0x7f) << shift;
        if (!(*p & 0x80)) return v <= UINT32_MAX ? (int64_t)v : -1;
    }
    return -1;
}

static inline int64_t take_uvarint(struct decoder *d) {
    if (OX_LIKELY(d->at < d->end && *d->at < 0x80)) return *d->at++;
    return take_long_uvarint(d);
}

#define LENGTH_BAD (-2)

/* A length or count: -1 (null) .. INT32_MAX, or LENGTH_BAD. `wide`: an int32 in inflexible versions, else an int16. */
static inline int32_t take_length(struct decoder *d, const struct kafka_field *f, bool wide) {
    int32_t length;
    if (d->flexible && !(f->flags & KAFKA_FIELD_INFLEXIBLE)) {
        int64_t v = take_uvarint(d);
        if (v < 0 || v > (int64_t)INT32_MAX + 1) return LENGTH_BAD;
        length = (int32_t)(v - 1);
    } else {
        const uint8_t *p = take(d, wide ? 4 : 2);
        if (!p) return LENGTH_BAD;
        length = wide ? (int32_t)be32_get(p) : (int16_t)be16_get(p);
    }
    if (OX_LIKELY(length >= 0)) return length;
    return length == -1 && kafka_versions_have(f->nullable, d->version) ? length : LENGTH_BAD;
}

/* Integers of `width` bytes between the wire and C. */
static inline void load_number(void *p, const uint8_t *b, unsigned width) {
    if (width == 4) {
        *(uint32_t *)p = be32_get(b);
    } else if (width == 8) {
        uint64_t v = be64_get(b);
        memcpy(p, &v, sizeof(v));
    } else if (width == 2) {
        *(uint16_t *)p = be16_get(b);
    } else {
        *(uint8_t *)p = *b;
    }
}

static inline void store_number(uint8_t *b, const void *p, unsigned width) {
    if (width == 4) {
        be32_put(b, *(const uint32_t *)p);
    } else if (width == 8) {
        uint64_t v;
        memcpy(&v, p, sizeof(v));
        be64_put(b, v);
    } else if (width == 2) {
        be16_put(b, *(const uint16_t *)p);
    } else {
        *b = *(const uint8_t *)p;
    }
}

static enum err decode_struct(struct decoder *d, const struct kafka_struct *type, void *message);

/* Bytes that follow a length: string, bytes, records. NULL in data for null, LENGTH_BAD in size for malformed. */
static struct kafka_bytes take_view(struct decoder *d, const struct kafka_field *f) {
    const struct kafka_bytes bad = {NULL, LENGTH_BAD};
    int32_t size = take_length(d, f, f->kind != KAFKA_STRING);
    if (size < 0) return (struct kafka_bytes){NULL, size};
    if (f->kind == KAFKA_STRING && size > STRING_MAX) return bad;
    const uint8_t *data = take(d, (size_t)size);
    return data ? (struct kafka_bytes){data, size} : bad;
}

static enum err decode_pointer(struct decoder *d, const struct kafka_field *f, void *p) {
    const uint8_t *present = take(d, 1);
    if (!present) return ERR_PROTOCOL;
    void *inner = NULL;
    enum err e = OK;
    if ((int8_t)*present < 0) {
        if (!kafka_versions_have(f->nullable, d->version)) return ERR_PROTOCOL;
    } else {
        /* Bounded like an array of one. */
        if (unclaimed(d) < kafka_layout_of(f->of, d->version)->min_size) return ERR_PROTOCOL;
        inner = arena_try_alloc(d->arena, f->of->size);
        if (!inner) return ERR_TOO_LARGE;
        e = decode_struct(d, f->of, inner);
    }
    memcpy(p, &inner, sizeof(inner));
    return e;
}

static enum err decode_value(struct decoder *d, const struct kafka_field *f, void *p) {
    const uint8_t *b;
    switch ((enum kafka_kind)f->kind) {
    case KAFKA_BOOL:
        if (!(b = take(d, 1))) return ERR_PROTOCOL;
        *(bool *)p = *b != 0;
        return OK;
    case KAFKA_INT8:
    case KAFKA_INT16:
    case KAFKA_UINT16:
    case KAFKA_INT32:
    case KAFKA_UINT32:
    case KAFKA_INT64:
    case KAFKA_FLOAT64: {
        unsigned width = (unsigned)kafka_field_size(f);
        if (!(b = take(d, width))) return ERR_PROTOCOL;
        load_number(p, b, width);
        return OK;
    }
    case KAFKA_UUID:
        if (!(b = take(d, sizeof(struct kafka_uuid)))) return ERR_PROTOCOL;
        memcpy(p, b, sizeof(struct kafka_uuid));
        return OK;
    case KAFKA_STRING:
    case KAFKA_BYTES: {
        struct kafka_bytes v = take_view(d, f);
        if (v.size == LENGTH_BAD) return ERR_PROTOCOL;
        memcpy(p, &v, sizeof(v));
        return OK;
    }
    case KAFKA_RECORDS: {
        struct kafka_bytes v = take_view(d, f);
        if (v.size == LENGTH_BAD) return ERR_PROTOCOL;
        *(struct kafka_records *)p = (struct kafka_records){.data = v.data, .size = v.size};
        return OK;
    }
    case KAFKA_STRUCT:
        return decode_struct(d, f->of, p);
    case KAFKA_STRUCT_POINTER:
        return decode_pointer(d, f, p);
    }
    UNREACHABLE();
}

/* The smallest encoding of an array's element. */
static size_t element_min(const struct decoder *d, const struct kafka_field *f) {
    bool compact = d->flexible && !(f->flags & KAFKA_FIELD_INFLEXIBLE);
    switch ((enum kafka_kind)f->kind) {
    case KAFKA_STRING:
        return compact ? 1 : 2;
    case KAFKA_BYTES:
    case KAFKA_RECORDS:
        return compact ? 1 : 4;
    case KAFKA_STRUCT:
        return kafka_layout_of(f->of, d->version)->min_size;
    case KAFKA_STRUCT_POINTER:
        return 1;
    default:
        return kafka_field_size(f);
    }
}

static enum err decode_array(struct decoder *d, const struct kafka_field *f, void *p) {
    struct kafka_array a = {NULL, 0};
    a.count = take_length(d, f, true);
    if (a.count == LENGTH_BAD) return ERR_PROTOCOL;
    if (a.count > 0) {
        size_t min = element_min(d, f), size = kafka_field_size(f);
        /* A struct that has no bytes at some version would make this bound void. */
        if (min == 0 || (size_t)a.count > unclaimed(d) / min) return ERR_PROTOCOL;
        a.items = arena_try_alloc(d->arena, (size_t)a.count * size);
        if (!a.items) return ERR_TOO_LARGE;
        size_t used = d->arena->used_bytes, limit = d->arena->limit_bytes;
        d->elements += (size_t)a.count;
        if (d->elements > (limit > used ? limit - used : 0) / KAFKA_ELEMENT_BYTES) return ERR_TOO_LARGE;
        uint8_t *item = a.items;
        d->reserved += (size_t)a.count * min;
        for (int32_t i = 0; i < a.count; i++, item += size) {
            d->reserved -= min;
            enum err e = decode_value(d, f, item);
            if (e != OK) return e;
        }
    }
    memcpy(p, &a, sizeof(a));
    return OK;
}

static enum err decode_field(struct decoder *d, const struct kafka_field *f, void *message) {
    void *p = (uint8_t *)message + f->offset;
    return f->flags & KAFKA_FIELD_ARRAY ? decode_array(d, f, p) : decode_value(d, f, p);
}

/* Fields by a layout's masks: `for (unsigned m = mask; m; m &= m - 1)`. */
static inline const struct kafka_field *first_field(const struct kafka_struct *type, unsigned mask) {
    return &type->fields[__builtin_ctz(mask)];
}

static const struct kafka_field *find_tag(const struct kafka_struct *type, int16_t version, uint32_t tag) {
    for (unsigned m = kafka_layout_of(type, version)->tagged; m; m &= m - 1) {
        const struct kafka_field *f = first_field(type, m);
        if ((uint32_t)f->tag == tag) return f;
    }
    return NULL;
}

/* Not inlined, like encode_tagged: few structs have tagged fields that are set. */
__attribute__((noinline)) static enum err decode_tagged(struct decoder *d, const struct kafka_struct *type,
                                                        void *message) {
    int64_t last = -1;
    for (int64_t count = take_uvarint(d); count != 0; count--) {
        if (count < 0) return ERR_PROTOCOL;
        int64_t tag = take_uvarint(d);
        if (tag <= last) return ERR_PROTOCOL;
        last = tag;
        int64_t size = take_uvarint(d);
        if (size < 0 || unclaimed(d) < (size_t)size) return ERR_PROTOCOL;
        const uint8_t *next = d->at + size;
        const struct kafka_field *f = find_tag(type, d->version, (uint32_t)tag);
        if (f) {
            struct decoder inner = *d;
            inner.end = next;
            inner.reserved = 0;
            enum err e = decode_field(&inner, f, message);
            if (e != OK) return e;
            if (inner.at != next) return ERR_PROTOCOL;
        }
        d->at = next;
    }
    return OK;
}

static enum err decode_struct(struct decoder *d, const struct kafka_struct *type, void *message) {
    const struct kafka_layout *layout = kafka_layout_of(type, d->version);
    if (layout->wire != (1u << type->field_count) - 1) kafka_init(type, message);
    for (unsigned m = layout->wire; m; m &= m - 1) {
        const struct kafka_field *f = first_field(type, m);
        /* Most fields are numbers. */
        if (OX_LIKELY(f->width)) {
            const uint8_t *b = take(d, f->width);
            if (OX_UNLIKELY(!b)) return ERR_PROTOCOL;
            load_number((uint8_t *)message + f->offset, b, f->width);
            continue;
        }
        enum err e = decode_field(d, f, message);
        if (OX_UNLIKELY(e != OK)) return e;
    }
    if (!d->flexible) return OK;
    if (OX_LIKELY(d->at < d->end && *d->at == 0)) {
        d->at++;
        return OK;
    }
    return decode_tagged(d, type, message);
}

enum err kafka_decode_prefix(const struct kafka_struct *type, int16_t version, const uint8_t *data, size_t size,
                             struct arena *a, void *message, size_t *used) {
    if (!known_version(type, version)) return ERR_UNSUPPORTED_VERSION;
    struct decoder d = {data, data + size, 0, a, version, version >= type->first_flexible, 0};
    enum err e = decode_struct(&d, type, message);
    if (e == OK) *used = (size_t)(d.at - data);
    return e;
}

enum err kafka_decode(const struct kafka_struct *type, int16_t version, const uint8_t *data, size_t size,
                      struct arena *a, void *message) {
    size_t used = 0;
    enum err e = kafka_decode_prefix(type, version, data, size, a, message, &used);
    if (e == OK && used != size) e = ERR_PROTOCOL;
    return e;
}

/* ---- Encoding ---- */

struct sink {
    struct outbuf *out; /* NULL: only count */
    size_t size;
    int16_t version;
    bool flexible;
};

/* n bytes to fill, or NULL when only counting. */
static inline uint8_t *give(struct sink *s, size_t n) {
    s->size += n;
    return s->out ? outbuf_extend(s->out, n) : NULL;
}

static void give_bytes(struct sink *s, const void *data, size_t n) {
    s->size += n;
    if (s->out) outbuf_put(s->out, data, n);
}

static inline void give_uvarint(struct sink *s, uint32_t v) {
    for (; v >= 0x80; v >>= 7) {
        uint8_t *p = give(s, 1);
        if (p) *p = (uint8_t)(v | 0x80);
    }
    uint8_t *p = give(s, 1);
    if (p) *p = (uint8_t)v;
}

/* length -1: null. */
static inline enum err give_length(struct sink *s, const struct kafka_field *f, bool wide, int32_t length) {
    if (length < 0 && !kafka_versions_have(f->nullable, s->version)) return ERR_INVALID;
    if (s->flexible && !(f->flags & KAFKA_FIELD_INFLEXIBLE)) {
        if (length == INT32_MAX) return ERR_TOO_LARGE;
        give_uvarint(s, (uint32_t)(length < 0 ? 0 : length + 1));
        return OK;
    }
    uint8_t *p = give(s, wide ? 4 : 2);
    if (p && wide) be32_put(p, (uint32_t)(length < 0 ? -1 : length));
    if (p && !wide) be16_put(p, (uint16_t)(length < 0 ? -1 : length));
    return OK;
}

static enum err encode_struct(struct sink *s, const struct kafka_struct *type, const void *message);

static enum err encode_view(struct sink *s, const struct kafka_field *f, const void *p) {
    struct kafka_bytes v;
    memcpy(&v, p, sizeof(v));
    if (f->kind == KAFKA_STRING && v.size > STRING_MAX) return ERR_TOO_LARGE;
    enum err e = give_length(s, f, f->kind != KAFKA_STRING, v.size);
    if (e == OK && v.size > 0) give_bytes(s, v.data, (size_t)v.size);
    return e;
}

static enum err encode_records(struct sink *s, const struct kafka_field *f, const struct kafka_records *r) {
    enum err e = give_length(s, f, true, r->size);
    if (e != OK || r->size <= 0) return e;
    if (!r->slices) {
        give_bytes(s, r->data, (size_t)r->size);
        return OK;
    }
    size_t sum = 0;
    for (uint32_t i = 0; i < r->slice_count; i++) {
        sum += r->slices[i].size;
        if (s->out) outbuf_slice(s->out, &r->slices[i]);
    }
    s->size += sum;
    return sum == (size_t)r->size ? OK : ERR_INVALID;
}

static enum err encode_pointer(struct sink *s, const struct kafka_field *f, const void *p) {
    const void *inner;
    memcpy(&inner, p, sizeof(inner));
    if (!inner && !kafka_versions_have(f->nullable, s->version)) return ERR_INVALID;
    uint8_t *b = give(s, 1);
    if (b) *b = inner ? 1 : 0xff;
    return inner ? encode_struct(s, f->of, inner) : OK;
}

static enum err encode_value(struct sink *s, const struct kafka_field *f, const void *p) {
    uint8_t *b;
    switch ((enum kafka_kind)f->kind) {
    case KAFKA_BOOL:
        if ((b = give(s, 1))) *b = *(const bool *)p;
        return OK;
    case KAFKA_INT8:
    case KAFKA_INT16:
    case KAFKA_UINT16:
    case KAFKA_INT32:
    case KAFKA_UINT32:
    case KAFKA_INT64:
    case KAFKA_FLOAT64: {
        unsigned width = (unsigned)kafka_field_size(f);
        if ((b = give(s, width))) store_number(b, p, width);
        return OK;
    }
    case KAFKA_UUID:
        if ((b = give(s, sizeof(struct kafka_uuid)))) memcpy(b, p, sizeof(struct kafka_uuid));
        return OK;
    case KAFKA_STRING:
    case KAFKA_BYTES:
        return encode_view(s, f, p);
    case KAFKA_RECORDS:
        return encode_records(s, f, p);
    case KAFKA_STRUCT:
        return encode_struct(s, f->of, p);
    case KAFKA_STRUCT_POINTER:
        return encode_pointer(s, f, p);
    }
    UNREACHABLE();
}

static enum err encode_field(struct sink *s, const struct kafka_field *f, const void *message) {
    const void *p = (const uint8_t *)message + f->offset;
    if (!(f->flags & KAFKA_FIELD_ARRAY)) return encode_value(s, f, p);
    struct kafka_array a;
    memcpy(&a, p, sizeof(a));
    size_t size = kafka_field_size(f);
    enum err e = give_length(s, f, true, a.count);
    const uint8_t *item = a.items;
    for (int32_t i = 0; e == OK && i < a.count; i++, item += size) e = encode_value(s, f, item);
    return e;
}

/* Only fields that differ from their default are written. */
__attribute__((noinline)) static enum err encode_tagged(struct sink *s, const struct kafka_struct *type, unsigned mask,
                                                        const void *message) {
    uint32_t count = 0;
    int16_t highest = -1;
    for (unsigned m = mask; m; m &= m - 1) {
        const struct kafka_field *f = first_field(type, m);
        if (is_default(f, (const uint8_t *)message + f->offset)) continue;
        count++;
        if (f->tag > highest) highest = f->tag;
    }
    give_uvarint(s, count);
    for (int16_t tag = 0; tag <= highest; tag++) {
        const struct kafka_field *f = find_tag(type, s->version, (uint32_t)tag);
        if (!f || is_default(f, (const uint8_t *)message + f->offset)) continue;
        struct sink counter = {.version = s->version, .flexible = true};
        enum err e = encode_field(&counter, f, message);
        if (e != OK) return e;
        if (counter.size > INT32_MAX) return ERR_TOO_LARGE;
        give_uvarint(s, (uint32_t)tag);
        give_uvarint(s, (uint32_t)counter.size);
        e = encode_field(s, f, message);
        if (e != OK) return e;
    }
    return OK;
}

static enum err encode_struct(struct sink *s, const struct kafka_struct *type, const void *message) {
    const struct kafka_layout *layout = kafka_layout_of(type, s->version);
    for (unsigned m = layout->lacking; m; m &= m - 1) {
        const struct kafka_field *f = first_field(type, m);
        if (!is_default(f, (const uint8_t *)message + f->offset)) return ERR_UNSUPPORTED_VERSION;
    }
    for (unsigned m = layout->wire; m; m &= m - 1) {
        const struct kafka_field *f = first_field(type, m);
        /* Most fields are numbers. */
        if (OX_LIKELY(f->width)) {
            uint8_t *b = give(s, f->width);
            if (b) store_number(b, (const uint8_t *)message + f->offset, f->width);
            continue;
        }
        enum err e = encode_field(s, f, message);
        if (OX_UNLIKELY(e != OK)) return e;
    }
    if (!s->flexible) return OK;
    if (layout->tagged) return encode_tagged(s, type, layout->tagged, message);
    give_uvarint(s, 0);
    return OK;
}

enum err kafka_encode(const struct kafka_struct *type, int16_t version, const void *message, struct outbuf *out) {
    if (!known_version(type, version)) return ERR_UNSUPPORTED_VERSION;
    struct sink s = {.out = out, .version = version, .flexible = version >= type->first_flexible};
    return encode_struct(&s, type, message);
}

enum err kafka_encoded_size(const struct kafka_struct *type, int16_t version, const void *message, size_t *size) {
    if (!known_version(type, version)) return ERR_UNSUPPORTED_VERSION;
    struct sink s = {.version = version, .flexible = version >= type->first_flexible};
    enum err e = encode_struct(&s, type, message);
    *size = s.size;
    return e;
}
