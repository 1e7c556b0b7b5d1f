/* Simulated disks: what is durable, what a power cut or a kill leaves, errors, locks, shared devices. */
#include "sim_test.h"

#include <string.h>

#include "sim/disk.h"

#define SECTORS 8u
#define SIZE (SECTORS * SIM_SECTOR)

struct script { /* what a node's main does, and what came of it */
    const char *path;
    unsigned flags;
    uint8_t fill;
    bool dir_sync, sync_after;
    enum err opened, wrote, synced;
    bool waiting; /* everything was done; stands still until a crash */
    uint8_t *buffer;
};

static uint8_t *buffer_make(struct env *env, uint8_t fill) {
    uint8_t *p = mem_aligned(env->mem, SIZE, ENV_FILE_ALIGN);
    memset(p, fill, SIZE);
    return p;
}

static void wait_for_crash(struct script *s) {
    s->waiting = true;
    for (;;) fiber_park();
}

/* Opens, writes `fill` all over, and so on, then waits for a crash. */
static void script_main(void *arg) {
    struct script *s = arg;
    struct env *env = loop_current()->env;
    struct env_file *f;
    s->opened = env->ops->file_open(env, s->path, s->flags, &f);
    if (s->opened == OK) {
        struct env_bytes piece = {buffer_make(env, s->fill), SIZE};
        s->buffer = piece.data;
        s->wrote = env->ops->file_write(f, 0, &piece, 1);
        if (s->sync_after) s->synced = env->ops->file_sync(f);
        if (s->dir_sync) assert_int_equal(env->ops->dir_sync(env, "."), OK);
    }
    wait_for_crash(s);
}

static bool script_waiting(void *arg) {
    return ((struct script *)arg)->waiting;
}

static void script_run(struct sim_node *n, struct script *s) {
    s->waiting = false;
    sim_node_start(n, script_main, s);
    assert_int_equal(sim_world_run(n->world, TEST_STEPS, script_waiting, s), SIM_END_DONE);
}

static void script_run_and_crash(struct sim_node *n, struct script *s, enum sim_crash kind) {
    script_run(n, s);
    sim_node_crash(n, kind);
}

/* A node whose file "f" holds 'A' durably. */
static struct sim_node *node_with_file(struct sim_world *w) {
    struct sim_node *n = sim_node_create(w, "n");
    struct script s = {.path = "f", .flags = ENV_FILE_CREATE, .fill = 'A', .sync_after = true, .dir_sync = true};
    script_run_and_crash(n, &s, SIM_POWER_CUT);
    assert_int_equal(s.wrote, OK);
    assert_int_equal(s.synced, OK);
    return n;
}

struct seen {
    unsigned old, new, torn, torn_unit;
};

/* Sorts the sectors of a file into old ('A'), new ('B'), torn by units, and torn inside a unit. Other bytes fail. */
static void sectors_see(const struct sim_file *f, struct seen *out) {
    uint8_t all[SIZE];
    assert_int_equal(sim_file_peek(f, 0, all, SIZE), SIZE);
    for (size_t i = 0; i < SECTORS; i++) {
        const uint8_t *sector = all + i * SIM_SECTOR;
        unsigned a = 0, mixed = 0;
        for (size_t u = 0; u < SIM_SECTOR; u += SIM_SECTOR_UNIT) {
            unsigned unit = 0;
            for (size_t b = 0; b < SIM_SECTOR_UNIT; b++) {
                assert_true(sector[u + b] == 'A' || sector[u + b] == 'B');
                unit += sector[u + b] == 'A';
            }
            a += unit;
            mixed += unit != 0 && unit != SIM_SECTOR_UNIT;
        }
        if (mixed) {
            out->torn_unit++;
        } else if (a == SIM_SECTOR) {
            out->old++;
        } else if (a == 0) {
            out->new ++;
        } else {
            out->torn++;
        }
    }
}

