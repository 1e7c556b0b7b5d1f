#include "sim/medium.h"

#include <limits.h>
#include <string.h>

#include "base/assert.h"
#include "sim/disk.h"

static const uint8_t zeros[SIM_SECTOR];

void medium_init(struct medium *m, struct sim_world *w, uint64_t size) {
    *m = (struct medium){.world = w, .size = size, .durable_size = size};
}

void medium_deinit(struct medium *m) {
    for (size_t i = 0; i < m->count; i++) {
        mem_free(&m->world->heap, m->sectors[i].live);
        mem_free(&m->world->heap, m->sectors[i].medium);
    }
    mem_free(&m->world->heap, m->sectors);
    *m = (struct medium){0};
}

size_t medium_read(const struct medium *m, uint64_t position, void *out, size_t size) {
    if (position >= m->size) return 0;
    if (size > m->size - position) size = (size_t)(m->size - position);
    for (size_t done = 0; done < size;) {
        uint64_t i = (position + done) / SIM_SECTOR;
        size_t at = (position + done) % SIM_SECTOR, part = SIM_SECTOR - at;
        if (part > size - done) part = size - done;
        const uint8_t *live = i < m->count ? m->sectors[i].live : NULL;
        memcpy((uint8_t *)out + done, (live ? live : zeros) + at, part);
        done += part;
    }
    return size;
}

static struct sector *sector_at(struct medium *m, uint64_t i) {
    if (i >= m->count) {
        size_t count = m->count ? m->count : 16;
        while (count <= i) count *= 2;
        m->sectors = mem_realloc(&m->world->heap, m->sectors, count * sizeof(*m->sectors));
        memset(m->sectors + m->count, 0, (count - m->count) * sizeof(*m->sectors));
        m->count = count;
    }
    return &m->sectors[i];
}

static uint8_t *sector_copy(struct medium *m, const uint8_t *from) {
    uint8_t *p = mem_alloc(&m->world->heap, SIM_SECTOR);
    memcpy(p, from ? from : zeros, SIM_SECTOR);
    return p;
}

static void sector_cleaned(struct medium *m, struct sector *s) {
    mem_free(&m->world->heap, s->medium);
    s->medium = NULL;
    s->state = SECTOR_CLEAN;
}

/* What is on the medium stays there while `live` gets new bytes. */
static void sector_dirtied(struct medium *m, struct sector *s, unsigned writer) {
    /* The machine may write a dirty sector back at any time; so the medium can hold a version between the synced and
     * the newest. */
    if (s->state == SECTOR_DIRTY && sim_chance(m->world, 0.25)) sector_cleaned(m, s);
    if (s->state == SECTOR_CLEAN) s->medium = s->live ? sector_copy(m, s->live) : NULL;
    s->state = SECTOR_DIRTY;
    s->writer = writer;
}

static void sector_write(struct medium *m, uint64_t i, size_t at, const uint8_t *data, size_t size,
                         enum medium_write how, unsigned writer) {
    struct sector *s = sector_at(m, i);
    if (how == MEDIUM_FAILED) {
        if (sim_chance(m->world, 0.4)) return;
        how = sim_chance(m->world, 0.5) ? MEDIUM_SYNCED : MEDIUM_FAILED;
    }
    if (how != MEDIUM_SYNCED) sector_dirtied(m, s, writer);
    if (!s->live) s->live = sector_copy(m, NULL);
    memcpy(s->live + at, data, size);
    if (how == MEDIUM_SYNCED) sector_cleaned(m, s);
    if (how == MEDIUM_FAILED) s->state = SECTOR_LOST;
}

static void size_grow(struct medium *m, uint64_t end, enum medium_write how) {
    if (end > m->size) m->size = end;
    if (how == MEDIUM_SYNCED && end > m->durable_size) m->durable_size = end;
}

void medium_write(struct medium *m, uint64_t position, const uint8_t *data, size_t size, enum medium_write how,
                  unsigned writer) {
    for (size_t done = 0; done < size;) {
        size_t at = (position + done) % SIM_SECTOR, part = SIM_SECTOR - at;
        if (part > size - done) part = size - done;
        sector_write(m, (position + done) / SIM_SECTOR, at, data + done, part, how, writer);
        done += part;
    }
    size_grow(m, position + size, how);
}

