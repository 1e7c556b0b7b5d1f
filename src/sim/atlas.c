#include "sim/atlas.h"

#include "base/assert.h"

static const struct {
    const char *name, *sentence;
} classes[SIM_CLASSES] =
    {
        [SIM_CLASS_WAL_FILE] = {"wal-file", "a WAL on the machine's own disk"},
        [SIM_CLASS_WAL_DEVICE] = {"wal-device", "a WAL on a block device that can be attached to another machine"},
        [SIM_CLASS_OBJECT] = {"object", "no WAL: a record is acknowledged when the object store has it"},
},
  promises[] = {
      [SIM_SURVIVES] = {"survives", "everything acknowledged is kept, and served again once the fault is over"},
      [SIM_DETECTS] = {"detects",
                       "refused with a clear error; never wrong bytes, never silently less than acknowledged"},
      [SIM_OUTSIDE] = {"outside", "not promised"},
};

#define SURVIVES SIM_SURVIVES
#define DETECTS SIM_DETECTS
#define OUTSIDE SIM_OUTSIDE
static const enum sim_promise atlas[SIM_FAULTS][SIM_CLASSES] = {
#define X(id, name, chance, wal_file, wal_device, object, sentence)                                                    \
    [id] = {[SIM_CLASS_WAL_FILE] = wal_file, [SIM_CLASS_WAL_DEVICE] = wal_device, [SIM_CLASS_OBJECT] = object},
#include "sim/fault_table.h"
#undef X
};
#undef SURVIVES
#undef DETECTS
#undef OUTSIDE

const char *sim_class_name(enum sim_class c) {
    ASSERT(c < SIM_CLASSES);
    return classes[c].name;
}

const char *sim_class_sentence(enum sim_class c) {
    ASSERT(c < SIM_CLASSES);
    return classes[c].sentence;
}

const char *sim_promise_name(enum sim_promise p) {
    ASSERT(p <= SIM_OUTSIDE);
    return promises[p].name;
}

const char *sim_promise_sentence(enum sim_promise p) {
    ASSERT(p <= SIM_OUTSIDE);
    return promises[p].sentence;
}

enum sim_promise sim_atlas(enum sim_fault f, enum sim_class c) {
    ASSERT(f < SIM_FAULTS && c < SIM_CLASSES);
    return atlas[f][c];
}

void sim_faults_within(struct sim_world *w, enum sim_class c, enum sim_promise worst) {
    for (unsigned f = 0; f < SIM_FAULTS; f++) {
        if (sim_atlas((enum sim_fault)f, c) > worst) w->faults.off[f] = true;
    }
}

void sim_faults_for(struct sim_world *w, enum sim_class c) {
    sim_faults_within(w, c, SIM_SURVIVES);
}

void sim_atlas_print(FILE *out) {
    (void)fprintf(out, "| fault | what happens |");
    for (unsigned c = 0; c < SIM_CLASSES; c++) (void)fprintf(out, " %s |", classes[c].name);
    (void)fprintf(out, "\n| --- | --- |");
    for (unsigned c = 0; c < SIM_CLASSES; c++) (void)fprintf(out, " --- |");
    for (unsigned f = 0; f < SIM_FAULTS; f++) {
        (void)fprintf(out, "\n| `%s` | %s |", sim_fault_name((enum sim_fault)f), sim_fault_sentence((enum sim_fault)f));
        for (unsigned c = 0; c < SIM_CLASSES; c++) (void)fprintf(out, " %s |", promises[atlas[f][c]].name);
    }
    (void)fprintf(out, "\n\nDurability classes:\n\n");
    for (unsigned c = 0; c < SIM_CLASSES; c++)
        (void)fprintf(out, "- `%s`: %s.\n", classes[c].name, classes[c].sentence);
    (void)fprintf(out, "\nPromises:\n\n");
    for (unsigned p = 0; p <= SIM_OUTSIDE; p++)
        (void)fprintf(out, "- *%s*: %s.\n", promises[p].name, promises[p].sentence);
    (void)fprintf(
        out, "\nA damaged WAL is told from a torn one by what was written behind the damage. So damage to the very "
             "newest groups, those behind which nothing was written when the machine stopped, reads as a write that "
             "never ended: a WAL on one medium cannot know better. It is short, for what the WAL holds is in the "
             "object store within `upload.interval.ms`.\n");
}
