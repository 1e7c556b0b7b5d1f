/* Workload "broker": the whole broker, as clients see it over the network. Which loads take part is drawn: producers,
 * readers, administrators, members of a group (load_*.c). The broker is killed, loses power, stands still, is stopped in
 * order and started again; without a WAL on a machine's disk also elsewhere, and while the old one is still alive. The
 * network delays, resets and cuts.
 *
 * Promises, by what the clients saw (check.h):
 *  - what was acknowledged is at the offset that was told, for ever, and is read back byte for byte, until retention or
 *    DeleteRecords may take it away;
 *  - a batch of an idempotent producer is there once, however often it was sent; a plain one at most as often as it was
 *    sent; those of one producer in one partition lie in the order in which they were sent;
 *  - one offset, one batch: all readers see the same, in order, without a gap, and what one was shown is there at the end;
 *    nothing is there that nobody sent;
 *  - high watermark, log start offset and leader epoch never go back; what was deleted is not served again; the log
 *    start moves no further than somebody asked for, or retention allows;
 *  - ListOffsets and OffsetForLeaderEpoch agree with what lies there;
 *  - a record has the time that its producer gave it; or where the topic says so that of its append, which is told to the
 *    producer and to every reader alike, and goes back only where a clock did;
 *  - a topic that was created is there until its deletion is asked for; one that was deleted is gone, with its records
 *    and what groups had committed; partitions only become more; a configuration that was set is told;
 *  - a committed offset that was acknowledged is found, or a later one;
 *  - a broker that was overtaken accuses nobody who asks it afterwards, and answers nothing about offsets and groups once
 *    its lease is over; there are lulls in which one is overtaken and does not notice;
 *  - when nothing is broken any more everything is served again within a bound. */
#include "sim/load.h"
#include "sim/net.h"
#include "sim/workloads.h"

/* After the load, what was asked for and not answered is done within this, or never will be. */
#define SETTLE_NS (150 * NS_PER_S)

static void choose(struct load *l) {
    struct sim_world *w = l->world;
    unsigned names = (unsigned)sim_between(w, 1, CHECK_NAMES_MAX);
    if (sim_chance(w, 0.3)) names = 1;
    l->deletes = sim_chance(w, 0.4);
    l->grows = sim_chance(w, 0.4);
    l->configures = sim_chance(w, 0.5);
    l->deletes_records = sim_chance(w, 0.5);
    l->retains = sim_chance(w, 0.4);
    l->old_formats = sim_chance(w, 0.3);
    l->drops_offsets = sim_chance(w, 0.3);
    l->compresses = sim_chance(w, 0.3);
    load_choose_cleaner(l);
    for (unsigned i = 0; i < names; i++) {
        struct check_name *n = check_name_add(l->check, (int32_t)sim_between(w, 1, 3));
        n->append_time = sim_chance(w, 0.25);
        if (!l->retains) continue;
        if (sim_chance(w, 0.6)) n->retention_ms = (int64_t)sim_between(w, 2000, 40000);
        if (sim_chance(w, 0.6)) n->retention_bytes = (int64_t)sim_between(w, 2000, 40000);
    }
}

static void begin(struct load *l) {
    struct sim_world *w = l->world;
    sim_broker_begin(&l->broker, load_first, l);
    unsigned producers = (unsigned)sim_between(w, 1, 3), readers = (unsigned)sim_between(w, 1, 2);
    unsigned admins = sim_chance(w, 0.7) ? (unsigned)sim_between(w, 1, 2) : 0;
    unsigned members = sim_chance(w, 0.25) ? (unsigned)sim_between(w, 1, 3) : 0;
    for (unsigned i = 0; i < producers; i++) load_add(l, "producer", i, load_produce_main);
    for (unsigned i = 0; i < readers; i++) load_add(l, "reader", i, load_read_main);
    for (unsigned i = 0; i < admins; i++) load_add(l, "admin", i, load_admin_main);
    if (members > 0) l->group = load_group_create(l, &l->check->names[0]);
    for (unsigned i = 0; i < members; i++) load_add(l, "member", i, load_member_main);
}

static void trouble(struct load *l) {
    struct sim_world *w = l->world;
    if (l->broker.lulls && sim_broker_serves(&l->broker) && sim_chance(w, 0.3)) {
        load_lull(l);
        return;
    }
    if (!sim_broker_trouble(&l->broker)) return;
    struct sim_node *broker = sim_broker_node(&l->broker);
    if (sim_chance(w, l->broker.crash)) {
        /* From one client, or from all, while it reaches the store; one way or both. */
        unsigned first = (unsigned)sim_between(w, 0, l->client_count - 1),
                 count = sim_chance(w, 0.3) ? l->client_count : 1;
        bool to = sim_chance(w, 0.5), from = !to || sim_chance(w, 0.5);
        for (unsigned i = 0; i < count; i++) {
            struct sim_node *client = l->clients[(first + i) % l->client_count].node;
            if (to) sim_net_cut(w, broker, client, true);
            if (from) sim_net_cut(w, client, broker, true);
        }
    } else if (sim_chance(w, 0.3)) {
        sim_net_heal(w);
    }
}

/* Until the broker that is to be has served for a while. */
static void settle(struct load *l) {
    struct sim_world *w = l->world;
    uint64_t until_ns = w->now_ns + SETTLE_NS;
    l->broker.crash = l->broker.takeover = 0;
    while (w->now_ns < until_ns && !sim_failed(w)) {
        (void)sim_broker_trouble(&l->broker);
        fiber_sleep_ns(2 * NS_PER_S);
    }
    check_settle(l->check);
}

void workload_broker(struct sim_run *r) {
    struct sim_world *w = r->world;
    struct load *l = load_create(r);
    choose(l);
    begin(l);
    uint64_t end_ns = w->now_ns + 10 * NS_PER_S + sim_run_load_ns(r, 1);
    while (w->now_ns < end_ns && !sim_failed(w)) {
        fiber_sleep_ns(sim_between(w, 10, 3000) * NS_PER_MS);
        load_look_at_clocks(l);
        trouble(l);
    }
    sim_run_heal(r);
    sim_net_heal(w);
    l->over = true;
    load_wait(l);
    settle(l);
    load_end(l);
}
