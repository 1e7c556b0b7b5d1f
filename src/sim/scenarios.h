/* The scenarios; each is described where it is written. run.c has the table. */
#ifndef OXBOW_SIM_SCENARIOS_H
#define OXBOW_SIM_SCENARIOS_H

#include "sim/run.h"

void scenario_objlog(struct sim_run *r);
void scenario_clusterlog(struct sim_run *r);
void scenario_wal(struct sim_run *r);
void scenario_streams(struct sim_run *r);
void scenario_broker(struct sim_run *r);
void scenario_group(struct sim_run *r);
void scenario_rivals(struct sim_run *r);

#endif
