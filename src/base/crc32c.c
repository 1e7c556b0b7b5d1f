#include "base/crc32c.h"

#include <isa-l/crc.h>

#include "base/assert.h"

uint32_t crc32c(uint32_t crc, const void *data, size_t size) {
    /* ISA-L takes an int length, and neither inverts before nor after. */
    const unsigned char *p = data;
    crc = ~crc;
    while (size > 0) {
        size_t part = size < (1u << 30) ? size : (1u << 30);
        crc = crc32_iscsi((unsigned char *)(uintptr_t)p, (int)part, crc);
        p += part;
        size -= part;
    }
    return ~crc;
}

/* Polynomials over GF(2) modulo Castagnoli's, bit-reflected: bit 31 is x^0. */
#define CRC32C_POLY 0x82f63b78u

static uint32_t poly_multiply(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (uint32_t bit = 1u << 31; bit && a; bit >>= 1) {
        if (a & bit) {
            product ^= b;
            a ^= bit;
        }
        b = (b >> 1) ^ (CRC32C_POLY & -(b & 1));
    }
    return product;
}

/* x^(8 * 2^k): shifting by 2^k zero bytes is one multiplication with it. */
static const uint32_t *byte_powers(void) {
    static uint32_t powers[64];
    static _Atomic int ready;
    if (!ready) {
        uint32_t p = 1u << 23; /* x^8 */
        for (int k = 0; k < 64; k++) {
            __atomic_store_n(&powers[k], p, __ATOMIC_RELAXED);
            p = poly_multiply(p, p);
        }
        ready = 1;
    }
    return powers;
}

uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t size_b) {
    const uint32_t *powers = byte_powers();
    for (int k = 0; size_b; k++, size_b >>= 1) {
        if (size_b & 1) crc_a = poly_multiply(powers[k], crc_a);
    }
    return crc_a ^ crc_b;
}
