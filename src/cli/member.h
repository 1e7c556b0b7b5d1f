/* A member of a classic consumer group that reads one topic: joins, assigns by range when it leads, beats its heart,
 * commits, leaves. All suspend but member_init and member_deinit. */
#ifndef OXBOW_CLI_MEMBER_H
#define OXBOW_CLI_MEMBER_H

#include "cli/consumer.h"
#include "cli/group.h"

#define MEMBER_ID_SIZE 512u

struct member {
    struct client *client;
    const char *group, *topic;
    char id[MEMBER_ID_SIZE]; /* "": none yet */
    int32_t generation;
    int32_t *partitions; /* of the topic, assigned; owned */
    size_t partition_count;
    int64_t *committed; /* of each; -1: none; owned */
    uint64_t beat_due_ns, commit_due_ns;
    bool rejoin; /* the group is rebalancing, or has thrown this member out */
};

void member_init(struct member *m, struct client *c, const char *group, const char *topic);
void member_deinit(struct member *m);
/* Joins (again) and learns partitions and committed offsets. */
enum err member_join(struct member *m) WARN_UNUSED;
/* Heartbeats when one is due; sets `rejoin`. */
enum err member_beat(struct member *m) WARN_UNUSED;
/* Commits where the consumer is, when that changed and (unless `now`) a second has passed; sets `rejoin`. */
enum err member_commit(struct member *m, const struct consumer *x, bool now) WARN_UNUSED;
/* Tells the group, without caring what it says. */
void member_leave(struct member *m);

#endif
