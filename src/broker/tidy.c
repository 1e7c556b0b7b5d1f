/* What a broker tidies up in the background, once it serves: what dead incarnations left in the store (the sweep), and
 * probes of the store's check that were not deleted. Neither is urgent, and the store may fail for hours: so both are
 * tried again, less and less often, until they are done or the broker stops. All on loop 0. */
#include "base/assert.h"
#include "broker/broker_priv.h"
#include "meta/meta_cluster.h"

#define RETRY_FIRST_NS (30 * NS_PER_S)
#define RETRY_LAST_NS (1800 * NS_PER_S)
/* Another broker may be starting, and be using what looks left over: it would take the store for one that loses
 * objects, and give up. A start that takes longer than this over one probe has stood still. */
#define PROBE_AGE_NS (3600 * NS_PER_S)

/* False: the broker stops. Suspends. */
static bool tidy_wait(struct broker *b, uint64_t ns) {
    uint64_t until = env_now_ns(b->env) + ns;
    while (!b->tidy_stopped && env_now_ns(b->env) < until) (void)waitq_wait_until(&b->tidy_stop, until);
    return !b->tidy_stopped;
}

/* What failed is due again after a while. False: it is not, for the broker stops, or no longer is the one. Suspends. */
static bool tidy_again(struct broker *b, enum err e, unsigned *attempt, const char *what) {
    if (e == ERR_CLOSED || e == ERR_CANCELLED || e == ERR_FENCED || b->tidy_stopped) return false;
    uint64_t ns = *attempt < 16 ? RETRY_FIRST_NS << *attempt : RETRY_LAST_NS;
    if (ns > RETRY_LAST_NS) ns = RETRY_LAST_NS;
    ++*attempt;
    log_warn(b->env->log, what, "err=%s retry_s=%lu", err_name(e), (unsigned long)(ns / NS_PER_S));
    return tidy_wait(b, ns);
}

/* Frees what earlier incarnations left, then forgets their registrations. */
static enum err sweep(struct broker *b) {
    struct incarnation oldest = {0};
    enum err e = streams_sweep(b->streams, &oldest);
    return e == OK ? broker_checked(b, meta_forget_retired(b->meta, oldest)) : e;
}

static void sweep_main(void *arg) {
    struct broker *b = arg;
    unsigned attempt = 0;
    enum err e;
    while ((e = sweep(b)) != OK && tidy_again(b, e, &attempt, "sweep of old objects ended early")) {
    }
    waitgroup_done(&b->background);
}

static void probes_main(void *arg) {
    struct broker *b = arg;
    struct store_listing left;
    unsigned attempt = 0;
    enum err e;
    while ((e = store_check_leftovers(b->o.store, META_PROBE_PREFIX, &left)) != OK) {
        store_listing_deinit(&left);
        if (!tidy_again(b, e, &attempt, "probes of the store's check cannot be listed")) goto out;
    }
    bool due = left.count > 0 && (b->o.store->exclusive || tidy_wait(b, PROBE_AGE_NS));
    attempt = 0;
    while (due && (e = store_check_forget(b->o.store, &left)) != OK)
        due = tidy_again(b, e, &attempt, "probes of the store's check cannot be deleted");
    store_listing_deinit(&left);
out:
    waitgroup_done(&b->background);
}

void broker_tidy_begin(struct broker *b) {
    ASSERT(loop_current() == b->o.loop0 && !b->tidy_stopped);
    waitgroup_add(&b->background);
    fiber_spawn(b->o.loop0, "sweep", sweep_main, b);
    waitgroup_add(&b->background);
    fiber_spawn(b->o.loop0, "probes", probes_main, b);
}

void broker_tidy_stop(struct broker *b) {
    b->tidy_stopped = true;
    waitq_wake_all(&b->tidy_stop);
}
