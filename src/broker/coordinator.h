/* The group coordinators of a shard: one for each partition of __consumer_offsets whose home it is. The rules are
 * coord/'s; here is what it leaves to others: a coordinator holds its partition open, is loaded from the partition's
 * table (no history is replayed), writes what the rules want stored, tells them what is durable, and gives them the
 * time.
 *
 *   request -> rules -> records -> one batch -> appended in order -> durable -> rules -> answers
 *
 * A write whose outcome is not known ends the coordinator: what waited is answered, the partition is closed, and the
 * next request loads a new one from what is there. A coordinator is bound to one (stream, epoch).
 *
 * Everything here is called on the shard's loop. */
#ifndef OXBOW_BROKER_COORDINATOR_H
#define OXBOW_BROKER_COORDINATOR_H

#include "broker/route.h"
#include "coord/coord.h"

struct broker;
struct config;
struct coordinator;
struct shard;

/* The coordinator of this partition of __consumer_offsets, which must have its home here; loads it if need be, and waits
 * for that a short while (then suspends). The caller must not suspend while it uses it.
 * ERR_COORDINATOR_LOAD_IN_PROGRESS, ERR_COORDINATOR_NOT_AVAILABLE (it cannot be loaded), ERR_NOT_COORDINATOR (this
 * broker stops). */
enum err coordinator_acquire(struct shard *s, const struct topic_route *t, int32_t index,
                             struct coordinator **out) WARN_UNUSED;
struct coord *coordinator_rules(struct coordinator *c);
struct coord_now coordinator_now(const struct coordinator *c);
/* After each call of the rules: writes what came out of it, sets the clock. Does not suspend. */
void coordinator_called(struct coordinator *c);

/* Loads all that have their home here; suspends. The error is the first that was met. */
enum err coordinators_load(struct shard *s) WARN_UNUSED;
/* Calls fn for each that is loaded; fn must not suspend. */
void coordinators_each(struct shard *s, void (*fn)(void *ctx, struct coordinator *c), void *ctx);
/* The topic is gone, and this shard's routes know: what was committed for it goes from all groups of this shard. Does not
 * suspend and need not become durable: see coord_topic_deleted. A coordinator that is not loaded does the same when it is. */
void coordinators_topic_deleted(struct shard *s, const struct topic_route *t);

/* The broker stops: takes no more requests, gives pending writes some time, and answers what still waits. Suspends. */
void coordinators_stop(struct shard *s);
/* Gives all partitions back; after coordinators_stop. Suspends. */
void coordinators_close(struct shard *s);

/* --- The topic. */

#define OFFSETS_TOPIC "__consumer_offsets"

/* Kafka: the group's hash as Java's String.hashCode has it, over the UTF-16 of the id. */
int32_t offsets_topic_partition(const char *group, size_t size, int32_t partition_count);
/* On any loop of a shard: what this shard knows of the topic, which is made when it is not there. A reference.
 * ERR_COORDINATOR_NOT_AVAILABLE. May suspend. */
enum err offsets_topic_route(struct shard *s, struct topic_route **out) WARN_UNUSED;

#endif
