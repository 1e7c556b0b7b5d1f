/* The write-ahead log on a simulated disk without faults: the ring wraps, tears at every byte, is trimmed, fails and
 * goes on, is refused when it is not ours. */
#include "unit/sim/sim_test.h"

#include "golden.h"

#include "base/crc32c.h"
#include "sim/disk.h"
#include "stream/wal.h"
#include "stream/wal_claim.h"

#define WAL_PATH "/var/ring.wal"
#define WAL_SIZE ((17u << 20))

struct wal_run {
    struct wal *wal;
    struct list done;
    uint64_t confirmed, sequence, next;
    struct incarnation incarnation;
    bool failed;
    enum err why;
    struct waitq changed;
    /* reading back */
    uint64_t first_read, read, pads, groups;
};

static void confirmed(void *ctx, struct block *b) {
    struct wal_run *r = ctx;
    r->confirmed++;
    list_push_back(&r->done, &b->node);
    waitq_wake_all(&r->changed);
}

static void failed(void *ctx, enum err why) {
    struct wal_run *r = ctx;
    struct list back;
    list_init(&back);
    wal_take_unconfirmed(r->wal, &back);
    for (struct list *n; (n = list_pop_front(&back)) != NULL;) block_destroy(LIST_ENTRY(n, struct block, node));
    r->failed = true;
    r->why = why;
    waitq_wake_all(&r->changed);
}

static void group_found(void *ctx, const struct group_header *g, uint32_t whole) {
    struct wal_run *r = ctx;
    r->groups += g->kind == GROUP_RECORDS;
    r->pads += g->kind == GROUP_PAD;
    if (g->kind == GROUP_RECORDS) assert_true(whole <= g->record_count);
}

static void run_init(struct wal_run *r, uint64_t incarnation) {
    *r = (struct wal_run){.incarnation = {incarnation}};
    list_init(&r->done);
    waitq_init(&r->changed);
}

static struct wal_options options_of(struct wal_run *r) {
    return (struct wal_options){.env = loop_current()->env,
                                .path = WAL_PATH,
                                .size_bytes = WAL_SIZE,
                                .confirmed = confirmed,
                                .failed = failed,
                                .group_found = group_found,
                                .ctx = r};
}

static enum err open_wal(struct wal_run *r) {
    struct wal_options o = options_of(r);
    const char *why = NULL;
    enum err e = wal_open(&o, &r->wal, &why);
    if (e != OK) assert_non_null(why);
    return e;
}

static void open_new(struct wal_run *r, uint64_t incarnation) {
    static const uint8_t id[16] = "sixteen bytes ..";
    run_init(r, incarnation);
    assert_int_equal(open_wal(r), OK);
    assert_int_equal(wal_format(r->wal, "gen", r->incarnation, id), OK);
}

/* One group of `records` records of `size` bytes; their base offsets count up. */
static struct block *make_group(struct wal_run *r, unsigned records, size_t size) {
    struct mem *m = loop_current()->env->mem;
    struct commit_slab *slab = commit_slab_create(m, GROUP_HEADER_SIZE + records * record_size(size));
    struct block *b = block_create(m, slab, ++r->sequence, r->incarnation, 0);
    slab_unref(&slab->slab);
    uint8_t *payload = mem_alloc(m, size + 1);
    for (unsigned i = 0; i < records; i++) {
        memset(payload, (int)(r->next & 0xff), size);
        struct record_header h = {.payload_size = (uint32_t)size,
                                  .type = STREAM_BATCH,
                                  .stream = {1},
                                  .base_offset = r->next,
                                  .end_offset = r->next + 1};
        (void)block_append(b, &h, payload, crc32c(0, payload, size));
        r->next++;
    }
    mem_free(m, payload);
    block_seal(b, 0);
    return b;
}

static void write_group(struct wal_run *r, unsigned records, size_t size) {
    uint64_t before = r->confirmed;
    wal_submit(r->wal, make_group(r, records, size));
    while (r->confirmed == before && !r->failed) waitq_wait(&r->changed);
}