static struct seen rewrite_and_crash(uint64_t seeds, unsigned flags, bool sync, bool tear, enum sim_crash kind) {
    struct seen seen = {0};
    for (uint64_t seed = 0; seed < seeds; seed++) {
        struct sim_world *w = test_world(seed);
        if (tear) w->faults.chance[SIM_DISK_TEAR] = w->faults.chance[SIM_DISK_TEAR_UNIT] = 0.3;
        struct sim_node *n = node_with_file(w);
        struct script s = {.path = "f", .flags = flags, .fill = 'B', .sync_after = sync};
        script_run_and_crash(n, &s, kind);
        assert_int_equal(s.wrote, OK);
        sectors_see(sim_disk_find(n->disk, "f"), &seen);
        sim_world_destroy(w);
    }
    return seen;
}

static void unsynced_is_lost_kept_or_torn(void **state) {
    (void)state;
    struct seen seen = rewrite_and_crash(60, 0, false, true, SIM_POWER_CUT);
    assert_true(seen.old > 20);
    assert_true(seen.new > 20);
    assert_true(seen.torn > 20);
    assert_true(seen.torn_unit > 5);
    seen = rewrite_and_crash(60, 0, false, false, SIM_POWER_CUT); /* the switch */
    assert_int_equal(seen.torn + seen.torn_unit, 0);
    assert_true(seen.old > 20 && seen.new > 20);
}

static void synced_and_dsync_survive(void **state) {
    (void)state;
    struct seen seen = rewrite_and_crash(40, 0, true, true, SIM_POWER_CUT);
    assert_int_equal(seen.new, 40 * SECTORS);
    seen = rewrite_and_crash(40, ENV_FILE_DIRECT | ENV_FILE_DSYNC, false, true, SIM_POWER_CUT);
    assert_int_equal(seen.new, 40 * SECTORS);
    seen = rewrite_and_crash(40, ENV_FILE_DIRECT, false, true, SIM_POWER_CUT); /* direct alone is not durable */
    assert_true(seen.old > 0);
}

static void kill_keeps_completed_writes(void **state) {
    (void)state;
    struct seen seen = rewrite_and_crash(40, 0, false, true, SIM_KILL);
    assert_int_equal(seen.new, 40 * SECTORS);
}

static void dsync_over_dirty_main(void *arg) {
    struct script *s = arg;
    struct env *env = loop_current()->env;
    struct env_file *plain, *dsync;
    assert_int_equal(env->ops->file_open(env, "f", 0, &plain), OK);
    assert_int_equal(env->ops->file_open(env, "f", ENV_FILE_DSYNC, &dsync), OK);
    struct env_bytes a = {buffer_make(env, 'A'), SIZE}, b = {buffer_make(env, 'B'), SIZE};
    assert_int_equal(env->ops->file_write(plain, 0, &a, 1), OK);
    assert_int_equal(env->ops->file_write(dsync, 0, &b, 1), OK);
    wait_for_crash(s);
}

static void dsync_over_dirty_sectors_survives(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sim_world *w = test_world(seed);
        struct sim_node *n = node_with_file(w);
        struct script s = {.path = "f"};
        sim_node_start(n, dsync_over_dirty_main, &s);
        assert_int_equal(sim_world_run(w, TEST_STEPS, script_waiting, &s), SIM_END_DONE);
        sim_node_crash(n, SIM_POWER_CUT);
        struct seen seen = {0};
        sectors_see(sim_disk_find(n->disk, "f"), &seen);
        assert_int_equal(seen.new, SECTORS);
        sim_world_destroy(w);
    }
}

static void in_flight_lands_whole_partly_or_not(void **state) {
    (void)state;
    unsigned whole = 0, none = 0, part = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct sim_world *w = test_world(seed);
        w->faults.chance[SIM_DISK_TEAR] = 0.3;
        struct sim_node *n = node_with_file(w);
        struct script s = {.path = "f", .flags = ENV_FILE_DIRECT | ENV_FILE_DSYNC, .fill = 'B'};
        sim_node_start(n, script_main, &s);
        while (!s.buffer) assert_int_equal(sim_world_run(w, 1, NULL, NULL), SIM_END_STEPS);
        sim_node_crash(n, SIM_POWER_CUT);
        assert_false(s.waiting);
        struct seen seen = {0};
        sectors_see(sim_disk_find(n->disk, "f"), &seen);
        *(seen.new == SECTORS ? &whole : seen.old == SECTORS ? &none : &part) += 1;
        sim_world_destroy(w);
    }
    assert_true(whole > 10 && none > 10 && part > 10);
}

