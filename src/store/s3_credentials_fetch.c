/* Credentials that somebody hands out for a while: STS for a web identity's token, the metadata service of the machine
 * for its role. Both are asked with short time-outs: nobody waits for a service that is not there.
 *
 * Answers hold secrets: they are wiped, and no message quotes them; of an error's text only its code is shown, a word of
 * letters. */
#include <stdio.h>
#include <string.h>

#include <jansson.h>
#include <openssl/crypto.h>

#include "store/s3_credentials_priv.h"
#include "store/s3_sign.h"

#define ANSWER_MAX 65536u
#define STS_TIMEOUT_NS (10 * NS_PER_S)
#define METADATA_CONNECT_NS (1 * NS_PER_S)
#define METADATA_TIMEOUT_NS (5 * NS_PER_S)
#define METADATA_TOKEN_TTL "21600"
#define ATTEMPTS 3u

/* The answer belongs to this exchange alone, so that its immutable bytes may be wiped when it is done with. */
static void answer_wipe(struct http_response *a) {
    if (a->body.size > 0) OPENSSL_cleanse((void *)(uintptr_t)a->body.data, a->body.size);
    http_response_deinit(a);
}

/* Asks up to `attempts` times; what is answered with a status below 500 is an answer. */
static enum err ask(struct s3_credentials_source *s, const struct http_request *r, unsigned attempts,
                    struct http_response *out) {
    for (unsigned i = 1;; i++) {
        enum err e = http_exchange(s->http, r, out);
        if (e == OK && out->status < 500 && out->status != 429) return OK;
        if (i == attempts || e == ERR_CANCELLED || e == ERR_INVALID) return e;
        answer_wipe(out);
        env_backoff(s->env, i, 50 * NS_PER_MS, NS_PER_S);
    }
}

/* --- Time. */

enum err s3_time_parse(const char *text, int64_t *ms) {
    unsigned year, month, day, hour, minute, second;
    int n = 0;
    if (strlen(text) < 20 || text[4] != '-' || text[10] != 'T') return ERR_PROTOCOL;
    for (size_t i = 0; i < 19; i++) {
        bool mark = i == 4 || i == 7 || i == 10 || i == 13 || i == 16;
        if (!mark && (text[i] < '0' || text[i] > '9')) return ERR_PROTOCOL;
    }
    if (sscanf(text, "%4u-%2u-%2uT%2u:%2u:%2u%n", &year, &month, &day, &hour, &minute, &second, &n) != 6 || n != 19) {
        return ERR_PROTOCOL;
    }
    const char *rest = text + n;
    if (*rest == '.') rest += 1 + strspn(rest + 1, "0123456789");
    if (strcmp(rest, "Z") != 0 && strcmp(rest, "+00:00") != 0) return ERR_PROTOCOL;
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60) {
        return ERR_PROTOCOL;
    }
    /* Days since 1970-01-01, after Howard Hinnant's days_from_civil. */
    unsigned y = year - (month <= 2), doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    unsigned yoe = y % 400, doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    int64_t days = (int64_t)(y / 400) * 146097 + doe - 719468;
    *ms = (days * 86400 + hour * 3600 + minute * 60 + second) * 1000;
    return OK;
}

/* --- STS. Of its XML only a few elements without attributes matter, each there once. */

