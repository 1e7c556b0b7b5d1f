/* The one list of internal errors (err_table.h): name, class, text. kafka/error.h maps them to Kafka's codes. */
#ifndef OXBOW_BASE_ERR_H
#define OXBOW_BASE_ERR_H

enum err_class {
    ERR_CLASS_OK,
    ERR_CLASS_RETRIABLE, /* nothing was done; the same call may succeed later */
    ERR_CLASS_FATAL,     /* nothing was done; the same call will fail again */
    ERR_CLASS_UNKNOWN,   /* it may have been done: resolve by looking, never assume */
};

enum err {
#define X(name, class, text) name,
#include "base/err_table.h"
#undef X
    ERR_COUNT
};

#define WARN_UNUSED __attribute__((warn_unused_result))

const char *err_name(enum err e); /* "ERR_FENCED" */
const char *err_text(enum err e); /* a sentence part: "another writer holds this log" */
enum err_class err_class(enum err e);
/* Maps an errno value of a failed system call. EIO is an ERR_IO: for writes its outcome is unknown. */
enum err err_from_errno(int errno_value);

#endif
