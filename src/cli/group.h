/* What cmd_group.c and group_reset.c share; the committed offsets of a group. All suspend. */
#ifndef OXBOW_CLI_GROUP_H
#define OXBOW_CLI_GROUP_H

#include "cli/client.h"

#define GROUP_SUBJECT_SIZE 320u
#define GROUP_TOPICS_MAX 64u

enum reset_how { RESET_NONE, RESET_EARLIEST, RESET_LATEST, RESET_OFFSET, RESET_DATETIME, RESET_DURATION, RESET_SHIFT };

struct reset {
    const char *group;
    const char *topics[GROUP_TOPICS_MAX]; /* "T" or "T:0,2" */
    size_t topic_count;
    enum reset_how how;
    int64_t value; /* offset, Unix milliseconds, duration in ms, or how far to shift */
    bool execute;
};

struct committed {
    struct kafka_string topic;
    int32_t partition;
    int64_t offset; /* -1: none */
    int16_t code;
};

/* "group 'NAME'" */
void group_subject(const char *group, char out[GROUP_SUBJECT_SIZE]);
/* One group as its coordinator describes it; ERR_NOT_FOUND when there is none. */
enum err group_describe_ask(struct client *c, const char *group, struct arena *a,
                            struct kafka_describe_groups_response_group *out) WARN_UNUSED;
/* Everything that the group has committed, by topic and partition. */
enum err group_committed(struct client *c, const char *group, struct arena *a, struct committed **out,
                         size_t *count) WARN_UNUSED;
/* Commits offsets, for nobody when generation is -1 and member_id "". Codes of Kafka's per partition go to items. */
enum err group_commit(struct client *c, const char *group, int32_t generation, const char *member_id,
                      struct committed *items, size_t count, struct arena *a) WARN_UNUSED;

/* Writes to out; an exit status, with the failure on stderr. */
int group_reset(struct client *c, const struct reset *r, struct arena *a, struct buf *out);

#endif
