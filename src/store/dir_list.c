/* The folder store's walks over objects/: LIST, and the settling of the tree at open.
 *
 * LIST gives whole keys in byte order. Within one folder that is the order of its entries' names, if a folder's name is
 * taken with the '/' that all keys below it go on with: "a-b" comes before everything in "a/", which comes before "a0".
 * So one level is read and sorted at a time, entries before start_after are left out as they are read, and folders that
 * lie before it as a whole are never opened. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/dir_priv.h"

#define PATH_SIZE_MAX 520u /* a key, its '/', its end */

struct level_entry {
    char *name; /* a folder's ends in '/' */
    bool folder;
};
struct level {
    struct mem *mem;
    struct level_entry *entries;
    size_t count, capacity;
};

static void level_deinit(struct level *v) {
    for (size_t i = 0; i < v->count; i++) mem_free(v->mem, v->entries[i].name);
    mem_free(v->mem, v->entries);
    v->entries = NULL;
    v->count = 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct level_entry *)a)->name, ((const struct level_entry *)b)->name);
}

struct list_job {
    struct dir_store *store;
    const char *prefix, *start_after;
    size_t max;
    struct store_listing *out;
    enum err result;
};

static bool begins_with(const char *s, const char *with) {
    return strncmp(s, with, strlen(with)) == 0;
}

/* Could a key at or below this path (a folder's ends in '/') be asked for? */
static bool wanted(const struct list_job *j, const char *path, bool folder) {
    if (!begins_with(path, j->prefix) && !(folder && begins_with(j->prefix, path))) return false;
    if (!j->start_after || strcmp(path, j->start_after) > 0) return true;
    return folder && begins_with(j->start_after, path);
}

static enum err kind_of(int folder_fd, const struct dirent *entry, bool *folder, bool *object) {
    unsigned char type = entry->d_type;
    if (type == DT_UNKNOWN) {
        struct stat st;
        if (fstatat(folder_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            return errno == ENOENT ? OK : dir_err(errno);
        type = S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_LNK;
    }
    *folder = type == DT_DIR;
    *object = type == DT_REG;
    return OK;
}

/* Reads a folder's entries, those that `j` asks for (j NULL: all folders and files), sorted. path: "" or ends in '/'.
 * Takes folder_fd. */
static enum err level_read(struct level *v, int folder_fd, const char *path, const struct list_job *j) {
    DIR *dir = fdopendir(folder_fd);
    if (!dir) {
        enum err failed = dir_err(errno);
        close(folder_fd);
        return failed;
    }
    enum err e = OK;
    while (e == OK) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno != 0) e = errno == EIO ? ERR_IO : dir_err(errno);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        bool folder = false, object = false;
        e = kind_of(folder_fd, entry, &folder, &object);
        if (e != OK || (!folder && !object)) continue;
        char whole[PATH_SIZE_MAX];
        int n = snprintf(whole, sizeof(whole), "%s%s%s", path, entry->d_name, folder ? "/" : "");
        if (n < 0 || (size_t)n >= sizeof(whole)) continue; /* no key of ours is that long */
        if (j && !wanted(j, whole, folder)) continue;
        v->entries = mem_grow(v->mem, v->entries, v->count, &v->capacity, sizeof(*v->entries));
        v->entries[v->count++] = (struct level_entry){mem_strdup(v->mem, whole + strlen(path)), folder};
    }
    closedir(dir);
    if (v->count > 1) qsort(v->entries, v->count, sizeof(*v->entries), by_name);
    return e;
}