static void names_need_dir_sync(void **state) {
    (void)state;
    unsigned there = 0, gone = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct sim_world *w = test_world(seed);
        struct sim_node *n = sim_node_create(w, "n");
        struct script s = {.path = "f", .flags = ENV_FILE_CREATE, .fill = 'A', .sync_after = true};
        script_run_and_crash(n, &s, SIM_POWER_CUT);
        *(sim_disk_find(n->disk, "f") ? &there : &gone) += 1;
        sim_world_destroy(w);
    }
    assert_true(there > 10 && gone > 10);
}

static void remove_main(void *arg) {
    struct script *s = arg;
    struct env *env = loop_current()->env;
    assert_int_equal(env->ops->file_remove(env, "f"), OK);
    assert_int_equal(env->ops->file_remove(env, "f"), ERR_NOT_FOUND);
    if (s->dir_sync) assert_int_equal(env->ops->dir_sync(env, "."), OK);
    wait_for_crash(s);
}

static void removed_files_come_back_without_dir_sync(void **state) {
    (void)state;
    unsigned back[2] = {0};
    for (uint64_t seed = 0; seed < 60; seed++) {
        for (int sync = 0; sync < 2; sync++) {
            struct sim_world *w = test_world(seed);
            struct sim_node *n = node_with_file(w);
            struct script s = {.dir_sync = sync};
            sim_node_start(n, remove_main, &s);
            assert_int_equal(sim_world_run(w, TEST_STEPS, script_waiting, &s), SIM_END_DONE);
            sim_node_crash(n, SIM_POWER_CUT);
            struct sim_file *f = sim_disk_find(n->disk, "f");
            if (f) {
                struct seen seen = {0};
                sectors_see(f, &seen);
                assert_int_equal(seen.old, SECTORS);
                back[sync]++;
            }
            sim_world_destroy(w);
        }
    }
    assert_true(back[0] > 10 && back[0] < 50);
    assert_int_equal(back[1], 0);
}

/* --- Errors. */

static void failed_write_may_have_happened(void **state) {
    (void)state;
    struct seen seen = {0};
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct sim_world *w = test_world(seed);
        struct sim_node *n = node_with_file(w);
        w->faults.chance[SIM_DISK_WRITE_FAILS] = 1;
        struct script s = {.path = "f", .flags = ENV_FILE_DIRECT | ENV_FILE_DSYNC, .fill = 'B'};
        script_run_and_crash(n, &s, SIM_POWER_CUT);
        assert_int_equal(s.wrote, ERR_IO);
        sectors_see(sim_disk_find(n->disk, "f"), &seen);
        sim_world_destroy(w);
    }
    assert_true(seen.old > 20 && seen.new > 20);
}

struct sync_twice {
    struct script script;
    struct sim_world *world;
};

static void sync_twice_main(void *arg) {
    struct sync_twice *s = arg;
    struct env *env = loop_current()->env;
    struct env_file *f;
    assert_int_equal(env->ops->file_open(env, "f", 0, &f), OK);
    struct env_bytes piece = {buffer_make(env, 'B'), SIZE};
    assert_int_equal(env->ops->file_write(f, 0, &piece, 1), OK);
    s->world->faults.chance[SIM_DISK_SYNC_FAILS] = 1;
    assert_int_equal(env->ops->file_sync(f), ERR_IO);
    s->world->faults.chance[SIM_DISK_SYNC_FAILS] = 0;
    assert_int_equal(env->ops->file_sync(f), OK);
    uint8_t first = 0;
    size_t got;
    assert_int_equal(env->ops->file_read(f, 0, &first, 1, &got), OK);
    assert_int_equal(first, 'B'); /* readers still see it */
    wait_for_crash(&s->script);
}

