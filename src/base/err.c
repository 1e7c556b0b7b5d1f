#include "base/err.h"

#include <errno.h>

#include "base/assert.h"

static const struct {
    const char *name;
    const char *text;
    enum err_class class;
} err_rows[ERR_COUNT] = {
#define X(n, c, t) [n] = {#n, t, c},
#include "base/err_table.h"
#undef X
};

const char *err_name(enum err e) {
    ASSERT((unsigned)e < ERR_COUNT);
    return err_rows[e].name;
}

const char *err_text(enum err e) {
    ASSERT((unsigned)e < ERR_COUNT);
    return err_rows[e].text;
}

enum err_class err_class(enum err e) {
    ASSERT((unsigned)e < ERR_COUNT);
    return err_rows[e].class;
}

enum err err_from_errno(int errno_value) {
    switch (errno_value) {
    case 0:
        return OK;
    case ENOENT:
    case ENOTDIR:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case ENOSPC:
    case EDQUOT:
        return ERR_FULL;
    case EROFS:
        return ERR_READ_ONLY;
    case EACCES:
    case EPERM:
        return ERR_PERMISSION;
    case EBUSY:
        return ERR_BUSY;
    case EAGAIN:
        return ERR_UNAVAILABLE;
    case EINVAL:
    case EISDIR:
    case ENAMETOOLONG:
        return ERR_INVALID;
    case ENOSYS:
    case EOPNOTSUPP:
        return ERR_UNSUPPORTED;
    case ECANCELED:
        return ERR_CANCELLED;
    case ENOMEM:
        return ERR_NO_MEMORY;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EADDRINUSE:
    case EMFILE:
    case ENFILE:
        return ERR_UNAVAILABLE;
    case ECONNRESET:
    case EPIPE:
        return ERR_CLOSED;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    default:
        return ERR_IO;
    }
}
