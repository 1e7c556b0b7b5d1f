/* Credentials against a small cloud of our own: a thread that answers as the instance metadata service and as STS do,
 * over real HTTP, and a wall clock that the test sets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <ftw.h>
#include <pthread.h>
#include <unistd.h>

#include "base/assert.h"
#include "rt/linux/linux_env.h"
#include "store/http.h"
#include "store/s3_credentials.h"
#include "store/s3_credentials_priv.h"

#define NOW_MS 1767225600000 /* 2026-01-01 00:00:00 UTC */

/* Words that must never be seen. */
#define SECRET "sEcReT"
#define TOKEN "tOkEn/+&="
#define IDENTITY "eyJ.iDeNtItY.x-_"

/* --- The cloud. */

struct cloud {
    int listener;
    unsigned port;
    pthread_t thread;
    _Atomic int requests, tokens, roles, keys, assumed; /* how many of each came */
    _Atomic int serial;                                 /* AccessKeyId of the next keys */
    _Atomic int life_s;                                 /* of the next keys, from the clock's present */
    /* What to answer instead. */
    _Atomic int token_status, roles_status, keys_status, sts_status, fail_first;
    const char *_Atomic keys_body, *_Atomic sts_body, *_Atomic role;
    _Atomic bool token_missing; /* a request came without the token */
    char form[4096];            /* of the last to STS; read after the answer */
};

static _Atomic int64_t clock_ms;

static void time_text(int64_t ms, char out[32]) {
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
}

static int metadata_answer(struct cloud *c, const char *request, char *body, size_t size) {
    char expires[32];
    if (strncmp(request, "PUT /latest/api/token ", 22) == 0) {
        c->tokens++;
        if (!strstr(request, "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n")) return 400;
        snprintf(body, size, "SESSION-%d", c->tokens);
        return c->token_status;
    }
    char expected[64];
    snprintf(expected, sizeof(expected), "X-aws-ec2-metadata-token: SESSION-%d\r\n", c->tokens);
    if (!strstr(request, expected)) {
        c->token_missing = true;
        return 401;
    }
    if (strncmp(request, "GET /latest/meta-data/iam/security-credentials/ ", 48) == 0) {
        c->roles++;
        snprintf(body, size, "%s\nanother", c->role);
        return c->roles_status;
    }
    if (strncmp(request, "GET /latest/meta-data/iam/security-credentials/my-role ", 55) == 0) {
        c->keys++;
        time_text(clock_ms + c->life_s * INT64_C(1000), expires);
        if (c->keys_body)
            snprintf(body, size, "%s", c->keys_body);
        else
            snprintf(body, size,
                     "{\"Code\":\"Success\",\"LastUpdated\":\"x\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"AKIA%d\","
                     "\"SecretAccessKey\":\"" SECRET "\",\"Token\":\"" TOKEN "\",\"Expiration\":\"%s\"}",
                     c->keys_status == 200 && !c->fail_first ? c->serial++ : -1, expires);
        return c->keys_status;
    }
    return 404;
}

static int sts_answer(struct cloud *c, const char *request, char *body, size_t size) {
    char expires[32];
    c->assumed++;
    snprintf(c->form, sizeof(c->form), "%s", strstr(request, "\r\n\r\n") + 4);
    time_text(clock_ms + c->life_s * INT64_C(1000), expires);
    if (c->sts_body)
        snprintf(body, size, "%s", c->sts_body);
    else
        snprintf(body, size,
                 "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n"
                 " <AssumeRoleWithWebIdentityResult><AssumedRoleUser><AccessKeyId>WRONG</AccessKeyId>"
                 "</AssumedRoleUser>\n<Credentials>\n<SessionToken>\n tOkEn/&#43;&amp;= </SessionToken>\n"
                 "<SecretAccessKey>" SECRET "</SecretAccessKey>\n<Expiration>%.19s.123Z</Expiration>\n"
                 "<AccessKeyId>STS%d</AccessKeyId></Credentials>"
                 "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
                 expires, c->serial++);
    return c->sts_status;
}

