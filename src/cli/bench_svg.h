/* A picture of lines over two axes as an SVG document of its own: no scripts, no fonts but the viewer's. Each line has a
 * name, written in a legend and as its tooltip. Pure. */
#ifndef OXBOW_CLI_BENCH_SVG_H
#define OXBOW_CLI_BENCH_SVG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"

#define SVG_LINES_MAX 8u

struct svg_line {
    const char *name;
    const double *x, *y; /* borrowed; `count` of each; y below 0: no point, the line is interrupted */
    size_t count;        /* a line without any point is left out */
};

struct svg_mark { /* of the x axis */
    double at;
    const char *text;
};

struct svg_chart {
    const char *title, *subtitle, *x_name, *y_name;
    bool y_log;                   /* values below y_least are drawn there */
    double y_least;               /* of a logarithmic axis: > 0 */
    const struct svg_mark *marks; /* NULL: round numbers */
    size_t mark_count;
    double x_least;              /* where the x axis begins, unless the lines begin before */
    bool x_whole;                /* only whole numbers along it */
    double shade_from, shade_to; /* of x, greyed: the warm-up; equal: none */
    struct svg_line lines[SVG_LINES_MAX];
    size_t line_count;
};
/* Appends the whole document. */
void svg_chart_draw(const struct svg_chart *c, struct buf *out);

/* Text with &, <, > and quotes escaped, and without bytes that XML forbids. */
void svg_text_put(struct buf *out, const char *text);

/* The largest of 1, 2, 5, 10, 20, ... (and 0.5, 0.2, ...) that cuts `span` into at least `least` pieces. */
double svg_step(double span, unsigned least);

#endif
