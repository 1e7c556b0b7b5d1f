#include "cli/bench_svg.h"

#include <stdio.h>

#include "base/assert.h"

#define WIDTH 960.0
#define HEIGHT 480.0
#define LEFT 90.0
#define RIGHT 20.0
#define TOP 70.0
#define BOTTOM 60.0

static const char *const colours[SVG_LINES_MAX] = {"#1f6fb4", "#d95f02", "#1b9e77", "#c51b7d",
                                                   "#7570b3", "#66a61e", "#a6761d", "#555555"};

void svg_text_put(struct buf *out, const char *text) {
    for (; *text; text++) {
        unsigned char ch = (unsigned char)*text;
        if (ch == '&') {
            buf_printf(out, "&amp;");
        } else if (ch == '<') {
            buf_printf(out, "&lt;");
        } else if (ch == '>') {
            buf_printf(out, "&gt;");
        } else if (ch == '"') {
            buf_printf(out, "&quot;");
        } else {
            buf_u8(out, ch < 0x20 || ch >= 0x7f ? '?' : ch); /* names of topics are ASCII; nothing else comes here */
        }
    }
}

double svg_step(double span, unsigned least) {
    ASSERT(span > 0 && least > 0);
    double step = 1;
    while (span / step < least) step /= 10;
    while (span / (step * 10) >= least) step *= 10;
    if (span / (step * 5) >= least) return step * 5;
    if (span / (step * 2) >= least) return step * 2;
    return step;
}

/* --- Scales. */

struct scales {
    double x_low, x_high, y_low, y_high;
    bool y_log;
};

/* log10 for positive numbers, to a thousandth: enough for pixels, and needs no library. */
static double log10_of(double v) {
    double whole = 0;
    while (v >= 10) {
        v /= 10;
        whole++;
    }
    while (v < 1) {
        v *= 10;
        whole--;
    }
    /* ln(v) = 2 artanh((v - 1) / (v + 1)); v is 1 to 10. */
    double z = (v - 1) / (v + 1), term = z, sum = 0;
    for (int k = 1; k < 80; k += 2) {
        sum += term / k;
        term *= z * z;
    }
    return whole + 2 * sum / 2.302585092994046;
}

static double x_at(const struct scales *s, double x) {
    return LEFT + (x - s->x_low) / (s->x_high - s->x_low) * (WIDTH - LEFT - RIGHT);
}

static double y_at(const struct scales *s, double y) {
    double part;
    if (s->y_log) {
        double low = log10_of(s->y_low), high = log10_of(s->y_high);
        part = y <= s->y_low ? 0 : (log10_of(y) - low) / (high - low);
    } else {
        part = (y - s->y_low) / (s->y_high - s->y_low);
    }
    return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM);
}

static struct scales scales_of(const struct svg_chart *c) {
    struct scales s = {.y_log = c->y_log, .y_low = c->y_log ? c->y_least : 0};
    double y_high = s.y_low;
    s.x_low = s.x_high = c->x_least;
    for (size_t i = 0; i < c->line_count; i++) {
        const struct svg_line *l = &c->lines[i];
        for (size_t k = 0; k < l->count; k++) {
            if (l->x[k] < s.x_low) s.x_low = l->x[k];
            if (l->x[k] > s.x_high) s.x_high = l->x[k];
            if (l->y[k] > y_high) y_high = l->y[k];
        }
    }
    for (size_t i = 0; i < c->mark_count; i++) {
        if (c->marks[i].at > s.x_high) s.x_high = c->marks[i].at;
    }
    if (s.x_high <= s.x_low) s.x_high = s.x_low + 1;
    if (s.y_log) {
        s.y_high = s.y_low * 10;
        while (s.y_high < y_high) s.y_high *= 10;
    } else {
        if (y_high <= 0) y_high = 1;
        double step = svg_step(y_high, 4);
        s.y_high = step;
        while (s.y_high < y_high) s.y_high += step;
    }
    return s;
}

/* --- Parts. */

/* 1500000 as "1.5M". */
static void number_text(double v, char *out, size_t size) {
    const char *unit = v >= 1e9 ? "G" : v >= 1e6 ? "M" : v >= 1e3 ? "k" : "";
    double scaled = v >= 1e9 ? v / 1e9 : v >= 1e6 ? v / 1e6 : v >= 1e3 ? v / 1e3 : v;
    (void)snprintf(out, size, "%.6g%s", scaled, unit);
}

static void text_draw(struct buf *out, double x, double y, const char *anchor, const char *style, const char *text) {
    buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>", x, y, anchor, style);
    svg_text_put(out, text);
    buf_printf(out, "</text>\n");
}

static void y_line_draw(const struct scales *s, double v, struct buf *out) {
    char text[32];
    double y = y_at(s, v);
    buf_printf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#dddddd\"/>\n", LEFT, y,
               WIDTH - RIGHT, y);
    number_text(v, text, sizeof(text));
    text_draw(out, LEFT - 8, y + 4, "end", "", text);
}