/* The text of the first <name> in [at, end), decoded into out. ERR_NOT_FOUND, ERR_TOO_LARGE. */
static enum err xml_text(const char *at, const char *end, const char *name, char *out, size_t out_size) {
    static const struct {
        const char *name;
        char is;
    } entities[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}, {"&#43;", '+'}};
    char tag[64];
    int n = snprintf(tag, sizeof(tag), "<%s>", name);
    out[0] = '\0';
    const char *found = memmem(at, (size_t)(end - at), tag, (size_t)n);
    if (!found) return ERR_NOT_FOUND;
    found += n;
    const char *stop = memchr(found, '<', (size_t)(end - found));
    if (!stop) return ERR_NOT_FOUND;
    while (found < stop && (unsigned char)*found <= ' ') found++;
    while (stop > found && (unsigned char)stop[-1] <= ' ') stop--;
    size_t size = 0;
    while (found < stop) {
        char c = *found;
        size_t used = 1;
        for (size_t i = 0; c == '&' && i < ARRAY_LEN(entities); i++) {
            size_t length = strlen(entities[i].name);
            if ((size_t)(stop - found) >= length && memcmp(found, entities[i].name, length) == 0) {
                c = entities[i].is;
                used = length;
                break;
            }
        }
        if (size + 1 >= out_size) return ERR_TOO_LARGE;
        out[size++] = c;
        found += used;
    }
    out[size] = '\0';
    return size > 0 ? OK : ERR_NOT_FOUND;
}

