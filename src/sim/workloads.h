/* The workloads; each is described where it is written. run.c has the table. */
#ifndef OXBOW_SIM_WORKLOADS_H
#define OXBOW_SIM_WORKLOADS_H

#include "sim/run.h"

void workload_objlog(struct sim_run *r);
void workload_clusterlog(struct sim_run *r);
void workload_wal(struct sim_run *r);
void workload_streams(struct sim_run *r);
void workload_broker(struct sim_run *r);
void workload_group(struct sim_run *r);
void workload_rivals(struct sim_run *r);
void workload_mirror(struct sim_run *r);

#endif
