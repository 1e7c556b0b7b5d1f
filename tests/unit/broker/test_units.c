/* What one of a thing takes is a figure that budgets reckon with (base/memory_table.h): here it is measured. What is counted
 * must never be less than what the allocator gives out, nor much more. OXBOW_MEMORY_TELL=1 prints what was found. */
#include "unit/coord/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/fetch_session.h"
#include "stream/state.h"

static void judge(const char *what, uint64_t things, uint64_t counted, uint64_t found) {
    if (getenv("OXBOW_MEMORY_TELL"))
        print_message("%-32s %7lu: %6.0f bytes each, counted as %.0f\n", what, (unsigned long)things,
                      (double)found / (double)things, (double)counted / (double)things);
    if (found > counted || found * 2 < counted)
        print_error("%s: %lu bytes are counted, %lu were found\n", what, (unsigned long)counted, (unsigned long)found);
    assert_true(found <= counted);
    assert_true(found * 2 >= counted);
}

/* --- Fetch sessions: `topics` of `parts` partitions in each. */

static void sessions_of(const char *what, int count, int topics, int parts, int16_t version) {
    struct mem mem, scratch;
    struct arena arena;
    struct fetch_sessions s;
    mem_init_heap(&mem);
    mem_init_heap(&scratch);
    arena_init(&arena, &scratch);
    fetch_sessions_init(&s, &mem, NULL, 1000000, SIZE_MAX, 0, 1, 1);
    size_t wants = (size_t)topics * (size_t)parts;
    struct fetch_told *told = mem_zalloc(&scratch, wants * sizeof(*told));
    bool *include = mem_zalloc(&scratch, wants * sizeof(*include));
    struct kafka_fetch_request *r = kafka_fetch_request_new(&arena, 1);
    r->session_id = r->session_epoch = 0;
    r->topics.items = kafka_fetch_request_topic_new(&arena, (size_t)topics);
    r->topics.count = topics;
    for (int t = 0; t < topics; t++) {
        struct kafka_fetch_request_topic *topic = &r->topics.items[t];
        topic->topic = kafka_string_of(arena_printf(&arena, "a-topic-of-some-name-%d", t));
        memcpy(topic->topic_id.bytes, &t, sizeof(t));
        topic->partitions.items = kafka_fetch_request_partition_new(&arena, (size_t)parts);
        topic->partitions.count = parts;
        for (int p = 0; p < parts; p++) topic->partitions.items[p].partition = p;
    }
    for (int i = 0; i < count; i++) {
        struct fetch_plan plan;
        int32_t id;
        assert_int_equal(fetch_plan_make(&s, r, version, 1, &arena, &plan), OK);
        assert_int_equal(fetch_plan_finish(&s, &plan, told, include, 1, &id), OK);
        assert_true(id > 0);
    }
    judge(what, (uint64_t)count * wants, s.bytes, mem.allocated_bytes);
    fetch_sessions_deinit(&s);
    arena_deinit(&arena);
    mem_free(&scratch, told);
    mem_free(&scratch, include);
    assert_int_equal(mem.allocated_bytes, 0);
}

static void fetch_sessions_take(void **state) {
    (void)state;
    sessions_of("sessions of one partition", 1000, 1, 1, 12);
    sessions_of("the same, by id", 1000, 1, 1, 13);
    sessions_of("sessions of 100 topics of one", 50, 100, 1, 12);
    sessions_of("sessions of 7 topics of 13", 100, 7, 13, 12);
    sessions_of("a session of 10000 partitions", 1, 1, 10000, 13);
    sessions_of("a session of 100000 partitions", 1, 10, 10000, 12);
}

/* --- Producers: in the live state and in the committed one of each partition. */

static void producers_of(const char *what, int partitions, int producers) {
    struct mem mem;
    mem_init_heap(&mem);
    size_t states = 2 * (size_t)partitions;
    struct stream_state *s = calloc(states, sizeof(*s));
    assert_non_null(s);
    uint64_t before = 0;
    for (int k = 0; k <= producers; k++) {
        if (k == 1) before = mem.allocated_bytes; /* with one batch of nobody: roll points and epochs are there */
        for (size_t i = 0; i < states; i++) {
            if (k == 0) state_init(&s[i], &mem);
            struct state_batch b = {.base_offset = (uint64_t)k,
                                    .end_offset = (uint64_t)k + 1,
                                    .size_bytes = 100,
                                    .producer_id = k == 0 ? -1 : k,
                                    .first_sequence = 0,
                                    .last_sequence = 0};
            state_apply_batch(&s[i], &b);
        }
    }
    uint64_t count = (uint64_t)partitions * (uint64_t)producers;
    judge(what, count, count * STATE_PRODUCER_BYTES, mem.allocated_bytes - before);
    for (size_t i = 0; i < states; i++) state_deinit(&s[i]);
    free(s);
    assert_int_equal(mem.allocated_bytes, 0);
}

