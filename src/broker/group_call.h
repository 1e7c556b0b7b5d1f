/* A request that concerns groups: one call, or several, of the coordinators' rules, each on the home shard of its
 * group's partition, and one answer when all have come back. While they wait (for other members, for a record to be
 * durable) the request holds no fiber.
 *
 * Everything of a call lives in the request's arena, which lives until the answer is out, also when the client has
 * gone: the rules know nothing of that. What a call answers is made in an arena of the call's own. */
#ifndef OXBOW_BROKER_GROUP_CALL_H
#define OXBOW_BROKER_GROUP_CALL_H

#include "broker/coordinator.h"
#include "broker/request.h"

struct group_calls;

struct group_call {
    struct mail mail; /* back to the request's loop */
    struct group_calls *all;
    struct kafka_string group;
    void *op;                 /* the handler's */
    struct coord_reply reply; /* the rules' */
    struct arena arena;       /* of the answer */
    struct shard *home;
    /* The coordinator could not be had (reply.error says why): the rules were not asked. */
    bool refused;
    bool inside;  /* on the home shard: the call of the rules has not returned yet */
    bool at_once; /* answered before it returned; written there, read here once the errand is back */
};

struct group_calls {
    struct request *r;
    void *response;
    void *ctx; /* the handler's */
    struct group_call *items;
    size_t count, open;
    bool waiting;
    bool keeps_frame; /* the rules borrow from it until they answer */
    /* On the home shard; calls the rules once. Must not suspend. What the rules answer at once ends with
     * group_call_done. */
    void (*run)(struct group_call *call, struct coord *rules, struct coord_now now);
    /* On the request's loop, all calls are done: fills the response in. Must not suspend. Once more, with all calls
     * refused, when what it said is not known to be so any more. */
    void (*finish)(struct group_calls *all);
};

/* `count` calls, to be given their groups. */
struct group_calls *group_calls_create(struct request *r, void *response, size_t count,
                                       void (*run)(struct group_call *, struct coord *, struct coord_now),
                                       void (*finish)(struct group_calls *));
/* What the handler returns. Suspends. */
enum request_outcome group_calls_run(struct group_calls *all);
/* As coord_reply.done. */
void group_call_done(struct coord_reply *reply);

#endif