/* An error code that may be shown: letters only. */
static void code_sanitize(char *code) {
    for (char *c = code; *c; c++) {
        if (!((*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') || *c == '.')) {
            (void)strcpy(code, "?");
            return;
        }
    }
}

static enum err sts_refused(const struct http_response *a, const char *role_arn, char *why) {
    const char *body = (const char *)a->body.data;
    char code[64] = "";
    if (a->body.size > 0 && xml_text(body, body + a->body.size, "Code", code, sizeof(code)) != OK) code[0] = '\0';
    code_sanitize(code);
    /* The one that is the fault of a third party, and passes. */
    bool passes = a->status >= 500 || a->status == 429 || strcmp(code, "IDPCommunicationError") == 0 ||
                  strcmp(code, "Throttling") == 0;
    return s3_credentials_say(
        why, passes ? ERR_UNAVAILABLE : ERR_PERMISSION,
        "STS refused the web identity for role %s with status %u %s: check the role, its trust policy, and the token",
        role_arn, a->status, code);
}

static enum err sts_parse(const struct http_response *a, struct s3_credentials *out) {
    if (a->body.size == 0) return ERR_PROTOCOL;
    const char *body = (const char *)a->body.data, *end = body + a->body.size;
    char expires[64];
    const char *at = memmem(body, a->body.size, "<Credentials>", 13);
    if (!at) return ERR_PROTOCOL;
    const char *stop = memmem(at, (size_t)(end - at), "</Credentials>", 14);
    if (!stop) return ERR_PROTOCOL;
    if (xml_text(at, stop, "AccessKeyId", out->access_key, sizeof(out->access_key)) != OK ||
        xml_text(at, stop, "SecretAccessKey", out->secret, sizeof(out->secret)) != OK ||
        xml_text(at, stop, "SessionToken", out->token, sizeof(out->token)) != OK ||
        xml_text(at, stop, "Expiration", expires, sizeof(expires)) != OK)
        return ERR_PROTOCOL;
    return s3_time_parse(expires, &out->expires_ms);
}

enum err s3_web_identity_fetch(struct s3_credentials_source *s, const char *token_file, const char *role_arn,
                               const char *session_name, struct s3_credentials *out, char *why) {
    struct buf token, body;
    struct http_response answer;
    enum err e = s3_file_read(s->env, token_file, &token);
    if (e != OK) {
        return s3_credentials_say(why, e == ERR_IO ? ERR_UNAVAILABLE : ERR_INVALID,
                                  "the web identity token file %s cannot be read (%s): check "
                                  "AWS_WEB_IDENTITY_TOKEN_FILE",
                                  token_file, err_text(e));
    }
    while (token.size > 0 && token.data[token.size - 1] <= ' ') token.size--;
    buf_u8(&token, 0);
    const struct s3_sign_pair form[] = {{"Action", "AssumeRoleWithWebIdentity"},
                                        {"RoleArn", role_arn},
                                        {"RoleSessionName", session_name},
                                        {"Version", "2011-06-15"},
                                        {"WebIdentityToken", (const char *)token.data}};
    /* Room for every byte as %XX, for a buffer that grows leaves copies behind. */
    buf_init(&body, s->env->mem);
    buf_reserve(&body, 3 * (token.size + strlen(role_arn) + strlen(session_name)) + 256);
    s3_sign_query(&body, form, ARRAY_LEN(form));
    const struct http_header headers[] = {{"Content-Type", "application/x-www-form-urlencoded"},
                                          {"Accept", "text/xml"}};
    const struct slice piece = slice_borrow(body.data, body.size);
    const struct http_request r = {.method = HTTP_POST,
                                   .url = s->set.sts_endpoint,
                                   .headers = headers,
                                   .header_count = ARRAY_LEN(headers),
                                   .body = &piece,
                                   .body_count = 1,
                                   .connect_timeout_ns = STS_TIMEOUT_NS / 2,
                                   .total_timeout_ns = STS_TIMEOUT_NS,
                                   .response_max_bytes = ANSWER_MAX};
    e = ask(s, &r, ATTEMPTS, &answer);
    if (e != OK) {
        e = s3_credentials_say(why, e == ERR_INVALID ? ERR_INVALID : ERR_UNAVAILABLE,
                               "STS at %s does not answer (%s): check the network and AWS_ENDPOINT_URL_STS",
                               s->set.sts_endpoint, answer.why[0] ? answer.why : err_text(e));
    } else if (answer.status != 200) {
        e = sts_refused(&answer, role_arn, why);
    } else if (sts_parse(&answer, out) != OK) {
        e = s3_credentials_say(why, ERR_UNAVAILABLE, "what answers at %s is no STS: check AWS_ENDPOINT_URL_STS",
                               s->set.sts_endpoint);
    }
    answer_wipe(&answer);
    s3_file_wipe(&body);
    s3_file_wipe(&token);
    return e;
}

/* --- The metadata service: a token, the role's name, the role's keys. */

static enum err metadata_ask(struct s3_credentials_source *s, const char *token, const char *path,
                             struct http_response *out) {
    char url[1024];
    const struct http_header want = {"X-aws-ec2-metadata-token-ttl-seconds", METADATA_TOKEN_TTL};
    const struct http_header have = {"X-aws-ec2-metadata-token", token};
    (void)snprintf(url, sizeof(url), "%.500s%s", s->set.metadata_endpoint, path);
    const struct http_request r = {.method = token ? HTTP_GET : HTTP_PUT,
                                   .url = url,
                                   .headers = token ? &have : &want,
                                   .header_count = 1,
                                   .connect_timeout_ns = METADATA_CONNECT_NS,
                                   .total_timeout_ns = METADATA_TIMEOUT_NS,
                                   .response_max_bytes = ANSWER_MAX};
    /* Outside of a cloud nobody is there: once this has been so, the start must not take long to say it. */
    return ask(s, &r, token || s->role_seen ? ATTEMPTS : 2, out);
}

/* The answer's first line as a string of visible characters. */
static enum err metadata_line(const struct http_response *a, char *out, size_t out_size) {
    size_t n = 0;
    while (n < a->body.size && a->body.data[n] > ' ' && a->body.data[n] < 0x7f) n++;
    if (n == 0 || n >= out_size) return ERR_PROTOCOL;
    if (n < a->body.size && a->body.data[n] != '\n' && a->body.data[n] != '\r') return ERR_PROTOCOL;
    memcpy(out, a->body.data, n);
    out[n] = '\0';
    return OK;
}

/* A string member into a field; jansson's own copy is wiped. */
static enum err json_take(json_t *root, const char *name, char *field, size_t field_size) {
    json_t *v = json_object_get(root, name);
    if (!json_is_string(v)) return ERR_PROTOCOL;
    size_t n = json_string_length(v);
    enum err e = s3_credentials_set(field, field_size, json_string_value(v), n);
    OPENSSL_cleanse((void *)(uintptr_t)json_string_value(v), n);
    return e;
}

static enum err metadata_parse(const struct http_response *a, struct s3_credentials *out) {
    char code[32] = "", expires[64];
    if (a->body.size == 0) return ERR_PROTOCOL;
    json_t *root = json_loadb((const char *)a->body.data, a->body.size, 0, NULL);
    if (!root) return ERR_PROTOCOL;
    enum err e = json_is_object(root) ? OK : ERR_PROTOCOL;
    if (e == OK && json_object_get(root, "Code")) {
        e = json_take(root, "Code", code, sizeof(code));
        if (e == OK && strcmp(code, "Success") != 0) e = ERR_UNAVAILABLE;
    }
    if (e == OK) e = json_take(root, "AccessKeyId", out->access_key, sizeof(out->access_key));
    if (e == OK) e = json_take(root, "SecretAccessKey", out->secret, sizeof(out->secret));
    if (e == OK) e = json_take(root, "Token", out->token, sizeof(out->token));
    if (e == OK) e = json_take(root, "Expiration", expires, sizeof(expires));
    if (e == OK) e = s3_time_parse(expires, &out->expires_ms);
    json_decref(root);
    return e;
}

#define ROLE_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+=,.@-"
#define ROLES_PATH "/latest/meta-data/iam/security-credentials/"

enum err s3_metadata_fetch(struct s3_credentials_source *s, struct s3_credentials *out, char *why) {
    struct http_response answer;
    char token[1024], role[160], path[256];
    const char *at = s->set.metadata_endpoint;
    enum err e = metadata_ask(s, NULL, "/latest/api/token", &answer);
    bool nobody = e != OK || answer.status == 404 || answer.status == 405;
    if (nobody) {
        e = s3_credentials_say(why,
                               e == ERR_INVALID ? ERR_INVALID
                               : s->role_seen   ? ERR_UNAVAILABLE
                                                : ERR_NOT_FOUND,
                               "no instance metadata service (version 2) answers at %s", at);
        goto out;
    }
    if (answer.status != 200 || metadata_line(&answer, token, sizeof(token)) != OK) {
        e = s3_credentials_say(why, answer.status == 403 ? ERR_PERMISSION : ERR_UNAVAILABLE,
                               "the instance metadata service at %s gives no token (status %u): check that it is "
                               "enabled, and its hop limit where this runs in a container",
                               at, answer.status);
        goto out;
    }
    answer_wipe(&answer);
    e = metadata_ask(s, token, ROLES_PATH, &answer);
    if (e == OK && answer.status == 404) {
        e = s3_credentials_say(why, ERR_NOT_FOUND, "the instance has no role");
        goto out;
    }
    if (e != OK || answer.status != 200 || metadata_line(&answer, role, sizeof(role)) != OK ||
        role[strspn(role, ROLE_CHARACTERS)] != '\0') {
        e = s3_credentials_say(why, ERR_UNAVAILABLE,
                               "the instance metadata service at %s does not tell the instance's role (%s %u)", at,
                               e == OK ? "status" : err_text(e), answer.status);
        goto out;
    }
    answer_wipe(&answer);
    (void)snprintf(path, sizeof(path), ROLES_PATH "%s", role);
    e = metadata_ask(s, token, path, &answer);
    if (e == OK && answer.status == 200)
        e = metadata_parse(&answer, out);
    else if (e == OK)
        e = ERR_UNAVAILABLE;
    if (e != OK) {
        e = s3_credentials_say(why, ERR_UNAVAILABLE,
                               "the instance metadata service at %s gives no keys for role %s (status %u): check that "
                               "the role exists and trusts the instance",
                               at, role, answer.status);
        goto out;
    }
    s->role_seen = true;
out:
    answer_wipe(&answer);
    OPENSSL_cleanse(token, sizeof(token));
    return e;
}
