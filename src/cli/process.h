/* What the command line needs from the operating system: reading a configuration file, and the signals that stop a
 * process. The only file above rt/ and store/ that calls it. */
#ifndef OXBOW_CLI_PROCESS_H
#define OXBOW_CLI_PROCESS_H

#include <stddef.h>

#include "base/bytes.h"
#include "base/err.h"

#define PROCESS_FILE_MAX_BYTES ((size_t)16 << 20)

/* Appends the whole file ("-": standard input) to out. On failure *why holds a sentence that names the file. */
enum err process_read_file(const char *path, struct buf *out, char *why, size_t why_size) WARN_UNUSED;

/* From now on SIGTERM and SIGINT call stop(ctx), once, on a thread of their own (so it may take locks and post mail);
 * the second signal ends the process at once with status 1. SIGPIPE is ignored. Call it before any other thread is
 * started: threads inherit the blocked signals. Once per process. */
enum err process_watch_signals(void (*stop)(void *ctx), void *ctx) WARN_UNUSED;

#endif
