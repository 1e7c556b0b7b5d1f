/* The checkers of what lies in buckets and on disks: a bucket that three brokers have left is sound, and whatever is
 * damaged, taken away, cut off or left over in it is seen, and named. */
#include "sim_test.h"

#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "kafka/batch.h"
#include "meta/meta.h"
#include "sim/check_store.h"
#include "sim/disk.h"
#include "sim/run.h"
#include "stream/object.h"
#include "stream/stream.h"

#define PARTITIONS 2u
#define WAL "/var/wal/broker.wal"
#define LARGE (8u << 20) /* a batch; so many of them have an object of their own: */
#define LARGE_COUNT (UPLOAD_ENTRY_MAX / LARGE + 1)
#define WAL_BYTES (UPLOAD_ENTRY_MAX + 4 * LARGE)

/* --- Brokers that leave something behind. */

struct life {
    struct env *env;
    struct store *store;
    struct meta *meta;
    struct streams *streams;
    struct stream *parts[PARTITIONS];
    struct incarnation incarnation;
    uint64_t swept_ns;
    bool wal, settles, crashes;
    bool trims; /* all of the first partition, before any of it is uploaded */
};

static void fatal(void *ctx, enum err why, const char *what) {
    (void)ctx;
    print_message("%s: %s\n", what, err_name(why));
    fail();
}

struct owner_query {
    struct meta *meta;
    struct incarnation dead;
};

static bool is_current(void *ctx, struct stream_id id, int32_t *epoch) {
    struct owner_query *q = ctx;
    int32_t index;
    const struct meta_topic *t = meta_topic_of_stream(q->meta, id, &index);
    if (!t || t->partitions[index].owner.v != q->dead.v) return false;
    *epoch = t->partitions[index].epoch;
    return true;
}

static void life_recover(struct life *l) {
    const char *why;
    struct meta_broker dead[8];
    size_t n = meta_unrecovered(l->meta, dead, ARRAY_LEN(dead));
    for (size_t i = 0; i < n; i++) {
        struct owner_query q = {l->meta, dead[i].incarnation};
        uint64_t entry;
        assert_int_equal(streams_recover(l->streams, dead[i].incarnation, is_current, &q, &entry, &why), OK);
        assert_int_equal(meta_recovered(l->meta, dead[i].incarnation, entry), OK);
    }
}

static void life_begin(struct life *l) {
    const char *why;
    l->env = loop_current()->env;
    l->store = sim_store_open(NULL, l->env, NULL);
    struct meta_options mo = {.env = l->env, .store = l->store, .node_id = 1};
    assert_int_equal(meta_open(&mo, &l->meta, &why), OK);
    l->incarnation = meta_incarnation(l->meta);
    struct loop *loop = loop_current();
    struct streams_options so = {.env = l->env,
                                 .store = l->store,
                                 .generation = meta_generation(l->meta),
                                 .incarnation = l->incarnation,
                                 .wal_path = l->wal ? WAL : NULL,
                                 .wal_size_bytes = WAL_BYTES,
                                 .cache_log_bytes = 256u << 20,
                                 .upload_bytes = 256u << 20,
                                 .upload_wal_percent = 99,
                                 .upload_interval_ms = l->crashes ? 600000 : 1000,
                                 .checkpoint_entries = 5,
                                 .checkpoint_interval_ms = 20000,
                                 .producer_expiration_ms = 86400000,
                                 .shards = &loop,
                                 .shard_count = 1,
                                 .log_loop = loop,
                                 .fatal = fatal};
    assert_int_equal(streams_open(&so, &l->streams, &why), OK);
    life_recover(l);
    assert_int_equal(streams_start(l->streams, &why), OK);
    struct uuid id;
    if (!meta_topic_by_name(l->meta, "t", 1))
        assert_int_equal(meta_topic_create(l->meta, "t", PARTITIONS, 1, NULL, 0, &id), OK);
}

static void nothing(void *ctx) {
    (void)ctx;
}

