/* `oxbow wal init` makes a new WAL, by hand. `oxbow wal inspect`: what lies in a write-ahead log: superblocks, takeover mark, groups, and where and why reading
 * stops. A broker may be writing it: then what is read is a moment of it, and is read again when the superblock has
 * moved meanwhile. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "broker/url.h"
#include "cli/commands.h"
#include "cli/inspect.h"
#include "cli/options.h"
#include "stream/wal.h"

#define ATTEMPTS_MAX 5u
#define MARK_SIZE 64u
#define SEQUENCE_MASK (((uint64_t)1 << 48) - 1)

struct wal_job {
    char path[URL_PATH_SIZE];
    uint64_t size_bytes; /* init: of a file */
    bool init, force;
    bool json, verbose;
    struct inspect *x;
    struct buf out; /* of one attempt */
    struct buf groups;
    uint64_t bad;
    uint64_t group_count, pads, bytes;
};

/* --- What is said, in either form. */

static void bad_line(struct wal_job *j, uint64_t position, enum err e, const char *what) {
    j->bad++;
    if (!j->json)
        buf_printf(&j->out, "BAD object=%s position=%" PRIu64 " error=%s: %s\n", j->path, position, err_name(e), what);
}

static void superblock_say(struct wal_job *j, unsigned slot, const struct wal_superblock *s, enum err e, bool empty) {
    if (j->json) {
        buf_printf(&j->out, "%s{\"slot\":%u,\"status\":\"%s\"", slot ? "," : "", slot, empty ? "EMPTY" : err_name(e));
        if (e == OK) {
            buf_printf(&j->out,
                       ",\"sequence\":%" PRIu64 ",\"incarnation\":%" PRIu64
                       ",\"generation\":\"%s\",\"trim_position\":%" PRIu64 ",\"ring_size\":%" PRIu64
                       ",\"initialised\":%" PRIu64 ",\"closed\":%s",
                       s->sequence, s->incarnation.v, s->generation, s->trim_position, s->ring_size, s->initialised,
                       s->closed ? "true" : "false");
        }
        buf_printf(&j->out, "}");
        return;
    }
    buf_printf(&j->out, "superblock slot=%u ", slot);
    if (empty) {
        buf_printf(&j->out, "empty\n");
    } else if (e != OK) {
        buf_printf(&j->out, "does not verify: %s\n", err_text(e));
    } else {
        buf_printf(&j->out, "sequence=%" PRIu64 " incarnation=%" PRIu64 " generation=%s wal_id=", s->sequence,
                   s->incarnation.v, s->generation);
        for (unsigned i = 0; i < 16; i++) buf_printf(&j->out, "%02x", s->wal_id[i]);
        buf_printf(&j->out, " trim=%" PRIu64 " ring=%" PRIu64 " initialised=%" PRIu64 " %s\n", s->trim_position,
                   s->ring_size, s->initialised, s->closed ? "closed" : "open");
    }
}

static bool all_zero(const uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (data[i]) return false;
    }
    return true;
}

/* Sectors 0 to 2: both superblocks, whichever is the valid one, and the mark. *newest: the highest sequence. */
static void say_front(struct wal_job *j, const uint8_t *sectors, uint64_t *newest) {
    *newest = 0;
    if (j->json) buf_printf(&j->out, "\"superblocks\":[");
    for (unsigned slot = 0; slot < 2; slot++) {
        const uint8_t *sector = sectors + (size_t)slot * ENV_FILE_ALIGN;
        struct wal_superblock s = {0};
        bool empty = all_zero(sector, ENV_FILE_ALIGN);
        enum err e = wal_superblock_decode(sector, ENV_FILE_ALIGN, &s);
        if (e == OK && s.sequence > *newest) *newest = s.sequence;
        superblock_say(j, slot, &s, e, empty);
        if (e != OK && !empty) bad_line(j, (uint64_t)slot * ENV_FILE_ALIGN, e, "superblock does not verify");
    }
    const uint8_t *mark = sectors + 2 * (size_t)ENV_FILE_ALIGN;
    bool marked = !all_zero(mark, MARK_SIZE),
         sound = memcmp(mark, "OXBWMARK", 8) == 0 && le32_get(mark + MARK_SIZE - 4) == crc32c(0, mark, MARK_SIZE - 4);
    uint64_t taken = le64_get(mark + 16), taker = le64_get(mark + 24);
    if (j->json) {
        buf_printf(&j->out, "],\"mark\":");
        if (marked)
            buf_printf(&j->out, "{\"taken\":%" PRIu64 ",\"taker\":%" PRIu64 ",\"status\":\"%s\"},", taken, taker,
                       err_name(sound ? OK : ERR_CORRUPT));
        else
            buf_printf(&j->out, "null,");
    } else if (marked) {
        buf_printf(&j->out, "takeover mark: incarnation %" PRIu64 " was taken over by %" PRIu64 "\n", taken, taker);
    } else {
        buf_printf(&j->out, "takeover mark: none\n");
    }
    if (marked && !sound)
        bad_line(j, 2 * (uint64_t)ENV_FILE_ALIGN, ERR_CORRUPT, "takeover mark does not verify; it counts all the same");
}

