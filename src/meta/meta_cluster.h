/* The object that names the cluster, as bytes (the essay is in meta_cluster.c). Pure; for meta/ itself and for tools
 * that look into a store. */
#ifndef OXBOW_META_META_CLUSTER_H
#define OXBOW_META_META_CLUSTER_H

#include "meta/meta.h"

#define META_CLUSTER_KEY "oxbow.cluster"
#define META_PROBE_PREFIX "oxbow" /* of the keys with which a start checks the store */
#define META_GENERATION_SIZE 26u
#define META_CLUSTER_SIZE 56u

void meta_cluster_encode(const char generation[META_GENERATION_SIZE], const struct uuid *id,
                         uint8_t out[META_CLUSTER_SIZE]);
/* ERR_FOREIGN, ERR_VERSION, ERR_CORRUPT, ERR_TRUNCATED. */
enum err meta_cluster_decode(const uint8_t *data, size_t size, char generation[META_GENERATION_SIZE + 1],
                             struct uuid *id) WARN_UNUSED;

#endif
