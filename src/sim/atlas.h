/* The fault atlas: for each durability class, what is promised under each fault. It is the columns of fault_table.h;
 * here it is asked, applied to a run, and printed.
 *
 * How a workload uses it. First it draws what it is like, and thereby its class; before anything is started it says
 * sim_faults_for(w, class), which switches off every fault that the class does not survive. From there on the promise
 * is the strongest one: everything acknowledged is kept and served again, nothing is refused for good. Crashes, pauses,
 * cuts and lost machines are drawn by the workload itself: sim_run_crash, sim_node_pause, sim_net_cut and
 * sim_node_lose_machine ask the switch, so that they can be drawn whatever the class is.
 *
 * A broker has one class as a machine: `wal-file` with a WAL in its own file system, `wal-device` with one on a device
 * that another machine can attach, `object` with wal.url=none. (A partition whose durability is "object" on a broker
 * with a WAL is confirmed by the store; but a start that misses the WAL is refused for all of them.) So, where a broker's
 * configuration is drawn: sim_faults_for(w, no_wal ? SIM_CLASS_OBJECT : SIM_CLASS_WAL_FILE); where trouble is made:
 * sim_node_lose_machine(n) beside sim_run_crash, without a look at the class; and sim_node_pause_ns(w) for a pause.
 * Where what happens follows from wall clocks by its nature (retention by time), switch SIM_CLOCK_SKEW and
 * SIM_CLOCK_JUMP off before the nodes are made.
 *
 * Runs that look at what is detected say sim_faults_within(w, class, SIM_DETECTS) and give the faults that are to be
 * detected a chance (their usual one is 0). There a refusal with a clear error ends the run well: a start that fails
 * with ERR_CORRUPT, ERR_NOT_FOUND, ERR_TRUNCATED or ERR_GAP, a read with ERR_CORRUPT or ERR_TRUNCATED. Wrong bytes,
 * or a start that succeeds with less than was acknowledged, is a broken promise there too. */
#ifndef OXBOW_SIM_ATLAS_H
#define OXBOW_SIM_ATLAS_H

#include <stdio.h>

#include "sim/world.h"

enum sim_promise {
    SIM_SURVIVES, /* everything acknowledged is kept, and served again */
    SIM_DETECTS,  /* refused with a clear error; nothing wrong is ever shown */
    SIM_OUTSIDE,  /* not promised */
};

enum sim_class {
    SIM_CLASS_WAL_FILE,   /* a WAL on the machine's own disk */
    SIM_CLASS_WAL_DEVICE, /* a WAL on a block device that can be attached elsewhere */
    SIM_CLASS_OBJECT,     /* no WAL: the store confirms */
    SIM_CLASSES
};

const char *sim_class_name(enum sim_class c);
const char *sim_class_sentence(enum sim_class c);
const char *sim_promise_name(enum sim_promise p);
const char *sim_promise_sentence(enum sim_promise p);
enum sim_promise sim_atlas(enum sim_fault f, enum sim_class c);

/* Switches off what the class does not survive. */
void sim_faults_for(struct sim_world *w, enum sim_class c);
/* ... what lies beyond `worst`. */
void sim_faults_within(struct sim_world *w, enum sim_class c, enum sim_promise worst);

/* The atlas as a page in Markdown. */
void sim_atlas_print(FILE *out);

#endif
