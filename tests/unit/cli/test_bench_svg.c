/* Pictures: steps of axes, escaping, every point inside the picture. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "cli/bench_svg.h"

static void test_steps(void **state) {
    (void)state;
    const struct {
        double span;
        unsigned least;
        double step;
    } cases[] = {{10, 5, 2},  {10, 4, 2},  {100, 4, 20}, {9, 4, 2},
                 {60, 5, 10}, {1, 4, 0.2}, {3, 4, 0.5},  {1234, 4, 200}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        double step = svg_step(cases[i].span, cases[i].least);
        assert_true(step > cases[i].step * 0.999 && step < cases[i].step * 1.001);
    }
}

static void test_escaping(void **state) {
    (void)state;
    struct mem m;
    struct buf b;
    mem_init_heap(&m);
    buf_init(&b, &m);
    svg_text_put(&b, "a<b>&\"c\"\x01\xff");
    buf_u8(&b, 0);
    assert_string_equal((char *)b.data, "a&lt;b&gt;&amp;&quot;c&quot;??");
    buf_deinit(&b);
}

/* Numbers of all paths lie within 960 x 480; a gap in the data interrupts the line. */
static void test_lines(void **state) {
    (void)state;
    struct mem m;
    struct buf b;
    const double x[] = {0, 1, 2, 3, 4, 5}, y[] = {3, 1e7, -1, 12, 0, 99};
    mem_init_heap(&m);
    for (int logarithmic = 0; logarithmic < 2; logarithmic++) {
        buf_init(&b, &m);
        struct svg_chart c = {.title = "t",
                              .subtitle = "s",
                              .x_name = "x",
                              .y_name = "y",
                              .y_log = logarithmic == 1,
                              .y_least = 10,
                              .shade_to = 2,
                              .lines = {{"one", x, y, 6}, {"none", x, y, 0}},
                              .line_count = 2};
        svg_chart_draw(&c, &b);
        buf_u8(&b, 0);
        const char *group = strstr((char *)b.data, "<title>one</title>"), *end = strstr(group, "</g>");
        int paths = 0, points = 0;
        for (const char *p = group; (p = strstr(p, "d=\"M")) && p < end; paths++) {
            for (p += 3; *p != '"';) {
                double px = 0, py = 0;
                int used = 0;
                assert_int_equal(sscanf(p, "%*1[ML]%lf %lf%n", &px, &py, &used), 2);
                assert_true(px >= 90 && px <= 940 && py >= 69.9 && py <= 420.1);
                points++;
                p += used;
            }
        }
        assert_int_equal(paths, 2);
        assert_int_equal(points, 5);
        assert_non_null(strstr((char *)b.data, "</svg>"));
        buf_deinit(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_escaping),
        cmocka_unit_test(test_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