/* out becomes a mixture of itself and `other`, by units of 512 bytes; a unit can be a mixture too. */
static void sector_tear(struct sim_world *w, uint8_t *out, const uint8_t *other, size_t size) {
    for (size_t at = 0; at < size; at += SIM_SECTOR_UNIT) {
        size_t part = size - at < SIM_SECTOR_UNIT ? size - at : SIM_SECTOR_UNIT;
        if (sim_chance(w, 0.5)) memcpy(out + at, other + at, part);
    }
    if (size >= SIM_SECTOR_UNIT && sim_fault(w, SIM_DISK_TEAR_UNIT)) {
        /* One in which old and new differ, if there is one: else nothing would be torn. */
        size_t units = size / SIM_SECTOR_UNIT, at = sim_between(w, 0, units - 1) * SIM_SECTOR_UNIT;
        for (size_t i = 0; i < units && memcmp(out + at, other + at, SIM_SECTOR_UNIT) == 0; i++)
            at = (at + SIM_SECTOR_UNIT) % (units * SIM_SECTOR_UNIT);
        memcpy(out + at, other + at, sim_between(w, 1, SIM_SECTOR_UNIT - 1));
    }
}

void medium_write_in_doubt(struct medium *m, uint64_t position, const uint8_t *data, size_t size, enum medium_write how,
                           unsigned writer, bool torn) {
    uint64_t kind = sim_between(m->world, 0, 3);
    if (kind == 0) return;
    if (kind == 1) {
        medium_write(m, position, data, size, how, writer);
        return;
    }
    uint8_t mixture[SIM_SECTOR];
    for (size_t done = 0; done < size;) {
        size_t at = (position + done) % SIM_SECTOR, part = SIM_SECTOR - at;
        if (part > size - done) part = size - done;
        /* Sectors reach the medium in any order; where nothing tears, mostly as a beginning of the write. */
        bool lands = sim_chance(m->world, kind == 2 ? 0.5 : 0.85);
        if (!lands && !torn && kind == 3) return;
        if (torn && sim_fault(m->world, SIM_DISK_TEAR)) {
            memset(mixture, 0, part);
            (void)medium_read(m, position + done, mixture, part);
            sector_tear(m->world, mixture, data + done, part);
            medium_write(m, position + done, mixture, part, how, writer);
        } else if (lands) {
            medium_write(m, position + done, data + done, part, how, writer);
        }
        done += part;
    }
}

void medium_sync(struct medium *m) {
    for (size_t i = 0; i < m->count; i++) {
        if (m->sectors[i].state == SECTOR_DIRTY) sector_cleaned(m, &m->sectors[i]);
    }
    m->durable_size = m->size;
}

void medium_sync_failed(struct medium *m) {
    for (size_t i = 0; i < m->count; i++) {
        struct sector *s = &m->sectors[i];
        if (s->state != SECTOR_DIRTY) continue;
        if (sim_chance(m->world, 0.5)) {
            sector_cleaned(m, s);
        } else {
            s->state = SECTOR_LOST;
        }
    }
}

static void sector_power_cut(struct medium *m, struct sector *s) {
    bool lost = s->state == SECTOR_LOST;
    if (!lost && sim_fault(m->world, SIM_DISK_TEAR)) {
        uint8_t *live = s->live ? s->live : (s->live = sector_copy(m, NULL));
        sector_tear(m->world, live, s->medium ? s->medium : zeros, SIM_SECTOR);
        sector_cleaned(m, s);
    } else if (!lost && sim_chance(m->world, 0.4)) {
        sector_cleaned(m, s);
    } else {
        mem_free(&m->world->heap, s->live);
        s->live = s->medium;
        s->medium = NULL;
        s->state = SECTOR_CLEAN;
    }
}

void medium_power_cut(struct medium *m, unsigned writer, bool size_in_doubt) {
    for (size_t i = 0; i < m->count; i++) {
        struct sector *s = &m->sectors[i];
        if (s->state != SECTOR_CLEAN && (writer == UINT_MAX || s->writer == writer)) sector_power_cut(m, s);
    }
    if (!size_in_doubt || m->size == m->durable_size) return;
    if (sim_chance(m->world, 0.5)) m->size = m->durable_size;
    m->durable_size = m->size;
    for (size_t i = 0; i < m->count; i++) {
        uint64_t start = (uint64_t)i * SIM_SECTOR;
        uint8_t *live = m->sectors[i].live;
        if (!live || start + SIM_SECTOR <= m->size) continue;
        size_t keep = m->size > start ? (size_t)(m->size - start) : 0;
        memset(live + keep, 0, SIM_SECTOR - keep);
    }
}

bool medium_rot(struct medium *m, uint64_t position, size_t size) {
    if (size == 0) return false;
    uint64_t at = position + sim_between(m->world, 0, size - 1);
    if (at / SIM_SECTOR >= m->count) return false;
    struct sector *s = &m->sectors[at / SIM_SECTOR];
    uint8_t bit = (uint8_t)(1u << sim_between(m->world, 0, 7));
    if (s->live) s->live[at % SIM_SECTOR] ^= bit;
    if (s->medium) s->medium[at % SIM_SECTOR] ^= bit;
    return s->live || s->medium;
}

uint64_t medium_dirty(const struct medium *m) {
    uint64_t n = 0;
    for (size_t i = 0; i < m->count; i++) n += m->sectors[i].state != SECTOR_CLEAN;
    return n;
}