static void axes_draw(const struct svg_chart *c, const struct scales *s, struct buf *out) {
    if (s->y_log) {
        for (double v = s->y_low; v <= s->y_high * 1.0001; v *= 10) y_line_draw(s, v, out);
    } else {
        double step = svg_step(s->y_high, 4);
        for (double v = 0; v <= s->y_high * 1.0001; v += step) y_line_draw(s, v, out);
    }
    for (size_t i = 0; i < c->mark_count; i++) {
        double x = x_at(s, c->marks[i].at);
        buf_printf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#dddddd\"/>\n", x, TOP, x,
                   HEIGHT - BOTTOM);
        text_draw(out, x, HEIGHT - BOTTOM + 18, "middle", "", c->marks[i].text);
    }
    if (c->mark_count == 0) {
        double step = svg_step(s->x_high - s->x_low, 5), first = s->x_low;
        if (c->x_whole && step < 1) step = 1;
        if (first > 0) first = (double)(long long)(first / step) * step;
        for (double v = first; v <= s->x_high * 1.0001; v += step) {
            char text[32];
            if (v < s->x_low) continue;
            (void)snprintf(text, sizeof(text), "%.6g", v);
            text_draw(out, x_at(s, v), HEIGHT - BOTTOM + 18, "middle", "", text);
        }
    }
    buf_printf(out, "<path d=\"M%.1f %.1fV%.1fH%.1f\" fill=\"none\" stroke=\"#333333\"/>\n", LEFT, TOP, HEIGHT - BOTTOM,
               WIDTH - RIGHT);
    text_draw(out, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, "middle", "", c->x_name);
    buf_printf(out, "<text transform=\"translate(20 %.1f) rotate(-90)\" text-anchor=\"middle\">",
               (TOP + HEIGHT - BOTTOM) / 2);
    svg_text_put(out, c->y_name);
    buf_printf(out, "</text>\n");
}

static bool line_drawable(const struct svg_line *l) {
    for (size_t k = 0; k < l->count; k++) {
        if (l->y[k] >= 0) return true;
    }
    return false;
}

static void line_draw(const struct svg_line *l, const struct scales *s, const char *colour, struct buf *out) {
    buf_printf(out, "<g fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-linejoin=\"round\"><title>", colour);
    svg_text_put(out, l->name);
    buf_printf(out, "</title>\n");
    for (size_t k = 0; k < l->count;) {
        if (l->y[k] < 0) {
            k++;
            continue;
        }
        size_t first = k;
        buf_printf(out, "<path d=\"");
        for (; k < l->count && l->y[k] >= 0; k++)
            buf_printf(out, "%c%.1f %.1f", k == first ? 'M' : 'L', x_at(s, l->x[k]), y_at(s, l->y[k]));
        buf_printf(out, "\"/>\n");
        /* A point alone would not be seen. */
        if (k == first + 1) {
            buf_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2\"/>\n", x_at(s, l->x[first]), y_at(s, l->y[first]));
        }
    }
    buf_printf(out, "</g>\n");
}

void svg_chart_draw(const struct svg_chart *c, struct buf *out) {
    ASSERT(c->line_count <= SVG_LINES_MAX && (!c->y_log || c->y_least > 0));
    struct scales s = scales_of(c);
    buf_printf(out,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" font-family=\"sans-serif\" "
               "font-size=\"12\" fill=\"#333333\">\n<rect width=\"%.0f\" height=\"%.0f\" fill=\"#ffffff\"/>\n",
               WIDTH, HEIGHT, WIDTH, HEIGHT);
    text_draw(out, LEFT, 24, "start", " font-size=\"16\" font-weight=\"bold\"", c->title);
    text_draw(out, LEFT, 42, "start", " fill=\"#777777\"", c->subtitle);
    if (c->shade_to > c->shade_from) {
        double from = x_at(&s, c->shade_from), to = x_at(&s, c->shade_to < s.x_high ? c->shade_to : s.x_high);
        buf_printf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#f0f0f0\"/>\n", from, TOP,
                   to > from ? to - from : 0, HEIGHT - TOP - BOTTOM);
    }
    axes_draw(c, &s, out);
    double x = LEFT;
    for (size_t i = 0; i < c->line_count; i++) {
        if (!line_drawable(&c->lines[i])) continue;
        line_draw(&c->lines[i], &s, colours[i], out);
        buf_printf(out, "<rect x=\"%.1f\" y=\"53\" width=\"18\" height=\"4\" fill=\"%s\"/>\n", x, colours[i]);
        text_draw(out, x + 24, 60, "start", "", c->lines[i].name);
        size_t length = strlen(c->lines[i].name);
        x += 44 + 6.5 * (double)length;
    }
    buf_printf(out, "</svg>\n");
}
