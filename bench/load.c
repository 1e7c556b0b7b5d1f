/* A load generator that costs little: it speaks just enough of Kafka's protocol to produce and to fetch, so that on a
 * small machine nearly all of the processor is left to the broker.
 *
 *   load produce HOST PORT TOPIC PARTITIONS CONNECTIONS IN_FLIGHT RECORDS_PER_BATCH BYTES [BYTES_PER_SECOND]
 *   load fetch   HOST PORT TOPIC PARTITIONS CONNECTIONS BYTES [tail]
 *
 * Produce: one record batch (format v2, records of exactly 1 KiB with their framing) is made once, its checksum too,
 * and sent again and again, each time behind a request header of its own; every answer is checked for its error and for
 * offsets that rise. With a rate each batch has a time at which it is due, and its latency counts from then, whether or
 * not it could be sent. Fetch: every connection reads its share of the partitions from offset 0 (`tail`: from the end at
 * the start), follows the batches' own headers, and checks that offsets are contiguous; when all is read it begins
 * anew, until BYTES have come.
 *
 * One thread, epoll, no librdkafka. The result is one line of name=value pairs on standard output: bytes (of record
 * batches), seconds, cpu_seconds of this process, and for produce the latency from the first byte sent to the answer
 * read, in microseconds. Only for the bench: an answer that it does not expect ends it with a message and status 1. */
#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define RECORD_BYTES 1024u
#define BATCH_HEADER 61u
#define IN_FLIGHT_MAX 64u
#define CONNECTIONS_MAX 256u
#define PARTITIONS_MAX 1024u
#define HEAD_MAX 512u
#define PARTITION_MAX_BYTES (1 << 20)
#define ANSWER_MAX_BYTES (16 << 20)

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void *must(void *p) {
    if (!p) die("out of memory");
    return p;
}

/* --- Bytes, big-endian as on Kafka's wire. */

struct out {
    uint8_t *at;
};
static void put(struct out *o, uint64_t v, unsigned bytes) {
    for (unsigned i = bytes; i-- > 0;) *o->at++ = (uint8_t)(v >> (8 * i));
}
static void put_uvarint(struct out *o, uint64_t v) {
    for (; v >= 0x80; v >>= 7) *o->at++ = (uint8_t)(v | 0x80);
    *o->at++ = (uint8_t)v;
}
static void put_varint(struct out *o, int64_t v) {
    put_uvarint(o, ((uint64_t)v << 1) ^ (uint64_t)(v >> 63));
}
static void put_bytes(struct out *o, const void *data, size_t size) {
    memcpy(o->at, data, size);
    o->at += size;
}
static void put_string(struct out *o, const char *s) {
    put(o, strlen(s), 2);
    put_bytes(o, s, strlen(s));
}

struct in {
    const uint8_t *at, *end;
};
static uint64_t get(struct in *i, unsigned bytes) {
    if ((size_t)(i->end - i->at) < bytes) die("an answer is shorter than it should be");
    uint64_t v = 0;
    while (bytes-- > 0) v = v << 8 | *i->at++;
    return v;
}
static void skip(struct in *i, size_t n) {
    if ((size_t)(i->end - i->at) < n) die("an answer is shorter than it should be");
    i->at += n;
}
static uint64_t get_uvarint(struct in *i) {
    uint64_t v = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint8_t b = (uint8_t)get(i, 1);
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) return v;
    }
}
static uint64_t peek(const uint8_t *at, unsigned bytes) {
    struct in i = {at, at + bytes};
    return get(&i, bytes);
}

/* --- State. */

struct conn {
    int fd;
    unsigned index;
    uint32_t watched;
    /* Produce: the request being sent. */
    uint8_t head[HEAD_MAX];
    size_t head_size, sent, size; /* size 0: none */
    uint64_t started_ns[IN_FLIGHT_MAX]; /* a ring; the oldest at `answered` */
    uint64_t asked, answered;
    unsigned next_partition;
    /* The answer being read. */
    uint8_t *answer;
    size_t have, capacity;
};

