/* The history: what is shown of a broken promise, and what is left out. */
#include "sim_test.h"

#include <stdio.h>
#include <string.h>

#include "sim/history.h"

struct shown {
    size_t count;
    char lines[64][128];
};

static void take(void *ctx, const char *text) {
    struct shown *s = ctx;
    assert_true(s->count < 64);
    assert_null(strchr(text, '\n'));
    (void)snprintf(s->lines[s->count++], sizeof(s->lines[0]), "%s", text);
}

static size_t show(const struct sim_world *w, size_t max, struct shown *s) {
    *s = (struct shown){0};
    return sim_history_show(w, max, take, s);
}

static void only_the_subject_is_shown(void **state) {
    (void)state;
    struct sim_world *w = test_world(1);
    struct sim_node *n = sim_node_create(w, "client");
    uint64_t a = sim_subject("t", 0), b = sim_subject("t", 1);
    assert_int_not_equal(a, b);
    assert_int_not_equal(a, sim_subject("u", 0));
    sim_note(w, n, a, "appends to %d", 0);
    sim_note(w, n, b, "appends to %d", 1);
    sim_note(w, NULL, SIM_SUBJECT_ALL, "a crash");
    sim_fail_about(w, a, "lost");
    sim_fail_about(w, b, "lost too"); /* the first one counts */
    struct shown s;
    assert_int_equal(show(w, 60, &s), 0);
    assert_int_equal(s.count, 2);
    assert_string_equal(s.lines[0], "t=1.000000 client: appends to 0");
    assert_string_equal(s.lines[1], "t=1.000000 -: a crash");
    assert_string_equal(w->failure, "lost");
    sim_world_destroy(w);
}

static void a_failure_of_no_subject_shows_everything(void **state) {
    (void)state;
    struct sim_world *w = test_world(1);
    for (int i = 0; i < 10; i++) sim_note(w, NULL, sim_subject("t", i), "%d", i);
    sim_fail(w, "broken");
    struct shown s;
    assert_int_equal(show(w, 4, &s), 6);
    assert_int_equal(s.count, 4);
    assert_non_null(strstr(s.lines[0], "-: 6"));
    assert_non_null(strstr(s.lines[3], "-: 9"));
    sim_world_destroy(w);
}

static void many_faults_are_left_out_and_few_are_kept(void **state) {
    (void)state;
    struct sim_world *w = test_world(1);
    uint64_t t = sim_subject("t", 0);
    for (int i = 0; i < 3; i++) sim_note(w, NULL, SIM_SUBJECT_FAULTS, "fault %d", i);
    for (int i = 0; i < 20; i++) sim_note(w, NULL, t, "event %d", i);
    sim_fail_about(w, t, "broken");
    struct shown s;
    assert_int_equal(show(w, 12, &s), 11);
    assert_int_equal(s.count, 12);
    assert_non_null(strstr(s.lines[0], "fault 0"));
    assert_non_null(strstr(s.lines[3], "event 11"));
    sim_note(w, NULL, SIM_SUBJECT_FAULTS, "fault 3");
    sim_note(w, NULL, SIM_SUBJECT_FAULTS, "fault 4");
    assert_int_equal(show(w, 12, &s), 13);
    assert_int_equal(s.count, 12);
    assert_non_null(strstr(s.lines[0], "event 8"));
    sim_world_destroy(w);
}

static void notes_are_hashed_and_bounded(void **state) {
    (void)state;
    struct sim_world *a = test_world(1), *b = test_world(1);
    sim_note(a, NULL, SIM_SUBJECT_ALL, "one");
    sim_note(b, NULL, SIM_SUBJECT_ALL, "two");
    assert_int_not_equal(sim_world_hash(a), sim_world_hash(b));
    for (unsigned i = 0; i < SIM_HISTORY_NOTES + 5; i++) sim_note(a, NULL, SIM_SUBJECT_ALL, "%u", i);
    assert_int_equal(a->note_count, SIM_HISTORY_NOTES);
    sim_world_destroy(a);
    sim_world_destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_subject_is_shown),
        cmocka_unit_test(a_failure_of_no_subject_shows_everything),
        cmocka_unit_test(many_faults_are_left_out_and_few_are_kept),
        cmocka_unit_test(notes_are_hashed_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