static void append(struct life *l, struct stream *s, size_t size, int32_t epoch) {
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.base_offset = (int64_t)stream_appended_end(s);
    o.partition_leader_epoch = epoch;
    struct batch_builder b;
    struct buf bytes;
    buf_init(&bytes, l->env->mem);
    batch_builder_init(&b, l->env->mem, &o);
    uint8_t *value = mem_alloc(l->env->mem, size);
    sim_payload_fill((uint64_t)o.base_offset, value, size);
    int64_t time = env_wall_ms(l->env);
    for (int i = 0; i < 3; i++) batch_builder_add(&b, time + i, NULL, 0, value, size, NULL, 0);
    assert_int_equal(batch_builder_finish(&b, &bytes), OK);
    assert_int_equal(stream_reserve(s, bytes.size), OK);
    struct stream_record r = {.type = STREAM_BATCH,
                              .base_offset = (uint64_t)o.base_offset,
                              .end_offset = (uint64_t)o.base_offset + 3,
                              .max_timestamp = time + 2,
                              .payload = bytes.data,
                              .payload_size = bytes.size,
                              .payload_crc = crc32c(0, bytes.data, bytes.size)};
    stream_append(s, &r);
    assert_int_equal(stream_wait_durable(s, r.end_offset), OK);
    mem_free(l->env->mem, value);
    batch_builder_deinit(&b);
    buf_deinit(&bytes);
}

static void life_load(struct life *l) {
    const struct meta_topic *t = meta_topic_by_name(l->meta, "t", 1);
    int32_t epoch = t->partitions[0].epoch;
    for (unsigned i = 0; i < PARTITIONS; i++) {
        struct stream_state live;
        t = meta_topic_by_name(l->meta, "t", 1);
        assert_int_equal(stream_open(l->streams, t->partitions[i].stream, epoch, nothing, NULL, &live, &l->parts[i]),
                         OK);
        state_deinit(&live);
    }
    for (unsigned k = 0; k < 12; k++) append(l, l->parts[k % PARTITIONS], 100 + k, epoch);
    for (unsigned k = 0; l->wal && k < LARGE_COUNT; k++) append(l, l->parts[0], LARGE / 3, epoch);
    if (l->trims) {
        uint64_t end = stream_appended_end(l->parts[0]);
        assert_int_equal(stream_reserve(l->parts[0], 0), OK);
        struct stream_record r = {.type = STREAM_TRIM, .base_offset = end, .end_offset = end};
        stream_append(l->parts[0], &r);
        assert_int_equal(stream_wait_start(l->parts[0], end), OK);
    }
    if (l->wal && !l->crashes) fiber_sleep_ns(5 * NS_PER_S);
}

static void life_main(void *arg) {
    struct life *l = arg;
    life_begin(l);
    life_load(l);
    if (l->crashes) sim_node_crash(sim_node_of(l->env), SIM_KILL);
    if (l->crashes) fiber_sleep_ns(NS_PER_S);
    struct incarnation oldest;
    l->swept_ns = sim_node_of(l->env)->world->now_ns;
    assert_int_equal(streams_sweep(l->streams, &oldest), OK);
    if (l->settles) fiber_sleep_ns(60 * NS_PER_S);
    for (unsigned i = 0; i < PARTITIONS; i++) stream_close(l->parts[i]);
    streams_close(l->streams);
    meta_close(l->meta);
    store_close(l->store);
}

struct left { /* by three brokers, one after the other */
    struct sim_world *world;
    struct sim_node *node;
    struct sim_bucket *bucket;
    struct sim_check_options options; /* for what must be there now */
};

static void left_make(struct left *f) {
    *f = (struct left){.world = test_world(7)};
    f->node = sim_node_create(f->world, "n");
    f->bucket = f->world->bucket;
    struct life lives[] = {{.crashes = true}, {.wal = true}, {.wal = true, .settles = true}};
    for (size_t i = 0; i < ARRAY_LEN(lives); i++) {
        test_run(f->node, life_main, &lives[i]);
        f->options.settled = lives[i].incarnation;
        f->options.swept_ns = lives[i].swept_ns;
    }
    f->options.closed = f->options.merged = true;
}

static void left_drop(struct left *f) {
    sim_world_destroy(f->world);
}

