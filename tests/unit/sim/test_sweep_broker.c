/* Sweeps over the whole broker, with a client that sees it from outside. */
#include "sweep_broker.h"

static void prepare(struct broker_run *r) {
    r->batches = 5;
    r->value_size = 20000;
}
static void prepare_wal(void *arg) {
    prepare(arg);
}
static void prepare_no_wal(void *arg) {
    struct broker_run *r = arg;
    prepare(r);
    r->wal = "none";
}
static void prepare_object(void *arg) {
    struct broker_run *r = arg;
    prepare(r);
    r->durability = "object";
}

#define PIECE(title, before)                                                                                           \
    {                                                                                                                  \
        .name = title, .size = sizeof(struct broker_run), .classes = SIM_SWEEP_IO, .prepare = before,                  \
        .work = broker_work, .check = broker_check, .beside = broker_client                                            \
    }

static void with_a_wal(void **state) {
    (void)state;
    static const struct sweep_piece p = PIECE("broker", prepare_wal);
    sweep_every_kind(&p);
}
static void without_a_wal(void **state) {
    (void)state;
    static const struct sweep_piece p = PIECE("broker-no-wal", prepare_no_wal);
    sweep_every_kind(&p);
}
static void confirmed_by_the_store(void **state) {
    (void)state;
    static const struct sweep_piece p = PIECE("broker-object", prepare_object);
    sweep_every_kind(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_a_wal),
        cmocka_unit_test(without_a_wal),
        cmocka_unit_test(confirmed_by_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