/* A whole request: head and body. False: none came. */
static bool read_request(int fd, char *request, size_t size) {
    size_t have = 0, want = SIZE_MAX;
    while (have < want && have + 1 < size) {
        ssize_t n = recv(fd, request + have, size - 1 - have, 0);
        if (n <= 0) return false;
        have += (size_t)n;
        request[have] = '\0';
        char *end = strstr(request, "\r\n\r\n");
        if (!end || want != SIZE_MAX) continue;
        char *length = strstr(request, "Content-Length: ");
        want = (size_t)(end + 4 - request) + (length && length < end ? strtoul(length + 16, NULL, 10) : 0);
    }
    return true;
}

static void *cloud_main(void *arg) {
    struct cloud *c = arg;
    char request[16384], body[8192], head[256];
    int fd;
    while ((fd = accept(c->listener, NULL, NULL)) >= 0) {
        if (read_request(fd, request, sizeof(request))) {
            c->requests++;
            body[0] = '\0';
            int status = strncmp(request, "POST /", 6) == 0 ? sts_answer(c, request, body, sizeof(body))
                                                            : metadata_answer(c, request, body, sizeof(body));
            if (c->fail_first > 0) {
                c->fail_first--;
                status = 503;
            }
            snprintf(head, sizeof(head), "HTTP/1.1 %d Said\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", status,
                     strlen(body));
            (void)send(fd, head, strlen(head), MSG_NOSIGNAL);
            (void)send(fd, body, strlen(body), MSG_NOSIGNAL);
        }
        close(fd);
    }
    return NULL;
}

static void cloud_start(struct cloud *c) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    c->token_status = c->roles_status = c->keys_status = c->sts_status = 200;
    c->role = "my-role";
    c->life_s = 3600;
    c->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(c->listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(c->listener, 64), 0);
    assert_int_equal(getsockname(c->listener, (struct sockaddr *)&a, &n), 0);
    c->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&c->thread, NULL, cloud_main, c), 0);
}

static void cloud_stop(struct cloud *c) {
    if (c->listener < 0) return;
    shutdown(c->listener, SHUT_RDWR);
    pthread_join(c->thread, NULL);
    close(c->listener);
    c->listener = -1;
}

/* --- The world of a test. */

struct world {
    struct env *env;
    struct env_ops ops; /* the real ones, with another wall clock */
    struct cloud cloud;
    struct http_client *http;
    struct s3_credentials_source *source;
    struct s3_credentials_options options;
    struct s3_credentials got;
    char why[400], folder[64], endpoint[64], log[16384];
    void (*body)(struct world *w);
    pthread_mutex_t log_lock;
    size_t log_size;
};

static int64_t world_wall_ms(struct env *e) {
    (void)e;
    return clock_ms;
}
static void world_log(void *ctx, const char *line, size_t size) {
    struct world *w = ctx;
    pthread_mutex_lock(&w->log_lock);
    if (w->log_size + size < sizeof(w->log)) {
        memcpy(w->log + w->log_size, line, size);
        w->log_size += size;
    }
    pthread_mutex_unlock(&w->log_lock);
}

static void no_secret(const char *text) {
    assert_null(strstr(text, SECRET));
    assert_null(strstr(text, "tOk"));
    assert_null(strstr(text, "iDeNtItY"));
    assert_null(strstr(text, "SESSION"));
}

