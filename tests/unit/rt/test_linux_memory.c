/* What a control group allows, read from folders that look like the kernel's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "rt/linux/linux_env.h"

#define MACHINE 8000000000ull

static char root[] = "/tmp/oxbow-groups-XXXXXX";

static int setup(void **state) {
    (void)state;
    (void)strcpy(root + sizeof(root) - 7, "XXXXXX");
    return mkdtemp(root) ? 0 : 1;
}

static int teardown(void **state) {
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -r '%s'", root);
    return system(command);
}

/* A file below the root, with its folders. */
static void put(const char *path, const char *text) {
    char whole[512];
    (void)snprintf(whole, sizeof(whole), "%s%s", root, path);
    for (char *at = strchr(whole + strlen(root) + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        (void)mkdir(whole, 0755);
        *at = '/';
    }
    FILE *f = fopen(whole, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void expect(uint64_t bytes) {
    assert_int_equal(linux_group_bytes(root, MACHINE), bytes);
}

static void nothing_to_read(void **state) {
    (void)state;
    expect(MACHINE);
    put("/proc/self/cgroup", "0::/a/b\n"); /* and no such group is mounted here */
    expect(MACHINE);
}

static void version_2(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/a\n");
    put("/sys/fs/cgroup/a/memory.max", "max\n");
    expect(MACHINE);
    put("/sys/fs/cgroup/a/memory.max", "1073741824\n");
    expect(1073741824);
    put("/sys/fs/cgroup/a/memory.max", "9000000000\n"); /* more than there is */
    expect(MACHINE);
    put("/sys/fs/cgroup/a/memory.max", "");
    expect(MACHINE);
    put("/sys/fs/cgroup/a/memory.max", "what\n");
    expect(MACHINE);
}

/* A container sees its own group as the root of all. */
static void version_2_in_a_container(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/\n");
    expect(MACHINE); /* the machine's own root has no such file */
    put("/sys/fs/cgroup/memory.max", "536870912\n");
    expect(536870912);
}

/* The smallest counts, wherever it is. */
static void version_2_nested(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/system.slice/oxbow.service/inner\n");
    put("/sys/fs/cgroup/system.slice/oxbow.service/inner/memory.max", "max\n");
    put("/sys/fs/cgroup/system.slice/oxbow.service/memory.max", "3000000000\n");
    expect(3000000000);
    put("/sys/fs/cgroup/system.slice/memory.max", "2000000000\n");
    expect(2000000000);
    put("/sys/fs/cgroup/system.slice/oxbow.service/inner/memory.max", "1000000000\n");
    expect(1000000000);
    put("/sys/fs/cgroup/memory.max", "900000000\n");
    expect(900000000);
    put("/sys/fs/cgroup/other/memory.max", "5\n"); /* not ours */
    expect(900000000);
}

static void version_1(void **state) {
    (void)state;
    put("/proc/self/cgroup",
        "11:cpuset:/\n5:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n0::/system.slice\n");
    put("/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "700000000\n");
    put("/sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    expect(700000000);
    put("/proc/self/cgroup", "5:cpu,memory,io:/docker/x\n");
    expect(700000000);
    /* Its group is mounted as the root, and its path is one that is not there. */
    put("/proc/self/cgroup", "5:memory:/docker/y\n");
    expect(MACHINE);
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "600000000\n");
    expect(600000000);
}

static void controllers_are_whole_words(void **state) {
    (void)state;
    put("/proc/self/cgroup", "5:memoryx,xmemory:/a\n");
    put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "700000000\n");
    expect(MACHINE);
}

static void lines_that_are_none(void **state) {
    (void)state;
    put("/sys/fs/cgroup/a/memory.max", "1000000\n");
    put("/proc/self/cgroup", "\n0\n0:\n0::\n0::a\n:::\n");
    expect(MACHINE);
    put("/proc/self/cgroup", "0::/a"); /* without its end */
    expect(1000000);
}

static void the_real_ones(void **state) {
    (void)state;
    uint64_t bytes = linux_memory_bytes();
    assert_true(bytes > 0);
    assert_true(linux_group_bytes("", bytes) == bytes);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(nothing_to_read),     T(version_2),    T(version_2_in_a_container),
                                       T(version_2_nested),    T(version_1),    T(controllers_are_whole_words),
                                       T(lines_that_are_none), T(the_real_ones)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
