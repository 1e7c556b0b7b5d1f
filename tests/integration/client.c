/* A producer and a consumer on librdkafka, fast enough to keep a broker busy while a test kills it.
 *
 *   client produce BROKERS TOPIC PARTITIONS TOTAL BASE_MS [CODEC...]
 *   client consume BROKERS TOPIC PARTITIONS TOTAL BASE_MS
 *
 * Record n of TOTAL goes to partition n % PARTITIONS and is the (n / PARTITIONS)th there, which must be its offset.
 * Its key,
 * value, headers and timestamp follow from partition and offset alone, so the consumer knows every byte that it must
 * get.
 *
 * `produce` is idempotent and never gives up; each codec has a producer of its own that sends its share of the
 * records, one after the other.
 * It prints `acked N` as it goes on, and fails on an error, and on a delivery report that names another offset.
 * `consume` reads
 * every partition from its start to its share of TOTAL (waiting for a producer that is still at work), then checks
 * that nothing
 * is behind it, and prints `consumed N`. */
#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_MAX = 5000, HEADERS_MAX = 3, REPORT_EVERY = 500 };

static void fail(const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    printf("FAILED: ");
    vprintf(format, ap);
    printf("\n");
    fflush(stdout);
    va_end(ap);
    _Exit(1);
}

/* --- What a record is made of. */

struct record {
    char key[64];
    size_t key_size;
    bool has_key, has_value;
    char value[VALUE_MAX];
    size_t value_size;
    unsigned headers;
    char header_value[HEADERS_MAX][40];
    size_t header_size[HEADERS_MAX];
    bool header_null[HEADERS_MAX];
    int64_t timestamp;
};

