/* The insides of the client: connections. */
#ifndef OXBOW_CLI_CLIENT_PRIV_H
#define OXBOW_CLI_CLIENT_PRIV_H

#include "cli/client.h"

struct client_conn {
    struct list node; /* of client.conns */
    struct client *client;
    struct env_conn *raw;
    struct client_address address;
    char name[CLIENT_HOST_SIZE + 16];
    int32_t node_id; /* -1: a bootstrap address */
    struct buf in;   /* what has arrived of the answer */
    struct waitq arrived;
    enum err broken;
    const struct env_conn_events *owner_events; /* of one that was handed over; NULL: our own */
    void *owner_ctx;
    /* The request under way. */
    bool waiting;
    int32_t correlation_id;
    const struct kafka_api *api;
    int16_t version;
    struct { /* of the broker; min > max: the API is not there */
        int16_t min, max;
    } versions[KAFKA_API_KEY_MAX + 1];
};

/* Frees what abandoned attempts to connect have left. After the environment's end. */
void client_attempts_free(struct client *c);
void client_attempts_move(struct client *from, struct client *to);
/* Fills c->bootstrap. False when the text makes no sense. */
bool client_bootstrap_parse(struct client *c, const char *text);

#endif