static enum err on_record(void *ctx, const struct record_header *h, const uint8_t *payload) {
    struct wal_job *j = ctx;
    (void)payload;
    if (j->verbose && !j->json) {
        buf_printf(&j->groups,
                   "    record type=%s stream=%" PRIu64 " epoch=%d offsets=%" PRIu64 "..%" PRIu64 " size=%u\n",
                   h->type == STREAM_BATCH ? "batch" : "trim", h->stream.v, h->epoch, h->base_offset, h->end_offset,
                   h->payload_size);
    }
    return OK;
}

/* Comes after the group's records: these wait in `groups`. */
static void on_group(void *ctx, const struct group_header *g, uint32_t whole_records) {
    struct wal_job *j = ctx;
    j->group_count += g->kind == GROUP_RECORDS;
    j->pads += g->kind == GROUP_PAD;
    j->bytes += g->size;
    if (j->verbose && j->json) {
        buf_printf(&j->groups,
                   "%s{\"position\":%" PRIu64 ",\"kind\":\"%s\",\"shard\":%u,\"sequence\":%" PRIu64
                   ",\"size\":%u,\"records\":%u,\"whole_records\":%u}",
                   j->groups.size ? "," : "", g->position, g->kind == GROUP_PAD ? "pad" : "records",
                   (unsigned)(g->block_id >> 48), g->block_id & SEQUENCE_MASK, g->size, g->record_count, whole_records);
    } else if (j->verbose) {
        buf_printf(&j->out, "  group position=%" PRIu64 " kind=%s shard=%u block=%" PRIu64 " size=%u records=%u/%u\n",
                   g->position, g->kind == GROUP_PAD ? "pad" : "records", (unsigned)(g->block_id >> 48),
                   g->block_id & SEQUENCE_MASK, g->size, whole_records, g->record_count);
        buf_put(&j->out, j->groups.data, j->groups.size);
        j->groups.size = 0;
    }
}

static void say_end(struct wal_job *j, const struct wal_superblock *s, const struct wal_found *found) {
    uint64_t behind = found->groups_behind, first_behind = found->first_behind;
    uint64_t place = WAL_RING_START + found->end_position % s->ring_size;
    if (j->json) {
        buf_printf(&j->out,
                   "\"groups\":%" PRIu64 ",\"pads\":%" PRIu64 ",\"records\":%" PRIu64 ",\"bytes\":%" PRIu64
                   ",\"end_position\":%" PRIu64 ",\"stopped_by\":\"%s\",\"torn\":%s,\"groups_behind\":%" PRIu64
                   ",\"group_list\":[%.*s]",
                   j->group_count, j->pads, found->records, j->bytes, found->end_position, err_name(found->stopped_by),
                   found->torn ? "true" : "false", behind, (int)j->groups.size,
                   j->groups.size ? (const char *)j->groups.data : "");
    } else {
        static const char *const ends[] = {"no group there", "a group of an earlier lap or start is there"};
        const char *why = found->stopped_by == ERR_FOREIGN ? ends[0]
                          : found->stopped_by == ERR_STALE ? ends[1]
                                                           : err_text(found->stopped_by);
        buf_printf(&j->out, "groups=%" PRIu64 " pads=%" PRIu64 " records=%" PRIu64 " bytes=%" PRIu64 "\n",
                   j->group_count, j->pads, found->records, j->bytes);
        buf_printf(&j->out, "reading stops at position %" PRIu64 " (byte %" PRIu64 "): %s\n", found->end_position,
                   place, why);
    }
    if (found->torn) {
        bad_line(
            j, place, found->stopped_by,
            "the last group lacks some of its records: a write that was cut off (none of it was acknowledged), or damage");
    } else if (found->stopped_by != ERR_FOREIGN && found->stopped_by != ERR_STALE && found->stopped_by != OK) {
        bad_line(j, place, found->stopped_by, "the group here does not verify");
    }
    if (behind == 0) return;
    char text[200];
    (void)snprintf(text, sizeof(text), "%" PRIu64 " groups lie behind the end, the first at position %" PRIu64 ": %s",
                   behind, first_behind,
                   found->damaged
                       ? "they were written after the place of the end was confirmed, so it was damaged later"
                       : "writes that overtook the missing one when the holder ended; none of them was acknowledged");
    if (found->damaged) {
        bad_line(j, place, ERR_GAP, text);
    } else if (!j->json) {
        buf_printf(&j->out, "note: %s\n", text);
    }
}

