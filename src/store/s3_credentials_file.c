/* The shared files of AWS's tools, ~/.aws/credentials and ~/.aws/config:
 *
 *   [default]                    in both
 *   [profile NAME] or [NAME]     the first in config, the second in credentials
 *   key = value                  a comment begins with '#' or ';' at the start of a line, or behind a blank
 *   key =                        without a value: indented lines below it belong to it, and are none of ours
 *     nested = value
 *
 * Keys are compared without case, values taken as they are. Where both files hold a profile, credentials wins. */
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

#include "store/s3_credentials_priv.h"

enum err s3_file_read(struct env *env, const char *path, struct buf *out) {
    struct env_file *f;
    struct env_file_info info;
    buf_init(out, env->mem);
    enum err e = env_file_info(env, path, &info);
    if (e != OK) return e;
    if (info.directory || info.block_device) return ERR_INVALID;
    e = env_file_open(env, path, ENV_FILE_READ_ONLY, &f);
    if (e != OK) return e;
    /* Files below /proc and the like say that they are empty: what is read counts. The room is made at once, for a
     * buffer that grows leaves copies behind. */
    size_t got = 0, room = info.size_bytes < S3_CREDENTIALS_FILE_MAX ? (size_t)info.size_bytes + 4096 : 0;
    if (room == 0) {
        e = ERR_TOO_LARGE;
        goto out;
    }
    e = env_file_read(env, f, 0, buf_extend(out, room), room, &got);
    if (e == OK && got == room) e = ERR_TOO_LARGE;
    if (e == OK) out->size = got;
out:
    env_file_close(env, f);
    if (e != OK) s3_file_wipe(out);
    return e;
}

void s3_file_wipe(struct buf *b) {
    if (b->data) OPENSSL_cleanse(b->data, b->capacity);
    buf_deinit(b);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

static struct s3_text trimmed(const char *at, const char *end) {
    while (at < end && is_blank(*at)) at++;
    while (end > at && is_blank(end[-1])) end--;
    return (struct s3_text){at, (size_t)(end - at)};
}

static bool text_is(struct s3_text t, const char *s) {
    return t.size == strlen(s) && strncasecmp(t.at, s, t.size) == 0;
}

/* Is this "[...]" the wanted profile's section? */
static bool section_is(struct s3_text t, const char *name, bool config) {
    size_t n = strlen(name);
    if (config && t.size > 7 && memcmp(t.at, "profile", 7) == 0 && is_blank(t.at[7])) {
        t = trimmed(t.at + 8, t.at + t.size);
    } else if (config && strcmp(name, "default") != 0) {
        return false;
    }
    return t.size == n && memcmp(t.at, name, n) == 0;
}

static void profile_set(struct s3_profile *p, struct s3_text key, struct s3_text value) {
    const struct {
        const char *name;
        struct s3_text *field;
    } fields[] = {{"aws_access_key_id", &p->access_key},
                  {"aws_secret_access_key", &p->secret},
                  {"aws_session_token", &p->token},
                  {"role_arn", &p->role_arn},
                  {"role_session_name", &p->session_name},
                  {"web_identity_token_file", &p->identity_file},
                  {"source_profile", &p->source_profile},
                  {"credential_source", &p->credential_source},
                  {"credential_process", &p->credential_process},
                  {"sso_session", &p->sso},
                  {"sso_start_url", &p->sso}};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (text_is(key, fields[i].name)) *fields[i].field = value.size > 0 ? value : (struct s3_text){0};
    }
}

void s3_profile_parse(struct s3_profile *p, const char *text, size_t size, const char *name, bool config) {
    const char *end = text + size;
    bool within = false, nested = false;
    struct s3_profile before = *p;
    for (const char *line = text, *next; line < end; line = next) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        next = stop ? stop + 1 : end;
        if (!stop) stop = end;
        bool indented = is_blank(*line);
        struct s3_text t = trimmed(line, stop);
        if (t.size == 0 || t.at[0] == '#' || t.at[0] == ';') continue;
        if (t.at[0] == '[') {
            const char *close = memchr(t.at, ']', t.size);
            within = close && section_is(trimmed(t.at + 1, close), name, config);
            nested = false;
            if (within) p->found = true;
            continue;
        }
        const char *equals = memchr(t.at, '=', t.size);
        if (!within || !equals || (indented && nested)) continue;
        const char *value_end = t.at + t.size;
        for (const char *c = equals + 1; c + 1 < value_end; c++) {
            if (is_blank(c[0]) && (c[1] == '#' || c[1] == ';')) value_end = c;
        }
        struct s3_text value = trimmed(equals + 1, value_end);
        nested = value.size == 0;
        profile_set(p, trimmed(t.at, equals), value);
    }
    /* Keys come as a set: a session token of the other file does not belong to this file's keys. */
    if (p->access_key.at != before.access_key.at && p->token.at == before.token.at) p->token = (struct s3_text){0};
}
