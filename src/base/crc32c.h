/* CRC32C (Castagnoli), as in RFC 3720 and Kafka's record batches: crc32c(0, "123456789", 9) == 0xe3069283. */
#ifndef OXBOW_BASE_CRC32C_H
#define OXBOW_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to begin) over `size` bytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);
/* The checksum of A followed by B, from crc32c(0,A), crc32c(0,B) and B's length: no byte is read again. */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t size_b);

#endif