static struct sim_check_found checked(const struct left *f, const struct sim_check_options *o) {
    struct sim_check_found found;
    (void)!sim_check_bucket(&f->world->heap, f->bucket, o, &found);
    return found;
}

static void must_say(const struct left *f, const struct sim_check_options *o, const char *key, const char *what) {
    struct sim_check_found found = checked(f, o);
    bool named = (!key || strstr(found.report.text, key)) && strstr(found.report.text, what);
    if (!named) print_message("wanted: %s %s\ngot: %s\n", key ? key : "", what, found.report.text);
    assert_true(named);
}

static struct sim_object *object_take(struct sim_bucket *b, size_t i) {
    struct sim_object *o = b->objects[i];
    b->count--;
    memmove(&b->objects[i], &b->objects[i + 1], (b->count - i) * sizeof(*b->objects));
    return o;
}

static void object_give(struct sim_bucket *b, struct sim_object *o) {
    size_t i = sim_bucket_from(b, o->key);
    assert_true(b->count < b->capacity);
    memmove(&b->objects[i + 1], &b->objects[i], (b->count - i) * sizeof(*b->objects));
    b->objects[i] = o;
    b->count++;
}

static void object_plant(struct left *f, const char *key, const struct sim_object *like) {
    struct mem *m = &f->world->heap;
    struct sim_object *o = MEM_NEW(m, struct sim_object);
    *o = *like;
    o->seen = (struct sim_seen){0};
    o->key = mem_strdup(m, key);
    o->data = mem_alloc(m, like->size);
    memcpy(o->data, like->data, like->size);
    o->landed_ns = 0;
    f->bucket->objects = mem_grow(m, f->bucket->objects, f->bucket->count, &f->bucket->capacity, sizeof(o));
    object_give(f->bucket, o);
}

/* --- Tests. */

static void what_brokers_leave_is_sound(void **state) {
    (void)state;
    struct left f;
    left_make(&f);
    struct sim_check_found found = checked(&f, &f.options);
    assert_string_equal(found.report.text, "");
    assert_int_equal(found.objects, f.bucket->count);
    assert_int_equal(found.elections, 3);
    assert_int_equal(found.fences, 2);
    assert_int_equal(found.late, 0);
    assert_true(found.needed > 8);
    size_t data = 0;
    for (size_t i = 0; i < f.bucket->count; i++) data += strstr(f.bucket->objects[i]->key, "/data/") != NULL;
    assert_int_equal(data, 2);
    left_drop(&f);
}

/* Every object but what may go at any time. With a memory also the last entry of a log. */
static void what_is_needed_is_missed(void **state) {
    (void)state;
    struct left f;
    left_make(&f);
    uint64_t needed = checked(&f, &f.options).needed, missed = 0;
    for (size_t i = 0; i < f.bucket->count; i++) {
        struct sim_check_options o = f.options;
        struct sim_mem mem;
        sim_mem_init(&mem, &f.world->heap);
        o.memory = sim_check_memory_create(&mem.base);
        assert_string_equal(checked(&f, &o).report.text, "");
        struct sim_object *gone = object_take(f.bucket, i);
        missed += checked(&f, &o).report.text[0] != '\0';
        object_give(f.bucket, gone);
        sim_mem_drop(&mem);
    }
    assert_int_equal(missed, needed);
    left_drop(&f);
}

/* Each object is whole when it is damaged, and was looked at; when it is whole again, so is the bucket. */
static void every_damage_is_seen(void **state) {
    (void)state;
    struct left f;
    left_make(&f);
    for (size_t i = 0; i < f.bucket->count; i++) {
        struct sim_object *o = f.bucket->objects[i];
        size_t step = o->size < 4096 ? 13 : o->size / 12;
        assert_string_equal(checked(&f, &f.options).report.text, "");
        for (size_t at = 0; at < o->size; at += step) {
            o->data[at] ^= 0x10;
            sim_object_changed(f.bucket, o);
            must_say(&f, &f.options, o->key, "");
            o->data[at] ^= 0x10;
        }
        o->size--;
        sim_object_changed(f.bucket, o);
        must_say(&f, &f.options, o->key, "");
        o->size++;
        sim_object_changed(f.bucket, o);
    }
    assert_string_equal(checked(&f, &f.options).report.text, "");
    left_drop(&f);
}