static void world_main(void *arg) {
    struct world *w = arg;
    const char *why = "";
    struct http_options o = {.env = w->env};
    assert_int_equal(http_client_create(&o, &w->http, &why), OK);
    w->body(w);
    if (w->source) s3_credentials_close(w->source);
    http_client_close(w->http);
    loop_stop(linux_env_loop0(w->env));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void world_run(void (*body)(struct world *)) {
    struct world *w = calloc(1, sizeof(*w));
    const char *why = "";
    struct linux_env_options o = {.io = LINUX_IO_EPOLL, .level = LOG_DEBUG};
    clock_ms = NOW_MS;
    w->body = body;
    assert_int_equal(pthread_mutex_init(&w->log_lock, NULL), 0);
    assert_int_equal(linux_env_create(&o, &w->env, &why), OK);
    const struct env_ops *real = w->env->ops;
    w->ops = *real;
    w->ops.wall_ms = world_wall_ms;
    w->env->ops = &w->ops;
    w->env->log->sink = world_log;
    w->env->log->ctx = w;
    snprintf(w->folder, sizeof(w->folder), "%s/oxbow-keys-XXXXXX", P_tmpdir);
    assert_non_null(mkdtemp(w->folder));
    cloud_start(&w->cloud);
    snprintf(w->endpoint, sizeof(w->endpoint), "http://127.0.0.1:%u", w->cloud.port);
    w->options.aws_ec2_metadata_disabled = "true";
    w->options.aws_ec2_metadata_service_endpoint = w->options.aws_endpoint_url_sts = w->endpoint;
    w->options.home = w->folder;
    linux_env_run(w->env, world_main, w);
    w->env->ops = real;
    linux_env_destroy(w->env);
    cloud_stop(&w->cloud);
    no_secret(w->log);
    nftw(w->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    pthread_mutex_destroy(&w->log_lock);
    free(w);
}

static const char *in_folder(struct world *w, const char *name) {
    static char paths[4][128];
    static unsigned next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof(paths[0]), "%s/%s", w->folder, name);
    return p;
}

static const char *write_file(struct world *w, const char *name, const char *text) {
    const char *path = in_folder(w, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    fclose(f);
    return path;
}

static void reopen(struct world *w) {
    if (w->source) s3_credentials_close(w->source);
    w->source = s3_credentials_open(w->env, w->http, &w->options, "eu-west-7");
}

static enum err get(struct world *w) {
    w->why[0] = '\0';
    memset(&w->got, 'x', sizeof(w->got));
    enum err e = s3_credentials_get(w->source, &w->got, w->why, sizeof(w->why));
    no_secret(w->why);
    if (e != OK) {
        assert_true(strlen(w->why) > 20);
        for (size_t i = 0; i < sizeof(w->got); i++) assert_int_equal(((const char *)&w->got)[i], 0);
    }
    return e;
}

static enum err fresh(struct world *w) {
    reopen(w);
    return get(w);
}

static void expect(struct world *w, const char *access_key, const char *token, int64_t expires_ms) {
    enum err e = get(w);
    if (e != OK) print_error("%s: %s\n", err_name(e), w->why);
    assert_int_equal(e, OK);
    assert_string_equal(w->got.access_key, access_key);
    assert_string_equal(w->got.secret, SECRET);
    assert_string_equal(w->got.token, token);
    assert_int_equal(w->got.expires_ms, expires_ms);
}

static void fails(struct world *w, enum err e, const char *word) {
    assert_int_equal(fresh(w), e);
    if (!strstr(w->why, word)) print_error("%s\n", w->why);
    assert_non_null(strstr(w->why, word));
}

/* Lets fibers and the cloud work until it is so. */
static void until_count(_Atomic int *count, int n) {
    while (*count < n) fiber_sleep_ns(NS_PER_MS);
}

/* --- Environment. */

static void body_environment(struct world *w) {
    struct s3_credentials_options *o = &w->options;
    fails(w, ERR_NOT_FOUND, "AWS_ACCESS_KEY_ID");
    assert_string_equal(s3_credentials_origin(w->source), "none");
    o->aws_access_key_id = "AKENV";
    fails(w, ERR_INVALID, "only one of");
    o->aws_secret_access_key = SECRET;
    reopen(w);
    expect(w, "AKENV", "", INT64_MAX);
    assert_string_equal(s3_credentials_origin(w->source), "environment");
    o->aws_session_token = TOKEN;
    reopen(w);
    expect(w, "AKENV", TOKEN, INT64_MAX);
    o->access_key = "AKURL";
    fails(w, ERR_INVALID, "only one of");
    o->secret = SECRET;
    reopen(w);
    expect(w, "AKURL", "", INT64_MAX);
    o->access_key = o->secret = NULL;
    o->aws_secret_access_key = SECRET "\r\nX: y";
    fails(w, ERR_INVALID, "blanks");
    o->aws_secret_access_key = SECRET;
    o->aws_access_key_id = "AK/x";
    fails(w, ERR_INVALID, "environment");
    char longer[S3_CREDENTIALS_MAX + 1];
    memset(longer, 'k', sizeof(longer));
    longer[S3_CREDENTIALS_MAX] = '\0';
    o->aws_access_key_id = longer;
    fails(w, ERR_INVALID, "too long");
    longer[S3_CREDENTIALS_MAX - 1] = '\0';
    assert_int_equal(fresh(w), OK);
    assert_int_equal(w->cloud.requests, 0);
}

/* --- Shared files. */

static void body_files(struct world *w) {
    struct s3_credentials_options *o = &w->options;
    o->aws_shared_credentials_file = write_file(
        w, "credentials",
        "# keys\r\n[default]\r\naws_access_key_id = AKDEF\r\n AWS_Secret_Access_Key=" SECRET
        "  # not of it\r\n; no\r\n[profile odd]\naws_access_key_id=NO\naws_secret_access_key=NO\n"
        "[ one ]\naws_access_key_id=AKONE\naws_secret_access_key=" SECRET "\naws_session_token=" TOKEN
        "\n[half]\naws_access_key_id=AKHALF\n[mixed]\naws_access_key_id=AKMIX\naws_secret_access_key=" SECRET);
    o->aws_config_file =
        write_file(w, "config",
                   "[one]\naws_access_key_id=NO\n[profile two]\naws_access_key_id = AKTWO\n"
                   "s3 =\n  aws_access_key_id = NO\nregion = x\naws_secret_access_key = " SECRET "\n"
                   "[profile mixed]\naws_session_token=NO\naws_access_key_id=NO\naws_secret_access_key=NO\n"
                   "[profile process]\ncredential_process = /bin/x\n[profile chain]\nrole_arn = arn:r\n"
                   "source_profile = one\n[profile sso]\nsso_session = s\n[default]\noutput=json\n");
    reopen(w);
    expect(w, "AKDEF", "", INT64_MAX);
    assert_string_equal(s3_credentials_origin(w->source), "profile default");
    o->aws_profile = "one";
    reopen(w);
    expect(w, "AKONE", TOKEN, INT64_MAX);
    o->aws_profile = "two";
    reopen(w);
    expect(w, "AKTWO", "", INT64_MAX);
    o->aws_profile = "mixed"; /* the credentials file's set as a whole */
    reopen(w);
    expect(w, "AKMIX", "", INT64_MAX);
    static const char *const bad[][2] = {{"half", "only one of"},
                                         {"process", "credential_process"},
                                         {"chain", "role_arn without"},
                                         {"sso", "SSO"},
                                         {"odd", "not in"},
                                         {"no", "not in"}};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        o->aws_profile = bad[i][0];
        fails(w, ERR_INVALID, bad[i][1]);
        assert_non_null(strstr(w->why, bad[i][0]));
    }
    /* From the home folder; then files that are none. */
    o->aws_profile = o->aws_shared_credentials_file = o->aws_config_file = NULL;
    fails(w, ERR_NOT_FOUND, "~/.aws/credentials");
    assert_int_equal(mkdir(in_folder(w, ".aws"), 0700), 0);
    write_file(w, ".aws/credentials", "[default]\naws_access_key_id=AKHOME\naws_secret_access_key=" SECRET "\n");
    reopen(w);
    expect(w, "AKHOME", "", INT64_MAX);
    o->aws_shared_credentials_file = w->folder;
    fails(w, ERR_INVALID, w->folder);
    o->aws_shared_credentials_file = o->aws_config_file = "/dev/null";
    fails(w, ERR_NOT_FOUND, "no credentials for S3");
    o->aws_config_file = NULL;
    o->aws_shared_credentials_file = write_file(w, "empty", "");
    fails(w, ERR_NOT_FOUND, "no credentials for S3");
}

/* What the server refused is looked up anew: somebody changed the file. Not at once again. */
static void body_refused(struct world *w) {
    char one[] = "[default]\naws_access_key_id=AK1\naws_secret_access_key=" SECRET "\n";
    w->options.aws_shared_credentials_file = write_file(w, "credentials", one);
    reopen(w);
    expect(w, "AK1", "", INT64_MAX);
    one[strcspn(one, "1")] = '2';
    write_file(w, "credentials", one);
    expect(w, "AK1", "", INT64_MAX);
    s3_credentials_refused(w->source, &w->got);
    expect(w, "AK1", "", INT64_MAX); /* too early */
    clock_ms += 10000;
    struct s3_credentials other = w->got;
    strcpy(other.secret, "another");
    s3_credentials_refused(w->source, &other);
    expect(w, "AK1", "", INT64_MAX); /* those were not these */
    s3_credentials_refused(w->source, &w->got);
    expect(w, "AK2", "", INT64_MAX);
    s3_credentials_wipe(&other);
    assert_int_equal(other.secret[0], 0);
}

/* --- Instance metadata. */

static void metadata_on(struct world *w) {
    w->options.aws_ec2_metadata_disabled = "false";
}

/* Renewed before they end, in the background: the old ones are handed out meanwhile, and nobody is asked too often. */
static void body_metadata(struct world *w) {
    struct cloud *c = &w->cloud;
    metadata_on(w);
    reopen(w);
    for (int i = 0; i < 10; i++) expect(w, "AKIA0", TOKEN, NOW_MS + 3600000);
    assert_string_equal(s3_credentials_origin(w->source), "instance metadata");
    assert_int_equal(c->requests, 3);
    clock_ms += 2699000;
    expect(w, "AKIA0", TOKEN, NOW_MS + 3600000);
    fiber_sleep_ns(20 * NS_PER_MS);
    assert_int_equal(c->requests, 3);
    clock_ms += 2000; /* less than a quarter of an hour is left */
    c->keys_status = 500;
    expect(w, "AKIA0", TOKEN, NOW_MS + 3600000);
    while (!strstr(w->log, "not renewed")) fiber_sleep_ns(NS_PER_MS);
    int failed = c->requests;
    for (int i = 0; i < 10; i++) expect(w, "AKIA0", TOKEN, NOW_MS + 3600000);
    fiber_sleep_ns(20 * NS_PER_MS);
    assert_int_equal(c->requests, failed);
    c->keys_status = 200;
    clock_ms += 30000;
    int64_t until = clock_ms + 3600000;
    expect(w, "AKIA0", TOKEN, NOW_MS + 3600000); /* and fetches behind it */
    do {
        fiber_sleep_ns(NS_PER_MS);
        assert_int_equal(get(w), OK);
    } while (strcmp(w->got.access_key, "AKIA0") == 0);
    expect(w, "AKIA1", TOKEN, until);
    assert_int_equal(c->requests, failed + 3);
    assert_false(c->token_missing);
}

/* Nothing new can be had: what there is serves until its last moment, and not longer; then it is an error, until it is
 * none. */
static void body_used_up(struct world *w) {
    struct cloud *c = &w->cloud;
    metadata_on(w);
    reopen(w);
    expect(w, "AKIA0", TOKEN, NOW_MS + 3600000);
    c->token_status = 503;
    clock_ms += 3590000;
    expect(w, "AKIA0", TOKEN, NOW_MS + 3600000);
    assert_true(c->requests > 3); /* it was waited for */
    clock_ms += 10000;
    assert_int_equal(get(w), ERR_UNAVAILABLE);
    assert_non_null(strstr(w->why, w->endpoint));
    c->token_status = 200;
    c->life_s = -1;
    assert_int_equal(get(w), ERR_UNAVAILABLE);
    assert_non_null(strstr(w->why, "clock"));
    c->life_s = 100;
    expect(w, "AKIA2", TOKEN, clock_ms + 100000);
    /* A clock set far back is no reason to stop. */
    int64_t until = clock_ms + 100000;
    clock_ms -= 86400000;
    expect(w, "AKIA2", TOKEN, until);
}

static void body_metadata_errors(struct world *w) {
    struct cloud *c = &w->cloud;
    metadata_on(w);
    c->fail_first = 2;
    reopen(w);
    c->fail_first = 1;
    expect(w, "AKIA0", TOKEN, NOW_MS + 3600000);
    c->roles_status = 404;
    fails(w, ERR_NOT_FOUND, "no role");
    c->roles_status = 200;
    c->role = "../x";
    fails(w, ERR_UNAVAILABLE, "role");
    c->role = "";
    fails(w, ERR_UNAVAILABLE, "role");
    c->role = "my-role";
    c->token_status = 403;
    fails(w, ERR_PERMISSION, "hop limit");
    c->token_status = 404;
    fails(w, ERR_NOT_FOUND, "metadata");
    c->token_status = 200;
    c->keys_status = 404;
    fails(w, ERR_UNAVAILABLE, "my-role");
    c->keys_status = 200;
    static const char *const bodies[] = {
        "",
        "{",
        "[]",
        "null",
        "{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"" SECRET "\"}",
        "{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"" SECRET "\",\"Token\":\"t\"}",
        "{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":5,\"Token\":\"t\","
        "\"Expiration\":\"2026-01-01T01:00:00Z\"}",
        "{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"" SECRET "\",\"Token\":\"t\","
        "\"Expiration\":\"tomorrow\"}"};
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        c->keys_body = bodies[i];
        fails(w, ERR_UNAVAILABLE, "gives no keys");
    }
    c->keys_body = "{\"AccessKeyId\":\"A\\nB\",\"SecretAccessKey\":\"" SECRET "\",\"Token\":\"t\","
                   "\"Expiration\":\"2026-01-01T01:00:00Z\"}";
    fails(w, ERR_INVALID, "unprintable");
    /* Nobody there at all; and not even asked. */
    cloud_stop(c);
    fails(w, ERR_NOT_FOUND, w->endpoint);
    w->options.aws_ec2_metadata_disabled = "true";
    fails(w, ERR_NOT_FOUND, "DISABLED");
}