/* The ring, through the code that recovery uses. *moved: the superblock changed while it was read. */
static enum err inspect_ring(struct wal_job *j, struct env_file *f, uint64_t newest, bool *moved, const char **why) {
    struct env *env = j->x->env;
    struct wal_options o = {.env = env, .path = j->path, .read_only = true, .group_found = on_group, .ctx = j};
    struct wal *w;
    *moved = false;
    enum err e = wal_open(&o, &w, why);
    if (e != OK) return e;
    const struct wal_superblock *s = wal_superblock(w);
    if (!s) {
        if (j->json)
            buf_printf(&j->out, "\"groups\":0");
        else
            buf_printf(&j->out, "the WAL is new: nothing has been written\n");
        wal_close(w, false);
        return OK;
    }
    struct wal_found found;
    e = wal_replay(w, on_record, j, &found);
    *why = "the ring cannot be read";
    uint8_t *sectors = mem_aligned(env->mem, 2 * ENV_FILE_ALIGN, ENV_FILE_ALIGN);
    size_t got = 0;
    if (e == OK) e = env_file_read(env, f, 0, sectors, 2 * ENV_FILE_ALIGN, &got);
    for (unsigned slot = 0; e == OK && got == 2 * ENV_FILE_ALIGN && slot < 2; slot++) {
        struct wal_superblock now;
        if (wal_superblock_decode(sectors + (size_t)slot * ENV_FILE_ALIGN, ENV_FILE_ALIGN, &now) == OK &&
            now.sequence > newest)
            *moved = true;
    }
    mem_free(env->mem, sectors);
    if (e == OK) say_end(j, s, &found);
    wal_close(w, false);
    return e;
}

static enum err inspect_once(struct wal_job *j, bool *moved, const char **why) {
    struct env *env = j->x->env;
    struct env_file *f = NULL;
    *moved = false;
    *why = "the WAL cannot be opened";
    enum err e = env_file_open(env, j->path, ENV_FILE_READ_ONLY | ENV_FILE_DIRECT, &f);
    if (e != OK) return e;
    uint8_t *sectors = mem_aligned(env->mem, 3 * ENV_FILE_ALIGN, ENV_FILE_ALIGN);
    memset(sectors, 0, 3 * ENV_FILE_ALIGN);
    size_t got = 0;
    *why = "the WAL's first sectors cannot be read";
    e = env_file_read(env, f, 0, sectors, 3 * ENV_FILE_ALIGN, &got);
    if (e == OK) {
        uint64_t newest;
        if (j->json)
            buf_printf(&j->out, "{\"path\":\"%s\",", j->path);
        else
            buf_printf(&j->out, "wal %s\n", j->path);
        say_front(j, sectors, &newest);
        e = inspect_ring(j, f, newest, moved, why);
    }
    mem_free(env->mem, sectors);
    env_file_close(env, f);
    return e;
}

static void wal_main(struct inspect *x, void *arg) {
    struct wal_job *j = arg;
    j->x = x;
    struct env_file_info info;
    enum err e = env_file_info(x->env, j->path, &info);
    size_t size = strlen(j->path);
    if (e == OK && info.directory && size + 11 < sizeof(j->path)) memcpy(j->path + size, "/oxbow.wal", 11);
    const char *why = NULL;
    bool moved = true;
    for (unsigned attempt = 0; e == OK && attempt < ATTEMPTS_MAX; attempt++) {
        buf_init(&j->out, x->env->mem);
        buf_init(&j->groups, x->env->mem);
        j->bad = j->group_count = j->pads = j->bytes = 0;
        e = inspect_once(j, &moved, &why);
        /* What is being written now may look torn: only what stays so is. */
        bool again = e == OK && attempt + 1 < ATTEMPTS_MAX && (moved || j->bad > 0);
        if (!again) {
            if (j->out.size) fwrite(j->out.data, 1, j->out.size, stdout);
            if (j->json && j->out.size)
                printf("%s\"bad\":%" PRIu64 "}\n", e == OK ? "," : "\"groups\":null,", j->bad + (e != OK));
        }
        buf_deinit(&j->out);
        buf_deinit(&j->groups);
        if (!again) break;
        fiber_sleep_ns(20 * NS_PER_MS);
    }
    x->bad = j->bad;
    if (e == OK && moved && !j->json) printf("the WAL is in use: it changed while it was read\n");
    if (e != OK) inspect_fails(x, j->path, e == ERR_NOT_FOUND ? "there is no such WAL" : why, e);
}

