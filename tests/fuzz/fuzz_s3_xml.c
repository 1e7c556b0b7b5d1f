/* Any bytes as S3's answers in XML: refused or understood, never more than that; what is listed lies below the prefix. */
#include <string.h>

#include "base/assert.h"
#include "store/s3_xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void failed(void *ctx, const char *key, const char *code) {
    ASSERT(!ctx && strlen(key) <= 1024 && strlen(code) < 64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem m;
    mem_init_heap(&m);
    struct s3_error error;
    enum err e = s3_xml_error(&m, data, size, &error);
    ASSERT(e == OK ? error.code[0] != '\0' : error.code[0] == '\0');
    for (const char *c = error.code; *c; c++) ASSERT(*c >= ' ' && *c <= '~' && *c != '"');
    struct store_listing l;
    struct s3_xml_page page;
    store_listing_init(&l, &m);
    if (s3_xml_list(&m, data, size, "pre/", &l, &page) == OK) {
        for (size_t i = 0; i < l.count; i++) ASSERT(l.items[i].key[0] != '\0' && strlen(l.items[i].key) < 4096);
        mem_free(&m, page.token);
    }
    store_listing_deinit(&l);
    (void)!s3_xml_deleted(&m, data, size, failed, NULL);
    char *id = NULL;
    if (s3_xml_upload_id(&m, data, size, &id) == OK) ASSERT(id[0] != '\0');
    mem_free(&m, id);
    (void)!s3_xml_completed(&m, data, size, &error);
    char etag[S3_XML_ETAG_MAX];
    e = s3_xml_copied(&m, data, size, etag, &error);
    ASSERT((e == OK) == (etag[0] != '\0') && strlen(etag) < S3_XML_ETAG_MAX);
    struct store_uploads u = {.mem = &m};
    struct s3_xml_uploads next;
    if (s3_xml_uploads(&m, data, size, "pre/", &u, &next) == OK) {
        for (size_t i = 0; i < u.count; i++) ASSERT(u.items[i].id[0] != '\0');
        mem_free(&m, next.key);
        mem_free(&m, next.id);
    }
    store_uploads_deinit(&u);
    memset(&error, 0, sizeof(error));
    if (s3_xml_list(&m, data, size, "", &l, &page) == OK) mem_free(&m, page.token);
    store_listing_deinit(&l);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
