/* Opens the object store that a storage.url names: a folder, or a bucket with the credentials that the process's
 * environment leads to. */
#ifndef OXBOW_CLI_STORAGE_H
#define OXBOW_CLI_STORAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "store/store.h"

/* where: a storage.url; a plain path is a folder, too. read_only: for looking into a store that a broker may be using.
 * why: one sentence for the operator. Suspends. */
enum err storage_open(struct env *env, const char *where, bool read_only, struct store **out, char *why,
                      size_t why_size) WARN_UNUSED;
/* The same for a store that is not the cluster's own, where something else may lie, too: of an object log. Suspends. */
enum err storage_open_beside(struct env *env, const char *where, struct store **out, char *why,
                             size_t why_size) WARN_UNUSED;

#endif