static struct {
    const char *host, *port, *topic;
    unsigned partitions, connections, in_flight;
    uint64_t bytes_wanted, bytes_begun, bytes_done;
    uint64_t rate, begun_ns; /* bytes a second; 0: as fast as it goes */
    uint8_t *batch;
    size_t batch_size;
    uint32_t records;
    int64_t offsets[PARTITIONS_MAX];
    int64_t ends[PARTITIONS_MAX];
    uint32_t *latencies_us;
    size_t latency_count, latency_capacity;
    unsigned next_connection;
    struct conn conns[CONNECTIONS_MAX];
    int epoll_fd;
} g;

static int connect_to(void) {
    struct addrinfo want = {.ai_socktype = SOCK_STREAM}, *found;
    if (getaddrinfo(g.host, g.port, &want, &found) != 0) die("%s:%s is no address", g.host, g.port);
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) != 0)
        die("cannot connect to %s:%s: %s", g.host, g.port, strerror(errno));
    freeaddrinfo(found);
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

/* --- One request, one answer, on a blocking socket: for what comes before the load. */

static uint8_t *ask(int fd, uint8_t *request, size_t size, size_t *answer_size) {
    struct out o = {request};
    put(&o, size - 4, 4);
    for (size_t sent = 0; sent < size;) {
        ssize_t n = send(fd, request + sent, size - sent, MSG_NOSIGNAL);
        if (n <= 0) die("the broker closed the connection");
        sent += (size_t)n;
    }
    uint8_t head[4];
    if (recv(fd, head, 4, MSG_WAITALL) != 4) die("no answer");
    *answer_size = peek(head, 4);
    uint8_t *answer = must(malloc(*answer_size));
    if (recv(fd, answer, *answer_size, MSG_WAITALL) != (ssize_t)*answer_size) die("half an answer");
    return answer;
}

static struct out request_begin(uint8_t *buffer, int16_t key, int16_t version, uint32_t correlation) {
    struct out o = {buffer + 4};
    put(&o, (uint16_t)key, 2);
    put(&o, (uint16_t)version, 2);
    put(&o, correlation, 4);
    put_string(&o, "bench");
    return o;
}

/* Metadata v4, which also creates the topic; repeated until all partitions have a leader. */
static void topic_make(int fd) {
    for (unsigned attempt = 0; attempt < 200; attempt++) {
        uint8_t request[HEAD_MAX];
        struct out o = request_begin(request, 3, 4, attempt);
        put(&o, 1, 4);
        put_string(&o, g.topic);
        put(&o, 1, 1); /* create it */
        size_t size;
        uint8_t *answer = ask(fd, request, (size_t)(o.at - request), &size);
        struct in i = {answer, answer + size};
        skip(&i, 4 + 4);
        for (uint64_t brokers = get(&i, 4); brokers > 0; brokers--) {
            skip(&i, 4);
            skip(&i, get(&i, 2));
            skip(&i, 4);
            uint64_t rack = get(&i, 2);
            if (rack != 0xffff) skip(&i, rack);
        }
        uint64_t cluster = get(&i, 2);
        if (cluster != 0xffff) skip(&i, cluster);
        skip(&i, 4);
        if (get(&i, 4) != 1) die("metadata without the topic");
        uint64_t error = get(&i, 2);
        skip(&i, get(&i, 2));
        skip(&i, 1);
        uint64_t partitions = get(&i, 4);
        free(answer);
        if (error == 0 && partitions >= g.partitions) return;
        if (error == 0) die("the topic has %u partitions, %u are wanted", (unsigned)partitions, g.partitions);
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    die("the topic could not be created");
}

/* ListOffsets v1 of every partition's end. */
static void ends_ask(int fd) {
    for (unsigned p = 0; p < g.partitions; p++) {
        uint8_t request[HEAD_MAX];
        struct out o = request_begin(request, 2, 1, p);
        put(&o, UINT32_MAX, 4);
        put(&o, 1, 4);
        put_string(&o, g.topic);
        put(&o, 1, 4);
        put(&o, p, 4);
        put(&o, UINT64_MAX, 8); /* latest */
        size_t size;
        uint8_t *answer = ask(fd, request, (size_t)(o.at - request), &size);
        struct in i = {answer, answer + size};
        skip(&i, 4 + 4);
        skip(&i, get(&i, 2));
        skip(&i, 4 + 4);
        if (get(&i, 2) != 0) die("the end of partition %u cannot be found", p);
        skip(&i, 8);
        g.ends[p] = (int64_t)get(&i, 8);
        free(answer);
    }
}

/* --- Events. */

static void watch(struct conn *c, uint32_t events) {
    if (c->watched == events) return;
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(g.epoll_fd, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &e) != 0)
        die("epoll_ctl: %s", strerror(errno));
    c->watched = events;
}

