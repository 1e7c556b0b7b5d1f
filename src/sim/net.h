/* The simulated network: machines with addresses, listeners, and connections that carry bytes in order, with latency, as TCP
 * does. What was sent by a process that was killed may still arrive, and the other end hears of the end; a machine that
 * loses power says nothing, and who waits for it must have a time limit of its own, until the machine is up again
 * and answers with a reset. A connection takes SIM_NET_WINDOW bytes that its other end has not read; the rest waits at
 * the sender.
 *
 * Node number N has the address "10.1.0.N". Faults are asked for at each send (fault_table.h, "net-..."). A workload may
 * cut the way from one node to another: what is under way waits, as it would be sent again, until the way is open. */
#ifndef OXBOW_SIM_NET_H
#define OXBOW_SIM_NET_H

#include "sim/node.h"

#define SIM_NET_WINDOW (256u << 10)

void sim_net_address(const struct sim_node *n, char *out, size_t out_size);
/* Nothing that `from` sends reaches `to` while it is cut. */
void sim_net_cut(struct sim_world *w, const struct sim_node *from, const struct sim_node *to, bool cut);
void sim_net_heal(struct sim_world *w);

/* For the environment's table. */
enum err sim_net_listen(struct env *e, const char *host, uint16_t port, bool reuse_port,
                        void (*accepted)(void *ctx, struct env_conn *c), void *ctx, struct env_listener **out,
                        struct env_address *bound);
void sim_net_listener_close(struct env_listener *l);
enum err sim_net_connect(struct env *e, const char *host, uint16_t port, struct env_conn **out);
void sim_net_conn_start(struct env_conn *c, const struct env_conn_events *events, void *ctx);
void sim_net_conn_peer(struct env_conn *c, struct env_address *peer, struct env_address *local);
void sim_net_conn_send(struct env_conn *c, struct slice *slices, size_t count);
void sim_net_conn_patient(struct env_conn *c, bool patient);
size_t sim_net_conn_queued(const struct env_conn *c);
void sim_net_conn_resume(struct env_conn *c);
void sim_net_conn_close(struct env_conn *c, bool abort);

/* For node.c and world.c. The node's loops are gone. */
void sim_net_node_gone(struct sim_node *n, enum sim_crash kind);
/* Listeners and connections that the node holds. */
size_t sim_net_held(const struct sim_node *n);
void sim_net_destroy(struct sim_world *w);

#endif
