/* Any bytes as the head and body of an HTTP answer, as libcurl hands them over: in lines and pieces. The insides of
 * store/http.c are included; libcurl is stood in for by a table of functions that know one status. u8: how the transfer
 * ended (3: cut), u16 status, u16 limit of the body, u8 the length that is announced (times 256), then u8 kind (odd: a
 * header line; even: a piece of the body; the other bits: how often it comes again) and u16 size and bytes, to the end.
 * Headers: what is found was sent, as text; an interim answer's are forgotten; their size is bounded. The body: as it
 * came, or too large. An answer whose head has no end is none. */
#include "store/http.c"

#include "feed.h"

struct fake { /* what the table answers */
    long status;
    curl_off_t announced;
};
static struct fake fake;

static CURLcode fake_getinfo(CURL *easy, CURLINFO info, ...) {
    (void)easy;
    va_list ap;
    va_start(ap, info);
    if (info == CURLINFO_RESPONSE_CODE)
        *va_arg(ap, long *) = fake.status;
    else if (info == CURLINFO_NUM_CONNECTS || info == CURLINFO_REQUEST_SIZE)
        *va_arg(ap, long *) = 1;
    else if (info == CURLINFO_STARTTRANSFER_TIME_T)
        *va_arg(ap, curl_off_t *) = 5;
    else if (info == CURLINFO_CONTENT_LENGTH_DOWNLOAD_T)
        *va_arg(ap, curl_off_t *) = fake.announced;
    va_end(ap);
    return CURLE_OK;
}
static const char *fake_strerror(CURLcode code) {
    return code == CURLE_OK ? "fine" : "broken";
}
static void fake_free(struct curl_slist *list) {
    ASSERT(list == NULL);
}

static bool header_give(struct attempt *a, char *line, size_t size) {
    bool taken = on_header(line, 1, size, a) == size;
    ASSERT(a->headers.size <= HEADERS_MAX_BYTES + 2);
    return taken;
}

static bool body_give(struct attempt *a, char *piece, size_t size, struct buf *body) {
    bool taken = on_write(piece, 1, size, a) == size;
    if (taken) buf_put(body, piece, size);
    ASSERT(taken || a->too_large);
    ASSERT(a->size == body->size && a->size <= a->limit);
    /* Room follows what has come, or what was announced within the limit. */
    ASSERT(!a->slab || a->slab->size <= a->limit);
    return taken;
}

/* False: libcurl would give up. Header lines come with their end, and are never empty. */
static bool hand_over(struct attempt *a, struct feed *f, struct buf *body) {
    uint8_t kind = feed_u8(f);
    bool header = kind & 1;
    size_t size;
    const uint8_t *piece = feed_piece(f, &size);
    /* What libcurl calls a header is one line. */
    const uint8_t *stop = header && size > 0 ? memchr(piece, '\n', size) : NULL;
    if (stop) size = (size_t)(stop - piece);
    char *copy = mem_alloc(body->mem, size + 2);
    memcpy(copy, piece, size);
    bool taken = true;
    memcpy(copy + size, "\r\n", 2);
    for (int again = kind >> 1; taken && again >= 0; again--) {
        taken = header ? header_give(a, copy, size + 2) : body_give(a, copy, size, body);
    }
    mem_free(body->mem, copy);
    return taken;
}

static void answer_check(const struct http_response *r, const struct buf *body) {
    ASSERT(r->body.size == body->size);
    if (body->size) ASSERT(memcmp(r->body.data, body->data, body->size) == 0);
    for (const char *h = r->headers; *h;) {
        const char *value = h + strlen(h) + 1;
        ASSERT(http_response_header(r, h) != NULL && !strchr(h, ':') && !strpbrk(value, "\n"));
        h = value + strlen(value) + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem m;
    mem_init_heap(&m);
    struct feed f = feed_of(data, size);
    CURLcode code = (feed_u8(&f) & 3) == 3 ? CURLE_PARTIAL_FILE : CURLE_OK;
    fake.status = feed_u16(&f);
    struct env env = {.magic = ENV_MAGIC, .mem = &m};
    struct http_client client = {
        .env = &env,
        .curl = {.easy_getinfo = fake_getinfo, .easy_strerror = fake_strerror, .slist_free_all = fake_free}};
    struct http_request request = {.response_max_bytes = feed_u16(&f)};
    struct http_response response = {.mem = &m};
    struct exchange x = {.client = &client, .request = &request, .response = &response};
    struct attempt *a = &x.attempts[0];
    *a = (struct attempt){.exchange = &x, .limit = request.response_max_bytes};
    fake.announced = (curl_off_t)feed_u8(&f) * 256;
    buf_init(&a->headers, &m);
    struct buf body;
    buf_init(&body, &m);
    while (feed_left(&f) > 0) {
        if (!hand_over(a, &f, &body)) {
            code = CURLE_WRITE_ERROR;
            break;
        }
    }
    enum err e = error_of(&client, a, code);
    ASSERT(e != OK || (a->head_whole && code == CURLE_OK));
    answer_take(&client, &x, a, code);
    if (e == OK) answer_check(&response, &body);
    if (e != OK) ASSERT(response.headers == NULL && response.body.size == 0 && response.why[0]);
    attempt_end(&client, a);
    http_response_deinit(&response);
    buf_deinit(&body);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