static void sync_after_a_failed_sync_lies(void **state) {
    (void)state;
    struct seen seen = {0};
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct sim_world *w = test_world(seed);
        struct sync_twice s = {.world = w};
        struct sim_node *n = node_with_file(w);
        sim_node_start(n, sync_twice_main, &s);
        assert_int_equal(sim_world_run(w, TEST_STEPS, script_waiting, &s.script), SIM_END_DONE);
        sim_node_crash(n, SIM_POWER_CUT);
        sectors_see(sim_disk_find(n->disk, "f"), &seen);
        sim_world_destroy(w);
    }
    assert_true(seen.old > 20 && seen.new > 20);
}

static void errors_main(void *arg) {
    struct sim_world *w = arg;
    struct env *env = loop_current()->env;
    const struct env_ops *ops = env->ops;
    struct env_file *f, *other;
    uint8_t *data = buffer_make(env, 'x');
    size_t got;
    assert_int_equal(ops->file_open(env, "", ENV_FILE_CREATE, &f), ERR_INVALID);
    assert_int_equal(ops->file_open(env, "d/", ENV_FILE_CREATE, &f), ERR_INVALID);
    assert_int_equal(ops->file_open(env, "d/f", 0, &f), ERR_NOT_FOUND);
    assert_int_equal(ops->file_open(env, "d/e/f", ENV_FILE_CREATE, &f), ERR_NOT_FOUND);
    assert_int_equal(ops->dir_make(env, "d/e"), OK);
    assert_int_equal(ops->file_open(env, "d/e", ENV_FILE_CREATE, &f), ERR_INVALID);
    assert_int_equal(ops->file_open(env, "d/e/f", ENV_FILE_CREATE | ENV_FILE_DIRECT, &f), OK);
    struct env_bytes odd = {data + 16, SIM_SECTOR}, good[2] = {{data, SIM_SECTOR}, {data + SIM_SECTOR, SIM_SECTOR}};
    assert_int_equal(ops->file_write(f, 0, &odd, 1), ERR_INVALID);
    assert_int_equal(ops->file_write(f, 512, good, 1), ERR_INVALID);
    assert_int_equal(ops->file_write(f, SIM_SECTOR, good, 2), OK);
    struct env_file_info info;
    assert_int_equal(ops->file_size(f, &info), OK);
    assert_int_equal(info.size_bytes, 3 * SIM_SECTOR);
    assert_int_equal(ops->file_grow(f, 5 * SIM_SECTOR), OK);
    assert_int_equal(ops->file_grow(f, SIM_SECTOR), OK); /* never shrinks */
    assert_int_equal(ops->file_open(env, "d/e/f", ENV_FILE_READ_ONLY, &other), OK);
    assert_int_equal(ops->file_write(other, 0, good, 1), ERR_INVALID);
    assert_int_equal(ops->file_read(other, 4 * SIM_SECTOR, data, SIZE, &got), OK);
    assert_int_equal(got, SIM_SECTOR);
    assert_int_equal(data[0], 0);
    assert_int_equal(ops->file_read(other, 9 * SIM_SECTOR, data, 1, &got), OK);
    assert_int_equal(got, 0);
    assert_int_equal(ops->file_info(env, "d/e/f", &info), OK);
    assert_int_equal(info.size_bytes, 5 * SIM_SECTOR);
    assert_int_equal(ops->file_info(env, "d", &info), OK);
    assert_true(info.directory);
    assert_int_equal(ops->file_info(env, "x", &info), ERR_NOT_FOUND);

    sim_disk_limit(sim_node_of(env)->disk, 6 * SIM_SECTOR);
    assert_int_equal(ops->file_write(f, 0, good, 1), OK); /* no new space */
    assert_int_equal(ops->file_grow(f, 7 * SIM_SECTOR), ERR_FULL);
    assert_int_equal(ops->file_write(f, 6 * SIM_SECTOR, good, 1), ERR_FULL);
    w->faults.chance[SIM_DISK_READ_FAILS] = 1;
    assert_int_equal(ops->file_read(f, 0, data, SIM_SECTOR, &got), ERR_IO);
    w->faults.chance[SIM_DISK_READ_FAILS] = 0;
    w->faults.chance[SIM_DISK_BIT_ROT] = 1;
    memset(data, 0, SIM_SECTOR);
    assert_int_equal(ops->file_read(f, SIM_SECTOR, data, SIM_SECTOR, &got), OK);
    unsigned wrong = 0;
    for (size_t i = 0; i < SIM_SECTOR; i++) wrong += data[i] != 'x';
    assert_int_equal(wrong, 1);
    ops->file_close(f);
    ops->file_close(other);
    mem_free(env->mem, data);
}