static void trim_to(struct wal_run *r, size_t keep) {
    size_t count = 0;
    uint64_t position = 0;
    LIST_EACH(it, &r->done) count++;
    for (; count > keep; count--) {
        struct block *b = LIST_ENTRY(list_pop_front(&r->done), struct block, node);
        position = b->wal_end;
        block_destroy(b);
    }
    if (position) wal_trim(r->wal, position);
}

static void stop(struct wal_run *r) {
    while (!list_empty(&r->done)) block_destroy(LIST_ENTRY(list_pop_front(&r->done), struct block, node));
    wal_close(r->wal, false);
}

static enum err read_record(void *ctx, const struct record_header *h, const uint8_t *payload) {
    struct wal_run *r = ctx;
    if (r->read == 0) r->first_read = h->base_offset;
    assert_int_equal(h->base_offset, r->first_read + r->read);
    for (uint32_t i = 0; i < h->payload_size; i++) assert_int_equal(payload[i], h->base_offset & 0xff);
    r->read++;
    return OK;
}

/* Reads everything back on a fresh start; the WAL is closed again. */
static void read_back(struct wal_run *r, struct wal_found *found) {
    run_init(r, 0);
    assert_int_equal(open_wal(r), OK);
    assert_non_null(wal_superblock(r->wal));
    assert_int_equal(wal_replay(r->wal, read_record, r, found), OK);
    wal_close(r->wal, false);
}

/* Each test is one function in a fiber of one node. */
static void in_world(fiber_fn *fn) {
    struct sim_world *w = test_world(1);
    struct sim_node *n = sim_node_create(w, "node");
    test_run(n, fn, n);
    sim_world_destroy(w);
}

static void write_file(uint64_t position, const uint8_t *data, size_t size) {
    struct env *env = loop_current()->env;
    struct env_file *f;
    assert_int_equal(env_file_open(env, WAL_PATH, ENV_FILE_DSYNC, &f), OK);
    struct env_bytes piece = {(void *)(uintptr_t)data, size};
    assert_int_equal(env_file_write(env, f, position, &piece, 1), OK);
    env_file_close(env, f);
}

static void read_file(uint64_t position, uint8_t *data, size_t size) {
    struct env *env = loop_current()->env;
    struct env_file *f;
    size_t got;
    assert_int_equal(env_file_open(env, WAL_PATH, ENV_FILE_READ_ONLY, &f), OK);
    assert_int_equal(env_file_read(env, f, position, data, size, &got), OK);
    assert_int_equal(got, size);
    env_file_close(env, f);
}

static void wraps_fiber(void *arg) {
    (void)arg;
    struct wal_run r, back;
    struct wal_found found;
    open_new(&r, 5);
    uint64_t capacity = wal_capacity(r.wal), written = 0;
    for (unsigned i = 0; written < 5 * capacity; i++) {
        write_group(&r, 3, 100000 + 7001 * (i % 13));
        written += 300000;
        trim_to(&r, 20);
        assert_true(wal_used_bytes(r.wal) <= capacity);
    }
    uint64_t next = r.next;
    size_t kept = 0;
    LIST_EACH(it, &r.done) kept++;
    stop(&r);
    read_back(&back, &found);
    assert_int_equal(back.first_read + back.read, next);
    assert_true(back.read >= 3 * kept); /* the last trim may not have been durable */
    assert_false(found.torn);
    assert_true(found.stopped_by == ERR_STALE || found.stopped_by == ERR_FOREIGN);
    assert_int_equal(back.groups, found.groups);
}
static void the_ring_wraps(void **state) {
    (void)state;
    in_world(wraps_fiber);
}

static void pad_fiber(void *arg) {
    (void)arg;
    struct wal_run r, back;
    struct wal_found found;
    open_new(&r, 5);
    /* Fill up to 3 sectors before the end of the lap, free all of it, write a group that does not fit in them. */
    uint64_t left = wal_capacity(r.wal) - 3 * ENV_FILE_ALIGN;
    while (left > 0) {
        size_t size = left > (1u << 20) ? (1u << 20) : (size_t)left;
        write_group(&r, 1, size - GROUP_HEADER_SIZE - RECORD_HEADER_SIZE);
        left -= size;
    }
    trim_to(&r, 1);
    fiber_sleep_ns(NS_PER_S);
    write_group(&r, 1, 5 * ENV_FILE_ALIGN);
    struct block *last = LIST_ENTRY(r.done.prev, struct block, node);
    assert_int_equal(last->wal_position, wal_capacity(r.wal));
    uint64_t next = r.next;
    stop(&r);
    read_back(&back, &found);
    assert_int_equal(back.pads, 1);
    assert_int_equal(back.read, 2);
    assert_int_equal(back.first_read + back.read, next);
}
static void a_group_that_does_not_fit_leaves_a_pad(void **state) {
    (void)state;
    in_world(pad_fiber);
}

