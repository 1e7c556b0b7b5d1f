/* Which partition a record goes to, as Kafka's own clients choose it, so that records with one key meet wherever they
 * come from. Pure functions. */
#ifndef OXBOW_CLI_PARTITIONER_H
#define OXBOW_CLI_PARTITIONER_H

#include <stddef.h>
#include <stdint.h>

/* The 32-bit MurmurHash2 with the seed 0x9747b28c. */
uint32_t murmur2(const void *data, size_t size);
/* Of a record with a key; count >= 1. */
int32_t partition_of_key(const void *key, size_t size, int32_t count);

#endif