static void errors_and_sizes(void **state) {
    (void)state;
    struct sim_world *w = test_world(5);
    test_run(sim_node_create(w, "n"), errors_main, w);
    assert_false(sim_failed(w));
    sim_world_destroy(w);
}

/* --- Locks. */

static struct script lock_script(const char *path) {
    return (struct script){.path = path, .flags = ENV_FILE_CREATE | ENV_FILE_LOCK | ENV_FILE_DIRECT, .fill = 'A'};
}

static void locks_end_with_the_process(void **state) {
    (void)state;
    struct sim_world *w = test_world(1);
    struct sim_node *a = sim_node_create(w, "a"), *b = sim_node_create_beside(a, "b"), *c = sim_node_create(w, "c");
    struct script one = lock_script("f"), two = lock_script("f"), three = lock_script("f");
    script_run(a, &one);
    assert_int_equal(one.opened, OK);
    script_run_and_crash(b, &two, SIM_KILL);
    assert_int_equal(two.opened, ERR_LOCKED);
    script_run(c, &three);
    assert_int_equal(three.opened, OK); /* another machine's file */
    sim_node_crash(a, SIM_KILL);
    script_run(b, &two);
    assert_int_equal(two.opened, OK);
    sim_node_crash(b, SIM_POWER_CUT);
    assert_true(sim_node_up(c));
    sim_world_destroy(w);
}

static void power_cut_takes_the_machine(void **state) {
    (void)state;
    struct sim_world *w = test_world(1);
    struct sim_node *a = sim_node_create(w, "a"), *b = sim_node_create_beside(a, "b");
    struct script one = lock_script("f"), two = lock_script("g");
    script_run(a, &one);
    script_run(b, &two);
    sim_node_crash(a, SIM_POWER_CUT);
    assert_false(sim_node_up(b));
    sim_world_destroy(w);
}

/* --- Devices. */

static void device_is_shared(void **state) {
    (void)state;
    unsigned late = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct sim_world *w = test_world(seed);
        w->faults.chance[SIM_DISK_LATE] = 0.7;
        struct sim_file *device = sim_device_create(w, SIZE);
        struct sim_node *a = sim_node_create(w, "a"), *b = sim_node_create(w, "b");
        sim_device_attach(a, "/dev/x", device);
        sim_device_attach(b, "/dev/y", device);
        struct script old = {.path = "/dev/y", .flags = ENV_FILE_DIRECT | ENV_FILE_DSYNC | ENV_FILE_LOCK, .fill = 'A'};
        script_run(b, &old);
        assert_int_equal(old.opened, OK);
        struct script new = {.path = "/dev/x", .flags = ENV_FILE_DIRECT | ENV_FILE_DSYNC | ENV_FILE_LOCK, .fill = 'B'};
        sim_node_start(a, script_main, &new);
        while (!new.buffer) assert_int_equal(sim_world_run(w, 1, NULL, NULL), SIM_END_STEPS);
        sim_node_crash(a, SIM_KILL);
        struct seen at_once = {0}, later = {0};
        sectors_see(device, &at_once);
        test_pass(w, 60 * NS_PER_S);
        sectors_see(device, &later);
        assert_true(later.new >= at_once.new);
        late += later.new > at_once.new;
        sim_device_unref(device);
        sim_world_destroy(w);
    }
    assert_true(late > 10);
}