static void torn_fiber(void *arg) {
    (void)arg;
    struct wal_run r, back;
    struct wal_found found;
    open_new(&r, 5);
    write_group(&r, 2, 300);
    write_group(&r, 4, 1200);
    struct block *last = LIST_ENTRY(r.done.prev, struct block, node);
    size_t size = last->padded;
    uint64_t place = WAL_RING_START + last->wal_position;
    uint8_t *whole = mem_alloc(loop_current()->env->mem, size), *torn = mem_zalloc(loop_current()->env->mem, size);
    memcpy(whole, last->data, size);
    size_t used = last->size;
    stop(&r);
    for (size_t cut = 0; cut <= used; cut += cut < 70 || cut > used - 70 ? 1 : 37) {
        memcpy(torn, whole, cut);
        memset(torn + cut, 0xee, size - cut);
        write_file(place, torn, size);
        read_back(&back, &found);
        uint64_t records = cut < GROUP_HEADER_SIZE ? 0 : (cut - GROUP_HEADER_SIZE) / record_size(1200);
        assert_int_equal(back.read, 2 + records);
        assert_int_equal(found.torn, cut >= GROUP_HEADER_SIZE && records < 4);
        if (cut < 4)
            assert_int_equal(found.stopped_by, ERR_FOREIGN);
        else if (cut < GROUP_HEADER_SIZE)
            assert_int_equal(found.stopped_by, ERR_CORRUPT);
    }
    mem_free(loop_current()->env->mem, whole);
    mem_free(loop_current()->env->mem, torn);
}
static void of_a_torn_group_the_whole_records_are_kept(void **state) {
    (void)state;
    in_world(torn_fiber);
}

static void superblocks_fiber(void *arg) {
    (void)arg;
    struct wal_run r, back;
    struct wal_found found;
    open_new(&r, 5);
    for (unsigned i = 0; i < 6; i++) write_group(&r, 1, 100);
    trim_to(&r, 4);
    fiber_sleep_ns(NS_PER_S);
    trim_to(&r, 3);
    fiber_sleep_ns(NS_PER_S);
    uint64_t sequence = wal_superblock(r.wal)->sequence;
    assert_int_equal(sequence, 4); /* two of the format, two trims */
    stop(&r);
    read_back(&back, &found);
    assert_int_equal(back.first_read, 3);
    assert_int_equal(back.read, 3);
    /* The newest one torn: the one before it counts, and what it still needs is there. */
    uint8_t sectors[2 * ENV_FILE_ALIGN], zero[ENV_FILE_ALIGN] = {0};
    read_file(0, sectors, sizeof(sectors));
    struct wal_superblock s[2];
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(wal_superblock_decode(sectors + i * ENV_FILE_ALIGN, ENV_FILE_ALIGN, &s[i]), OK);
    unsigned newest = s[1].sequence > s[0].sequence;
    assert_int_equal(s[newest].sequence, s[!newest].sequence + 1);
    sectors[newest * ENV_FILE_ALIGN + 88] ^= 1;
    write_file(newest * (uint64_t)ENV_FILE_ALIGN, sectors + newest * ENV_FILE_ALIGN, ENV_FILE_ALIGN);
    read_back(&back, &found);
    assert_int_equal(back.first_read, 2);
    assert_int_equal(back.read, 4);
    /* Both damaged: refused. */
    sectors[!newest * ENV_FILE_ALIGN + 88] ^= 1;
    write_file(!newest * (uint64_t)ENV_FILE_ALIGN, sectors + !newest * ENV_FILE_ALIGN, ENV_FILE_ALIGN);
    run_init(&r, 0);
    assert_int_equal(open_wal(&r), ERR_CORRUPT);
    /* Something else there. */
    memcpy(sectors, "PGWAL", 5);
    write_file(0, sectors, ENV_FILE_ALIGN);
    write_file(ENV_FILE_ALIGN, sectors, ENV_FILE_ALIGN);
    assert_int_equal(open_wal(&r), ERR_FOREIGN);
    /* All zero: a new one. */
    write_file(0, zero, ENV_FILE_ALIGN);
    write_file(ENV_FILE_ALIGN, zero, ENV_FILE_ALIGN);
    assert_int_equal(open_wal(&r), OK);
    assert_null(wal_superblock(r.wal));
    wal_close(r.wal, false);
}
static void superblocks_take_turns_and_damage_is_refused(void **state) {
    (void)state;
    in_world(superblocks_fiber);
}

