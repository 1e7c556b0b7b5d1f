/* Seeds that once showed a mistake in the product, in small sizes: what it was, and that it stays mended. A seed leads
 * to the same run only as long as nothing changes that draws random numbers before; so the rules behind them have tests
 * of their own where they can. */
#include "sim_test.h"

#include "sim/run.h"

struct seed {
    const char *workload;
    uint64_t seed;
    const char *was;
};

static const struct seed seeds[] = {
    {"streams", 2, "what a recovery made superfluous waited for the first upload to be deleted"},
    {"streams", 638, "merged ranges did not count towards a checkpoint: 403 entries of log where 8 ask for one"},
    {"streams", 522, "an object was made for records that the same entry trimmed, and nobody knew it"},
    {"broker", 20, "a topic that was made anew had the committed offsets of the one before"},
    {"broker", 3000606, "a WAL write that ended after a stop had given the WAL up handed it another block"},
    {"wal", 70003327, "the checker wanted back what a restart of the WAL had given up, when its superblock had rotted"},
    {"broker", 5511708, "an append went on in a shard that had been stopped while it waited for another lane"},
    {"broker", 70006220, "small ranges were merged a few at a time, and a merge that had failed was not tried again"},
    {"objlog", 500007403, "between two GETs of one entry it was deleted, and a late writer put another in its place"},
    {"rivals", 4794972876, "the same under a reader of records, who took it for damage"},
    {"broker", 5505681, "an append that had been given up at a stop was waited for by the one behind it"},
    {"rivals", 5506592, "the same, in a broker that did not stop any more"},
    {"broker", 5009095,
     "the checker took a commit by name, made after its topic was made anew, for a promise about the new one"},
    {"broker", 4894979654, "the checker took a deletion of offsets for one that no commit had overlapped"},
    {"rivals", 600011298, "the workload had room for 32 dead brokers, and looked at more"},
    {"rivals", 525, "the merging of an overtaken broker met the fence and went on, each time with an object more"},
    {"mirror", 1717, "a member failed while a mirror was closed, and others were asked that were closed already"},
    {"mirror", 2348, "what was needed of an object was more than compaction has memory for, and it was never emptied"},
    {"mirror", 664, "the checker took an object of a merge that the close had cut short for one that stays for ever"},
    {"mirror", 1088, "a member that did not answer and others that were never made were taken for a WAL that is gone"},
    {"mirror", 1332, "a stream with many runs of small ranges was merged at the pace that one run asks for"},
    {"compacted", 100677,
     "a slow read found all below the high watermark of its beginning compacted away, and gave nothing"},
    {"mirror", 103011, "a ring that its holder had begun anew between being opened and being fenced was taken for another's"},
    {"broker", 3020056, "the checker took an acknowledged repetition for the end of its broker's log"},
};

static const struct seed hours[] = {
    {"broker", 1, "the checker took a group that had gone, without members and offsets, and its successor for one"},
};

static void seed_passes(const struct seed *s, uint64_t minutes) {
    struct sim_run_options o = {.seed = s->seed, .minutes = minutes};
    struct sim_result r;
    sim_run_seed(sim_workload_find(s->workload), &o, &r);
    if (r.failure[0]) print_message("%s, seed %lu (%s): %s\n", s->workload, o.seed, s->was, r.failure);
    assert_int_equal(r.failure[0], '\0');
    assert_true(r.ops > 0);
}

static void seeds_pass(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(seeds); i++) seed_passes(&seeds[i], 0);
}

static void hours_pass(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(hours); i++) seed_passes(&hours[i], 60);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(seeds_pass), cmocka_unit_test(hours_pass)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
