/* The source of credentials: which of the places is configured, and the set that is current.
 *
 * The current set lies under a lock, for any loop to copy. Getting new ones is the home loop's business: one fetch at a
 * time, in a fiber; who finds the set used up goes there and waits, and those who waited for a fetch share its outcome
 * instead of each asking again. Over a set's life of L (from fetch to expiry), it is renewed in the background when
 * min(15 min, L/4) are left, and waited for when min(1 min, L/16) are left; tries in the background keep min(30 s,
 * L/16) between them, for a metadata service goes on giving the old keys until shortly before they end. */
#include "store/s3_credentials.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

#include "store/s3_credentials_priv.h"

#define MINUTE_MS 60000
#define REFUSED_PAUSE_MS 10000

void s3_credentials_wipe(struct s3_credentials *c) {
    OPENSSL_cleanse(c, sizeof(*c));
}

enum err s3_credentials_say(char *why, enum err e, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(why, S3_CREDENTIALS_WHY_SIZE, format, ap);
    va_end(ap);
    return e;
}

enum err s3_credentials_set(char *field, size_t field_size, const char *value, size_t size) {
    if (size >= field_size) return ERR_TOO_LARGE;
    memcpy(field, value, size);
    field[size] = '\0';
    return OK;
}

/* A header's value may hold nothing that would end it. */
static bool visible(const char *s) {
    for (; *s; s++) {
        if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f) return false;
    }
    return true;
}

enum err s3_credentials_check(const struct s3_credentials *c, const char *origin, char *why) {
    const char *wrong = !c->access_key[0]               ? "the access key is empty"
                        : !c->secret[0]                 ? "the secret key is empty"
                        : !visible(c->access_key)       ? "the access key holds blanks or unprintable characters"
                        : !visible(c->secret)           ? "the secret key holds blanks or unprintable characters"
                        : !visible(c->token)            ? "the session token holds blanks or unprintable characters"
                        : strpbrk(c->access_key, "/,=") ? "the access key holds one of / , ="
                                                        : NULL;
    if (!wrong) return OK;
    return s3_credentials_say(why, ERR_INVALID, "the S3 credentials from %s cannot be used: %s", origin, wrong);
}

/* --- The places, in order. Each answers ERR_NOT_FOUND when it is not configured. */

static enum err take_keys(struct s3_credentials *c, struct s3_text access_key, struct s3_text secret,
                          struct s3_text token) {
    enum err e = s3_credentials_set(c->access_key, sizeof(c->access_key), access_key.at, access_key.size);
    if (e == OK) e = s3_credentials_set(c->secret, sizeof(c->secret), secret.at, secret.size);
    if (e == OK && token.size > 0) e = s3_credentials_set(c->token, sizeof(c->token), token.at, token.size);
    c->expires_ms = INT64_MAX;
    return e;
}

static struct s3_text text_of(const char *s) {
    return (struct s3_text){s, strlen(s)};
}

static enum err from_strings(const char *access_key, const char *secret, const char *token, const char *origin,
                             const char *names, struct s3_credentials *out, char *why) {
    if (!access_key[0] && !secret[0]) return ERR_NOT_FOUND;
    if (!access_key[0] || !secret[0]) {
        return s3_credentials_say(why, ERR_INVALID, "only one of %s is set: set both, or none", names);
    }
    if (take_keys(out, text_of(access_key), text_of(secret), text_of(token)) != OK) {
        return s3_credentials_say(why, ERR_INVALID, "the S3 credentials from %s are too long", origin);
    }
    return s3_credentials_check(out, origin, why);
}

static enum err from_environment_identity(struct s3_credentials_source *s, struct s3_credentials *out, char *why) {
    if (!s->set.identity_file[0]) return ERR_NOT_FOUND;
    if (!s->set.role_arn[0]) {
        return s3_credentials_say(why, ERR_INVALID, "AWS_WEB_IDENTITY_TOKEN_FILE is set but AWS_ROLE_ARN is not");
    }
    const char *session = s->set.session_name[0] ? s->set.session_name : "oxbow";
    return s3_web_identity_fetch(s, s->set.identity_file, s->set.role_arn, session, out, why);
}

