#include "cli/options.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/nearest.h"
#include "cli/commands.h"

void options_init(struct options *o, int argc, char **argv, const struct option_spec *specs, size_t count) {
    ASSERT(argc >= 1);
    *o = (struct options){.argc = argc, .index = 1, .argv = argv, .specs = specs, .count = count};
}

static int unknown_option(const struct options *o, const char *argument) {
    fprintf(stderr, "oxbow %s: unknown option '%s'", o->argv[0], argument);
    struct nearest n;
    char name[128];
    (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(argument, "="), argument);
    nearest_init(&n, name + strspn(name, "-"));
    for (size_t i = 0; i < o->count; i++) nearest_try(&n, o->specs[i].name);
    nearest_try(&n, "help");
    fprintf(stderr, nearest_plausible(&n) ? "; did you mean '--%s'?\n" : "; the nearest one is '--%s'\n", n.best);
    return OPTIONS_ERROR;
}

/* The value of specs[i]: `attached` (behind '=' or the letter) or the next argument. */
static int take_value(struct options *o, size_t i, const char *attached) {
    const struct option_spec *s = &o->specs[i];
    if (!s->value_name) {
        if (attached) {
            fprintf(stderr, "oxbow %s: --%s takes no value, found '%s'\n", o->argv[0], s->name, attached);
            return OPTIONS_ERROR;
        }
        return (int)i;
    }
    if (!attached && o->index == o->argc) {
        fprintf(stderr, "oxbow %s: expected %s behind --%s\n", o->argv[0], s->value_name, s->name);
        return OPTIONS_ERROR;
    }
    o->value = attached ? attached : o->argv[o->index++];
    return (int)i;
}

int options_next(struct options *o) {
    o->value = NULL;
    if (o->index >= o->argc) return OPTIONS_END;
    const char *a = o->argv[o->index++];
    if (!o->ended && strcmp(a, "--") == 0) {
        o->ended = true;
        if (o->index >= o->argc) return OPTIONS_END;
        a = o->argv[o->index++];
    }
    if (o->ended || a[0] != '-' || a[1] == '\0') {
        o->value = a;
        return OPTIONS_ARGUMENT;
    }
    if (a[1] != '-') {
        for (size_t i = 0; i < o->count; i++) {
            if (o->specs[i].letter == a[1]) return take_value(o, i, a[2] ? a + 2 : NULL);
        }
        return unknown_option(o, a);
    }
    size_t size = strcspn(a + 2, "=");
    for (size_t i = 0; i < o->count; i++) {
        const char *name = o->specs[i].name;
        if (strlen(name) == size && memcmp(name, a + 2, size) == 0)
            return take_value(o, i, a[2 + size] ? a + 3 + size : NULL);
    }
    return unknown_option(o, a);
}

int options_refuse(const struct options *o, const char *expected) {
    fprintf(stderr, "oxbow %s: expected %s, found '%s' ('oxbow help %s' tells more)\n", o->argv[0], expected,
            o->value ? o->value : "nothing", o->argv[0]);
    return EXIT_USAGE;
}

bool options_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out) {
    uint64_t v = 0;
    if (!*text) return false;
    for (const char *s = text; *s; s++) {
        if (*s < '0' || *s > '9') return false;
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v)) return false;
    }
    if (v < min || v > max) return false;
    *out = v;
    return true;
}