/* --- Many at once. */

struct crowd {
    struct world *w;
    int running;
    _Atomic int done, failed;
    bool elsewhere;
};

static void crowd_one(void *arg) {
    struct crowd *x = arg;
    struct s3_credentials got;
    char why[100] = "";
    enum err e = s3_credentials_get(x->w->source, &got, why, sizeof(why));
    if (e != OK)
        x->failed++;
    else if (strncmp(got.access_key, "AKIA", 4) != 0)
        abort();
    s3_credentials_wipe(&got);
    x->done++;
}

static void body_many(struct world *w) {
    struct cloud *c = &w->cloud;
    struct loop *other;
    metadata_on(w);
    assert_int_equal(env_loop_start(w->env, "other", &other), OK);
    reopen(w);
    struct crowd x = {.w = w};
    for (int i = 0; i < 40; i++) loop_spawn(i % 2 ? other : loop_current(), "one", crowd_one, &x);
    until_count(&x.done, 40);
    assert_int_equal(x.failed, 0);
    assert_int_equal(c->requests, 3); /* one fetch for all */
    /* A failure, too, is everybody's. */
    clock_ms += 3600000;
    c->token_status = 403;
    int before = c->requests;
    x.done = 0;
    for (int i = 0; i < 40; i++) loop_spawn(loop_current(), "one", crowd_one, &x);
    until_count(&x.done, 40);
    assert_int_equal(x.failed, 40);
    assert_int_equal(c->requests, before + 1);
    /* Closed while a renewal has just been begun. */
    c->token_status = 200;
    assert_int_equal(get(w), OK);
    clock_ms += 3000000;
    assert_int_equal(get(w), OK);
    reopen(w);
    loop_stop(other);
}

