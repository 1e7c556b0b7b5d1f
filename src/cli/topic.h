/* What cmd_topic.c and topic_describe.c share. All suspend; all write to `out` and return an exit status, having said
 * on stderr what failed. */
#ifndef OXBOW_CLI_TOPIC_H
#define OXBOW_CLI_TOPIC_H

#include "cli/client.h"

#define TOPIC_RESOURCE 2 /* Kafka's ConfigResource.Type */

/* By name. */
void topics_sort(struct kafka_metadata_response *r);
/* count 0: all topics, internal ones only if asked for. */
int topic_describe(struct client *c, const char *const *names, size_t count, bool internal, struct arena *a,
                   struct buf *out);
/* Configurations of a topic that were set for it, or all of them. */
int topic_config_show(struct client *c, const char *name, bool all, struct arena *a, struct buf *out);

#endif