static void producers_take(void **state) {
    (void)state;
    producers_of("one producer in 1000 partitions", 1000, 1);
    producers_of("7 producers in 100 partitions", 100, 7);
    producers_of("100 producers in 10 partitions", 10, 100);
    producers_of("20000 producers in one", 1, 20000);
}

/* --- Groups. The fixture's log is what the ledger's image holds of them: the newest record of each key. */

static void forget_calls(struct fixture *f) {
    while (f->calls) {
        struct call *c = f->calls;
        assert_true(c->done);
        f->calls = c->next;
        arena_deinit(&c->arena);
        mem_free(&f->mem, c);
    }
}

static void offsets_of(const char *what, int groups, int offsets, const char *metadata) {
    struct fixture f;
    fixture_init(&f);
    uint64_t before = f.mem.allocated_bytes;
    for (int g = 0; g < groups; g++) {
        char name[40];
        (void)snprintf(name, sizeof(name), "a-group-of-some-name-%d", g);
        for (int i = 0; i < offsets; i++)
            assert_int_equal(
                fixture_committed(COMMIT(&f, .group = name, .topic = "a-topic-of-some-name", .partition = i,
                                         .offset = i, .topic_id = 1, .metadata = metadata)),
                OK);
        forget_calls(&f);
    }
    judge(what, (uint64_t)groups * (uint64_t)offsets, coord_bytes(f.coord), f.mem.allocated_bytes - before);
    fixture_reload(&f); /* loaded, they are counted the same */
    judge("  the same, loaded", (uint64_t)groups * (uint64_t)offsets, coord_bytes(f.coord),
          f.mem.allocated_bytes - before);
    fixture_deinit(&f);
}

static void committed_offsets_take(void **state) {
    (void)state;
    char metadata[4097];
    memset(metadata, 'm', sizeof(metadata) - 1);
    metadata[sizeof(metadata) - 1] = '\0';
    offsets_of("groups of one offset", 1000, 1, NULL);
    offsets_of("groups of 50 offsets", 100, 50, NULL);
    offsets_of("a group of 5000 offsets", 1, 5000, NULL);
    offsets_of("offsets with 4 KiB of metadata", 100, 20, metadata);
}

#define GROUPS 200
#define OF_EACH 5

static void members_take(void **state) {
    (void)state;
    static struct call *joins[GROUPS][OF_EACH];
    static const char *const names[OF_EACH] = {"a", "b", "c", "d", "e"};
    struct fixture f;
    char group[40];
    fixture_init(&f);
    uint64_t before = f.mem.allocated_bytes;
    for (int g = 0; g < GROUPS; g++) {
        (void)snprintf(group, sizeof(group), "a-group-of-some-name-%d", g);
        for (int i = 0; i < OF_EACH; i++)
            joins[g][i] = JOIN(&f, .group = group, .client = names[i], .protocols = {"range", "cooperative-sticky"},
                               .version = 3);
    }
    fixture_advance(&f, 2 * (int64_t)f.config.initial_rebalance_delay_ms);
    for (int g = 0; g < GROUPS; g++) {
        struct sync_spec lead = {.group = group, .generation = 1, .version = 3};
        (void)snprintf(group, sizeof(group), "a-group-of-some-name-%d", g);
        for (int i = 0; i < OF_EACH; i++) {
            assert_true(joins[g][i]->done);
            lead.assign[2 * i] = MEMBER_OF(&f, joins[g][i]);
            lead.assign[2 * i + 1] = "assigned";
        }
        lead.member = fixture_str(&f, joins[g][0]->reply.answer.join->leader);
        assert_int_equal(fixture_sync(&f, lead)->reply.error, OK);
    }
    forget_calls(&f);
    struct coord_counts counts;
    coord_counts(f.coord, &counts);
    assert_int_equal(counts.members, GROUPS * OF_EACH);
    judge("members of groups of five", GROUPS * OF_EACH, coord_bytes(f.coord), f.mem.allocated_bytes - before);
    fixture_deinit(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(fetch_sessions_take), cmocka_unit_test(producers_take),
                                       cmocka_unit_test(committed_offsets_take), cmocka_unit_test(members_take)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
