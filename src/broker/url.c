#include "broker/url.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store/s3_address.h"

__attribute__((format(printf, 4, 5))) static enum err refuse(enum err e, char *why, size_t why_size, const char *format,
                                                             ...) {
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(why, why_size, format, ap);
    va_end(ap);
    return e;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool size_parse(const char *text, int64_t *out) {
    static const struct {
        const char *suffix;
        unsigned shift;
    } units[] = {{"", 0}, {"B", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
    const char *s = text;
    int64_t v = 0;
    if (*s < '0' || *s > '9') return false;
    for (; *s >= '0' && *s <= '9'; s++) {
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s - '0', &v)) return false;
    }
    while (*s == ' ') s++;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (strcmp(s, units[i].suffix) != 0) continue;
        return !__builtin_mul_overflow(v, (int64_t)1 << units[i].shift, out);
    }
    return false;
}

const char *size_text(int64_t bytes, char *out, size_t out_size) {
    static const char *const suffixes[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (unit + 1 < ARRAY_LEN(suffixes) && bytes != 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    (void)snprintf(out, out_size, "%lld%s", (long long)bytes, suffixes[unit]);
    return out;
}

/* The path between "scheme://" and '?', with its %XX decoded. *rest: the parameters behind '?', or "". */
static enum err parse_path(const char *text, const char *scheme, char path[URL_PATH_SIZE], const char **rest, char *why,
                           size_t why_size) {
    const char *s = text + strlen(scheme);
    size_t n = 0;
    for (; *s && *s != '?'; s++) {
        char c = *s;
        if (c == '#') return refuse(ERR_INVALID, why, why_size, "expected no '#' in '%s' (write %%23)", text);
        if (c == '%') {
            int high = hex_digit(s[1]), low = high < 0 ? -1 : hex_digit(s[2]);
            if (low < 0 || high * 16 + low == 0) {
                return refuse(ERR_INVALID, why, why_size, "expected two hexadecimal digits behind '%%' in '%s'", text);
            }
            c = (char)(high * 16 + low);
            s += 2;
        }
        if (n + 1 == URL_PATH_SIZE) {
            return refuse(ERR_INVALID, why, why_size, "expected a path of at most %u bytes", URL_PATH_SIZE - 1);
        }
        path[n++] = c;
    }
    /* "file://./data/" and "file://./data" are the same folder; the root stays what it is. */
    while (n > 1 && path[n - 1] == '/') n--;
    path[n] = '\0';
    if (n == 0) return refuse(ERR_INVALID, why, why_size, "expected a path behind '%s'", scheme);
    *rest = *s == '?' ? s + 1 : s;
    return OK;
}

static bool has_scheme(const char *text, const char *scheme) {
    return strncmp(text, scheme, strlen(scheme)) == 0;
}

/* Decodes %XX of text[0 .. size) into out. */
static bool value_decode(const char *text, size_t size, char *out, size_t out_size) {
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '%') {
            int high = i + 2 < size ? hex_digit(text[i + 1]) : -1, low = high < 0 ? -1 : hex_digit(text[i + 2]);
            if (low < 0 || high * 16 + low == 0) return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (n + 1 == out_size) return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

static enum err storage_s3_parameter(struct storage_url *out, const char *pair, size_t size, char *why,
                                     size_t why_size) {
    const char *equals = memchr(pair, '=', size);
    char name[32] = "", value[512];
    size_t name_size = equals ? (size_t)(equals - pair) : size;
    if (name_size < sizeof(name)) memcpy(name, pair, name_size);
    if (!equals || !value_decode(equals + 1, size - name_size - 1, value, sizeof(value)))
        return refuse(ERR_INVALID, why, why_size, "expected name=value behind '?' for '%s'", name);
    if (strcmp(name, "endpoint") == 0) {
        /* What stands before an '@' may be a secret: not repeated. */
        if (strchr(value, '@'))
            return refuse(ERR_INVALID, why, why_size, "expected an endpoint without a user name or a password");
        memcpy(out->endpoint, value, strlen(value) + 1);
    } else if (strcmp(name, "region") == 0) {
        if (strlen(value) >= sizeof(out->region))
            return refuse(ERR_INVALID, why, why_size, "expected the name of a region behind region=");
        memcpy(out->region, value, strlen(value) + 1);
    } else if (strcmp(name, "path.style") == 0) {
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            return refuse(ERR_INVALID, why, why_size, "expected path.style=true or path.style=false, found '%s'",
                          value);
        out->style = value[0] == 't' ? S3_STYLE_PATH : S3_STYLE_HOST;
    } else {
        return refuse(ERR_INVALID, why, why_size,
                      "unknown parameter '%s'; the parameters are endpoint, region and path.style (keys come from the "
                      "environment: expected none here)",
                      name);
    }
    return OK;
}

static enum err storage_s3_parse(const char *text, struct storage_url *out, char *why, size_t why_size) {
    char path[URL_PATH_SIZE];
    const char *rest = "";
    out->kind = STORAGE_KIND_S3;
    enum err e = parse_path(text, "s3://", path, &rest, why, why_size);
    if (e) return e;
    size_t size = strcspn(path, "/");
    const char *prefix = path[size] ? path + size + 1 : "";
    if (size >= sizeof(out->bucket) || strlen(prefix) >= sizeof(out->prefix))
        return refuse(ERR_INVALID, why, why_size, "expected s3://BUCKET/PREFIX, found a name that is too long");
    memcpy(out->bucket, path, size);
    memcpy(out->prefix, prefix, strlen(prefix) + 1);
    while (*rest) {
        size = strcspn(rest, "&");
        e = storage_s3_parameter(out, rest, size, why, why_size);
        if (e) return e;
        rest += size + (rest[size] == '&');
    }
    struct s3_options o = {.bucket = out->bucket,
                           .prefix = out->prefix,
                           .endpoint = out->endpoint,
                           .region = out->region,
                           .style = out->style};
    struct s3_address address;
    return s3_address_make(&o, &address, why, why_size);
}

enum err storage_url_parse(const char *text, struct storage_url *out, char *why, size_t why_size) {
    memset(out, 0, sizeof(*out));
    if (has_scheme(text, "s3://")) return storage_s3_parse(text, out, why, why_size);
    if (!has_scheme(text, "file://")) {
        return refuse(ERR_INVALID, why, why_size, "expected file://FOLDER or s3://BUCKET/PREFIX, found '%s'", text);
    }
    const char *rest = "";
    enum err e = parse_path(text, "file://", out->path, &rest, why, why_size);
    if (e) return e;
    if (*rest) return refuse(ERR_INVALID, why, why_size, "expected no parameters, found '?%s'", rest);
    return OK;
}

static enum err wal_parameter(struct wal_url *out, const char *name, const char *value, char *why, size_t why_size) {
    if (strcmp(name, "size") == 0) {
        int64_t bytes;
        if (!size_parse(value, &bytes) || bytes % 4096 != 0 || (uint64_t)bytes < WAL_SIZE_MIN ||
            (uint64_t)bytes > WAL_SIZE_MAX) {
            return refuse(ERR_INVALID, why, why_size,
                          "expected size= as a multiple of 4KiB from 16MiB to 1TiB, such as 1GiB; found '%s'", value);
        }
        out->size_bytes = (uint64_t)bytes;
        return OK;
    }
    if (strcmp(name, "takeover") == 0) {
        if (strcmp(value, "lock") == 0) {
            out->takeover = WAL_TAKEOVER_LOCK;
        } else if (strcmp(value, "mark") == 0) {
            out->takeover = WAL_TAKEOVER_MARK;
        } else {
            return refuse(ERR_INVALID, why, why_size, "expected takeover=lock or takeover=mark, found '%s'", value);
        }
        return OK;
    }
    return refuse(ERR_INVALID, why, why_size, "unknown parameter '%s'; the parameters are size and takeover", name);
}

enum err wal_url_parse(const char *text, struct wal_url *out, char *why, size_t why_size) {
    memset(out, 0, sizeof(*out));
    const char *scheme;
    if (has_scheme(text, "file://")) {
        scheme = "file://";
        out->kind = WAL_KIND_FILE;
        out->takeover = WAL_TAKEOVER_LOCK;
        out->size_bytes = WAL_SIZE_DEFAULT;
    } else if (has_scheme(text, "block://")) {
        scheme = "block://";
        out->kind = WAL_KIND_BLOCK;
        out->takeover = WAL_TAKEOVER_MARK;
    } else if (strcmp(text, "none") == 0) {
        out->kind = WAL_KIND_NONE;
        return OK;
    } else {
        return refuse(ERR_INVALID, why, why_size,
                      "expected file://FOLDER-OR-FILE?size=1GiB, block:///dev/DEVICE or none, found '%s'", text);
    }
    const char *rest = "";
    enum err e = parse_path(text, scheme, out->path, &rest, why, why_size);
    if (e) return e;
    if (out->kind == WAL_KIND_BLOCK && out->path[0] != '/') {
        return refuse(ERR_INVALID, why, why_size, "expected block:///dev/DEVICE with a path from the root, found '%s'",
                      text);
    }
    while (*rest) {
        size_t size = strcspn(rest, "&");
        char pair[128];
        if (size >= sizeof(pair)) return refuse(ERR_INVALID, why, why_size, "a parameter is too long in '%s'", text);
        memcpy(pair, rest, size);
        pair[size] = '\0';
        char *equals = strchr(pair, '=');
        if (!equals) return refuse(ERR_INVALID, why, why_size, "expected name=value behind '?', found '%s'", pair);
        *equals = '\0';
        e = wal_parameter(out, pair, equals + 1, why, why_size);
        if (e) return e;
        rest += size + (rest[size] == '&');
    }
    return OK;
}

static enum err mirror_parameter(struct wal_setup *out, const char *name, const char *value, char *why,
                                 size_t why_size) {
    if (strcmp(name, "lost") == 0) {
        if (strcmp(value, "shrink") != 0 && strcmp(value, "stop") != 0)
            return refuse(ERR_INVALID, why, why_size, "expected lost=shrink or lost=stop, found '%s'", value);
        out->stops = value[1] == 't';
        return OK;
    }
    if (strcmp(name, "timeout.ms") == 0) {
        size_t digits = strspn(value, "0123456789");
        unsigned long ms = digits > 0 && digits < 7 && value[digits] == '\0' ? strtoul(value, NULL, 10) : 0;
        if (ms < 100 || ms > 600000)
            return refuse(ERR_INVALID, why, why_size, "expected timeout.ms= from 100 to 600000, found '%s'", value);
        out->timeout_ms = (uint32_t)ms;
        return OK;
    }
    return refuse(ERR_INVALID, why, why_size,
                  "unknown parameter '%s' of a mirror; the parameters are lost and timeout.ms", name);
}

static enum err mirror_parameters(struct wal_setup *out, char *text, char *why, size_t why_size) {
    enum err e = OK;
    for (char *rest = text, *pair; e == OK && (pair = strsep(&rest, "&")) != NULL;) {
        char *equals = strchr(pair, '=');
        if (!equals) return refuse(ERR_INVALID, why, why_size, "expected name=value behind '?', found '%s'", pair);
        *equals = '\0';
        e = mirror_parameter(out, pair, equals + 1, why, why_size);
    }
    return e;
}

static enum err mirror_member_parse(const char *text, struct wal_url *out, char *why, size_t why_size) {
    bool objects = strncmp(text, "objects:", 8) == 0;
    if (!objects && !has_scheme(text, "s3://")) return wal_url_parse(text, out, why, why_size);
    const char *url = objects ? text + 8 : text;
    struct storage_url storage;
    enum err e = storage_url_parse(url, &storage, why, why_size);
    if (e != OK) return e;
    if (strlen(url) >= sizeof(out->path))
        return refuse(ERR_INVALID, why, why_size, "a member of the mirror is too long");
    memset(out, 0, sizeof(*out));
    out->kind = WAL_KIND_OBJECTS;
    memcpy(out->path, url, strlen(url) + 1);
    return OK;
}

static enum err mirror_member(struct wal_setup *out, const char *text, char *why, size_t why_size) {
    if (out->count == WAL_MIRROR_MAX)
        return refuse(ERR_INVALID, why, why_size, "expected at most %u members of a mirror", WAL_MIRROR_MAX);
    struct wal_url *u = &out->urls[out->count];
    enum err e = mirror_member_parse(text, u, why, why_size);
    if (e != OK) return e;
    if (u->kind == WAL_KIND_NONE)
        return refuse(ERR_INVALID, why, why_size, "expected file:// or block:// as a member of a mirror, found 'none'");
    for (unsigned i = 0; i < out->count; i++) {
        if (strcmp(out->urls[i].path, u->path) == 0)
            return refuse(ERR_INVALID, why, why_size, "'%s' is twice in one mirror", u->path);
    }
    out->count++;
    return OK;
}

enum err wal_setup_parse(const char *text, struct wal_setup *out, char *why, size_t why_size) {
    memset(out, 0, sizeof(*out));
    out->timeout_ms = WAL_MIRROR_TIMEOUT_MS;
    out->mirror = strncmp(text, "mirror:", 7) == 0;
    if (!out->mirror) {
        enum err e = wal_url_parse(text, &out->urls[0], why, why_size);
        out->count = e == OK && out->urls[0].kind != WAL_KIND_NONE;
        return e;
    }
    enum err e = OK;
    for (const char *at = text + 7; e == OK;) {
        char element[URL_PATH_SIZE + 64];
        size_t size = strcspn(at, ",");
        if (size >= sizeof(element)) return refuse(ERR_INVALID, why, why_size, "a member of the mirror is too long");
        memcpy(element, at, size);
        element[size] = '\0';
        e = element[0] == '?' ? mirror_parameters(out, element + 1, why, why_size)
                              : mirror_member(out, element, why, why_size);
        if (at[size] == '\0') break;
        at += size + 1;
    }
    if (e == OK && out->count < 2)
        return refuse(ERR_INVALID, why, why_size, "expected mirror:URL,URL with two members or more, found '%s'", text);
    unsigned rings = 0;
    for (unsigned i = 0; i < out->count; i++) rings += out->urls[i].kind != WAL_KIND_OBJECTS;
    if (e == OK && rings == 0)
        return refuse(ERR_INVALID, why, why_size,
                      "expected a file:// or block:// among the members of a mirror, found '%s'", text);
    return e;
}

enum err host_port_parse(const char *text, char *host, size_t host_size, uint16_t *port, char *why, size_t why_size) {
    const char *colon = strrchr(text, ':'), *start = text, *end = colon;
    if (!colon) return refuse(ERR_INVALID, why, why_size, "expected host:port, found '%s'", text);
    if (*start == '[') {
        if (end == start || end[-1] != ']') {
            return refuse(ERR_INVALID, why, why_size, "expected [address]:port, found '%s'", text);
        }
        start++;
        end--;
    } else if (memchr(start, ':', (size_t)(end - start))) {
        return refuse(ERR_INVALID, why, why_size, "expected an IPv6 address in brackets, found '%s'", text);
    }
    size_t size = (size_t)(end - start);
    if (size >= host_size) return refuse(ERR_INVALID, why, why_size, "the host name is too long in '%s'", text);
    for (size_t i = 0; i < size; i++) {
        char c = start[i];
        if (c <= ' ' || c == '/' || c == '@' || c == '[' || c == ']' || c == 0x7f) {
            return refuse(ERR_INVALID, why, why_size, "expected a host name or an address, found '%s'", text);
        }
    }
    unsigned long v = 0;
    const char *digits = colon + 1;
    size_t count = strlen(digits);
    bool bad = count == 0 || count > 5;
    for (size_t i = 0; i < count && !bad; i++) {
        bad = digits[i] < '0' || digits[i] > '9';
        v = v * 10 + (unsigned long)(digits[i] - '0');
    }
    if (bad || v > 65535) {
        return refuse(ERR_INVALID, why, why_size, "expected a port from 0 to 65535 behind the last ':', found '%s'",
                      text);
    }
    memcpy(host, start, size);
    host[size] = '\0';
    if (strcmp(host, "0.0.0.0") == 0) host[0] = '\0';
    *port = (uint16_t)v;
    return OK;
}

enum err listener_url_parse(const char *text, struct listener_url *out, char *why, size_t why_size) {
    memset(out, 0, sizeof(*out));
    const char *separator = strstr(text, "://");
    size_t size = separator ? (size_t)(separator - text) : 0;
    if (size == 0 || size >= sizeof(out->name)) {
        return refuse(ERR_INVALID, why, why_size, "expected NAME://host:port, found '%s'", text);
    }
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c >= 'a' && c <= 'z') c = (char)(c - ('a' - 'A'));
        if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.')) {
            return refuse(ERR_INVALID, why, why_size, "expected NAME://host:port, found '%s'", text);
        }
        out->name[i] = c;
    }
    static const char *const secured[] = {"SSL", "SASL_SSL", "SASL_PLAINTEXT"};
    for (size_t i = 0; i < ARRAY_LEN(secured); i++) {
        if (strcmp(out->name, secured[i]) != 0) continue;
        return refuse(ERR_UNSUPPORTED, why, why_size,
                      "%s is not supported yet: neither TLS nor SASL; expected PLAINTEXT://host:port", secured[i]);
    }
    if (strcmp(out->name, "CONTROLLER") == 0) {
        return refuse(ERR_UNSUPPORTED, why, why_size, "there is no controller listener; take '%s' out", text);
    }
    return host_port_parse(separator + 3, out->host, sizeof(out->host), &out->port, why, why_size);
}