static void conns_open(void) {
    g.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned n = 0; n < g.connections; n++) {
        struct conn *c = &g.conns[n];
        c->fd = connect_to();
        c->index = n;
        c->next_partition = n % g.partitions;
        (void)fcntl(c->fd, F_SETFL, O_NONBLOCK);
        c->capacity = 64 << 10;
        c->answer = must(malloc(c->capacity));
        watch(c, EPOLLIN);
    }
}

/* Reads what is there; calls take for each whole answer, without its size field. */
static void conn_read(struct conn *c, void (*take)(struct conn *c, const uint8_t *data, size_t size)) {
    for (;;) {
        size_t room = c->capacity - c->have;
        ssize_t n = recv(c->fd, c->answer + c->have, room, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0) die("the broker closed a connection: %s", n < 0 ? strerror(errno) : "end");
        c->have += (size_t)n;
        size_t at = 0;
        while (c->have - at >= 4) {
            size_t size = peek(c->answer + at, 4);
            if (c->have - at - 4 < size) {
                if (size + 4 > c->capacity) {
                    c->capacity = size + 4 + (64 << 10);
                    c->answer = must(realloc(c->answer, c->capacity));
                }
                break;
            }
            take(c, c->answer + at + 4, size);
            at += 4 + size;
        }
        c->have -= at;
        memmove(c->answer, c->answer + at, c->have);
        if ((size_t)n < room) return;
    }
}

/* When the next batch is due; 0: at once. */
static uint64_t due_ns(void) {
    return g.rate == 0 ? 0 : g.begun_ns + (uint64_t)((double)g.bytes_begun / (double)g.rate * 1e9);
}

static void run(void (*readable)(struct conn *), void (*writable)(struct conn *)) {
    struct epoll_event events[CONNECTIONS_MAX];
    const uint64_t patience_ns = 30000000000u;
    while (g.bytes_done < g.bytes_wanted) {
        uint64_t timeout_ns = patience_ns;
        if (g.rate != 0 && g.bytes_begun < g.bytes_wanted) {
            /* Each batch that is due goes to the next connection, as far as that may have one more under way. */
            for (unsigned i = 0; due_ns() <= now_ns() && i < g.connections; i++)
                writable(&g.conns[g.next_connection++ % g.connections]);
            uint64_t now = now_ns(), due = due_ns();
            timeout_ns = due > now ? due - now : 1000000;
        }
        struct timespec timeout = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
        int n = epoll_pwait2(g.epoll_fd, events, CONNECTIONS_MAX, &timeout, NULL);
        if (n == 0 && timeout_ns == patience_ns)
            die("nothing came for 30 seconds, at %llu bytes", (unsigned long long)g.bytes_done);
        for (int i = 0; i < n && g.bytes_done < g.bytes_wanted; i++) {
            struct conn *c = events[i].data.ptr;
            if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) readable(c);
            if (events[i].events & EPOLLOUT) writable(c);
        }
    }
}

/* --- Produce v9. */

