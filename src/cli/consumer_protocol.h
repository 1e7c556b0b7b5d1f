/* What members of a classic group tell each other through the coordinator, which does not look inside: Kafka's
 * ConsumerProtocol. Subscription: int16 version, topics, user data, ... Assignment: int16 version, for each topic its
 * name and partitions, user data. Big-endian; strings with int16 sizes, arrays with int32 counts. Bytes from other
 * members are not trusted. */
#ifndef OXBOW_CLI_CONSUMER_PROTOCOL_H
#define OXBOW_CLI_CONSUMER_PROTOCOL_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "kafka/codec.h"

struct assigned_topic {
    struct kafka_string topic; /* borrows from the bytes */
    struct kafka_int32_array partitions;
};
struct assignment {
    struct assigned_topic *topics;
    int32_t count;
};

/* False: these bytes are no assignment. No bytes are an empty one. */
bool assignment_decode(const uint8_t *data, size_t size, struct arena *a, struct assignment *out);
void assignment_encode(const struct assignment *from, struct buf *out);
/* The topics of a subscription; false: these bytes are none. */
bool subscription_decode(const uint8_t *data, size_t size, struct arena *a, struct kafka_string_array *topics);
void subscription_encode(const struct kafka_string *topics, int32_t count, struct buf *out);

#endif
