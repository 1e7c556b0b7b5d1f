/* Workload "group": members of a classic consumer group share partitions while they come, leave, die and are cut off, and
 * the broker is killed, moved, overtaken and stopped. What is promised: load_group.c. When nothing is broken any more,
 * the group gets to work within a bound. In most runs __consumer_offsets is compacted all the time; what is left of it in the end
 * says what the coordinator says. */
#include <stdio.h>

#include "sim/load.h"
#include "sim/net.h"
#include "sim/workloads.h"

#define PARTITIONS 5
#define MEMBERS_MAX 4u

static void trouble(struct load *l) {
    struct sim_world *w = l->world;
    struct load_client *c = &l->clients[sim_between(w, 0, l->client_count - 1)];
    if (!sim_node_up(c->node)) {
        sim_node_start(c->node, c->main, c);
    } else if (sim_chance(w, 0.05)) {
        sim_run_crash(l->run, c->node);
    } else if (sim_chance(w, 0.05)) {
        sim_node_pause(c->node, sim_node_pause_ns(w));
    }
    if (l->broker.lulls && sim_broker_serves(&l->broker) && sim_chance(w, 0.2)) {
        load_lull(l);
        return;
    }
    if (!sim_broker_trouble(&l->broker)) return;
    if (sim_chance(w, l->broker.crash)) {
        sim_net_cut(w, sim_broker_node(&l->broker), c->node, true);
    } else if (sim_chance(w, 0.3)) {
        sim_net_heal(w);
    }
}

static void keep_up(struct load *l) {
    struct sim_world *w = l->world;
    uint64_t until_ns = w->now_ns + 900 * NS_PER_S;
    l->broker.crash = l->broker.takeover = 0;
    load_group_quiet(l->group);
    while (w->now_ns < until_ns && !sim_failed(w) && !load_group_works(l->group)) {
        (void)sim_broker_trouble(&l->broker);
        for (unsigned i = 0; i < l->client_count; i++) {
            struct load_client *c = &l->clients[i];
            if (!sim_node_up(c->node)) sim_node_start(c->node, c->main, c);
        }
        fiber_sleep_ns(200 * NS_PER_MS);
    }
    if (!load_group_works(l->group) && !sim_failed(w))
        sim_fail(w, "the group does not get to work though nothing is broken");
}

void workload_group(struct sim_run *r) {
    struct sim_world *w = r->world;
    struct load *l = load_create(r);
    l->group = load_group_create(l, check_name_add(l->check, PARTITIONS));
    unsigned members = (unsigned)sim_between(w, 1, MEMBERS_MAX);
    load_choose_cleaner(l);
    sim_broker_begin(&l->broker, load_first, l);
    for (unsigned i = 0; i < members; i++) load_add(l, "member", i, load_member_main);
    uint64_t end_ns = w->now_ns + 20 * NS_PER_S + sim_run_load_ns(r, 2);
    while (w->now_ns < end_ns && !sim_failed(w)) {
        fiber_sleep_ns(sim_between(w, 10, 3000) * NS_PER_MS);
        trouble(l);
    }
    sim_run_heal(r);
    sim_net_heal(w);
    if (!sim_failed(w)) keep_up(l);
    l->over = true;
    load_wait(l);
    load_end(l);
}
