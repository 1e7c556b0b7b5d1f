#include "partition/clean_map.h"

#include "base/assert.h"
#include "base/bytes.h"

struct sip {
    uint64_t v0, v1, v2, v3;
};

static uint64_t rotate(uint64_t v, unsigned n) {
    return v << n | v >> (64 - n);
}

static void sip_rounds(struct sip *s, unsigned n) {
    for (; n > 0; n--) {
        s->v0 += s->v1;
        s->v1 = rotate(s->v1, 13) ^ s->v0;
        s->v0 = rotate(s->v0, 32);
        s->v2 += s->v3;
        s->v3 = rotate(s->v3, 16) ^ s->v2;
        s->v0 += s->v3;
        s->v3 = rotate(s->v3, 21) ^ s->v0;
        s->v2 += s->v1;
        s->v1 = rotate(s->v1, 17) ^ s->v2;
        s->v2 = rotate(s->v2, 32);
    }
}

static void sip_word(struct sip *s, uint64_t word) {
    s->v3 ^= word;
    sip_rounds(s, 2);
    s->v0 ^= word;
}

static uint64_t sip_sum(const struct sip *s) {
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

void clean_hash(const uint64_t secret[2], const void *key, size_t size, uint64_t out[2]) {
    struct sip s = {secret[0] ^ 0x736f6d6570736575u, secret[1] ^ 0x646f72616e646f6du ^ 0xee,
                    secret[0] ^ 0x6c7967656e657261u, secret[1] ^ 0x7465646279746573u};
    const uint8_t *at = key;
    size_t left = size;
    for (; left >= 8; left -= 8, at += 8) sip_word(&s, le64_get(at));
    uint64_t last = (uint64_t)size << 56;
    for (size_t i = 0; i < left; i++) last |= (uint64_t)at[i] << (8 * i);
    sip_word(&s, last);
    s.v2 ^= 0xee;
    sip_rounds(&s, 4);
    out[0] = sip_sum(&s);
    s.v1 ^= 0xdd;
    sip_rounds(&s, 4);
    out[1] = sip_sum(&s);
}

void clean_map_init(struct clean_map *m, struct mem *mem, const uint64_t secret[2], uint64_t bytes_max, unsigned load,
                    uint64_t keys_max) {
    ASSERT(load >= 1 && load <= 100);
    /* Rounded up, and one more: a probe must always find a free slot. */
    uint64_t slots = bytes_max / sizeof(struct clean_slot);
    if (keys_max < UINT64_MAX / 200 && slots > keys_max * 100 / load + 2) slots = keys_max * 100 / load + 2;
    if (slots < 2) slots = 2;
    *m = (struct clean_map){.mem = mem, .secret = {secret[0], secret[1]}, .slot_count = (size_t)slots};
    uint64_t most = slots / 100 * load + slots % 100 * load / 100;
    m->count_max = (size_t)(most < 1 ? 1 : most >= slots ? slots - 1 : most);
    m->slots = mem_alloc(mem, m->slot_count * sizeof(*m->slots));
    for (size_t i = 0; i < m->slot_count; i++) m->slots[i] = (struct clean_slot){.offset = CLEAN_MAP_NONE};
}

void clean_map_deinit(struct clean_map *m) {
    if (m->mem) mem_free(m->mem, m->slots);
    *m = (struct clean_map){0};
}

/* The key's slot, or the free one where it would go. */
static struct clean_slot *slot_of(const struct clean_map *m, const uint64_t hash[2]) {
    size_t i = (size_t)(hash[0] % m->slot_count);
    for (size_t n = 0; n < m->slot_count; n++) {
        struct clean_slot *s = &m->slots[i];
        if (s->offset == CLEAN_MAP_NONE || (s->hash[0] == hash[0] && s->hash[1] == hash[1])) return s;
        i = i + 1 == m->slot_count ? 0 : i + 1;
    }
    UNREACHABLE();
}

bool clean_map_put(struct clean_map *m, const void *key, size_t size, uint64_t offset) {
    ASSERT(offset != CLEAN_MAP_NONE && m->count <= m->count_max);
    uint64_t hash[2];
    clean_hash(m->secret, key, size, hash);
    struct clean_slot *s = slot_of(m, hash);
    if (s->offset == CLEAN_MAP_NONE) {
        if (m->count == m->count_max) return false;
        m->count++;
        *s = (struct clean_slot){{hash[0], hash[1]}, offset};
    } else if (offset > s->offset) {
        s->offset = offset;
    }
    return true;
}

uint64_t clean_map_get(const struct clean_map *m, const void *key, size_t size) {
    uint64_t hash[2];
    clean_hash(m->secret, key, size, hash);
    return slot_of(m, hash)->offset;
}

size_t clean_map_bytes(const struct clean_map *m) {
    return m->slot_count * sizeof(*m->slots);
}