static void detached_device_refuses(void **state) {
    (void)state;
    struct sim_world *w = test_world(2);
    struct sim_file *device = sim_device_create(w, SIZE);
    struct sim_node *a = sim_node_create(w, "a");
    sim_device_attach(a, "/dev/x", device);
    struct script s = {.path = "/dev/x", .flags = ENV_FILE_DIRECT | ENV_FILE_DSYNC, .fill = 'B'};
    sim_node_start(a, script_main, &s);
    while (!s.buffer) assert_int_equal(sim_world_run(w, 1, NULL, NULL), SIM_END_STEPS);
    sim_device_detach(a, device);
    assert_int_equal(sim_world_run(w, TEST_STEPS, script_waiting, &s), SIM_END_DONE);
    assert_int_equal(s.wrote, ERR_IO);
    sim_node_crash(a, SIM_KILL);
    struct script again = {.path = "/dev/x", .flags = ENV_FILE_DIRECT, .fill = 'C'};
    script_run(a, &again);
    assert_int_equal(again.opened, ERR_NOT_FOUND);
    sim_device_unref(device);
    sim_world_destroy(w);
}

static void a_buffer_changed_in_flight_is_noticed(void **state) {
    (void)state;
    struct sim_world *w = test_world(2);
    struct sim_node *n = node_with_file(w);
    struct script s = {.path = "f", .flags = ENV_FILE_DIRECT, .fill = 'B'};
    sim_node_start(n, script_main, &s);
    while (!s.buffer) assert_int_equal(sim_world_run(w, 1, NULL, NULL), SIM_END_STEPS);
    s.buffer[SIZE - 1] ^= 1;
    assert_int_equal(sim_world_run(w, TEST_STEPS, script_waiting, &s), SIM_END_FAILED);
    assert_non_null(strstr(w->failure, "changed a buffer"));
    sim_world_destroy(w);
}

static void open_file_main(void *arg) {
    struct env *env = loop_current()->env;
    struct env_file *f;
    assert_int_equal(env->ops->file_open(env, arg, ENV_FILE_CREATE, &f), OK);
}

/* The holder stands still for minutes with a write in a device that is slow: it lands, also after another machine has
 * written there. */
static void a_write_of_a_paused_holder_lands_after_its_successors(void **state) {
    (void)state;
    unsigned after = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sim_world *w = test_world(seed);
        struct sim_file *device = sim_device_create(w, SIZE);
        struct sim_node *a = sim_node_create(w, "a"), *b = sim_node_create(w, "b");
        sim_device_attach(a, "/dev/x", device);
        sim_device_attach(b, "/dev/y", device);
        struct script old = {.path = "/dev/x", .flags = ENV_FILE_DIRECT | ENV_FILE_DSYNC, .fill = 'B'};
        struct script new = {.path = "/dev/y", .flags = ENV_FILE_DIRECT | ENV_FILE_DSYNC, .fill = 'A'};
        w->faults.chance[SIM_DISK_STALL] = 1;
        sim_node_start(a, script_main, &old);
        while (!old.buffer) assert_int_equal(sim_world_run(w, 1, NULL, NULL), SIM_END_STEPS);
        sim_node_pause(a, 600 * NS_PER_S);
        w->faults.chance[SIM_DISK_STALL] = 0;
        script_run(b, &new);
        struct seen at_once = {0}, later = {0};
        sectors_see(device, &at_once);
        assert_false(old.waiting);
        test_pass(w, 120 * NS_PER_S);
        sectors_see(device, &later);
        assert_false(old.waiting); /* it does not know yet */
        assert_int_equal(later.new, SECTORS);
        after += at_once.old > 0;
        sim_device_unref(device);
        sim_world_destroy(w);
    }
    assert_true(after > 15);
}

struct growth {
    unsigned full, grew;
    uint64_t longest_ns;
    struct sim_world *world;
};

static void growth_main(void *arg) {
    struct growth *g = arg;
    struct env *env = loop_current()->env;
    struct env_file *a, *b;
    assert_int_equal(env_file_open(env, "a", ENV_FILE_CREATE, &a), OK);
    assert_int_equal(env_file_open(env, "b", ENV_FILE_CREATE, &b), OK);
    for (uint64_t i = 1; i <= 40; i++) {
        g->world->faults.chance[SIM_DISK_FULL] = i == 1;
        uint64_t from = env_now_ns(env);
        if (env_file_grow(env, a, i * 100) == ERR_FULL) {
            g->full++;
            g->world->faults.chance[SIM_DISK_FULL] = 0;
            while (env_file_grow(env, b, i * 100) == ERR_FULL) fiber_sleep_ns(100 * NS_PER_MS); /* all files feel it */
            g->longest_ns = env_now_ns(env) - from;
        } else {
            g->grew++;
        }
    }
    env_file_close(env, a);
    env_file_close(env, b);
}