static void batch_make(void) {
    g.batch_size = BATCH_HEADER + (size_t)g.records * RECORD_BYTES;
    g.batch = must(calloc(1, g.batch_size));
    struct out o = {g.batch};
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t now_ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    put(&o, 0, 8);
    put(&o, g.batch_size - 12, 4);
    put(&o, 0, 4);
    put(&o, 2, 1); /* magic */
    put(&o, 0, 4); /* checksum */
    put(&o, 0, 2);
    put(&o, g.records - 1, 4);
    put(&o, now_ms, 8);
    put(&o, now_ms, 8);
    put(&o, UINT64_MAX, 8); /* no producer id */
    put(&o, 0xffff, 2);
    put(&o, UINT32_MAX, 4);
    put(&o, g.records, 4);
    uint64_t noise = 88172645463325252u;
    for (uint32_t i = 0; i < g.records; i++) {
        uint8_t *end = o.at + RECORD_BYTES;
        put_varint(&o, RECORD_BYTES - 2); /* the length takes two bytes itself */
        put(&o, 0, 1);
        put_varint(&o, 0);
        put_varint(&o, i);
        put_varint(&o, -1); /* no key */
        int64_t value = end - o.at - 1 - 2;
        put_varint(&o, value);
        while (o.at < end - 1) {
            noise ^= noise << 13, noise ^= noise >> 7, noise ^= noise << 17;
            *o.at++ = (uint8_t)noise;
        }
        put_varint(&o, 0); /* no headers */
        if (o.at != end) die("the record's size is wrong");
    }
    uint32_t crc = ~crc32_iscsi(g.batch + 21, (int)(g.batch_size - 21), ~0u);
    o.at = g.batch + 17;
    put(&o, crc, 4);
}

static void produce_head(struct conn *c) {
    struct out o = request_begin(c->head, 0, 9, (uint32_t)c->asked);
    put(&o, 0, 1); /* tags */
    put(&o, 0, 1); /* no transaction */
    put(&o, 0xffff, 2);
    put(&o, 30000, 4);
    put(&o, 2, 1);
    put_uvarint(&o, strlen(g.topic) + 1);
    put_bytes(&o, g.topic, strlen(g.topic));
    put(&o, 2, 1);
    put(&o, c->next_partition, 4);
    put_uvarint(&o, g.batch_size + 1);
    c->head_size = (size_t)(o.at - c->head);
    c->size = c->head_size + g.batch_size + 3; /* three empty tag sections */
    o.at = c->head;
    put(&o, c->size - 4, 4);
    c->next_partition = (c->next_partition + g.connections) % g.partitions;
}

static void produce_write(struct conn *c) {
    static const uint8_t tags[3];
    for (;;) {
        if (c->size == 0) {
            if (c->asked - c->answered >= g.in_flight || g.bytes_begun >= g.bytes_wanted) break;
            uint64_t now = now_ns(), due = due_ns();
            if (due > now) break;
            produce_head(c);
            g.bytes_begun += g.batch_size;
            c->started_ns[c->asked++ % IN_FLIGHT_MAX] = g.rate == 0 ? now : due;
        }
        struct iovec v[3] = {{c->head, c->head_size}, {g.batch, g.batch_size}, {(void *)(uintptr_t)tags, 3}};
        size_t gone = c->sent;
        for (unsigned i = 0; i < 3; i++) {
            size_t here = gone < v[i].iov_len ? gone : v[i].iov_len;
            v[i].iov_base = (uint8_t *)v[i].iov_base + here;
            v[i].iov_len -= here;
            gone -= here;
        }
        struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};
        ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            watch(c, EPOLLIN | EPOLLOUT);
            return;
        }
        if (n < 0) die("cannot send: %s", strerror(errno));
        c->sent += (size_t)n;
        if (c->sent == c->size) c->sent = c->size = 0;
    }
    watch(c, EPOLLIN);
}