static enum err shared_file_read(struct s3_credentials_source *s, const char *path, struct buf *out, char *why) {
    buf_init(out, s->env->mem);
    /* /dev/null is how people say that a file is not to be looked at. */
    if (!path[0] || strcmp(path, "/dev/null") == 0) return OK;
    enum err e = s3_file_read(s->env, path, out);
    if (e == OK || e == ERR_NOT_FOUND) return OK;
    return s3_credentials_say(why, e == ERR_IO ? ERR_UNAVAILABLE : ERR_INVALID, "%s cannot be read: %s", path,
                              err_text(e));
}

static enum err profile_identity(struct s3_credentials_source *s, const struct s3_profile *p,
                                 struct s3_credentials *out, char *why) {
    struct mem *m = s->env->mem;
    char *file = mem_strndup(m, p->identity_file.at, p->identity_file.size);
    char *role = mem_strndup(m, p->role_arn.at, p->role_arn.size);
    char *session = p->session_name.at ? mem_strndup(m, p->session_name.at, p->session_name.size)
                                       : mem_strdup(m, s->set.session_name[0] ? s->set.session_name : "oxbow");
    enum err e = s3_web_identity_fetch(s, file, role, session, out, why);
    mem_free(m, file);
    mem_free(m, role);
    mem_free(m, session);
    return e;
}

static enum err profile_use(struct s3_credentials_source *s, const struct s3_profile *p, struct s3_credentials *out,
                            char *why) {
    const char *name = s->set.profile;
    if (p->role_arn.at && p->identity_file.at) return profile_identity(s, p, out, why);
    const char *other = p->role_arn.at ? "role_arn without web_identity_token_file" : NULL;
    if (!other && p->access_key.at && p->secret.at) {
        if (take_keys(out, p->access_key, p->secret, p->token) != OK) {
            return s3_credentials_say(why, ERR_INVALID, "the S3 credentials of profile %s are too long", name);
        }
        return s3_credentials_check(out, s->origin_text, why);
    }
    if (!other && (p->access_key.at || p->secret.at)) {
        return s3_credentials_say(why, ERR_INVALID,
                                  "profile %s has only one of aws_access_key_id and aws_secret_access_key", name);
    }
    if (!other && p->credential_process.at) other = "credential_process";
    if (!other && p->sso.at) other = "SSO";
    if (other) {
        return s3_credentials_say(why, ERR_INVALID,
                                  "profile %s uses %s, which is not supported: give it keys, or role_arn with "
                                  "web_identity_token_file",
                                  name, other);
    }
    if (!s->set.profile_named) return ERR_NOT_FOUND;
    return s3_credentials_say(why, ERR_INVALID, "profile %s is %s %s%s%s", name,
                              p->found ? "without keys in" : "not in", s->set.credentials_file,
                              s->set.config_file[0] ? " and " : "", s->set.config_file);
}

static enum err from_shared_files(struct s3_credentials_source *s, struct s3_credentials *out, char *why) {
    struct buf credentials, config;
    struct s3_profile p = {0};
    buf_init(&config, s->env->mem);
    enum err e = shared_file_read(s, s->set.credentials_file, &credentials, why);
    if (e == OK) e = shared_file_read(s, s->set.config_file, &config, why);
    if (e == OK) {
        if (config.size) s3_profile_parse(&p, (const char *)config.data, config.size, s->set.profile, true);
        if (credentials.size) {
            s3_profile_parse(&p, (const char *)credentials.data, credentials.size, s->set.profile, false);
        }
        e = profile_use(s, &p, out, why);
    }
    s3_file_wipe(&credentials);
    s3_file_wipe(&config);
    return e;
}

static enum err from_metadata(struct s3_credentials_source *s, struct s3_credentials *out, char *why) {
    if (s->set.metadata_disabled) {
        return s3_credentials_say(why, ERR_NOT_FOUND, "AWS_EC2_METADATA_DISABLED is set");
    }
    return s3_metadata_fetch(s, out, why);
}