/* A power cut during the first format: the first superblock, in slot 1, is torn, and slot 0 was never written. */
static void torn_first(bool init) {
    struct wal_run r, back;
    struct wal_found found;
    if (init) {
        run_init(&r, 5);
        struct wal_options o = options_of(&r);
        const char *why;
        assert_int_equal(wal_init(&o, (const uint8_t *)"sixteen bytes ..", false, &why), OK);
    } else {
        open_new(&r, 5);
        stop(&r);
    }
    uint8_t whole[ENV_FILE_ALIGN], torn[ENV_FILE_ALIGN] = {0}, zero[ENV_FILE_ALIGN] = {0};
    struct wal_superblock first;
    read_file(ENV_FILE_ALIGN, whole, sizeof(whole));
    assert_int_equal(wal_superblock_decode(whole, sizeof(whole), &first), OK);
    assert_int_equal(first.sequence, 1);
    write_file(0, zero, sizeof(zero));
    for (size_t cut = 1; cut < WAL_SUPERBLOCK_SIZE; cut++) { /* its beginning, then its end */
        for (unsigned end = 0; end < 2; end++) {
            memset(torn, 0, sizeof(torn));
            memcpy(torn + (end ? cut : 0), whole + (end ? cut : 0), end ? WAL_SUPERBLOCK_SIZE - cut : cut);
            write_file(ENV_FILE_ALIGN, torn, sizeof(torn));
            run_init(&r, 0);
            assert_int_equal(open_wal(&r), OK);
            assert_null(wal_superblock(r.wal));
            wal_close(r.wal, false);
        }
    }
    /* What another program put there is left alone, and so is what lies beside a superblock that was once there. */
    torn[WAL_SUPERBLOCK_SIZE + 5] = 1;
    write_file(ENV_FILE_ALIGN, torn, sizeof(torn));
    assert_int_equal(open_wal(&r), ERR_FOREIGN);
    memcpy(torn, whole, sizeof(torn));
    torn[16]++; /* the sequence of a later one */
    write_file(ENV_FILE_ALIGN, torn, sizeof(torn));
    assert_int_equal(open_wal(&r), ERR_CORRUPT);
    memcpy(torn, whole, sizeof(torn));
    torn[90] ^= 1;
    write_file(ENV_FILE_ALIGN, torn, sizeof(torn));
    zero[100] = 1;
    write_file(0, zero, sizeof(zero));
    assert_int_equal(open_wal(&r), ERR_CORRUPT);
    /* And it can be used: what is written then is read back. */
    zero[100] = 0;
    write_file(0, zero, sizeof(zero));
    open_new(&r, 6);
    write_group(&r, 1, 100);
    stop(&r);
    read_back(&back, &found);
    assert_int_equal(back.read, 1);
}
static void torn_first_fiber(void *arg) {
    (void)arg;
    torn_first(false);
}
static void torn_init_fiber(void *arg) {
    (void)arg;
    torn_first(true);
}
static void a_torn_first_superblock_is_none(void **state) {
    (void)state;
    in_world(torn_first_fiber);
    in_world(torn_init_fiber);
}