static void produce_take(struct conn *c, const uint8_t *data, size_t size) {
    struct in i = {data, data + size};
    uint64_t correlation = get(&i, 4);
    if (correlation != (uint32_t)c->answered) {
        die("connection %u: answer %u of %zu bytes where %u was expected, %u were asked", c->index, (unsigned)correlation,
            size, (unsigned)c->answered, (unsigned)c->asked);
    }
    skip(&i, get_uvarint(&i)); /* tags: none */
    if (get_uvarint(&i) != 2) die("an answer for another number of topics");
    skip(&i, get_uvarint(&i) - 1);
    if (get_uvarint(&i) != 2) die("an answer for another number of partitions");
    uint64_t partition = get(&i, 4), error = get(&i, 2);
    int64_t base = (int64_t)get(&i, 8);
    if (error != 0) die("produce to partition %u failed with error %u", (unsigned)partition, (unsigned)error);
    /* Connections that share a partition see each other's batches between their own. */
    if (g.connections <= g.partitions && base < g.offsets[partition])
        die("offsets of partition %u do not rise", (unsigned)partition);
    g.offsets[partition] = base + g.records;
    uint64_t us = (now_ns() - c->started_ns[c->answered++ % IN_FLIGHT_MAX]) / 1000;
    if (g.latency_count < g.latency_capacity) g.latencies_us[g.latency_count++] = (uint32_t)us;
    g.bytes_done += g.batch_size;
}