static void init_main(struct inspect *x, void *arg) {
    struct wal_job *j = arg;
    struct wal_options o = {.env = x->env, .path = j->path, .size_bytes = j->size_bytes};
    uint8_t id[16];
    env_random(x->env, id, sizeof(id));
    const char *why = NULL;
    enum err e = wal_init(&o, id, j->force, &why);
    if (e != OK) {
        inspect_fails(x, j->path, why, e);
        return;
    }
    printf("%s holds a new WAL: id ", j->path);
    for (unsigned i = 0; i < sizeof(id); i++) printf("%02x", id[i]);
    printf("\n");
}

/* One after the other; the worst status. */
static int wal_run_each(struct wal_job *j, const char *text) {
    struct wal_setup setup;
    char why[512];
    if (wal_setup_parse(text, &setup, why, sizeof(why)) != OK || setup.count == 0) {
        fprintf(stderr, "oxbow wal: %s\n", setup.count == 0 && !setup.mirror ? "expected a WAL, found 'none'" : why);
        return EXIT_USAGE;
    }
    int worst = 0;
    for (unsigned i = 0; i < setup.count; i++) {
        if (setup.urls[i].kind == WAL_KIND_OBJECTS) {
            if (!j->json)
                printf("%s: an object log, nothing to %s\n", setup.urls[i].path, j->init ? "make" : "inspect");
            continue;
        }
        struct wal_job one = *j;
        struct inspect x = {0};
        memcpy(one.path, setup.urls[i].path, sizeof(one.path));
        one.size_bytes = setup.urls[i].size_bytes;
        int status = inspect_in_env(&x, "wal", one.init ? init_main : wal_main, &one);
        if (status > worst) worst = status;
    }
    return worst;
}

static int wal_run(int argc, char **argv) {
    static const struct option_spec specs[] = {{0, "json", NULL}, {'v', "verbose", NULL}, {0, "force", NULL}};
    struct wal_job j = {0};
    struct inspect x = {0};
    struct options o;
    const char *url = NULL;
    bool verb = false;
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        if (i == OPTIONS_ERROR) return EXIT_USAGE;
        if (i == 0) {
            j.json = true;
        } else if (i == 1) {
            j.verbose = true;
        } else if (i == 2) {
            j.force = true;
        } else if (!verb) {
            j.init = strcmp(o.value, "init") == 0;
            if (!j.init && strcmp(o.value, "inspect") != 0) return options_refuse(&o, "'inspect' or 'init'");
            verb = true;
        } else if (j.path[0]) {
            return options_refuse(&o, "one PATH");
        } else {
            if (strstr(o.value, "://")) url = o.value;
            (void)snprintf(j.path, sizeof(j.path), "%s", o.value);
        }
    }
    if (!verb || !j.path[0]) return options_refuse(&o, "inspect PATH or init PATH");
    if (j.init ? j.json || j.verbose : j.force)
        return options_refuse(&o, j.init ? "init PATH [--force]" : "inspect PATH [--json] [-v]");
    if (url) return wal_run_each(&j, url);
    return inspect_in_env(&x, "wal", j.init ? init_main : wal_main, &j);
}

const struct command command_wal = {
    "wal",
    "looks into a write-ahead log, or makes a new one",
    "usage: oxbow wal inspect PATH [--json] [-v]\n"
    "       oxbow wal init PATH [--force]\n\n"
    "PATH is a file, a folder (the file oxbow.wal in it), a block device, or a wal.url; of a mirror its members are taken\n"
    "one after the other. Which of them have all that was acknowledged `oxbow ledger` tells.\n\n"
    "inspect prints superblocks, takeover mark,\n"
    "how much is there that is not trimmed, where reading it stops and why; verifies every checksum. A broker may be\n"
    "running: nothing is locked or changed.\n\n"
    "  -v, --verbose         every group and record\n"
    "      --json            one JSON object\n\n"
    "What does not verify is a line BAD with path and position.\n\n"
    "init makes a new WAL of a device, or of a file of the size that the wal.url says. A WAL that is taken over by mark\n"
    "needs that once before its first use, and again after a start that was not closed in order: brokers never write to\n"
    "such a WAL again, for nobody can know whether its last holder still does. You must know: no other machine may write\n"
    "to it, now or later. What holds something else than a WAL is refused.\n\n"
    "      --force           also if it was not closed in order: what was in it is gone, unless a broker has recovered it\n\n"
    "Exit status: 0 all is well, 1 something is not, 2 wrong\n"
    "usage.\n",
    wal_run,
};