static void versions_fiber(void *arg) {
    (void)arg;
    struct wal_run r;
    open_new(&r, 5);
    write_group(&r, 1, 100);
    write_group(&r, 1, 100);
    stop(&r);
    /* A group of a newer version ends the replay with an error: what it says is not guessed. */
    uint8_t sector[ENV_FILE_ALIGN], other[ENV_FILE_ALIGN];
    read_file(WAL_RING_START + ENV_FILE_ALIGN, sector, sizeof(sector));
    memcpy(other, sector, sizeof(other));
    le16_put(other + 4, GROUP_VERSION + 1);
    le32_put(other + 60, crc32c(0, other, 60));
    write_file(WAL_RING_START + ENV_FILE_ALIGN, other, sizeof(other));
    run_init(&r, 0);
    assert_int_equal(open_wal(&r), OK);
    struct wal_found found;
    assert_int_equal(wal_replay(r.wal, read_record, &r, &found), ERR_VERSION);
    assert_int_equal(r.read, 1);
    wal_close(r.wal, false);
    /* A superblock of a newer version refuses the whole. */
    read_file(0, sector, sizeof(sector));
    le32_put(sector + 8, 2);
    le32_put(sector + WAL_SUPERBLOCK_SIZE - 4, crc32c(0, sector, WAL_SUPERBLOCK_SIZE - 4));
    write_file(0, sector, sizeof(sector));
    assert_int_equal(open_wal(&r), ERR_VERSION);
}
static void newer_versions_are_refused(void **state) {
    (void)state;
    in_world(versions_fiber);
}

static void truncated_fiber(void *arg) {
    (void)arg;
    struct env *env = loop_current()->env;
    struct wal_run r;
    open_new(&r, 5);
    write_group(&r, 1, 100);
    stop(&r);
    uint8_t sectors[2 * ENV_FILE_ALIGN];
    read_file(0, sectors, sizeof(sectors));
    assert_int_equal(env_file_remove(env, WAL_PATH), OK);
    struct env_file *f;
    assert_int_equal(env_file_open(env, WAL_PATH, ENV_FILE_CREATE, &f), OK);
    env_file_close(env, f);
    write_file(0, sectors, sizeof(sectors));
    run_init(&r, 0);
    assert_int_equal(open_wal(&r), ERR_TRUNCATED);
    struct env_file_info info;
    assert_int_equal(env_file_info(env, WAL_PATH, &info), OK);
    assert_int_equal(info.size_bytes, sizeof(sectors)); /* not grown over it */
}
static void a_truncated_file_is_refused(void **state) {
    (void)state;
    in_world(truncated_fiber);
}

static void lives_fiber(void *arg) {
    (void)arg;
    struct wal_run r, back;
    struct wal_found found;
    open_new(&r, 5);
    for (unsigned i = 0; i < 5; i++) write_group(&r, 1, 100);
    stop(&r);
    /* The next incarnation's format gives all of it up, though it lies there still. */
    open_new(&r, 6);
    stop(&r);
    read_back(&back, &found);
    assert_int_equal(back.read, 0);
    assert_true(found.stopped_by == ERR_STALE || found.stopped_by == ERR_FOREIGN); /* FOREIGN: zeroed anew */
    open_new(&r, 7);
    write_group(&r, 1, 100);
    stop(&r);
    read_back(&back, &found);
    assert_int_equal(back.read, 1);
    assert_true(found.stopped_by == ERR_STALE || found.stopped_by == ERR_FOREIGN); /* FOREIGN: zeroed anew */
    /* In order: said so. */
    open_new(&r, 8);
    write_group(&r, 1, 100);
    trim_to(&r, 0);
    fiber_sleep_ns(NS_PER_S);
    wal_close(r.wal, true);
    run_init(&r, 0);
    assert_int_equal(open_wal(&r), OK);
    assert_true(wal_superblock(r.wal)->closed);
    assert_int_equal(wal_replay(r.wal, read_record, &r, &found), OK);
    assert_int_equal(r.read, 0);
    wal_close(r.wal, false);
}
static void an_earlier_life_is_not_read(void **state) {
    (void)state;
    in_world(lives_fiber);
}

