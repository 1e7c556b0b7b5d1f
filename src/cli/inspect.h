/* What `oxbow wal|ledger|object inspect` share: an environment to look from, a store opened for reading alone (a broker
 * may be using it: nothing is locked, nothing changes), and the verification of objects, each by what its key says it
 * is. Everything found goes to stdout; what does not verify is a line that begins with "BAD" and names the object and
 * the position in it. */
#ifndef OXBOW_CLI_INSPECT_H
#define OXBOW_CLI_INSPECT_H

#include "meta/meta_cluster.h"
#include "stream/object.h"

struct inspect {
    const char *command; /* for messages */
    struct env *env;
    struct store *store; /* NULL until inspect_open_store */
    bool verbose;
    uint64_t bad, objects, blocks, batches; /* so far */
    char generation[META_GENERATION_SIZE + 1];
    int status;
    void (*run)(struct inspect *x, void *arg);
    void *arg;
};

/* Runs run(x, arg) in a fiber of a fresh environment; returns x->status, or EXIT_FAILED when anything was BAD. */
int inspect_in_env(struct inspect *x, const char *command, void (*run)(struct inspect *x, void *arg), void *arg);
/* A line on stderr; status EXIT_FAILED. */
void inspect_fails(struct inspect *x, const char *subject, const char *why, enum err e);
/* where: a storage.url (file://..., s3://...) or a folder. Opens it and reads the cluster's generation. False: a line was written.
 * Suspends. */
bool inspect_open_store(struct inspect *x, const char *where);
/* "BAD object=KEY position=P error=NAME: ..." */
void inspect_bad(struct inspect *x, const char *key, uint64_t position, enum err e, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* Verifies one object and prints a line about it; `verbose`: its parts, too. Objects gone since they were listed are no
 * harm when `listed`. Suspends. */
void inspect_object(struct inspect *x, const char *key, bool listed);
/* The entry of an object log: header, head, body as far as its checksum tells. False: BAD was printed, or it is gone
 * (*gone). entry: objlog_entry_deinit. Suspends. */
bool inspect_entry(struct inspect *x, const char *key, bool ledger, struct objlog_entry *entry, bool *gone);
const char *inspect_kind_name(enum objlog_kind k);

#endif
