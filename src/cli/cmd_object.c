/* `oxbow object inspect`: objects of a store by themselves, each verified as far as it carries checksums. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/commands.h"
#include "cli/inspect.h"
#include "cli/options.h"

#define KEYS_MAX 256u

struct object_job {
    const char *where;
    const char *keys[KEYS_MAX];
    size_t count;
    bool all;
};

static void inspect_listed(struct inspect *x) {
    char after[600] = "";
    bool more = true;
    while (more) {
        struct store_listing page;
        enum err e = store_list(x->store, "", after[0] ? after : NULL, 1000, STORE_FOR_OTHER, &page);
        if (e != OK) inspect_fails(x, "the store", "its objects cannot be listed", e);
        for (size_t i = 0; e == OK && i < page.count; i++) inspect_object(x, page.items[i].key, true);
        more = e == OK && page.more && page.count > 0;
        if (more) (void)snprintf(after, sizeof(after), "%s", page.items[page.count - 1].key);
        store_listing_deinit(&page);
    }
}

static void object_main(struct inspect *x, void *arg) {
    struct object_job *j = arg;
    if (!inspect_open_store(x, j->where)) return;
    if (j->all) inspect_listed(x);
    for (size_t i = 0; i < j->count; i++) {
        if (store_key_valid(j->keys[i]))
            inspect_object(x, j->keys[i], false);
        else
            inspect_fails(x, j->keys[i], "this is no key of an object", ERR_INVALID);
    }
    printf("objects=%" PRIu64 " blocks=%" PRIu64 " batches=%" PRIu64 " bad=%" PRIu64 "\n", x->objects, x->blocks,
           x->batches, x->bad);
}

static int object_run(int argc, char **argv) {
    static const struct option_spec specs[] = {{0, "all", NULL}, {'v', "verbose", NULL}};
    struct object_job j = {0};
    struct inspect x = {0};
    struct options o;
    bool verb = false;
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        if (i == OPTIONS_ERROR) return EXIT_USAGE;
        if (i == 0) {
            j.all = true;
        } else if (i == 1) {
            x.verbose = true;
        } else if (!verb) {
            if (strcmp(o.value, "inspect") != 0) return options_refuse(&o, "'inspect'");
            verb = true;
        } else if (!j.where) {
            j.where = o.value;
        } else if (j.count < KEYS_MAX) {
            j.keys[j.count++] = o.value;
        } else {
            return options_refuse(&o, "at most 256 keys");
        }
    }
    if (!verb || !j.where || (!j.all && j.count == 0)) return options_refuse(&o, "inspect STORE and --all or KEY...");
    return inspect_in_env(&x, "object", object_main, &j);
}

const struct command command_object = {
    "object",
    "looks into objects of a store and verifies their checksums",
    "usage: oxbow object inspect STORE [-v] (--all | KEY...)\n\n"
    "STORE is a storage.url (file:///dir, s3://bucket) or a folder. Prints what each object is and verifies every\n"
    "checksum in it: headers, heads, bodies, block indexes, blocks and record batches. A broker may be running: nothing\n"
    "is locked or changed.\n\n"
    "      --all             all objects of the store\n"
    "  -v, --verbose         their parts, too: sections, ranges, blocks, states\n\n"
    "What does not verify is a line BAD with object and position. Exit status: 0 all is well, 1 something is not, 2 wrong\n"
    "usage.\n",
    object_run,
};