static void locks_fiber(void *arg) {
    (void)arg;
    struct wal_run r, other;
    open_new(&r, 5);
    write_group(&r, 1, 100);
    run_init(&other, 0);
    assert_int_equal(open_wal(&other), ERR_LOCKED);
    /* To look at it needs no lock. */
    struct wal_options o = options_of(&other);
    o.read_only = true;
    const char *why;
    struct wal_found found;
    assert_int_equal(wal_open(&o, &other.wal, &why), OK);
    assert_int_equal(wal_replay(other.wal, read_record, &other, &found), OK);
    assert_int_equal(other.read, 1);
    wal_close(other.wal, false);
    stop(&r);
    /* And makes nothing. */
    o.path = "/var/nothing";
    assert_int_equal(wal_open(&o, &other.wal, &why), ERR_NOT_FOUND);
    struct env_file_info info;
    assert_int_equal(env_file_info(loop_current()->env, "/var/nothing", &info), ERR_NOT_FOUND);
}
static void one_writer_and_any_number_of_onlookers(void **state) {
    (void)state;
    in_world(locks_fiber);
}

struct taken_over {
    struct wal_options options;
    struct wal_run holder;
    bool opened, trimmed, over;
};

static void survivor_fiber(void *arg) {
    struct taken_over *t = arg;
    struct wal_run survivor;
    run_init(&survivor, 0);
    struct wal_options o = t->options;
    o.env = loop_current()->env;
    o.ctx = &survivor;
    const char *why;
    assert_int_equal(wal_open(&o, &survivor.wal, &why), OK);
    t->opened = true;
    while (!t->trimmed) fiber_sleep_ns(NS_PER_MS);
    struct incarnation taken = {0};
    assert_int_equal(wal_read_mark(survivor.wal, &taken), ERR_NOT_FOUND);
    assert_int_equal(wal_mark(survivor.wal, (struct incarnation){5}, (struct incarnation){9}), OK);
    /* The mark has brought the idea of where it begins up to date. */
    struct wal_found found;
    assert_int_equal(wal_replay(survivor.wal, read_record, &survivor, &found), OK);
    assert_int_equal(survivor.first_read, 1);
    assert_int_equal(survivor.read, 1);
    static const uint8_t id[16] = {2};
    assert_int_equal(wal_format(survivor.wal, "gen", (struct incarnation){9}, id), ERR_FENCED);
    wal_close(survivor.wal, false);
    t->over = true;
}

static void marked_fiber(void *arg) {
    struct taken_over *t = arg;
    struct wal_run *r = &t->holder, again;
    run_init(r, 5);
    t->options = options_of(r);
    t->options.path = "/dev/wal";
    t->options.takeover_mark = true;
    const char *why;
    static const uint8_t id[16] = {1};
    assert_int_equal(wal_open(&t->options, &r->wal, &why), OK);
    assert_int_equal(wal_format(r->wal, "gen", r->incarnation, id), OK);
    assert_int_equal(wal_open(&t->options, &again.wal, &why), ERR_LOCKED); /* on the same machine */
    write_group(r, 1, 100);
    while (!t->opened) fiber_sleep_ns(NS_PER_MS);
    /* The holder goes on and trims. */
    write_group(r, 1, 100);
    trim_to(r, 1);
    fiber_sleep_ns(NS_PER_S);
    t->trimmed = true;
    while (!t->over) fiber_sleep_ns(NS_PER_MS);
    struct incarnation taken = {0};
    assert_int_equal(wal_read_mark(r->wal, &taken), OK);
    assert_int_equal(taken.v, 5);
    /* From now on nothing is confirmed, and the ring is never used again. */
    uint64_t before = r->confirmed;
    write_group(r, 1, 100);
    assert_int_equal(r->confirmed, before);
    assert_true(r->failed && r->why == ERR_FENCED);
    assert_int_equal(wal_restart(r->wal), ERR_FENCED);
    stop(r);
}
static void a_marked_ring_confirms_nothing(void **state) {
    (void)state;
    struct taken_over t = {.opened = false};
    struct sim_world *w = test_world(1);
    struct sim_node *holder = sim_node_create(w, "holder"), *survivor = sim_node_create(w, "survivor");
    struct sim_file *device = sim_device_create(w, WAL_SIZE);
    sim_device_attach(holder, "/dev/wal", device);
    sim_device_attach(survivor, "/dev/wal", device);
    sim_device_unref(device);
    sim_node_start(holder, marked_fiber, &t);
    test_pass(w, NS_PER_S);
    sim_node_start(survivor, survivor_fiber, &t);
    test_until_down(survivor);
    test_until_down(holder);
    sim_world_destroy(w);
}

