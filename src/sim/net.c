#include "sim/net.h"

#include "base/assert.h"

enum err sim_net_listen(struct env *e, const char *host, uint16_t port, bool reuse_port,
                        void (*accepted)(void *ctx, struct env_conn *c), void *ctx, struct env_listener **out,
                        struct env_address *bound) {
    (void)e, (void)host, (void)port, (void)reuse_port, (void)accepted, (void)ctx, (void)bound;
    *out = NULL;
    return ERR_UNSUPPORTED;
}

enum err sim_net_connect(struct env *e, const char *host, uint16_t port, struct env_conn **out) {
    (void)e, (void)host, (void)port;
    *out = NULL;
    return ERR_UNSUPPORTED;
}

/* No listener and no connection is ever handed out. */

void sim_net_listener_close(struct env_listener *l) {
    (void)l;
    UNREACHABLE();
}

void sim_net_conn_start(struct env_conn *c, const struct env_conn_events *events, void *ctx) {
    (void)c, (void)events, (void)ctx;
    UNREACHABLE();
}

void sim_net_conn_peer(struct env_conn *c, struct env_address *peer, struct env_address *local) {
    (void)c, (void)peer, (void)local;
    UNREACHABLE();
}

void sim_net_conn_send(struct env_conn *c, struct slice *slices, size_t count) {
    (void)c, (void)slices, (void)count;
    UNREACHABLE();
}

size_t sim_net_conn_queued(const struct env_conn *c) {
    (void)c;
    UNREACHABLE();
}

void sim_net_conn_resume(struct env_conn *c) {
    (void)c;
    UNREACHABLE();
}

void sim_net_conn_close(struct env_conn *c, bool abort) {
    (void)c, (void)abort;
    UNREACHABLE();
}