static enum err fetch(struct s3_credentials_source *s, struct s3_credentials *out, const char **origin, char *why) {
    const struct s3_settings *set = &s->set;
    memset(out, 0, sizeof(*out));
    *origin = "the configuration";
    enum err e = from_strings(set->given_access_key, set->given_secret, set->given_token, *origin,
                              "access key and secret key", out, why);
    if (e != ERR_NOT_FOUND) return e;
    *origin = "environment";
    e = from_strings(set->access_key, set->secret, set->token, "the environment",
                     "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", out, why);
    if (e != ERR_NOT_FOUND) return e;
    *origin = "web identity";
    e = from_environment_identity(s, out, why);
    if (e != ERR_NOT_FOUND) goto check;
    *origin = s->origin_text;
    e = from_shared_files(s, out, why);
    if (e != ERR_NOT_FOUND) goto check;
    *origin = "instance metadata";
    e = from_metadata(s, out, why);
    if (e == ERR_NOT_FOUND) {
        char detail[S3_CREDENTIALS_WHY_SIZE];
        (void)snprintf(detail, sizeof(detail), "%s", why);
        return s3_credentials_say(why, e,
                                  "no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or make "
                                  "the profile %s in ~/.aws/credentials, or give the machine a role (%.200s)",
                                  set->profile, detail);
    }
check:
    if (e == OK) e = s3_credentials_check(out, *origin, why);
    if (e == OK && out->expires_ms <= env_wall_ms(s->env)) {
        e = s3_credentials_say(why, ERR_UNAVAILABLE,
                               "the S3 credentials from %s have expired already: check this machine's clock", *origin);
    }
    return e;
}

/* --- What is current. */

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

enum state { USED_UP, TO_BE_RENEWED, FRESH };

/* Under the lock. */
static enum state state_of(const struct s3_credentials_source *s, int64_t wall_ms) {
    if (!s->have || s->refused) return USED_UP;
    if (s->now.expires_ms == INT64_MAX) return FRESH;
    int64_t life = s->now.expires_ms - s->fetched_wall_ms, left = s->now.expires_ms - wall_ms;
    if (left <= smaller(MINUTE_MS, life / 16)) return USED_UP;
    return left <= smaller(15 * MINUTE_MS, life / 4) ? TO_BE_RENEWED : FRESH;
}

/* Wall time like the expiry itself. A clock that was set back has passed it, so that nothing waits for it to return. */
static bool passed(int64_t since_ms, int64_t pause_ms, int64_t wall_ms) {
    return wall_ms < since_ms || wall_ms - since_ms >= pause_ms;
}

/* Under the lock: has the last try been long enough ago for another one in the background? */
static bool background_due(const struct s3_credentials_source *s, int64_t wall_ms) {
    int64_t pause_ms = smaller(MINUTE_MS / 2, (s->now.expires_ms - s->fetched_wall_ms) / 16);
    return !s->renewing && passed(s->tried_wall_ms, pause_ms, wall_ms);
}

/* On the home loop, holding `fetching`. Suspends. */
static enum err renew(struct s3_credentials_source *s) {
    struct s3_credentials got;
    const char *origin;
    char why[S3_CREDENTIALS_WHY_SIZE] = "";
    int64_t began_ms = env_wall_ms(s->env);
    enum err e = fetch(s, &got, &origin, why);
    pthread_mutex_lock(&s->lock);
    s->tried_wall_ms = began_ms;
    bool news =
        e == OK && (!s->have || strcmp(s->now.access_key, got.access_key) != 0 || strcmp(s->now.token, got.token) != 0);
    if (e == OK) {
        s->now = got;
        s->have = true;
        s->refused = false;
        s->fetched_wall_ms = began_ms;
    }
    pthread_mutex_unlock(&s->lock);
    s3_credentials_wipe(&got);
    s->attempts++;
    s->last_err = e;
    memcpy(s->last_why, why, sizeof(why));
    if (e == OK) s->origin = origin;
    char text[S3_CREDENTIALS_WHY_SIZE + 32];
    if (news)
        log_info(s->env->log, "S3 credentials", "origin=%s", log_quote(text, sizeof(text), origin, strlen(origin)));
    if (e != OK && s->have) {
        log_warn(s->env->log, "S3 credentials not renewed", "why=%s", log_quote(text, sizeof(text), why, strlen(why)));
    }
    return e;
}

