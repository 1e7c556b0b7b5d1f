/* The simulated network: its place in the environment's table. There is none yet: listening and connecting are
 * ERR_UNSUPPORTED, so no connection ever
 * exists. A network would be, like the store, an object of the world that carries messages between nodes as events,
 * with delays, losses and partitions. */
#ifndef OXBOW_SIM_NET_H
#define OXBOW_SIM_NET_H

#include "rt/env.h"

enum err sim_net_listen(struct env *e, const char *host, uint16_t port, bool reuse_port,
                        void (*accepted)(void *ctx, struct env_conn *c), void *ctx, struct env_listener **out,
                        struct env_address *bound);
void sim_net_listener_close(struct env_listener *l);
enum err sim_net_connect(struct env *e, const char *host, uint16_t port, struct env_conn **out);
void sim_net_conn_start(struct env_conn *c, const struct env_conn_events *events, void *ctx);
void sim_net_conn_peer(struct env_conn *c, struct env_address *peer, struct env_address *local);
void sim_net_conn_send(struct env_conn *c, struct slice *slices, size_t count);
size_t sim_net_conn_queued(const struct env_conn *c);
void sim_net_conn_resume(struct env_conn *c);
void sim_net_conn_close(struct env_conn *c, bool abort);

#endif