static void stream_count(void *ctx, const struct sim_check_stream *s) {
    uint64_t *sum = ctx;
    *sum += hash64(hash_bytes(s->topic, strlen(s->topic)) + (uint64_t)s->partition + s->id.v + s->end);
}

/* A bucket that has not changed is not read again, and its streams are told all the same; one that has is. */
static void what_changes_is_read_again(void **state) {
    (void)state;
    struct left f;
    left_make(&f);
    uint64_t sums[4] = {0};
    struct sim_mem mem;
    sim_mem_init(&mem, &f.world->heap);
    struct sim_check_options o = {.memory = sim_check_memory_create(&mem.base), .stream = stream_count};
    for (unsigned i = 0; i < 2; i++) {
        o.ctx = &sums[i];
        assert_true(sim_check_store(f.world, NULL, &o));
    }
    assert_true(sums[0] != 0 && sums[1] == sums[0]);
    /* Behind the checker's back: only who looks for other things reads it again. */
    struct sim_object *any = f.bucket->objects[f.bucket->count / 2];
    struct sim_object *gone = object_take(f.bucket, sim_bucket_from(f.bucket, any->key));
    o.ctx = &sums[2];
    assert_true(sim_check_store(f.world, NULL, &o));
    assert_true(sums[2] == sums[0]);
    object_give(f.bucket, gone);
    struct life next = {.wal = true};
    test_run(f.node, life_main, &next);
    o.ctx = &sums[3];
    assert_true(sim_check_store(f.world, NULL, &o));
    assert_true(sums[3] != 0 && sums[3] != sums[0]);
    any = f.bucket->objects[f.bucket->count / 2];
    any->data[any->size / 2] ^= 1;
    sim_object_changed(f.bucket, any);
    assert_false(sim_check_store(f.world, NULL, &o));
    assert_non_null(strstr(f.world->failure, any->key));
    sim_mem_drop(&mem);
    left_drop(&f);
}

/* Keys of what was made for the test. */
static void key_of(const struct left *f, char out[OBJECT_KEY_MAX], uint64_t creator, uint64_t number,
                   enum object_kind kind) {
    char generation[32];
    size_t i = 0;
    while (!strstr(f->bucket->objects[i]->key, "/cluster/")) i++;
    (void)snprintf(generation, sizeof(generation), "%.26s", f->bucket->objects[i]->key);
    object_key(out, generation, (struct object_id){{creator}, number, kind});
}

static void what_is_left_over_is_named(void **state) {
    (void)state;
    struct left f;
    left_make(&f);
    char key[OBJECT_KEY_MAX];
    const struct sim_object *entry = NULL, *data = NULL;
    for (size_t i = 0; i < f.bucket->count; i++) {
        struct sim_object *o = f.bucket->objects[i];
        struct objlog_header h;
        if (strstr(o->key, "/data/") && !data) data = o;
        if (objlog_header_decode(o->data, o->size, &h) == OK && strstr(o->key, "/ledger/") && h.kind == OBJLOG_DATA)
            entry = o;
    }
    assert_non_null(entry);
    assert_non_null(data);
    struct objlog_header h;
    assert_int_equal(objlog_header_decode(entry->data, entry->size, &h), OK);
    /* An entry of a dead ledger that the sweep has missed. */
    struct sim_object old = *entry;
    uint8_t bytes[ENV_FILE_ALIGN];
    h.number = 900;
    assert_true(entry->size <= sizeof(bytes));
    memcpy(bytes, entry->data, entry->size);
    objlog_header_encode(&h, bytes);
    old.data = bytes;
    key_of(&f, key, 1, h.number, OBJECT_LEDGER_ENTRY);
    object_plant(&f, key, &old);
    must_say(&f, &f.options, key, "nothing needs it");
    struct sim_check_options o = {.settled = {0}};
    assert_string_equal(checked(&f, &o).report.text, ""); /* in the middle of a run it may be */
    f.bucket->objects[sim_bucket_from(f.bucket, key)]->landed_ns = f.options.swept_ns;
    assert_string_equal(checked(&f, &f.options).report.text, "");
    assert_int_equal(checked(&f, &f.options).late, 1);
    /* One that could not be deleted has time, for as long as it takes until it is tried again. */
    struct sim_object *locked = f.bucket->objects[sim_bucket_from(f.bucket, key)];
    struct sim_check_options running = f.options;
    running.closed = false;
    locked->landed_ns = 0;
    locked->refusals = 3;
    locked->refused_ns = f.world->now_ns;
    assert_string_equal(checked(&f, &running).report.text, "");
    locked->refused_ns = f.world->now_ns - 200 * NS_PER_S;
    must_say(&f, &running, key, "nothing needs it");
    must_say(&f, &f.options, key, "nothing needs it");
    locked->locked_until_ns = f.options.swept_ns; /* for who has stopped since */
    assert_string_equal(checked(&f, &f.options).report.text, "");
    object_plant(&f, "xyz", entry);
    must_say(&f, &f.options, "xyz", "nobody knows");
    left_drop(&f);
}

