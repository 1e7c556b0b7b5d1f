/* The image of the cluster: what all records of the cluster log up to some position amount to. Plain data, pure
 * functions; no I/O, no clock. */
#ifndef OXBOW_META_META_IMAGE_H
#define OXBOW_META_META_IMAGE_H

#include "base/map.h"
#include "base/mutant.h"
#include "meta/meta.h"
#include "meta/meta_record.h"

/* A run of streams with consecutive ids that back consecutive partitions of one topic. */
struct meta_extent {
    uint64_t first_stream, count;
    int32_t first_partition;
    struct meta_topic *topic;
};

struct meta_broker_configs {     /* what was set of brokers' configurations at run time */
    int32_t node_id;             /* META_ALL_BROKERS, or the broker's */
    struct meta_config *configs; /* sorted by name; never none */
    size_t config_count;
};

struct meta_image {
    struct mem *mem;
    enum mutant mutant;         /* of the environment that it lives in (base/mutant.h) */
    struct meta_topic **topics; /* sorted by name */
    size_t topic_count, topic_capacity;
    struct mapstr topics_by_id;
    struct meta_extent *extents; /* sorted by first_stream */
    size_t extent_count, extent_capacity;
    struct meta_broker *brokers; /* sorted by incarnation */
    size_t broker_count, broker_capacity;
    struct meta_broker_configs *broker_configs; /* sorted by node id */
    size_t broker_configs_count, broker_configs_capacity;
    uint64_t next_stream;      /* from 1 */
    uint64_t next_producer_id; /* from 0 */
    uint64_t cleaned_below; /* of the log's own numbers, those below this are deleted or stay for ever; only snapshots
                               carry it */
};

void meta_image_init(struct meta_image *i, struct mem *m);
void meta_image_deinit(struct meta_image *i);

/* The incarnation that a registration at this position is; ids of positions never repeat. */
struct incarnation meta_position(uint64_t number, uint64_t index);

/* Applies a record that lies at that position of the log. ERR_CORRUPT: it does not fit what came before; the image is
 * then unchanged. */
enum err meta_image_apply(struct meta_image *i, const struct meta_record *r, struct incarnation position) WARN_UNUSED;

struct meta_topic *meta_image_topic(const struct meta_image *i, const char *name, size_t name_size); /* or NULL */
struct meta_topic *meta_image_topic_by_id(const struct meta_image *i, const struct uuid *id);
const struct meta_topic *meta_image_topic_of_stream(const struct meta_image *i, struct stream_id s, int32_t *partition);
struct meta_broker *meta_image_broker(const struct meta_image *i, struct incarnation incarnation);

/* A random uuid (version 4) whose text does not begin with '-'. */
struct env;
void uuid_draw(struct env *env, struct uuid *out);

/* For the snapshot's decoder: takes t (allocated from the image's memory, all filled in) when id, name and streams are
 * its own; else false. */
bool meta_image_take_topic(struct meta_image *i, struct meta_topic *t);
bool meta_image_add_broker(struct meta_image *i, struct incarnation incarnation, int32_t node_id, struct meta_text rack,
                           struct meta_text endpoint, bool retired);
void meta_topic_free(struct meta_topic *t, struct mem *m);
/* Sets or removes one override, keeping the order by name. */
void meta_topic_change(struct meta_topic *t, struct mem *m, const struct meta_change *c);
/* The same for brokers. A node whose last value went is forgotten. */
void meta_image_change_broker(struct meta_image *i, int32_t node_id, const struct meta_change *c);
const struct meta_broker_configs *meta_image_broker_configs(const struct meta_image *i, int32_t node_id); /* or NULL */

/* The snapshot of the whole image: the head of a checkpoint entry (meta_snapshot.c). Canonical: equal images give equal
 * bytes. */
void meta_snapshot_encode(const struct meta_image *i, struct buf *out);
/* i: uninitialised; on error nothing is left to free. ERR_VERSION, ERR_CORRUPT, ERR_TRUNCATED. */
enum err meta_snapshot_decode(struct meta_image *i, struct mem *m, struct slice bytes) WARN_UNUSED;

#endif
