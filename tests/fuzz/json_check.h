/* Is this JSON, as a library other than ours reads it? */
#ifndef OXBOW_TESTS_FUZZ_JSON_CHECK_H
#define OXBOW_TESTS_FUZZ_JSON_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool json_is_sound(const uint8_t *data, size_t size);

#endif