static void a_disk_fills_for_a_while(void **state) {
    (void)state;
    uint64_t longest = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sim_world *w = test_world(seed);
        struct growth g = {.world = w};
        test_run(sim_node_create(w, "n"), growth_main, &g);
        assert_int_equal(g.full, 1);
        assert_int_equal(g.grew, 39);
        if (g.longest_ns > longest) longest = g.longest_ns;
        sim_world_destroy(w);
    }
    assert_in_range(longest, 10 * NS_PER_S, 61 * NS_PER_S);
}

static void stall_main(void *arg) {
    struct env *env = loop_current()->env;
    struct env_file_info info;
    uint64_t from = env_now_ns(env);
    assert_int_equal(env_file_info(env, "none", &info), ERR_NOT_FOUND);
    *(uint64_t *)arg = env_now_ns(env) - from;
}

static void a_disk_stalls(void **state) {
    (void)state;
    uint64_t took;
    struct sim_world *w = test_world(3);
    w->faults.chance[SIM_DISK_STALL] = 1;
    test_run(sim_node_create(w, "n"), stall_main, &took);
    assert_in_range(took, 2 * NS_PER_S, 61 * NS_PER_S);
    sim_world_destroy(w);
}

static void rot_by_hand(void **state) {
    (void)state;
    struct sim_world *w = test_world(3);
    struct sim_node *n = node_with_file(w);
    struct sim_file *f = sim_disk_find(n->disk, "f");
    assert_false(sim_file_rot(f, SIZE, 100));
    w->faults.off[SIM_DISK_BIT_ROT] = true;
    assert_false(sim_file_rot(f, 0, SIZE));
    w->faults.off[SIM_DISK_BIT_ROT] = false;
    assert_true(sim_file_rot(f, SIM_SECTOR, 10));
    uint8_t data[SIZE];
    unsigned wrong = 0;
    assert_int_equal(sim_file_peek(f, 0, data, SIZE), SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        bool same = data[i] == 'A';
        wrong += !same;
        assert_true(same || (i >= SIM_SECTOR && i < SIM_SECTOR + 10));
    }
    assert_int_equal(wrong, 1);
    assert_int_equal(w->fault_counts[SIM_DISK_BIT_ROT], 1);
    sim_world_destroy(w);
}

static void a_file_left_open_is_reported(void **state) {
    (void)state;
    struct sim_world *w = test_world(2);
    char path[] = "f";
    sim_node_start(sim_node_create(w, "n"), open_file_main, path);
    assert_int_equal(sim_world_run(w, TEST_STEPS, NULL, NULL), SIM_END_FAILED);
    sim_world_destroy(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsynced_is_lost_kept_or_torn),
        cmocka_unit_test(synced_and_dsync_survive),
        cmocka_unit_test(dsync_over_dirty_sectors_survives),
        cmocka_unit_test(kill_keeps_completed_writes),
        cmocka_unit_test(in_flight_lands_whole_partly_or_not),
        cmocka_unit_test(names_need_dir_sync),
        cmocka_unit_test(removed_files_come_back_without_dir_sync),
        cmocka_unit_test(failed_write_may_have_happened),
        cmocka_unit_test(sync_after_a_failed_sync_lies),
        cmocka_unit_test(errors_and_sizes),
        cmocka_unit_test(locks_end_with_the_process),
        cmocka_unit_test(power_cut_takes_the_machine),
        cmocka_unit_test(device_is_shared),
        cmocka_unit_test(a_write_of_a_paused_holder_lands_after_its_successors),
        cmocka_unit_test(a_disk_fills_for_a_while),
        cmocka_unit_test(a_disk_stalls),
        cmocka_unit_test(rot_by_hand),
        cmocka_unit_test(detached_device_refuses),
        cmocka_unit_test(a_buffer_changed_in_flight_is_noticed),
        cmocka_unit_test(a_file_left_open_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