static void init_fiber(void *arg) {
    (void)arg;
    static const uint8_t id[16] = "a new identity .";
    struct wal_run r;
    run_init(&r, 5);
    struct wal_options o = options_of(&r);
    const char *why;
    assert_int_equal(wal_init(&o, id, false, &why), OK);
    assert_int_equal(open_wal(&r), OK);
    const struct wal_superblock *s = wal_superblock(r.wal);
    assert_true(s && s->closed && s->generation[0] == '\0' && s->incarnation.v == 0);
    assert_memory_equal(s->wal_id, id, 16);
    assert_int_equal(wal_init(&o, id, true, &why), ERR_LOCKED);
    /* In use: only by force; and what was in it is not there for the next one. */
    assert_int_equal(wal_format(r.wal, "gen", r.incarnation, (const uint8_t *)"another identity"), OK);
    write_group(&r, 1, 100);
    assert_int_equal(wal_mark(r.wal, (struct incarnation){5}, (struct incarnation){9}), OK);
    stop(&r);
    assert_int_equal(wal_init(&o, id, false, &why), ERR_EXISTS);
    assert_non_null(strstr(why, "--force"));
    run_init(&r, 6);
    assert_int_equal(open_wal(&r), OK);
    assert_memory_equal(wal_superblock(r.wal)->wal_id, "another identity", 16);
    uint64_t sequence = wal_superblock(r.wal)->sequence;
    wal_close(r.wal, false);
    assert_int_equal(wal_init(&o, id, true, &why), OK);
    run_init(&r, 6);
    assert_int_equal(open_wal(&r), OK);
    assert_memory_equal(wal_superblock(r.wal)->wal_id, id, 16);
    assert_true(wal_superblock(r.wal)->sequence > sequence);
    struct incarnation taken;
    assert_int_equal(wal_read_mark(r.wal, &taken), ERR_NOT_FOUND);
    wal_close(r.wal, false);
    /* Both slots say so. */
    for (unsigned slot = 0; slot < 2; slot++) {
        uint8_t bytes[WAL_SUPERBLOCK_SIZE];
        struct wal_superblock got;
        read_file(slot * (uint64_t)ENV_FILE_ALIGN, bytes, sizeof(bytes));
        assert_int_equal(wal_superblock_decode(bytes, sizeof(bytes), &got), OK);
        assert_memory_equal(got.wal_id, id, 16);
    }
}
static void a_wal_is_made_new_by_hand(void **state) {
    (void)state;
    in_world(init_fiber);
}

