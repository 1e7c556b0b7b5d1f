/* Any bytes as a properties file, and as the addresses that one may hold: pairs are texts without NUL; a configuration
 * that was accepted prints as a file that is accepted again. */
#include "base/assert.h"
#include "broker/config.h"
#include "broker/properties.h"
#include "broker/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void pairs(struct mem *m, const char *text, size_t size) {
    struct properties p;
    const char *key, *value, *why = NULL;
    properties_init(&p, m, text, size);
    enum err e;
    size_t bytes = 0;
    unsigned line = 0;
    while ((e = properties_next(&p, &key, &value, &why)) == OK) {
        bytes += strlen(key) + strlen(value);
        ASSERT(p.line >= line);
        line = p.line;
        char text_why[256];
        struct storage_url storage;
        struct wal_url wal;
        struct listener_url listener;
        char host[64];
        uint16_t port;
        int64_t n;
        if (storage_url_parse(value, &storage, text_why, sizeof(text_why)) != OK) ASSERT(text_why[0]);
        if (wal_url_parse(value, &wal, text_why, sizeof(text_why)) != OK) ASSERT(text_why[0]);
        if (listener_url_parse(value, &listener, text_why, sizeof(text_why)) != OK) ASSERT(text_why[0]);
        if (host_port_parse(value, host, sizeof(host), &port, text_why, sizeof(text_why)) != OK) ASSERT(text_why[0]);
        (void)size_parse(value, &n);
    }
    ASSERT(e == ERR_NOT_FOUND || (e == ERR_INVALID && why));
    ASSERT(bytes <= 3 * size); /* an escape of six bytes makes three at most */
    properties_deinit(&p);
}

static void config(struct mem *m, const char *text, size_t size) {
    struct config c, again;
    char why[CONFIG_WHY_SIZE];
    config_init_defaults(&c, m);
    if (config_load(&c, text, size, "fuzz", why, sizeof(why)) == OK && config_check(&c, why, sizeof(why)) == OK) {
        struct buf out;
        buf_init(&out, m);
        config_print(&c, &out);
        config_init_defaults(&again, m);
        enum err e = config_load(&again, (const char *)out.data, out.size, "printed", why, sizeof(why));
        ASSERT(e == OK);
        e = config_check(&again, why, sizeof(why));
        ASSERT(e == OK);
        config_deinit(&again);
        buf_deinit(&out);
    }
    config_deinit(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem m;
    mem_init_heap(&m);
    char *text = mem_alloc(&m, size + 1);
    memcpy(text, data, size);
    pairs(&m, text, size);
    config(&m, text, size);
    mem_free(&m, text);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