static uint64_t next(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void record_make(struct record *r, int32_t partition, int64_t offset, int64_t base_ms) {
    uint64_t state = ((uint64_t)partition << 48) ^ (uint64_t)offset;
    uint64_t a = next(&state), b = next(&state);
    r->has_key = a % 16 != 0;
    r->key_size = (size_t)snprintf(r->key, sizeof(r->key), "key-%d-%ld-%.*s", partition, (long)offset,
                                   (int)(a >> 8) & 15, "abcdefghijklmnop");
    r->has_value = b % 41 != 0;
    r->value_size = b % 50 == 1 ? 0 : (b >> 8) % (b % 32 == 0 ? VALUE_MAX : 200);
    /* Half words that compress, half noise that does not. */
    for (size_t i = 0; i < r->value_size; i++)
        r->value[i] = i < r->value_size / 2 ? "oxbow lake "[i % 11] : (char)next(&state);
    r->headers = (unsigned)((a >> 32) % (HEADERS_MAX + 1));
    for (unsigned i = 0; i < r->headers; i++) {
        r->header_null[i] = (a >> (40 + i)) % 8 == 0;
        r->header_size[i] = (size_t)snprintf(r->header_value[i], sizeof(r->header_value[i]), "%u:%llx", i,
                                             (unsigned long long)next(&state));
    }
    r->timestamp = base_ms + offset * 3 + partition;
}

struct options {
    const char *brokers, *topic;
    int32_t partitions;
    int64_t total, base_ms;
};

/* How many of the first `total` records are in this partition. */
static int64_t share(const struct options *o, int32_t partition, int64_t total) {
    return (total - partition + o->partitions - 1) / o->partitions;
}

static void set(rd_kafka_conf_t *c, const char *name, const char *value) {
    char why[300];
    if (rd_kafka_conf_set(c, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK) fail("%s", why);
}

static rd_kafka_t *make(rd_kafka_type_t type, rd_kafka_conf_t *c, const struct options *o) {
    char why[300];
    set(c, "bootstrap.servers", o->brokers);
    set(c, "reconnect.backoff.ms", "20");
    set(c, "reconnect.backoff.max.ms", "200");
    set(c, "retry.backoff.ms", "20");
    set(c, "topic.metadata.refresh.interval.ms", "2000");
    set(c, "log_level", "2");
    rd_kafka_t *k = rd_kafka_new(type, c, why, sizeof(why));
    if (!k) fail("%s", why);
    return k;
}

/* --- Producing. */

static int64_t acked;

static void delivered(rd_kafka_t *k, const rd_kafka_message_t *m, void *opaque) {
    (void)k;
    const struct options *o = opaque;
    int64_t n = (int64_t)(intptr_t)m->_private;
    if (m->err) fail("record %ld: %s", (long)n, rd_kafka_err2str(m->err));
    if (m->offset != n / o->partitions || m->partition != n % o->partitions) {
        fail("record %ld was acknowledged as offset %ld of partition %d", (long)n, (long)m->offset, m->partition);
    }
    if (++acked % REPORT_EVERY == 0) {
        printf("acked %ld\n", (long)acked);
        fflush(stdout);
    }
}

static void send_one(rd_kafka_t *k, const struct options *o, int64_t n) {
    static struct record r;
    int32_t partition = (int32_t)(n % o->partitions);
    record_make(&r, partition, n / o->partitions, o->base_ms);
    for (;;) {
        rd_kafka_headers_t *headers = rd_kafka_headers_new(HEADERS_MAX);
        for (unsigned i = 0; i < r.headers; i++) {
            char name[8];
            snprintf(name, sizeof(name), "h%u", i);
            rd_kafka_header_add(headers, name, -1, r.header_null[i] ? NULL : r.header_value[i],
                                r.header_null[i] ? 0 : (ssize_t)r.header_size[i]);
        }
        rd_kafka_resp_err_t e = rd_kafka_producev(
            k, RD_KAFKA_V_TOPIC(o->topic), RD_KAFKA_V_PARTITION(partition), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
            RD_KAFKA_V_KEY(r.has_key ? r.key : NULL, r.has_key ? r.key_size : 0),
            RD_KAFKA_V_VALUE(r.has_value ? r.value : NULL, r.has_value ? r.value_size : 0),
            RD_KAFKA_V_TIMESTAMP(r.timestamp), RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_OPAQUE((void *)(intptr_t)n),
            RD_KAFKA_V_END);
        if (!e) return;
        rd_kafka_headers_destroy(headers);
        if (e != RD_KAFKA_RESP_ERR__QUEUE_FULL) fail("record %ld: %s", (long)n, rd_kafka_err2str(e));
        rd_kafka_poll(k, 50);
    }
}

static void produce_share(const struct options *o, const char *codec, int64_t from, int64_t to) {
    rd_kafka_conf_t *c = rd_kafka_conf_new();
    set(c, "enable.idempotence", "true");
    set(c, "message.timeout.ms", "0");
    set(c, "compression.codec", codec);
    set(c, "linger.ms", "2");
    set(c, "batch.num.messages", "100");
    set(c, "queue.buffering.max.messages", "5000");
    rd_kafka_conf_set_dr_msg_cb(c, delivered);
    rd_kafka_conf_set_opaque(c, (void *)(uintptr_t)o);
    rd_kafka_t *k = make(RD_KAFKA_PRODUCER, c, o);
    for (int64_t n = from; n < to; n++) {
        send_one(k, o, n);
        if (n % 64 == 0) rd_kafka_poll(k, 0);
    }
    while (rd_kafka_outq_len(k) > 0) {
        char why[300];
        rd_kafka_poll(k, 100);
        if (rd_kafka_fatal_error(k, why, sizeof(why))) fail("fatal: %s", why);
    }
    rd_kafka_destroy(k);
}

static void produce(const struct options *o, char **codecs, int count) {
    for (int i = 0; i < count; i++) {
        produce_share(o, codecs[i], o->total * i / count, o->total * (i + 1) / count);
    }
    printf("acked %ld\nproduced %ld\n", (long)acked, (long)acked);
}

/* --- Consuming. */

static void check_headers(const rd_kafka_message_t *m, const struct record *r) {
    rd_kafka_headers_t *headers = NULL;
    rd_kafka_resp_err_t e = rd_kafka_message_headers(m, &headers);
    size_t count = e ? 0 : rd_kafka_header_cnt(headers);
    if (count != r->headers)
        fail("partition %d offset %ld has %zu headers, not %u", m->partition, (long)m->offset, count, r->headers);
    for (size_t i = 0; i < count; i++) {
        const char *name, expected[2] = {(char)('0' + i), '\0'};
        const void *value;
        size_t size;
        rd_kafka_header_get_all(headers, i, &name, &value, &size);
        bool same = name[0] == 'h' && strcmp(name + 1, expected) == 0;
        if (r->header_null[i]) {
            same = same && value == NULL;
        } else {
            same = same && value && size == r->header_size[i] && memcmp(value, r->header_value[i], size) == 0;
        }
        if (!same) fail("partition %d offset %ld: header %zu is not what was sent", m->partition, (long)m->offset, i);
    }
}

static void check_record(const rd_kafka_message_t *m, int64_t expected, int64_t base_ms) {
    static struct record r;
    if (m->offset != expected)
        fail("partition %d: offset %ld comes after %ld", m->partition, (long)m->offset, (long)expected - 1);
    record_make(&r, m->partition, m->offset, base_ms);
    bool key =
        r.has_key ? m->key && m->key_len == r.key_size && memcmp(m->key, r.key, r.key_size) == 0 : m->key == NULL;
    bool value = r.has_value ? m->payload && m->len == r.value_size && memcmp(m->payload, r.value, r.value_size) == 0
                             : m->payload == NULL;
    rd_kafka_timestamp_type_t type;
    int64_t timestamp = rd_kafka_message_timestamp(m, &type);
    if (!key)
        fail("partition %d offset %ld: the key is '%.*s'", m->partition, (long)m->offset, (int)m->key_len,
             (const char *)m->key);
    if (!value) fail("partition %d offset %ld: the value is not what was sent", m->partition, (long)m->offset);
    if (timestamp != r.timestamp)
        fail("partition %d offset %ld: the timestamp is %ld", m->partition, (long)m->offset, (long)timestamp);
    check_headers(m, &r);
}

static void consume(const struct options *o) {
    rd_kafka_conf_t *c = rd_kafka_conf_new();
    set(c, "group.id", "unused");
    set(c, "enable.auto.commit", "false");
    set(c, "check.crcs", "true");
    set(c, "fetch.error.backoff.ms", "20");
    set(c, "fetch.wait.max.ms", "100");
    set(c, "auto.offset.reset", "error");
    rd_kafka_t *k = make(RD_KAFKA_CONSUMER, c, o);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(o->partitions);
    int64_t *at = calloc((size_t)o->partitions, sizeof(*at)), done = 0;
    for (int32_t p = 0; p < o->partitions; p++) rd_kafka_topic_partition_list_add(list, o->topic, p)->offset = 0;
    if (rd_kafka_assign(k, list)) fail("cannot assign");
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(k);
    rd_kafka_poll_set_consumer(k);
    static rd_kafka_message_t *batch[1000];
    while (done < o->total) {
        ssize_t count = rd_kafka_consume_batch_queue(queue, 1000, batch, 1000);
        for (ssize_t i = 0; i < count; i++) {
            rd_kafka_message_t *m = batch[i];
            /* Errors of the connection pass; an offset that is not there would not. */
            if (m->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET || m->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE ||
                m->err == RD_KAFKA_RESP_ERR__BAD_MSG || m->err == RD_KAFKA_RESP_ERR__BAD_COMPRESSION) {
                fail("partition %d: %s", m->partition, rd_kafka_message_errstr(m));
            }
            if (!m->err) {
                check_record(m, at[m->partition]++, o->base_ms);
                done++;
            }
            rd_kafka_message_destroy(m);
        }
    }
    for (int32_t p = 0; p < o->partitions; p++) {
        int64_t low = -1, high = -1;
        if (at[p] != share(o, p, o->total))
            fail("partition %d has %ld records, not %ld", p, (long)at[p], (long)share(o, p, o->total));
        rd_kafka_resp_err_t e = RD_KAFKA_RESP_ERR__TRANSPORT;
        for (int tries = 0; e && tries < 50; tries++)
            e = rd_kafka_query_watermark_offsets(k, o->topic, p, &low, &high, 2000);
        if (e || low != 0 || high != at[p])
            fail("partition %d lies from %ld to %ld (%s); %ld were read", p, (long)low, (long)high,
                 rd_kafka_err2name(e), (long)at[p]);
    }
    printf("consumed %ld\n", (long)done);
    fflush(stdout);
    _Exit(0); /* closing a consumer takes a while and tests nothing */
}

int main(int argc, char **argv) {
    static char *all[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    if (argc < 7) return 2;
    struct options o = {argv[2], argv[3], atoi(argv[4]), atoll(argv[5]), atoll(argv[6])};
    if (strcmp(argv[1], "produce") == 0) {
        produce(&o, argc > 7 ? argv + 7 : all, argc > 7 ? argc - 7 : 5);
    } else if (strcmp(argv[1], "consume") == 0) {
        consume(&o);
    } else {
        return 2;
    }
    return 0;
}