static void renew_in_background(void *arg) {
    struct s3_credentials_source *s = arg;
    fiber_mutex_lock(&s->fetching);
    pthread_mutex_lock(&s->lock);
    bool needed = state_of(s, env_wall_ms(s->env)) != FRESH; /* somebody may have waited, and fetched */
    pthread_mutex_unlock(&s->lock);
    if (needed && renew(s) != OK) {
    } /* said in the log; what is there is used as long as it lasts */
    fiber_mutex_unlock(&s->fetching);
    pthread_mutex_lock(&s->lock);
    s->renewing = false;
    pthread_mutex_unlock(&s->lock);
    waitgroup_done(&s->background);
}

/* Counts it on the home loop before it runs, so that a close waits for it. */
static void renew_begin(void *arg) {
    struct s3_credentials_source *s = arg;
    waitgroup_add(&s->background);
    renew_in_background(s);
}

struct get {
    struct s3_credentials_source *source;
    struct s3_credentials *out;
    char *why;
    size_t why_size;
    enum err result;
};

/* Under the lock. */
static void copy(const struct s3_credentials_source *s, struct s3_credentials *out) {
    memcpy(out, &s->now, sizeof(*out));
}

/* On the home loop: fetches, or waits for who does. Suspends. */
static void get_at_home(void *arg) {
    struct get *g = arg;
    struct s3_credentials_source *s = g->source;
    uint64_t attempts = s->attempts;
    waitgroup_add(&s->background);
    fiber_mutex_lock(&s->fetching);
    pthread_mutex_lock(&s->lock);
    bool there = state_of(s, env_wall_ms(s->env)) != USED_UP;
    pthread_mutex_unlock(&s->lock);
    /* A fetch that ended while this one waited has answered for both. */
    g->result = there ? OK : s->attempts != attempts ? s->last_err : renew(s);
    pthread_mutex_lock(&s->lock);
    /* What could not be renewed but has not ended is better than nothing. */
    if (g->result != OK && s->have && !s->refused && s->now.expires_ms > env_wall_ms(s->env)) g->result = OK;
    if (g->result == OK) copy(s, g->out);
    pthread_mutex_unlock(&s->lock);
    if (g->result != OK && g->why) (void)snprintf(g->why, g->why_size, "%s", s->last_why);
    fiber_mutex_unlock(&s->fetching);
    waitgroup_done(&s->background);
}

enum err s3_credentials_get(struct s3_credentials_source *s, struct s3_credentials *out, char *why, size_t why_size) {
    CHECK_OBJ(s, S3_CREDENTIALS_SOURCE_MAGIC);
    int64_t wall_ms = env_wall_ms(s->env);
    bool begin = false;
    pthread_mutex_lock(&s->lock);
    enum state state = state_of(s, wall_ms);
    if (state != USED_UP) copy(s, out);
    if (state == TO_BE_RENEWED && background_due(s, wall_ms)) begin = s->renewing = true;
    pthread_mutex_unlock(&s->lock);
    if (begin) loop_spawn(s->home, "s3 credentials", renew_begin, s);
    if (state != USED_UP) return OK;
    struct get g = {s, out, why, why_size, OK};
    loop_call(s->home, get_at_home, &g);
    if (g.result != OK) s3_credentials_wipe(out);
    return g.result;
}

void s3_credentials_refused(struct s3_credentials_source *s, const struct s3_credentials *c) {
    CHECK_OBJ(s, S3_CREDENTIALS_SOURCE_MAGIC);
    int64_t wall_ms = env_wall_ms(s->env);
    pthread_mutex_lock(&s->lock);
    bool these = s->have && strcmp(s->now.access_key, c->access_key) == 0 && strcmp(s->now.secret, c->secret) == 0 &&
                 strcmp(s->now.token, c->token) == 0;
    if (these && passed(s->fetched_wall_ms, REFUSED_PAUSE_MS, wall_ms)) s->refused = true;
    pthread_mutex_unlock(&s->lock);
}

const char *s3_credentials_origin(const struct s3_credentials_source *s) {
    CHECK_OBJ(s, S3_CREDENTIALS_SOURCE_MAGIC);
    return s->origin;
}

/* --- Opening and closing. */

static char *kept(struct mem *m, const char *value, const char *otherwise) {
    return mem_strdup(m, value && value[0] ? value : otherwise);
}

