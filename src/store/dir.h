/* The object store in a local folder: an object is a file. Create-if-absent is linkat() of a finished, fsynced
 * temporary file, then fsync of the
 * folder. The folder holds a lock file: a second process is refused. */
#ifndef OXBOW_STORE_DIR_H
#define OXBOW_STORE_DIR_H

#include "store/store.h"

/* Opens (and makes, if its parent exists or can be made) the folder. ERR_LOCKED: another process uses it.
 * ERR_FOREIGN: the folder holds something else.
 * *why: a sentence that says what to do; a literal or allocated from env->mem (never freed by the caller). Suspends. */
enum err store_dir_open(struct env *env, const char *path, struct store **out, const char **why) WARN_UNUSED;
/* For looking into a store that a broker may be using: takes no lock, makes and changes nothing; puts and deletes
 * answer ERR_READ_ONLY. What is listed may be gone when it is
 * read. ERR_NOT_FOUND, ERR_FOREIGN, ERR_VERSION. Suspends. */
enum err store_dir_open_read_only(struct env *env, const char *path, struct store **out, const char **why) WARN_UNUSED;

#endif
