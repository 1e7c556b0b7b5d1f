/* Files of the real environment, the same tests over io_uring and over worker threads. */
#include "unit/rt/linux_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct env_file *open_ok(struct linux_fixture *x, const char *path, unsigned flags) {
    struct env_file *f = NULL;
    assert_int_equal(env_file_open(x->env, path, flags, &f), OK);
    assert_non_null(f);
    return f;
}

static uint64_t size_of(struct linux_fixture *x, struct env_file *f) {
    struct env_file_info i;
    assert_int_equal(env_file_size(x->env, f, &i), OK);
    assert_false(i.directory);
    return i.size_bytes;
}

static void write_ok(struct linux_fixture *x, struct env_file *f, uint64_t position, const void *data, size_t size) {
    struct env_bytes piece = {(void *)(uintptr_t)data, size};
    assert_int_equal(env_file_write(x->env, f, position, &piece, 1), OK);
}

static void open_follows_its_flags(struct linux_fixture *x) {
    struct env_file *f = (struct env_file *)x;
    assert_int_equal(env_file_open(x->env, "", ENV_FILE_CREATE, &f), ERR_INVALID);
    assert_null(f);
    assert_int_equal(env_file_open(x->env, path_in(x, "a/"), ENV_FILE_CREATE, &f), ERR_INVALID);
    assert_int_equal(env_file_open(x->env, x->dir, ENV_FILE_READ_ONLY, &f), ERR_INVALID);
    assert_int_equal(env_file_open(x->env, "/dev/null", 0, &f), ERR_INVALID);
    assert_int_equal(env_file_open(x->env, path_in(x, "a"), 0, &f), ERR_NOT_FOUND);
    assert_int_equal(env_file_open(x->env, path_in(x, "no/a"), ENV_FILE_CREATE, &f), ERR_NOT_FOUND);
    f = open_ok(x, path_in(x, "a"), ENV_FILE_CREATE);
    assert_int_equal(size_of(x, f), 0);
    env_file_close(x->env, f);
    f = open_ok(x, path_in(x, "a"), ENV_FILE_READ_ONLY);
    struct env_bytes piece = {x->dir, 4};
    assert_int_equal(env_file_write(x->env, f, 0, &piece, 1), ERR_READ_ONLY);
    assert_int_equal(env_file_grow(x->env, f, 100), ERR_READ_ONLY);
    env_file_close(x->env, f);
    struct env_file_info i;
    assert_int_equal(env_file_info(x->env, path_in(x, "a"), &i), OK);
    assert_true(!i.directory && !i.block_device && i.size_bytes == 0);
    assert_int_equal(env_file_info(x->env, x->dir, &i), OK);
    assert_true(i.directory);
    assert_int_equal(env_file_info(x->env, path_in(x, "b"), &i), ERR_NOT_FOUND);
    assert_int_equal(env_file_remove(x->env, path_in(x, "a")), OK);
    assert_int_equal(env_file_remove(x->env, path_in(x, "a")), ERR_NOT_FOUND);
    assert_int_equal(env_file_remove(x->env, x->dir), ERR_INVALID);
}
TEST_BOTH(open_follows_its_flags)

static void gathered_writes_are_read_back(struct linux_fixture *x) {
    struct env_file *f = open_ok(x, path_in(x, "f"), ENV_FILE_CREATE);
    char text[] = "the quick brown fox";
    struct env_bytes pieces[16];
    for (int i = 0; i < 16; i++) pieces[i] = (struct env_bytes){text + i, i % 3 == 0 ? 0 : 1};
    assert_int_equal(env_file_write(x->env, f, 7, pieces, 16), OK);
    assert_int_equal(env_file_write(x->env, f, 7, NULL, 0), OK);
    assert_int_equal(env_file_sync(x->env, f), OK);
    char back[64];
    size_t got = 99;
    assert_int_equal(env_file_read(x->env, f, 0, back, sizeof(back), &got), OK);
    assert_int_equal(got, 17); /* up to the end, no further */
    assert_memory_equal(back, "\0\0\0\0\0\0\0", 7);
    assert_memory_equal(back + 7, "hequckbrwn", 10);
    assert_int_equal(env_file_read(x->env, f, 17, back, 10, &got), OK);
    assert_int_equal(got, 0);
    assert_int_equal(env_file_read(x->env, f, 5000, back, 10, &got), OK);
    assert_int_equal(got, 0);
    env_file_close(x->env, f);
}
TEST_BOTH(gathered_writes_are_read_back)