/* Entries that do not follow each other, though all checksums are right. */
static void upload_plant(struct left *f, const char *key, uint64_t begun_ns) {
    struct sim_bucket *b = f->bucket;
    struct mem *m = &f->world->heap;
    b->uploads = mem_grow(m, b->uploads, b->upload_count, &b->upload_capacity, sizeof(*b->uploads));
    b->uploads[b->upload_count++] = (struct sim_upload){mem_strdup(m, key), ++b->upload_last, begun_ns};
}

/* The sweep gives up what a dead incarnation began in parts, and nothing else: not what somebody may be at work on. */
static void unfinished_uploads_are_given_up(void **state) {
    (void)state;
    struct left f;
    left_make(&f);
    char dead[OBJECT_KEY_MAX], later[OBJECT_KEY_MAX];
    key_of(&f, dead, f.options.settled.v - 1, 7, OBJECT_DATA);
    key_of(&f, later, (uint64_t)1 << 40, 7, OBJECT_DATA);
    const char *const others[] = {later, "other/data/0000000000000001/00000000000000000007"};
    upload_plant(&f, dead, f.options.swept_ns); /* perhaps after the list was made */
    assert_string_equal(checked(&f, &f.options).report.text, "");
    f.bucket->uploads[0].begun_ns = 0;
    must_say(&f, &f.options, dead, "begun in parts");
    upload_plant(&f, others[0], 0);
    upload_plant(&f, dead, 0);
    upload_plant(&f, others[1], 0);
    struct life next = {.wal = true, .settles = true};
    test_run(f.node, life_main, &next);
    f.options.settled = next.incarnation;
    f.options.swept_ns = next.swept_ns;
    assert_string_equal(checked(&f, &f.options).report.text, "");
    assert_int_equal(f.bucket->upload_count, 2);
    for (size_t i = 0; i < 2; i++) assert_string_equal(f.bucket->uploads[i].key, others[i]);
    left_drop(&f);
}

static void what_does_not_fit_is_named(void **state) {
    (void)state;
    struct left f;
    left_make(&f);
    uint64_t boundary = 0, fits = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < f.bucket->count; i++) {
            struct sim_object *o = f.bucket->objects[i];
            struct objlog_header h;
            if (!strstr(o->key, "/ledger/") || objlog_header_decode(o->data, o->size, &h) != OK) continue;
            if (h.writer != f.options.settled.v || h.kind == OBJLOG_FENCE) continue;
            if (h.boundary > boundary) boundary = h.boundary;
            if (pass == 0 || h.number <= boundary) continue;
            struct objlog_header other = h;
            other.previous.bytes[3] ^= 1;
            objlog_header_encode(&other, o->data);
            sim_object_changed(f.bucket, o);
            must_say(&f, &f.options, NULL, "names another predecessor");
            other = h;
            other.boundary = 1000;
            other.number = 1001;
            objlog_header_encode(&other, o->data);
            sim_object_changed(f.bucket, o);
            must_say(&f, &f.options, o->key, "says that it is entry 1001");
            objlog_header_encode(&h, o->data);
            sim_object_changed(f.bucket, o);
            fits++;
        }
    }
    assert_true(boundary > 0 && fits > 0);
    assert_string_equal(checked(&f, &f.options).report.text, "");
    left_drop(&f);
}