/* --- Web identity. */

static void body_identity(struct world *w) {
    struct cloud *c = &w->cloud;
    struct s3_credentials_options *o = &w->options;
    o->aws_web_identity_token_file = write_file(w, "token", IDENTITY "\n");
    fails(w, ERR_INVALID, "AWS_ROLE_ARN");
    o->aws_role_arn = "arn:aws:iam::1:role/r+x";
    reopen(w);
    expect(w, "STS0", TOKEN, NOW_MS + 3600000);
    assert_string_equal(s3_credentials_origin(w->source), "web identity");
    assert_string_equal(c->form, "Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr%2Bx&"
                                 "RoleSessionName=oxbow&Version=2011-06-15&WebIdentityToken=" IDENTITY);
    /* The file is read anew for each renewal. */
    write_file(w, "token", "eyJ.another");
    o->aws_role_session_name = "mine";
    clock_ms += 3600000;
    expect(w, "STS1", TOKEN, NOW_MS + 7200000);
    assert_non_null(strstr(c->form, "WebIdentityToken=eyJ.another"));
    reopen(w);
    expect(w, "STS2", TOKEN, NOW_MS + 7200000);
    assert_non_null(strstr(c->form, "RoleSessionName=mine&"));
    c->fail_first = 2;
    reopen(w);
    expect(w, "STS5", TOKEN, NOW_MS + 7200000);
    /* From a profile. */
    o->aws_web_identity_token_file = NULL;
    char profile[400];
    snprintf(profile, sizeof(profile), "[profile p]\nrole_arn=arn:p\nweb_identity_token_file=%s\n",
             in_folder(w, "token"));
    o->aws_config_file = write_file(w, "config", profile);
    o->aws_profile = "p";
    reopen(w);
    expect(w, "STS6", TOKEN, NOW_MS + 7200000);
    assert_string_equal(s3_credentials_origin(w->source), "profile p");
    assert_non_null(strstr(c->form, "RoleArn=arn%3Ap&"));
}

