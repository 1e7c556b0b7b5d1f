/* What the command line needs from the operating system: reading a configuration file, and the signals that stop a
 * process. The only file above rt/ and store/ that calls it. */
#ifndef OXBOW_CLI_PROCESS_H
#define OXBOW_CLI_PROCESS_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

#define PROCESS_FILE_MAX_BYTES ((size_t)16 << 20)

/* Appends the whole file ("-": standard input) to out. On failure *why holds a sentence that names the file. */
enum err process_read_file(const char *path, struct buf *out, char *why, size_t why_size) WARN_UNUSED;

/* A variable of the process's environment; NULL when it is not set. Borrowed. */
const char *process_environment(const char *name);

/* What the kernel has counted for a process: processor time of user and system together, memory now and at its peak.
 * pid 0: this one. ERR_NOT_FOUND: there is no such process. */
struct process_usage {
    uint64_t cpu_ns;
    uint64_t resident_bytes, peak_bytes;
};
enum err process_usage(uint64_t pid, struct process_usage *out) WARN_UNUSED;

/* Allows as many open files as the system lets this process have; returns how many. */
uint64_t process_files_allow(void);

/* Ends the process at once: nothing is written out or freed. */
_Noreturn void process_end(int status);

/* What is written to standard output if the process ends from now on by a failed assertion, by a crash or by a
 * sanitizer's report; its status is 1 then. Borrowed until the next call; NULL: nothing, though the status stays. What
 * stdio still holds is lost: flush first. */
void process_last_words(const char *text);

/* A file, or standard input, that is read as it comes. Calls block: from a worker thread. */
struct process_input {
    int fd;
};
/* path NULL or "-": standard input. *why as above. */
enum err process_input_open(struct process_input *in, const char *path, char *why, size_t why_size) WARN_UNUSED;
void process_input_close(struct process_input *in);
/* Reads what is there, at most `size` bytes; *got 0 with OK is the end. ERR_UNAVAILABLE when nothing came within
 * wait_ms: who reads can look around and come again. */
enum err process_input_read(struct process_input *in, void *data, size_t size, unsigned wait_ms,
                            size_t *got) WARN_UNUSED;

/* From now on SIGTERM and SIGINT call stop(ctx), once, on a thread of their own (so it may take locks and post mail);
 * the second signal ends the process at once with status 1. SIGPIPE is ignored. Call it before any other thread is
 * started: threads inherit the blocked signals. Once per process. */
enum err process_watch_signals(void (*stop)(void *ctx), void *ctx) WARN_UNUSED;

#endif