/* What an entry both brings and trims has no range; so there must be no object for it either. (Seed 522 of the workload
 * streams, small sizes: nobody would have deleted it before the next start.) */
static void what_is_trimmed_at_once_leaves_nothing(void **state) {
    (void)state;
    struct left f;
    left_make(&f);
    struct life trims = {.wal = true, .settles = true, .trims = true};
    test_run(f.node, life_main, &trims);
    f.options.settled = trims.incarnation;
    f.options.swept_ns = trims.swept_ns;
    assert_string_equal(checked(&f, &f.options).report.text, "");
    left_drop(&f);
}

/* --- The WAL. */

struct scratch_write {
    uint64_t position;
    uint8_t bytes[ENV_FILE_ALIGN];
};

static void write_main(void *arg) {
    struct scratch_write *x = arg;
    struct env *env = loop_current()->env;
    struct env_file *f;
    assert_int_equal(env_file_open(env, WAL, ENV_FILE_DSYNC, &f), OK);
    struct env_bytes piece = {x->bytes, sizeof(x->bytes)};
    assert_int_equal(env_file_write(env, f, x->position, &piece, 1), OK);
    env_file_close(env, f);
}

static void sector_change(struct left *f, uint64_t position, uint8_t bit) {
    struct scratch_write x = {.position = position};
    assert_int_equal(sim_file_peek(sim_disk_find(f->node->disk, WAL), position, x.bytes, sizeof(x.bytes)),
                     sizeof(x.bytes));
    x.bytes[80] ^= bit;
    test_run(f->node, write_main, &x);
}

static void wal_read(struct left *f, struct stored_report *r, struct stored_wal *w) {
    *r = (struct stored_report){""};
    (void)!stored_wal_read(r, &f->world->heap, sim_disk_find(f->node->disk, WAL), NULL, NULL, w);
}

static void the_wal_is_read(void **state) {
    (void)state;
    struct left f;
    struct stored_report r;
    struct stored_wal w;
    left_make(&f);
    wal_read(&f, &r, &w);
    assert_string_equal(r.text, "");
    assert_true(w.formatted && w.both && w.superblock.closed && !w.marked);
    assert_int_equal(w.records, 0);
    struct life crashing = {.wal = true, .crashes = true};
    test_run(f.node, life_main, &crashing);
    wal_read(&f, &r, &w);
    assert_string_equal(r.text, "");
    assert_false(w.superblock.closed);
    assert_int_equal(w.superblock.incarnation.v, crashing.incarnation.v);
    assert_int_equal(w.records, 12 + LARGE_COUNT);
    uint64_t whole = w.end, first = WAL_RING_START + w.superblock.trim_position;
    /* The last one torn is a crash; one in the middle, of which a later one says that it was confirmed, is damage. */
    sector_change(&f, first, 1);
    wal_read(&f, &r, &w);
    assert_non_null(strstr(r.text, "says that it was confirmed"));
    sector_change(&f, first, 1);
    wal_read(&f, &r, &w);
    assert_string_equal(r.text, "");
    assert_int_equal(w.end, whole);
    sector_change(&f, 0, 1);
    wal_read(&f, &r, &w);
    assert_string_equal(r.text, "");
    assert_false(w.both);
    sector_change(&f, ENV_FILE_ALIGN, 1);
    wal_read(&f, &r, &w);
    assert_non_null(strstr(r.text, "neither superblock"));
    left_drop(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_brokers_leave_is_sound),
        cmocka_unit_test(what_is_needed_is_missed),
        cmocka_unit_test(every_damage_is_seen),
        cmocka_unit_test(what_changes_is_read_again),
        cmocka_unit_test(what_is_left_over_is_named),
        cmocka_unit_test(unfinished_uploads_are_given_up),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(what_is_trimmed_at_once_leaves_nothing),
        cmocka_unit_test(the_wal_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
