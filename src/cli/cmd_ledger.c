/* `oxbow ledger inspect`: the cluster log and the ledgers of a store: entries in order, how they hang together, and
 * what each says. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/commands.h"
#include "cli/inspect.h"
#include "cli/options.h"

struct ledger_job {
    const char *where;
    bool one; /* of that incarnation alone */
    uint64_t incarnation;
};

/* One object log as it is walked in order of numbers. */
struct log_walk {
    char prefix[OBJECT_KEY_MAX];
    bool ledger, any, ended;
    bool newest;       /* a later start may have taken the log over and kept only what still holds data */
    bool data;         /* it did */
    uint64_t boundary; /* the highest that any entry carries */
    uint64_t first, next, entries, below, behind;
    struct objlog_nonce last;
    char how[96]; /* why the log ends */
};

static bool nonce_is(const struct objlog_nonce *a, const struct objlog_nonce *b) {
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

/* The highest boundary: numbers below it are no longer log. */
static enum err find_boundary(struct inspect *x, struct log_walk *w, const struct store_listing *l) {
    w->boundary = 0;
    for (size_t i = 0; i < l->count; i++) {
        struct slice s = {0};
        struct objlog_header h;
        enum err e = store_get(x->store, l->items[i].key, 0, OBJLOG_HEADER_SIZE, STORE_FOR_OTHER, &s);
        if (e != OK && e != ERR_NOT_FOUND) return e;
        if (e == OK && objlog_header_decode(s.data, s.size, &h) == OK && h.boundary > w->boundary)
            w->boundary = h.boundary;
        slice_unref(&s);
    }
    return OK;
}

static void walk_entry(struct inspect *x, struct log_walk *w, const char *key, const struct objlog_header *h) {
    static const struct objlog_nonce zero;
    w->entries++;
    if (!w->any && !w->data && !w->newest && h->number != w->boundary && h->number >= w->boundary) {
        w->data = true;
        (void)snprintf(w->how, sizeof(w->how), "kept for its data alone");
    }
    if (w->data || h->number < w->boundary) {
        w->below++;
        return;
    }
    if (w->ended) {
        w->behind++;
        return;
    }
    if (!w->any) {
        w->any = true;
        w->first = h->number;
        if (h->number != w->boundary) {
            (void)snprintf(w->how, sizeof(w->how), "its beginning, entry %" PRIu64 ", is missing", w->boundary);
            inspect_bad(x, key, 0, ERR_GAP,
                        "the log begins at entry %" PRIu64 "; its boundary, entry %" PRIu64 ", is not there", h->number,
                        w->boundary);
        }
    } else if (h->number != w->next) {
        w->ended = true;
        w->behind++;
        (void)snprintf(w->how, sizeof(w->how), "hole at %" PRIu64, w->next);
        return;
    } else if (!nonce_is(&h->previous, &w->last) && !(h->kind == OBJLOG_FENCE && nonce_is(&h->previous, &zero))) {
        inspect_bad(x, key, 32, ERR_CORRUPT, "entry %" PRIu64 " names another predecessor than entry %" PRIu64,
                    h->number, h->number - 1);
    }
    w->next = h->number + 1;
    w->last = h->nonce;
    if (h->kind == OBJLOG_FENCE) {
        w->ended = true;
        (void)snprintf(w->how, sizeof(w->how), "fenced at %" PRIu64 " by %" PRIu64, h->number, h->writer);
    }
}

static enum err list_all(struct inspect *x, const char *prefix, struct store_listing *out) {
    store_listing_init(out, x->env->mem);
    bool more = true;
    enum err e = OK;
    while (e == OK && more) {
        struct store_listing page;
        e = store_list(x->store, prefix, out->count ? out->items[out->count - 1].key : NULL, 1000, STORE_FOR_OTHER,
                       &page);
        for (size_t i = 0; e == OK && i < page.count; i++)
            store_listing_add(out, page.items[i].key, page.items[i].size_bytes);
        more = e == OK && page.more && page.count > 0;
        store_listing_deinit(&page);
    }
    return e;
}

static void inspect_log(struct inspect *x, const char *prefix, bool ledger, bool newest) {
    struct log_walk w = {.ledger = ledger, .newest = newest};
    (void)snprintf(w.prefix, sizeof(w.prefix), "%s", prefix);
    char with_slash[OBJECT_KEY_MAX + 1];
    (void)snprintf(with_slash, sizeof(with_slash), "%s/", prefix);
    struct store_listing l;
    enum err e = list_all(x, with_slash, &l);
    if (e == OK) e = find_boundary(x, &w, &l);
    if (e != OK) inspect_fails(x, prefix, "its entries cannot be listed and read", e);
    for (size_t i = 0; e == OK && i < l.count; i++) {
        struct objlog_entry entry;
        bool gone;
        if (inspect_entry(x, l.items[i].key, ledger, &entry, &gone)) {
            walk_entry(x, &w, l.items[i].key, &entry.header);
            objlog_entry_deinit(&entry);
        } else if (!gone && w.any) {
            w.ended = true; /* a reader stops here */
            (void)snprintf(w.how, sizeof(w.how), "entry %" PRIu64 " cannot be read", w.next);
        }
    }
    store_listing_deinit(&l);
    printf("log %s entries=%" PRIu64 " boundary=%" PRIu64 " log=%" PRIu64 "..%" PRIu64 " below_boundary=%" PRIu64
           " behind_the_end=%" PRIu64 " end=%s\n",
           prefix, w.entries, w.boundary, w.first, w.next, w.below, w.behind, w.how[0] ? w.how : "open");
}

static void ledger_main(struct inspect *x, void *arg) {
    struct ledger_job *j = arg;
    if (!inspect_open_store(x, j->where)) return;
    inspect_object(x, META_CLUSTER_KEY, false);
    char prefix[OBJECT_KEY_MAX];
    if (j->one) {
        object_ledger_prefix(prefix, x->generation, (struct incarnation){j->incarnation});
        inspect_log(x, prefix, true, false);
    } else {
        (void)snprintf(prefix, sizeof(prefix), "%s/cluster", x->generation);
        inspect_log(x, prefix, false, true);
        (void)snprintf(prefix, sizeof(prefix), "%s/ledger/", x->generation);
        struct store_listing l;
        enum err e = list_all(x, prefix, &l);
        if (e != OK) inspect_fails(x, prefix, "the ledgers cannot be listed", e);
        uint64_t last = 0, newest = 0;
        for (size_t i = 0; e == OK && i < l.count; i++) {
            struct object_id id;
            if (object_key_parse(l.items[i].key, x->generation, &id) && id.creator.v > newest) newest = id.creator.v;
        }
        for (size_t i = 0; e == OK && i < l.count; i++) {
            struct object_id id;
            if (!object_key_parse(l.items[i].key, x->generation, &id) || id.creator.v == last) continue;
            last = id.creator.v;
            object_ledger_prefix(prefix, x->generation, id.creator);
            inspect_log(x, prefix, true, id.creator.v == newest);
        }
        store_listing_deinit(&l);
    }
    printf("objects=%" PRIu64 " blocks=%" PRIu64 " batches=%" PRIu64 " bad=%" PRIu64 "\n", x->objects, x->blocks,
           x->batches, x->bad);
}

static int ledger_run(int argc, char **argv) {
    static const struct option_spec specs[] = {{0, "incarnation", "N"}, {'v', "verbose", NULL}};
    struct ledger_job j = {0};
    struct inspect x = {0};
    struct options o;
    bool verb = false;
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        if (i == OPTIONS_ERROR) return EXIT_USAGE;
        if (i == 0) {
            j.one = true;
            if (!options_u64(o.value, 1, UINT64_MAX, &j.incarnation))
                return options_refuse(&o, "an incarnation: a number");
        } else if (i == 1) {
            x.verbose = true;
        } else if (!verb) {
            if (strcmp(o.value, "inspect") != 0) return options_refuse(&o, "'inspect'");
            verb = true;
        } else if (!j.where) {
            j.where = o.value;
        } else {
            return options_refuse(&o, "one STORE");
        }
    }
    if (!verb || !j.where) return options_refuse(&o, "inspect STORE");
    return inspect_in_env(&x, "ledger", ledger_main, &j);
}

const struct command command_ledger = {
    "ledger",
    "looks into the cluster log and the ledgers of a store",
    "usage: oxbow ledger inspect STORE [--incarnation N] [-v]\n\n"
    "STORE is a storage.url (file:///dir, s3://bucket) or a folder. Prints the object that names the cluster, the\n"
    "entries of the cluster log and of every broker's ledger in order, with kind, boundary, writer and what they hold;\n"
    "verifies every checksum and that each entry names its predecessor; says where each log ends and why. A broker may\n"
    "be running: nothing is locked or changed.\n\n"
    "      --incarnation N   the ledger of that broker start alone\n"
    "  -v, --verbose         sections, ranges, blocks and states, too\n\n"
    "What does not verify is a line BAD with object and position. Exit status: 0 all is well, 1 something is not, 2 wrong\n"
    "usage.\n",
    ledger_run,
};