/* A folder that went away meanwhile has no keys. */
static enum err folder_read(struct dir_store *d, struct level *v, const char *path, const struct list_job *j) {
    char open_as[PATH_SIZE_MAX + 1];
    (void)snprintf(open_as, sizeof(open_as), "%s.", path);
    int fd = openat(d->objects_fd, open_as, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return dir_err(errno) == ERR_NOT_FOUND ? OK : dir_err(errno);
    return level_read(v, fd, path, j);
}

/* Lists what is below path; ends when the page is full. */
static enum err list_below(struct list_job *j, const char *path) {
    struct dir_store *d = j->store;
    struct level level = {.mem = d->base.env->mem};
    enum err e = folder_read(d, &level, path, j);
    for (size_t i = 0; e == OK && i < level.count && !j->out->more; i++) {
        char whole[PATH_SIZE_MAX];
        (void)snprintf(whole, sizeof(whole), "%s%s", path, level.entries[i].name);
        if (level.entries[i].folder) {
            e = list_below(j, whole);
            continue;
        }
        struct stat st;
        if (!store_key_valid(whole)) continue; /* nobody can have put it */
        if (fstatat(d->objects_fd, whole, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            if (dir_err(errno) != ERR_NOT_FOUND) e = dir_err(errno); /* else deleted just now */
        } else if (j->out->count == j->max) {
            j->out->more = true;
        } else {
            store_listing_add(j->out, whole, (uint64_t)st.st_size);
        }
    }
    level_deinit(&level);
    return e;
}

static void list_run(void *arg) {
    struct list_job *j = arg;
    j->result = dir_check(j->store);
    if (j->result != OK) return;
    /* Begin at the folder that the prefix names. */
    char path[PATH_SIZE_MAX];
    const char *slash = strrchr(j->prefix, '/');
    size_t size = slash ? (size_t)(slash - j->prefix) + 1 : 0;
    ASSERT(size < sizeof(path));
    memcpy(path, j->prefix, size);
    path[size] = '\0';
    j->result = list_below(j, path);
    if (j->result == OK) j->result = dir_check(j->store); /* else what is missing may only be missing */
}

enum err dir_list(struct store *s, const char *prefix, const char *start_after, size_t max, struct store_listing *out) {
    struct list_job j = {(struct dir_store *)(void *)s, prefix, start_after, max, out, OK};
    CHECK_OBJ(j.store, DIR_STORE_MAGIC);
    s->env->ops->offload(s->env, list_run, &j);
    return j.result;
}

/* --- At open */

/* Large ones are freed later; they keep their names until then, which must not be given again. */
static bool temporary_keep(struct dir_store *d, const char *name, struct dir_deleted **large) {
    struct stat st;
    char again[32];
    uint64_t number = strtoull(name, NULL, 10);
    (void)snprintf(again, sizeof(again), "%" PRIu64, number);
    if (number >= UINT32_MAX || strcmp(name, again) != 0) return false;
    if (fstatat(d->tmp_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || st.st_size < FREE_FROM_BYTES) return false;
    dir_deleted_add(d, number, (uint64_t)st.st_size, large);
    if (atomic_load(&d->temporary) <= number) atomic_store(&d->temporary, number + 1);
    return true;
}

static enum err temporaries_remove(struct dir_store *d) {
    struct dir_deleted *large = NULL;
    int fd = openat(d->tmp_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return dir_err(errno);
    struct level level = {.mem = d->base.env->mem};
    enum err e = level_read(&level, fd, "", NULL);
    for (size_t i = 0; e == OK && i < level.count; i++) {
        const char *name = level.entries[i].name;
        if (level.entries[i].folder || temporary_keep(d, name, &large)) continue;
        if (unlinkat(d->tmp_fd, name, 0) != 0 && errno != ENOENT) e = dir_err(errno);
    }
    dir_free(d, &large);
    level_deinit(&level);
    return e;
}

/* Depth first. *empty: nothing is left below, the caller may remove it. */
static enum err folder_settle(struct dir_store *d, const char *path, bool *empty) {
    struct level level = {.mem = d->base.env->mem};
    char whole[PATH_SIZE_MAX + 1];
    (void)snprintf(whole, sizeof(whole), "%s.", path);
    int fd = openat(d->objects_fd, whole, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return dir_err(errno);
    int again = dup(fd);
    enum err e = again < 0 ? dir_err(errno) : level_read(&level, again, path, NULL);
    size_t left = level.count;
    for (size_t i = 0; e == OK && i < level.count; i++) {
        if (!level.entries[i].folder) continue;
        (void)snprintf(whole, sizeof(whole), "%s%s", path, level.entries[i].name);
        bool nothing = false;
        e = folder_settle(d, whole, &nothing);
        if (e == OK && nothing && unlinkat(d->objects_fd, whole, AT_REMOVEDIR) == 0) left--;
    }
    *empty = left == 0;
    if (e == OK && (left > 0 || path[0] == '\0')) e = dir_fsync(d, fd);
    close(fd);
    level_deinit(&level);
    return e;
}

enum err dir_tree_settle(struct dir_store *d) {
    enum err e = temporaries_remove(d);
    bool empty;
    if (e == OK) e = folder_settle(d, "", &empty);
    if (e != OK)
        log_error(d->base.env->log, "store folder cannot be settled", "path=%s error=%s reason=\"%s\"", d->path,
                  err_name(e), err_text(e));
    return e;
}