static void body_identity_errors(struct world *w) {
    struct cloud *c = &w->cloud;
    struct s3_credentials_options *o = &w->options;
    o->aws_web_identity_token_file = write_file(w, "token", IDENTITY);
    o->aws_role_arn = "arn:r";
    c->sts_status = 403;
    c->sts_body = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>" SECRET
                  "</Message></Error></ErrorResponse>";
    fails(w, ERR_PERMISSION, "AccessDenied");
    assert_non_null(strstr(w->why, "arn:r"));
    c->sts_status = 400;
    c->sts_body = "<Error><Code>IDPCommunicationError</Code></Error>";
    fails(w, ERR_UNAVAILABLE, "IDPCommunicationError");
    c->sts_body = "<Error><Code>" TOKEN "</Code></Error>"; /* whatever it is, it is not shown */
    fails(w, ERR_PERMISSION, "400");
    c->sts_body = "";
    fails(w, ERR_PERMISSION, "400");
    c->sts_status = 500;
    fails(w, ERR_UNAVAILABLE, "500");
    c->sts_status = 200;
    static const char *const bodies[] = {
        "",
        "<html>",
        "<Credentials>",
        "<Credentials></Credentials>",
        "<Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>" SECRET "</SecretAccessKey><SessionToken>t"
        "</SessionToken><Expiration>2026</Expiration></Credentials>",
        "<Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey/><SessionToken>t</SessionToken>"
        "<Expiration>2026-01-01T01:00:00Z</Expiration></Credentials>"};
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        c->sts_body = bodies[i];
        fails(w, ERR_UNAVAILABLE, "is no STS");
    }
    o->aws_web_identity_token_file = in_folder(w, "gone");
    fails(w, ERR_INVALID, "AWS_WEB_IDENTITY_TOKEN_FILE");
    o->aws_web_identity_token_file = in_folder(w, "token");
    cloud_stop(c);
    fails(w, ERR_UNAVAILABLE, "AWS_ENDPOINT_URL_STS");
}

