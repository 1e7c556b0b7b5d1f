/* Opening and closing of the S3 store. */
#include "store/s3.h"

#include <stdio.h>
#include <string.h>

#include "store/s3_priv.h"

#define PATIENCE_NS (10 * NS_PER_S)
#define REQUEST_NS (15 * NS_PER_S)
#define ATTEMPTS 3u

enum err s3_enter(struct s3 *s) {
    atomic_fetch_add(&s->calls, 1);
    if (!atomic_load(&s->closing)) return OK;
    s3_leave(s);
    return ERR_CANCELLED;
}

void s3_leave(struct s3 *s) {
    uint32_t before = atomic_fetch_sub(&s->calls, 1);
    ASSERT(before > 0);
}

static void s3_free(struct s3 *s) {
    struct mem *m = s->base.env->mem;
    if (s->credentials) s3_credentials_close(s->credentials);
    http_client_close(s->http);
    s3_signer_deinit(&s->signer);
    s3_hedge_deinit(&s->hedge);
    s3_uploads_forget(s);
    s->magic = s->base.magic = 0;
    mem_free(m, s);
}

/* What is under way is aborted, not waited for; but its fibers have to come out of here first. */
static void s3_close(struct store *base) {
    struct s3 *s = s3_of(base);
    atomic_store(&s->closing, true);
    http_client_stop(s->http);
    while (atomic_load(&s->calls) > 0) fiber_sleep_ns(NS_PER_MS);
    s3_free(s);
}

static const struct store_ops s3_ops = {s3_put,   s3_get,     s3_list,    s3_delete,
                                        s3_close, s3_compose, s3_uploads, s3_upload_abort};

static uint64_t or_default(uint64_t v, uint64_t otherwise) {
    return v ? v : otherwise;
}

enum err store_s3_open(const struct s3_options *o, struct store **out, char why[S3_WHY_SIZE]) {
    CHECK_OBJ(o->env, ENV_MAGIC);
    *out = NULL;
    why[0] = '\0';
    struct s3_address address;
    enum err e = s3_address_make(o, &address, why, S3_WHY_SIZE);
    if (e != OK) return e;
    struct s3 *s = MEM_NEW(o->env->mem, struct s3);
    INIT_OBJ(s, S3_MAGIC);
    s->base = (struct store){
        .magic = STORE_MAGIC, .ops = &s3_ops, .env = o->env, .exclusive = false, .list_consistent = true};
    s->address = address;
    s->patience_ns = or_default(o->patience_ns, PATIENCE_NS);
    s->request_ns = or_default(o->request_ns, REQUEST_NS);
    s->multipart_from = or_default(o->multipart_from, STORE_PART_BYTES);
    s->base.part_bytes = s->multipart_from;
    s->base.part_least = s->multipart_from < STORE_PART_LEAST ? s->multipart_from : STORE_PART_LEAST;
    s->attempts = o->attempts ? o->attempts : ATTEMPTS;
    s->read_only = o->read_only;
    s3_signer_init(&s->signer, o->env->mem, address.region, "s3");
    s3_hedge_init(&s->hedge);
    const char *literal = "";
    struct http_options http = {.env = o->env, .ca_bundle = o->ca_bundle};
    e = http_client_create(&http, &s->http, &literal);
    if (e == OK) {
        s->credentials = s3_credentials_open(o->env, s->http, &o->credentials, address.region);
        e = s3_probe(s, o->marker_key, why);
    } else {
        (void)snprintf(why, S3_WHY_SIZE, "%s", literal);
    }
    if (e != OK) {
        s3_free(s);
        return e;
    }
    *out = &s->base;
    return OK;
}