static void direct_and_dsync(struct linux_fixture *x) {
    struct env_file *f = open_ok(x, path_in(x, "d"), ENV_FILE_CREATE | ENV_FILE_DIRECT | ENV_FILE_DSYNC);
    enum { N = 3 * 1024 * 1024 };
    uint8_t *data = aligned_alloc(ENV_FILE_ALIGN, N), *back = aligned_alloc(ENV_FILE_ALIGN, N);
    for (size_t i = 0; i < N; i++) data[i] = (uint8_t)(i * 31 ^ i >> 12);
    struct env_bytes pieces[3] = {
        {data, 4096}, {data + 4096, 1 << 20}, {data + 4096 + (1 << 20), N - 4096 - (1 << 20)}};
    assert_int_equal(env_file_write(x->env, f, 8192, pieces, 3), OK);
    assert_int_equal(size_of(x, f), N + 8192);
    size_t got;
    assert_int_equal(env_file_read(x->env, f, 8192, back, N, &got), OK);
    assert_int_equal(got, N);
    assert_memory_equal(back, data, N);
    env_file_close(x->env, f);

    /* A file of odd length, read directly: the end is found all the same. */
    f = open_ok(x, path_in(x, "odd"), ENV_FILE_CREATE);
    write_ok(x, f, 0, data, 10000);
    env_file_close(x->env, f);
    f = open_ok(x, path_in(x, "odd"), ENV_FILE_DIRECT | ENV_FILE_READ_ONLY);
    assert_int_equal(env_file_read(x->env, f, 4096, back, 65536, &got), OK);
    assert_int_equal(got, 10000 - 4096);
    assert_memory_equal(back, data + 4096, got);
    assert_int_equal(env_file_read(x->env, f, 65536, back, 4096, &got), OK);
    assert_int_equal(got, 0);
    env_file_close(x->env, f);
    free(data);
    free(back);
}
TEST_BOTH(direct_and_dsync)

static void grow_allocates_zeros(struct linux_fixture *x) {
    struct env_file *f = open_ok(x, path_in(x, "g"), ENV_FILE_CREATE);
    write_ok(x, f, 0, "abc", 3);
    assert_int_equal(env_file_grow(x->env, f, 1 << 20), OK);
    assert_int_equal(size_of(x, f), 1 << 20);
    struct stat st;
    assert_int_equal(stat(path_in(x, "g"), &st), 0);
    assert_true(st.st_blocks * 512 >= 1 << 20);
    assert_int_equal(env_file_grow(x->env, f, 4096), OK);
    assert_int_equal(size_of(x, f), 1 << 20);
    char *back = malloc(1 << 20);
    size_t got;
    assert_int_equal(env_file_read(x->env, f, 0, back, 1 << 20, &got), OK);
    assert_int_equal(got, 1 << 20);
    assert_memory_equal(back, "abc", 3);
    for (size_t i = 3; i < got; i++) assert_int_equal(back[i], 0);
    assert_int_equal(env_file_grow(x->env, f, UINT64_MAX), ERR_INVALID);
    free(back);
    env_file_close(x->env, f);
}
TEST_BOTH(grow_allocates_zeros)

/* --- Locks. */

