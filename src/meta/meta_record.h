/* The records of the cluster log: what each says, and its stored form (the essay is in meta_record.c). Pure; no I/O. */
#ifndef OXBOW_META_META_RECORD_H
#define OXBOW_META_META_RECORD_H

#include "base/bytes.h"
#include "meta/meta.h"

/* Stored: never renumber. */
enum meta_record_kind {
    META_REGISTRATION = 1, /* in the head of an election */
    META_TOPIC_CREATE = 2,
    META_TOPIC_DELETE = 3,
    META_TOPIC_CONFIGURE = 4,
    META_RECOVERED = 5,
    META_PRODUCER_IDS = 6,
    META_FORGET_RETIRED = 7,
    META_PARTITIONS_ADD = 8,
    META_BROKER_CONFIGURE = 9,
};

struct meta_text { /* borrowed; holds no NUL */
    const char *data;
    size_t size;
};
struct meta_text meta_text_of(const char *s); /* NULL: empty */

struct meta_change { /* of a topic's or a broker's configuration */
    struct meta_text name, value;
    bool removes; /* the override; value is empty */
};

/* Texts and changes are borrowed: from the caller when a record is made, from the bytes when it was decoded (where the
 * array of changes is owned). */
struct meta_record {
    enum meta_record_kind kind;
    unsigned version;
    union {
        struct {
            int32_t node_id;
            struct meta_text rack, endpoint;
        } registration;
        struct { /* its partitions: streams first_stream, first_stream + 1, ..., owned by `owner` with epoch 0 */
            struct uuid id;
            struct meta_text name;
            int16_t replication_factor;
            int32_t partition_count;
            struct stream_id first_stream;
            struct incarnation owner;
            int32_t owner_node;
        } topic_create;
        struct {
            struct uuid id;
        } topic_delete, topic_configure;
        struct { /* all that `from` owns passes to `to` */
            struct incarnation from, to;
            int32_t to_node;
            uint64_t state_entry;
        } recovered;
        struct {
            uint64_t first, count;
        } producer_ids;
        struct {
            struct incarnation oldest_needed;
        } forget_retired;
        struct { /* the topic gets `count` more than the `before` it has, owned and backed as with topic_create */
            struct uuid id;
            int32_t before, count;
            struct stream_id first_stream;
            struct incarnation owner;
            int32_t owner_node;
        } partitions_add;
        struct {
            int32_t node_id; /* META_ALL_BROKERS: what holds for those that have no value of their own */
        } broker_configure;
    };
    struct meta_change *changes; /* of topic_create (none removes), topic_configure and broker_configure */
    size_t change_count;
};

/* Appends the framed record. */
void meta_record_encode(const struct meta_record *r, struct buf *out);
/* Takes one framed record off the reader. ERR_VERSION: a kind or version of a newer program; r->kind and r->version
 * then say which. ERR_CORRUPT, ERR_TRUNCATED. On OK the caller calls meta_record_deinit. */
enum err meta_record_decode(struct meta_record *r, struct mem *m, struct reader *in) WARN_UNUSED;
void meta_record_deinit(struct meta_record *r, struct mem *m);

/* Shared with the snapshot. */
void meta_text_put(struct buf *out, struct meta_text t);
bool meta_text_get(struct reader *in, struct meta_text *t); /* false: no such text; in->failed when the bytes ended */
void meta_int_put(struct buf *out, int32_t v);              /* zigzag */
bool meta_int_get(struct reader *in, int32_t *v);
/* An unsigned integer of at most `limit`. */
bool meta_uint_get(struct reader *in, uint64_t limit, uint64_t *v);

#endif