static void produce_read(struct conn *c) {
    conn_read(c, produce_take);
    produce_write(c);
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* --- Fetch v11, without a session. */

static void fetch_ask(struct conn *c) {
    uint8_t request[HEAD_MAX + PARTITIONS_MAX * 28];
    struct out o = request_begin(request, 1, 11, (uint32_t)c->asked++);
    put(&o, UINT32_MAX, 4);
    put(&o, 500, 4); /* wait */
    put(&o, 1, 4);
    put(&o, ANSWER_MAX_BYTES, 4);
    put(&o, 0, 1);
    put(&o, 0, 4);
    put(&o, UINT32_MAX, 4); /* no session */
    put(&o, 1, 4);
    put_string(&o, g.topic);
    unsigned count = 0;
    for (unsigned p = c->index; p < g.partitions; p += g.connections) count++;
    put(&o, count, 4);
    /* Begins with another partition each time, as clients do, so that none goes hungry. */
    for (unsigned k = 0; k < count; k++) {
        unsigned p = c->index + (unsigned)((k + c->asked) % count) * g.connections;
        put(&o, p, 4);
        put(&o, UINT32_MAX, 4);
        put(&o, (uint64_t)g.offsets[p], 8);
        put(&o, UINT64_MAX, 8);
        put(&o, PARTITION_MAX_BYTES, 4);
    }
    put(&o, 0, 4);
    put_string(&o, "");
    size_t size = (size_t)(o.at - request);
    o.at = request;
    put(&o, size - 4, 4);
    if (send(c->fd, request, size, MSG_NOSIGNAL) != (ssize_t)size) die("cannot send a fetch: %s", strerror(errno));
}

static void fetch_batches(unsigned p, const uint8_t *at, size_t size) {
    while (size >= BATCH_HEADER) {
        size_t whole = 12 + peek(at + 8, 4);
        if (whole > size) break; /* an incomplete one at the end */
        int64_t base = (int64_t)peek(at, 8);
        if (base != g.offsets[p])
            die("partition %u: offset %lld where %lld was expected", p, (long long)base, (long long)g.offsets[p]);
        g.offsets[p] = base + (int64_t)peek(at + 23, 4) + 1;
        g.bytes_done += whole;
        at += whole;
        size -= whole;
    }
}

static void fetch_take(struct conn *c, const uint8_t *data, size_t size) {
    struct in i = {data, data + size};
    skip(&i, 4 + 4);
    if (get(&i, 2) != 0) die("a fetch failed");
    skip(&i, 4);
    for (uint64_t topics = get(&i, 4); topics > 0; topics--) {
        skip(&i, get(&i, 2));
        for (uint64_t n = get(&i, 4); n > 0; n--) {
            unsigned p = (unsigned)get(&i, 4);
            uint64_t error = get(&i, 2);
            if (error != 0) die("fetch of partition %u failed with error %u", p, (unsigned)error);
            skip(&i, 8 + 8 + 8);
            uint64_t aborted = get(&i, 4);
            if (aborted != UINT32_MAX) skip(&i, aborted * 16);
            skip(&i, 4);
            uint64_t records = get(&i, 4);
            if (records == UINT32_MAX) continue;
            fetch_batches(p, i.at, records);
            skip(&i, records);
        }
    }
    bool all = true;
    for (unsigned p = c->index; p < g.partitions; p += g.connections) all &= g.offsets[p] >= g.ends[p];
    if (all) {
        for (unsigned p = c->index; p < g.partitions; p += g.connections) g.offsets[p] = 0;
    }
    if (g.bytes_done < g.bytes_wanted) fetch_ask(c);
}

static void fetch_read(struct conn *c) {
    conn_read(c, fetch_take);
}

static void nothing(struct conn *c) {
    (void)c;
}

/* --- The two commands. */

static unsigned number(const char *text, unsigned long max) {
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (*end || v == 0 || v > max) die("%s is not a number from 1 to %lu", text, max);
    return (unsigned)v;
}

static void say(uint64_t began_ns, double began_cpu) {
    double seconds = (double)(now_ns() - began_ns) / 1e9;
    printf("bytes=%llu seconds=%.6f cpu_seconds=%.6f", (unsigned long long)g.bytes_done, seconds,
           cpu_seconds() - began_cpu);
    if (g.latency_count > 0) {
        qsort(g.latencies_us, g.latency_count, sizeof(*g.latencies_us), by_size);
        size_t n = g.latency_count;
        printf(" requests=%zu p50_us=%u p99_us=%u p999_us=%u max_us=%u", n, g.latencies_us[n / 2],
               g.latencies_us[n * 99 / 100], g.latencies_us[n * 999 / 1000], g.latencies_us[n - 1]);
    }
    putchar('\n');
}

static void run_produce(char **argv) {
    g.in_flight = number(argv[0], IN_FLIGHT_MAX);
    g.records = number(argv[1], 10000);
    g.bytes_wanted = strtoull(argv[2], NULL, 10);
    batch_make();
    g.latency_capacity = g.bytes_wanted / g.batch_size + 1;
    g.latencies_us = must(calloc(g.latency_capacity, sizeof(*g.latencies_us)));
    conns_open();
    (void)prctl(PR_SET_TIMERSLACK, 1); /* what is due is sent then */
    uint64_t began_ns = g.begun_ns = now_ns();
    double began_cpu = cpu_seconds();
    for (unsigned n = 0; n < g.connections; n++) produce_write(&g.conns[n]);
    run(produce_read, produce_write);
    say(began_ns, began_cpu);
}

static void run_fetch(int fd, char **argv, bool tail) {
    g.bytes_wanted = strtoull(argv[0], NULL, 10);
    ends_ask(fd);
    for (unsigned p = 0; p < g.partitions && tail; p++) {
        g.offsets[p] = g.ends[p];
        g.ends[p] = INT64_MAX;
    }
    conns_open();
    uint64_t began_ns = now_ns();
    double began_cpu = cpu_seconds();
    for (unsigned n = 0; n < g.connections; n++) fetch_ask(&g.conns[n]);
    run(fetch_read, nothing);
    say(began_ns, began_cpu);
}

int main(int argc, char **argv) {
    bool produce = (argc == 10 || argc == 11) && strcmp(argv[1], "produce") == 0;
    bool fetch = (argc == 8 || argc == 9) && strcmp(argv[1], "fetch") == 0;
    if (!produce && !fetch) die("usage: see the top of load.c");
    g.host = argv[2];
    g.port = argv[3];
    g.topic = argv[4];
    g.partitions = number(argv[5], PARTITIONS_MAX);
    g.connections = number(argv[6], CONNECTIONS_MAX);
    if (strlen(g.topic) > 100) die("the topic's name is too long");
    int fd = connect_to();
    topic_make(fd);
    if (produce) {
        if (argc == 11) g.rate = number(argv[10], 1ul << 31);
        run_produce(argv + 7);
    } else {
        if (g.connections > g.partitions) die("more connections than partitions");
        run_fetch(fd, argv + 7, argc == 9 && strcmp(argv[8], "tail") == 0);
    }
    return 0;
}