static void lock_excludes_other_processes(struct linux_fixture *x) {
    const char *path = path_in(x, "lock");
    struct env_file *f = open_ok(x, path, ENV_FILE_CREATE | ENV_FILE_LOCK), *second;
    assert_int_equal(env_file_open(x->env, path, ENV_FILE_LOCK, &second), ERR_LOCKED);
    assert_null(second);
    second = open_ok(x, path, 0); /* without the flag nobody asks */
    env_file_close(x->env, second);
    pid_t child = fork();
    if (child == 0) {
        int fd = open(path, O_RDWR);
        _exit(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    env_file_close(x->env, f);

    int ready[2];
    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        int fd = open(path, O_RDWR);
        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0 || write(ready[1], "x", 1) != 1) _exit(1);
        for (;;) pause();
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(env_file_open(x->env, path, ENV_FILE_LOCK, &f), ERR_LOCKED);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    f = open_ok(x, path, ENV_FILE_LOCK);
    env_file_close(x->env, f);
    close(ready[0]);
    close(ready[1]);
}
TEST_BOTH(lock_excludes_other_processes)

/* --- A full disk: a small tmpfs, if we may mount one. */

static void full_disk_is_reported(struct linux_fixture *x) {
    if (mount("none", x->dir, "tmpfs", 0, "size=1m") != 0) {
        print_message("[  SKIPPED ] cannot mount a tmpfs here\n");
        return;
    }
    struct env_file *f = open_ok(x, path_in(x, "f"), ENV_FILE_CREATE);
    size_t size = 4 << 20;
    uint8_t *data = malloc(size);
    memset(data, 7, size);
    struct env_bytes piece = {data, size};
    assert_int_equal(env_file_grow(x->env, f, size), ERR_FULL);
    assert_int_equal(env_file_write(x->env, f, 0, &piece, 1), ERR_FULL);
    assert_true(size_of(x, f) <= 1 << 20);
    /* Room again: the same write in a size that fits goes through. */
    env_file_close(x->env, f);
    assert_int_equal(env_file_remove(x->env, path_in(x, "f")), OK);
    f = open_ok(x, path_in(x, "f"), ENV_FILE_CREATE);
    write_ok(x, f, 0, data, 500000);
    assert_int_equal(mount("none", x->dir, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=1m"),
                     -1); /* busy: a writer is there */
    env_file_close(x->env, f);
    assert_int_equal(mount("none", x->dir, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=1m"), 0);
    assert_int_equal(env_file_open(x->env, path_in(x, "f"), 0, &f), ERR_READ_ONLY);
    assert_int_equal(env_dir_make(x->env, path_in(x, "new")), ERR_READ_ONLY);
    free(data);
    assert_int_equal(umount(x->dir), 0);
}
TEST_BOTH(full_disk_is_reported)

/* --- A block device: a loop device, if we may make one. */

static int loop_device(const char *backing, char *name, size_t name_size) {
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int number = control >= 0 ? ioctl(control, LOOP_CTL_GET_FREE) : -1;
    if (control >= 0) close(control);
    if (number < 0) return -1;
    snprintf(name, name_size, "/dev/loop%d", number);
    int fd = open(name, O_RDWR | O_CLOEXEC), file = open(backing, O_RDWR | O_CLOEXEC);
    /* Gone with its last user, whatever happens to this test. */
    struct loop_config config = {.fd = (uint32_t)file, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
    int rc = fd >= 0 && file >= 0 ? ioctl(fd, LOOP_CONFIGURE, &config) : -1;
    if (file >= 0) close(file);
    if (rc != 0 && fd >= 0) close(fd);
    return rc == 0 ? fd : -1;
}

static void block_device_has_its_capacity_and_is_claimed(struct linux_fixture *x) {
    struct env_file *f = open_ok(x, path_in(x, "image"), ENV_FILE_CREATE), *second;
    assert_int_equal(env_file_grow(x->env, f, 1 << 20), OK);
    env_file_close(x->env, f);
    char device[64];
    int loop = loop_device(path_in(x, "image"), device, sizeof(device));
    if (loop < 0) {
        print_message("[  SKIPPED ] cannot make a loop device here\n");
        return;
    }
    struct env_file_info i;
    assert_int_equal(env_file_info(x->env, device, &i), OK);
    assert_true(i.block_device && i.size_bytes == 1 << 20);
    f = open_ok(x, device, ENV_FILE_CREATE | ENV_FILE_DIRECT | ENV_FILE_DSYNC | ENV_FILE_LOCK);
    assert_int_equal(size_of(x, f), 1 << 20);
    assert_int_equal(env_file_open(x->env, device, ENV_FILE_LOCK, &second), ERR_LOCKED);
    assert_int_equal(env_file_grow(x->env, f, 1 << 20), OK);
    assert_int_equal(env_file_grow(x->env, f, (1 << 20) + 1), ERR_FULL);
    uint8_t *data = aligned_alloc(ENV_FILE_ALIGN, 8192), *back = aligned_alloc(ENV_FILE_ALIGN, 8192);
    memset(data, 42, 8192);
    write_ok(x, f, 4096, data, 8192);
    assert_int_equal(env_file_sync(x->env, f), OK);
    size_t got;
    assert_int_equal(env_file_read(x->env, f, 4096, back, 8192, &got), OK);
    assert_int_equal(got, 8192);
    assert_memory_equal(back, data, 8192);
    struct env_bytes piece = {data, 8192};
    assert_int_equal(env_file_write(x->env, f, (1 << 20) - 4096, &piece, 1), ERR_FULL); /* half of it fits */
    assert_int_equal(env_file_read(x->env, f, (1 << 20) - 4096, back, 8192, &got), OK);
    assert_int_equal(got, 4096);
    env_file_close(x->env, f);
    free(data);
    free(back);
    close(loop);
}
TEST_BOTH(block_device_has_its_capacity_and_is_claimed)

/* --- Directories. */

static void directories_are_made_with_their_parents(struct linux_fixture *x) {
    struct env_file_info i;
    assert_int_equal(env_dir_make(x->env, path_in(x, "a//b/c")), OK);
    assert_int_equal(env_file_info(x->env, path_in(x, "a/b/c"), &i), OK);
    assert_true(i.directory);
    assert_int_equal(env_dir_make(x->env, path_in(x, "a/b/c")), OK);
    assert_int_equal(env_dir_make(x->env, path_in(x, "a/b/d")), OK);
    assert_int_equal(env_dir_make(x->env, path_in(x, "a/b/d/")), ERR_INVALID);
    assert_int_equal(env_dir_make(x->env, ""), ERR_INVALID);
    assert_int_equal(env_dir_sync(x->env, path_in(x, "a/b")), OK);
    assert_int_equal(env_dir_sync(x->env, path_in(x, "a/x")), ERR_NOT_FOUND);
    env_file_close(x->env, open_ok(x, path_in(x, "a/file"), ENV_FILE_CREATE));
    assert_int_equal(env_dir_make(x->env, path_in(x, "a/file")), ERR_EXISTS);
    assert_int_equal(env_dir_make(x->env, path_in(x, "a/file/below")), ERR_NOT_FOUND);
    assert_int_equal(env_dir_sync(x->env, path_in(x, "a/file")), ERR_NOT_FOUND);
    assert_int_equal(chdir(x->dir), 0);
    assert_int_equal(env_dir_make(x->env, "relative/one"), OK);
    assert_int_equal(env_dir_make(x->env, "./two"), OK);
    assert_int_equal(env_file_info(x->env, path_in(x, "relative/one"), &i), OK);
    assert_true(i.directory);
    assert_int_equal(chdir("/"), 0);
}
TEST_BOTH(directories_are_made_with_their_parents)

/* --- Many at once: more than the ring holds. */

enum { WRITERS = 1200 };
struct writers {
    struct linux_fixture *x;
    struct env_file *f;
    struct waitgroup group;
    unsigned next;
};

static void one_writer(void *arg) {
    struct writers *w = arg;
    unsigned me = w->next++;
    uint32_t data[64], back[64];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 64; i++) data[i] = me * 1000 + i + round;
        struct env_bytes pieces[2] = {{data, 100}, {(char *)data + 100, sizeof(data) - 100}};
        assert_int_equal(env_file_write(w->x->env, w->f, me * sizeof(data), pieces, 2), OK);
        if (round == 1) assert_int_equal(env_file_sync(w->x->env, w->f), OK);
        size_t got;
        assert_int_equal(env_file_read(w->x->env, w->f, me * sizeof(data), back, sizeof(back), &got), OK);
        assert_int_equal(got, sizeof(back));
        assert_memory_equal(back, data, sizeof(data));
    }
    waitgroup_done(&w->group);
}

static void many_operations_at_once(struct linux_fixture *x) {
    struct writers w = {.x = x, .f = open_ok(x, path_in(x, "many"), ENV_FILE_CREATE)};
    waitgroup_init(&w.group);
    for (int i = 0; i < WRITERS; i++) {
        waitgroup_add(&w.group);
        fiber_spawn(loop_current(), "writer", one_writer, &w);
    }
    waitgroup_wait(&w.group);
    assert_int_equal(size_of(x, w.f), WRITERS * 256);
    env_file_close(x->env, w.f);
}
TEST_BOTH(many_operations_at_once)

/* The end of the environment while operations are under way, files and fibers left behind. */
static void left_behind(void *arg) {
    struct linux_fixture *x = arg;
    struct env_file *f = open_ok(x, path_in(x, "left"), ENV_FILE_CREATE);
    static char data[100000];
    struct env_bytes piece = {data, sizeof(data)};
    for (;;) {
        assert_int_equal(env_file_write(x->env, f, 0, &piece, 1), OK);
        assert_int_equal(env_file_sync(x->env, f), OK);
    }
}

static void end_in_the_middle(struct linux_fixture *x) {
    struct loop *other;
    assert_int_equal(env_loop_start(x->env, "other", &other), OK);
    for (int i = 0; i < 5; i++) {
        fiber_spawn(loop_current(), "left", left_behind, x);
        loop_spawn(other, "left", left_behind, x);
    }
    fiber_sleep_ns(20 * NS_PER_MS);
}
TEST_BOTH(end_in_the_middle)

int main(void) {
    const struct CMUnitTest tests[] = {
        RUN_BOTH(open_follows_its_flags),
        RUN_BOTH(gathered_writes_are_read_back),
        RUN_BOTH(direct_and_dsync),
        RUN_BOTH(grow_allocates_zeros),
        RUN_BOTH(lock_excludes_other_processes),
        RUN_BOTH(full_disk_is_reported),
        RUN_BOTH(block_device_has_its_capacity_and_is_claimed),
        RUN_BOTH(directories_are_made_with_their_parents),
        RUN_BOTH(many_operations_at_once),
        RUN_BOTH(end_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
