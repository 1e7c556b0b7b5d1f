/* The content of one simulated file or device: what readers see and what is on the medium, in sectors. Pure data:
 * nothing here suspends. */
#ifndef OXBOW_SIM_MEDIUM_H
#define OXBOW_SIM_MEDIUM_H

#include "sim/world.h"

enum sector_state {
    SECTOR_CLEAN, /* the medium holds what readers see */
    SECTOR_DIRTY, /* a sync will write it */
    SECTOR_LOST,  /* a sync failed: believed clean, but not on the medium */
};

struct sector {
    uint8_t *live;   /* NULL: zeros */
    uint8_t *medium; /* when not clean; NULL: zeros */
    enum sector_state state;
    unsigned writer; /* node id of the last one to make it dirty */
};

struct medium {
    struct sim_world *world;
    struct sector *sectors;
    size_t count;
    uint64_t size, durable_size;
};

enum medium_write {
    MEDIUM_UNSYNCED,
    MEDIUM_SYNCED,
    MEDIUM_FAILED, /* the sector may hold it, on the medium or only for readers */
};

void medium_init(struct medium *m, struct sim_world *w, uint64_t size);
void medium_deinit(struct medium *m);
size_t medium_read(const struct medium *m, uint64_t position, void *out, size_t size);
/* Grows the size as needed. */
void medium_write(struct medium *m, uint64_t position, const uint8_t *data, size_t size, enum medium_write how,
                  unsigned writer);
/* A write that was in flight: each sector of it lands, does not, or (torn) lands in part. */
void medium_write_in_doubt(struct medium *m, uint64_t position, const uint8_t *data, size_t size, enum medium_write how,
                           unsigned writer, bool torn);
void medium_sync(struct medium *m);
void medium_sync_failed(struct medium *m);
/* Power cut: dirty sectors of that writer (UINT_MAX: of all) persist, vanish or tear; lost ones vanish. */
void medium_power_cut(struct medium *m, unsigned writer, bool size_in_doubt);
/* Changes a bit that lies in [position, position+size); false if there is nothing but zeros that were never written. */
bool medium_rot(struct medium *m, uint64_t position, size_t size);
uint64_t medium_dirty(const struct medium *m);

#endif
