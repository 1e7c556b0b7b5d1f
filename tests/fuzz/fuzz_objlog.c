/* Any bytes as the header of an object log's entry, with its checksum made to match when the first byte is odd. What
 * decodes encodes to the same bytes. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "objlog/objlog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    struct mem m;
    mem_init_heap(&m);
    bool repair = data[0] & 1;
    size--;
    uint8_t *copy = mem_alloc(&m, size + 1);
    memcpy(copy, data + 1, size);
    if (repair && size >= OBJLOG_HEADER_SIZE)
        le32_put(copy + OBJLOG_HEADER_SIZE - 4, crc32c(0, copy, OBJLOG_HEADER_SIZE - 4));
    struct objlog_header h;
    enum err e = objlog_header_decode(copy, size, &h);
    ASSERT(e == OK || e == ERR_FOREIGN || e == ERR_VERSION || e == ERR_CORRUPT || e == ERR_TRUNCATED);
    if (e == OK) {
        uint8_t again[OBJLOG_HEADER_SIZE];
        objlog_header_encode(&h, again);
        ASSERT(memcmp(again, copy, sizeof(again)) == 0);
    }
    mem_free(&m, copy);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
