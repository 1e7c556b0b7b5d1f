/* What the client subcommands read and write of bytes from outside. The first byte says as what: 0 a moment, a duration
 * or a number, 1 a format for records and a record to be printed with it, 2 names of a broker in a table and in JSON.
 * What is printed as JSON is JSON; a table has no control characters; a moment that was read is printed and read
 * again. */
#include "base/assert.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/record_format.h"
#include "cli/when.h"
#include "feed.h"
#include "json_check.h"

static void moments(const char *text) {
    int64_t ms, again;
    if (when_parse(text, &ms)) {
        char out[WHEN_TEXT_SIZE];
        when_format(ms, out);
        bool sound = when_parse(out, &again);
        /* A shift may lead out of the years that can be read. */
        ASSERT(!sound || again == ms);
        ASSERT(sound || ms < 0 || ms >= 253402300800000);
    }
    if (duration_parse(text, &ms)) ASSERT(ms >= 0);
    uint64_t n;
    if (options_u64(text, 5, 5000, &n)) ASSERT(n >= 5 && n <= 5000);
}

static void record(struct mem *m, const char *format, struct feed *f) {
    struct buf batch, out;
    buf_init(&batch, m);
    buf_init(&out, m);
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    struct batch_builder b;
    batch_builder_init(&b, m, &o);
    size_t key_size, value_size;
    const uint8_t *key = feed_piece(f, &key_size), *value = feed_piece(f, &value_size);
    struct batch_record_header h = {
        .key = (const char *)key, .key_size = (int32_t)key_size, .value = value, .value_size = (int32_t)value_size};
    batch_builder_add(&b, 1700000000000, key_size ? key : NULL, key_size, value, value_size, &h, 1);
    struct batch_header header;
    struct batch_iterator it;
    struct batch_record r;
    enum err e = batch_builder_finish(&b, &batch);
    if (e == OK) e = batch_parse(batch.data, batch.size, &header);
    if (e == OK) e = batch_iterator_init(&it, m, &header, 1 << 20);
    ASSERT(e == OK);
    e = batch_iterator_next(&it, &r);
    ASSERT(e == OK);
    if (!record_format_check(format)) {
        record_format(&out, format, "topic", 3, &r);
        ASSERT(out.size <= strlen(format) * (64 + 2 * (key_size + value_size)));
    }
    out.size = 0;
    record_json(&out, "topic", 3, &r);
    ASSERT(json_is_sound(out.data, out.size));
    batch_iterator_deinit(&it);
    batch_builder_deinit(&b);
    buf_deinit(&batch);
    buf_deinit(&out);
}

static void names(struct mem *m, struct feed *f) {
    static const char *const headers[] = {"A", "B"};
    struct table t;
    struct json j;
    struct buf out, text;
    buf_init(&out, m);
    buf_init(&text, m);
    table_init(&t, m, headers, 2, 2);
    json_init(&j, &text);
    json_open(&j, NULL, '[');
    while (feed_left(f) > 0) {
        size_t size;
        const uint8_t *bytes = feed_bytes(f, feed_u8(f), &size);
        struct kafka_string s = kafka_string_view((const char *)bytes, size);
        table_string(&t, s);
        table_number(&t, (int64_t)size);
        json_string(&j, NULL, s);
        json_bytes(&j, NULL, bytes, (int32_t)size);
        if (size > 0 && memchr(bytes, 0, size)) continue; /* the library that checks takes no NUL in a key */
        json_open(&j, NULL, '{');
        json_key(&j, s);
        json_bool(&j, NULL, true);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    table_print(&t, &out);
    for (size_t i = 0; i < out.size; i++) ASSERT(out.data[i] == '\n' || (out.data[i] >= ' ' && out.data[i] != 0x7f));
    ASSERT(json_is_sound(text.data, text.size));
    table_deinit(&t);
    buf_deinit(&out);
    buf_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem m;
    mem_init_heap(&m);
    struct feed f = feed_of(data, size);
    uint8_t what = feed_u8(&f);
    if (what % 3 == 0) {
        char *text = mem_strndup(&m, (const char *)f.at, feed_left(&f));
        moments(text);
        mem_free(&m, text);
    } else if (what % 3 == 1) {
        size_t n;
        const uint8_t *bytes = feed_bytes(&f, feed_u8(&f), &n);
        char *format = mem_strndup(&m, (const char *)bytes, n);
        record(&m, format, &f);
        mem_free(&m, format);
    } else {
        names(&m, &f);
    }
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