static void test_times(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"1970-01-01T00:00:00Z", 0},
                {"2000-02-29T23:59:59Z", 951868799000},
                {"2026-01-01T00:00:00.999999Z", NOW_MS},
                {"2026-01-01T00:00:00+00:00", NOW_MS},
                {"2100-03-01T00:00:00Z", 4107542400000}};
    static const char *const bad[] = {"",
                                      "2026-01-01",
                                      "2026-01-01T00:00:00",
                                      "2026-01-01T00:00:00+01:00",
                                      "2026-13-01T00:00:00Z",
                                      "2026-00-01T00:00:00Z",
                                      "2026-01-01T24:00:00Z",
                                      "2026-01-01 00:00:00Z",
                                      "2026-01--1T00:00:00Z",
                                      "1969-01-01T00:00:00Z",
                                      "2026-01-01T00:00:00Zx"};
    int64_t ms = 0;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(s3_time_parse(good[i].text, &ms), OK);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) assert_int_equal(s3_time_parse(bad[i], &ms), ERR_PROTOCOL);
}

#define TEST(name)                                                                                                     \
    static void test_##name(void **state) {                                                                            \
        (void)state;                                                                                                   \
        world_run(body_##name);                                                                                        \
    }
TEST(environment)
TEST(files)
TEST(refused)
TEST(metadata)
TEST(used_up)
TEST(metadata_errors)
TEST(many)
TEST(identity)
TEST(identity_errors)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment), cmocka_unit_test(test_files),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_metadata),    cmocka_unit_test(test_used_up),  cmocka_unit_test(test_metadata_errors),
        cmocka_unit_test(test_many),        cmocka_unit_test(test_identity), cmocka_unit_test(test_identity_errors),
        cmocka_unit_test(test_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
