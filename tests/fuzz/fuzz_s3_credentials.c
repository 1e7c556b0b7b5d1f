/* Any bytes as what credentials come from. The first byte says as what: 0 a shared file (~/.aws/credentials, or config:
 * 8), 1 the answer of STS, 2 the metadata service's keys, 3 one of its lines, 4 a time, 5 an error of STS. The
 * insides of s3_credentials_fetch.c are included. What was taken fits its fields, ends with NUL, and lies where it was
 * said; a time is one that a clock can show; nothing that is secret gets into a message. */
#include "store/s3_credentials_fetch.c"

#include "feed.h"

static void text_within(struct s3_text t, const char *text, size_t size) {
    if (!t.at) return;
    ASSERT(t.size > 0 && t.at >= text && t.size <= size && (size_t)(t.at - text) <= size - t.size);
    ASSERT(!memchr(t.at, '\n', t.size) && t.at[0] != ' ' && t.at[t.size - 1] != ' ');
}

static void profile(const char *text, size_t size, bool config) {
    static const char *const names[] = {"default", "other one"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct s3_profile p = {0};
        s3_profile_parse(&p, text, size, names[i], config);
        const struct s3_text all[] = {p.access_key,
                                      p.secret,
                                      p.token,
                                      p.role_arn,
                                      p.session_name,
                                      p.identity_file,
                                      p.source_profile,
                                      p.credential_source,
                                      p.credential_process,
                                      p.sso};
        for (size_t k = 0; k < ARRAY_LEN(all); k++) {
            text_within(all[k], text, size);
            ASSERT(!all[k].at || p.found);
        }
    }
}

static void ends(const char *field, size_t field_size) {
    ASSERT(memchr(field, 0, field_size) != NULL);
}

static void credentials_check(const struct s3_credentials *c, enum err e) {
    ends(c->access_key, sizeof(c->access_key));
    ends(c->secret, sizeof(c->secret));
    ends(c->token, sizeof(c->token));
    if (e == OK) ASSERT(c->expires_ms >= 0 && c->expires_ms < 253402300800000 + 1000);
    char why[S3_CREDENTIALS_WHY_SIZE] = "";
    if (e == OK && s3_credentials_check(c, "fuzz", why) != OK) {
        ASSERT(strlen(c->secret) < 12 || !strstr(why, c->secret));
    }
}

static void line(const struct http_response *a) {
    char out[32];
    if (metadata_line(a, out, sizeof(out)) != OK) return;
    ASSERT(out[0] && strlen(out) < sizeof(out));
    for (const char *c = out; *c; c++) ASSERT(*c > ' ' && *c < 0x7f);
}

static void refused(const struct http_response *a) {
    char why[S3_CREDENTIALS_WHY_SIZE];
    enum err e = sts_refused(a, "arn:role", why);
    ASSERT((e == ERR_PERMISSION || e == ERR_UNAVAILABLE) && why[0]);
    for (const char *c = why; *c; c++) ASSERT(*c >= ' ' && *c < 0x7f);
}

static void moment(struct mem *m, const uint8_t *data, size_t size) {
    char *text = mem_strndup(m, (const char *)data, size);
    int64_t ms;
    if (s3_time_parse(text, &ms) == OK) ASSERT(ms >= 0 && ms <= 253402300800000);
    mem_free(m, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    struct mem m;
    mem_init_heap(&m);
    uint8_t what = data[0];
    data++;
    size--;
    /* Of just that size: a read beyond it is seen. */
    struct slab *slab = slab_create(&m, size ? size : 1, 16);
    memcpy(slab->data, data, size);
    struct http_response answer = {.mem = &m, .status = 200 + what};
    if (size > 0) answer.body = slice_of(slab, 0, size);
    struct s3_credentials c = {.expires_ms = 0};
    switch ((what & 7) % 6) {
    case 0: {
        char *copy = mem_alloc(&m, size);
        memcpy(copy, data, size);
        profile(copy, size, what & 8);
        mem_free(&m, copy);
        break;
    }
    case 1:
        credentials_check(&c, sts_parse(&answer, &c));
        break;
    case 2:
        credentials_check(&c, metadata_parse(&answer, &c));
        break;
    case 3:
        line(&answer);
        break;
    case 4:
        moment(&m, data, size);
        break;
    default:
        refused(&answer);
        break;
    }
    slice_unref(&answer.body);
    slab_unref(slab);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
