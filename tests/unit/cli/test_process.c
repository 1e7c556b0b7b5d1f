/* Reading a configuration file; the first signal asks, the second ends; what a process has used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/process.h"

static void test_read_file(void **state) {
    (void)state;
    char path[] = "/tmp/oxbow-test-XXXXXX", why[256] = "";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    static char data[200000];
    for (size_t i = 0; i < sizeof(data); i++) data[i] = (char)('a' + i % 26);
    assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
    struct mem m;
    mem_init_heap(&m);
    struct buf b;
    buf_init(&b, &m);
    buf_put(&b, "before", 6);
    assert_int_equal(process_read_file(path, &b, why, sizeof(why)), OK);
    assert_int_equal(b.size, 6 + sizeof(data));
    assert_memory_equal(b.data, "before", 6);
    assert_memory_equal(b.data + 6, data, sizeof(data));
    assert_int_equal(ftruncate(fd, (off_t)PROCESS_FILE_MAX_BYTES + 1), 0);
    assert_int_equal(process_read_file(path, &b, why, sizeof(why)), ERR_TOO_LARGE);
    close(fd);
    unlink(path);
    assert_int_equal(process_read_file(path, &b, why, sizeof(why)), ERR_NOT_FOUND);
    assert_non_null(strstr(why, path));
    assert_int_equal(process_read_file("/", &b, why, sizeof(why)), ERR_INVALID);
    assert_non_null(strstr(why, "cannot read /"));
    buf_deinit(&b);
    assert_int_equal(m.allocated_bytes, 0);
}

static void tell(void *ctx) {
    char one = '1';
    if (write(*(int *)ctx, &one, 1) != 1) _exit(99);
}

/* A child that watches and sleeps; *told reads a byte when stop() was called. */
static pid_t start_child(int *told) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char ready = 'r';
        if (process_watch_signals(tell, &ends[1]) != OK) _exit(98);
        if (write(ends[1], &ready, 1) != 1) _exit(97);
        for (;;) pause();
    }
    close(ends[1]);
    char c;
    assert_int_equal(read(ends[0], &c, 1), 1);
    assert_int_equal(c, 'r');
    *told = ends[0];
    return child;
}

static void test_signals(void **state) {
    (void)state;
    static const int pairs[][2] = {{SIGTERM, SIGTERM}, {SIGINT, SIGINT}, {SIGINT, SIGTERM}};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        int told, status;
        char c;
        pid_t child = start_child(&told);
        kill(child, SIGPIPE); /* ignored */
        kill(child, pairs[i][0]);
        assert_int_equal(read(told, &c, 1), 1);
        assert_int_equal(c, '1');
        assert_int_equal(waitpid(child, &status, WNOHANG), 0);
        kill(child, pairs[i][1]);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), EXIT_FAILED);
        assert_int_equal(read(told, &c, 1), 0);
        close(told);
    }
}

/* A child that has worked: what /proc says of another process is what getrusage says of it in the end. Its name has a
 * bracket and a blank in it, as a name may. */
static void test_usage(void **state) {
    (void)state;
    struct process_usage own, other;
    assert_int_equal(process_usage(0, &own), OK);
    assert_true(own.cpu_ns > 0 && own.resident_bytes > 100000 && own.peak_bytes >= own.resident_bytes);
    int ready[2], end[2];
    assert_int_equal(pipe(ready) | pipe(end), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char c = 0;
        struct process_usage u = {0};
        (void)prctl(PR_SET_NAME, ") S 1 (");
        close(end[1]);
        while (u.cpu_ns < 150000000) {
            if (process_usage(0, &u) != OK) _exit(1);
        }
        if (write(ready[1], &c, 1) != 1) _exit(1);
        _exit(read(end[0], &c, 1) == 0 ? 0 : 1);
    }
    char c;
    int status;
    close(end[0]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(process_usage((uint64_t)child, &other), OK);
    assert_in_range(other.cpu_ns, 100000000, 60000000000ull);
    assert_true(other.resident_bytes > 100000);
    close(end[1]);
    struct rusage used;
    assert_int_equal(wait4(child, &status, 0, &used), child);
    assert_int_equal(status, 0);
    uint64_t in_the_end = (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000u +
                          (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000u;
    assert_true(other.cpu_ns <= in_the_end + 30000000);
    assert_int_equal(process_usage((uint64_t)child, &other), ERR_NOT_FOUND);
    assert_int_equal(other.cpu_ns, 0);
    close(ready[0]);
    close(ready[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_file),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