static void golden_claim(void **state) {
    (void)state;
    struct wal_claim c = {.claimant = {0x400001}}, got;
    memset(c.wal_id, 0xcd, sizeof(c.wal_id));
    memset(c.next_id, 0xef, sizeof(c.next_id));
    uint8_t bytes[WAL_CLAIM_SIZE];
    wal_claim_encode(&c, bytes);
    golden_check("claim", "4f5857434c41494d 0100*7 cd*16 ef*16 01004000*9 92772354", bytes, sizeof(bytes));
    assert_int_equal(wal_claim_decode(bytes, sizeof(bytes), &got), OK);
    assert_memory_equal(got.wal_id, c.wal_id, 16);
    assert_memory_equal(got.next_id, c.next_id, 16);
    assert_int_equal(got.claimant.v, 0x400001);
    for (unsigned bit = 0; bit < 8 * sizeof(bytes); bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(wal_claim_decode(bytes, sizeof(bytes), &got), OK);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(wal_claim_decode(bytes, sizeof(bytes) - 1, &got), ERR_TRUNCATED);
    char key[100];
    wal_claim_key(key, sizeof(key), "gen", c.wal_id);
    assert_string_equal(key, "gen/wal/cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd");
}

static void fails_fiber(void *arg) {
    struct sim_node *n = arg;
    struct sim_world *w = n->world;
    struct wal_run r, back;
    struct wal_found found;
    open_new(&r, 5);
    for (unsigned i = 0; i < 3; i++) write_group(&r, 1, 2000);
    fiber_sleep_ns(NS_PER_S);
    w->faults.chance[SIM_DISK_WRITE_FAILS] = 1;
    for (unsigned i = 0; i < 6; i++) wal_submit(r.wal, make_group(&r, 2, 500));
    while (!r.failed) waitq_wait(&r.changed);
    assert_int_equal(r.confirmed, 3);
    assert_int_equal(wal_restart(r.wal), ERR_IO);
    sim_faults_none(&w->faults);
    assert_int_equal(wal_restart(r.wal), OK);
    r.failed = false;
    uint64_t first = r.next;
    write_group(&r, 1, 100);
    assert_int_equal(r.confirmed, 4);
    struct block *b = LIST_ENTRY(r.done.prev, struct block, node);
    assert_true(b->wal_position >= 3 * ENV_FILE_ALIGN + 4 * ENV_FILE_ALIGN); /* behind all that was placed and failed */
    stop(&r);
    read_back(&back, &found);
    assert_int_equal(back.first_read, first);
    assert_int_equal(back.read, 1);
}
static void after_a_failure_it_goes_on_behind(void **state) {
    (void)state;
    in_world(fails_fiber);
}

static void golden_superblock(void **state) {
    (void)state;
    struct wal_superblock s = {.sequence = 7,
                               .generation = "abcdefghijklmnopqrstuvwxyz",
                               .incarnation = {0x400001},
                               .trim_position = 0x5000,
                               .ring_size = 20u << 20,
                               .initialised = 0x300000,
                               .closed = true},
                          got;
    memset(s.wal_id, 0xcd, sizeof(s.wal_id));
    uint8_t bytes[WAL_SUPERBLOCK_SIZE];
    wal_superblock_encode(&s, bytes);
    golden_check(
        "superblock",
        "4f58425757414c3101000000020000000700*7 6162636465666768696a6b6c6d6e6f707172737475767778797a00*14 cd*16 01004000*6 50"
        "00*8 400100*6 3000*145 a5388eb7",
        bytes, sizeof(bytes));
    assert_int_equal(wal_superblock_decode(bytes, sizeof(bytes), &got), OK);
    assert_true(got.sequence == 7 && strcmp(got.generation, s.generation) == 0 &&
                memcmp(got.wal_id, s.wal_id, 16) == 0 && got.incarnation.v == 0x400001 && got.trim_position == 0x5000 &&
                got.ring_size == 20u << 20 && got.initialised == 0x300000 && got.closed);
    for (unsigned bit = 0; bit < 8 * sizeof(bytes); bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(wal_superblock_decode(bytes, sizeof(bytes), &got), OK);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void golden_mark_fiber(void *arg) {
    (void)arg;
    struct wal_run r;
    open_new(&r, 5);
    assert_int_equal(wal_mark(r.wal, (struct incarnation){5}, (struct incarnation){0x400001}), OK);
    stop(&r);
    uint8_t mark[64];
    read_file(2 * ENV_FILE_ALIGN, mark, sizeof(mark));
    golden_check("mark", "4f5842574d41524b0100*7 0500*7 01004000*33 22e6f2a7", mark, sizeof(mark));
}
static void golden_mark(void **state) {
    (void)state;
    in_world(golden_mark_fiber);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_ring_wraps),
        cmocka_unit_test(a_group_that_does_not_fit_leaves_a_pad),
        cmocka_unit_test(of_a_torn_group_the_whole_records_are_kept),
        cmocka_unit_test(superblocks_take_turns_and_damage_is_refused),
        cmocka_unit_test(a_torn_first_superblock_is_none),
        cmocka_unit_test(newer_versions_are_refused),
        cmocka_unit_test(a_truncated_file_is_refused),
        cmocka_unit_test(an_earlier_life_is_not_read),
        cmocka_unit_test(one_writer_and_any_number_of_onlookers),
        cmocka_unit_test(a_marked_ring_confirms_nothing),
        cmocka_unit_test(after_a_failure_it_goes_on_behind),
        cmocka_unit_test(golden_superblock),
        cmocka_unit_test(golden_mark),
        cmocka_unit_test(a_wal_is_made_new_by_hand),
        cmocka_unit_test(golden_claim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