static char *home_path(struct mem *m, const char *value, const char *home, const char *name) {
    if (value && value[0]) return mem_strdup(m, value);
    return home && home[0] ? mem_printf(m, "%s/.aws/%s", home, name) : mem_strdup(m, "");
}

static char *sts_endpoint(struct mem *m, const struct s3_credentials_options *o, const char *region) {
    if (o->aws_endpoint_url_sts && o->aws_endpoint_url_sts[0]) return mem_strdup(m, o->aws_endpoint_url_sts);
    if (o->aws_region && o->aws_region[0]) region = o->aws_region;
    if (!region || !region[0]) return mem_strdup(m, "https://sts.amazonaws.com");
    return mem_printf(m, "https://sts.%s.amazonaws.com%s", region, strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

struct s3_credentials_source *s3_credentials_open(struct env *env, struct http_client *http,
                                                  const struct s3_credentials_options *o, const char *region) {
    struct mem *m = env->mem;
    struct s3_credentials_source *s = MEM_NEW(m, struct s3_credentials_source);
    INIT_OBJ(s, S3_CREDENTIALS_SOURCE_MAGIC);
    s->env = env;
    s->http = http;
    s->home = loop_current();
    ASSERT(s->home != NULL);
    s->set = (struct s3_settings){
        .given_access_key = kept(m, o->access_key, ""),
        .given_secret = kept(m, o->secret, ""),
        .given_token = kept(m, o->token, ""),
        .access_key = kept(m, o->aws_access_key_id, ""),
        .secret = kept(m, o->aws_secret_access_key, ""),
        .token = kept(m, o->aws_session_token, ""),
        .identity_file = kept(m, o->aws_web_identity_token_file, ""),
        .role_arn = kept(m, o->aws_role_arn, ""),
        .session_name = kept(m, o->aws_role_session_name, ""),
        .sts_endpoint = sts_endpoint(m, o, region),
        .credentials_file = home_path(m, o->aws_shared_credentials_file, o->home, "credentials"),
        .config_file = home_path(m, o->aws_config_file, o->home, "config"),
        .profile = kept(m, o->aws_profile, "default"),
        .profile_named = o->aws_profile && o->aws_profile[0],
        .metadata_endpoint = kept(m, o->aws_ec2_metadata_service_endpoint, "http://169.254.169.254"),
        .metadata_disabled = o->aws_ec2_metadata_disabled && strcmp(o->aws_ec2_metadata_disabled, "true") == 0};
    for (size_t n = strlen(s->set.metadata_endpoint); n > 0 && s->set.metadata_endpoint[n - 1] == '/'; n--) {
        s->set.metadata_endpoint[n - 1] = '\0';
    }
    s->origin_text = mem_printf(m, "profile %s", s->set.profile);
    s->origin = "none";
    ASSERT(pthread_mutex_init(&s->lock, NULL) == 0);
    fiber_mutex_init(&s->fetching);
    waitgroup_init(&s->background);
    return s;
}

static void wipe_free(struct mem *m, char *s) {
    OPENSSL_cleanse(s, strlen(s));
    mem_free(m, s);
}

void s3_credentials_close(struct s3_credentials_source *s) {
    CHECK_OBJ(s, S3_CREDENTIALS_SOURCE_MAGIC);
    ASSERT(loop_current() == s->home);
    struct mem *m = s->env->mem;
    /* One that a get has just sent for may not have begun: it is mail to this loop. */
    for (;;) {
        waitgroup_wait(&s->background);
        pthread_mutex_lock(&s->lock);
        bool coming = s->renewing;
        pthread_mutex_unlock(&s->lock);
        if (!coming && s->background.running == 0) break;
        fiber_sleep_ns(NS_PER_MS);
    }
    char *const all[] = {s->set.given_access_key, s->set.given_secret,
                         s->set.given_token,      s->set.access_key,
                         s->set.secret,           s->set.token,
                         s->set.identity_file,    s->set.role_arn,
                         s->set.session_name,     s->set.sts_endpoint,
                         s->set.credentials_file, s->set.config_file,
                         s->set.profile,          s->set.metadata_endpoint,
                         s->origin_text};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) wipe_free(m, all[i]);
    pthread_mutex_destroy(&s->lock);
    OPENSSL_cleanse(s, sizeof(*s));
    mem_free(m, s);
}
