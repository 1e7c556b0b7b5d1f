/* Is this JSON? In a file of its own, for jansson's names are some of ours too. */
#include "json_check.h"

#include <jansson.h>

bool json_is_sound(const uint8_t *data, size_t size) {
    json_error_t why;
    json_t *root = json_loadb((const char *)data, size, JSON_ALLOW_NUL, &why);
    if (root) json_decref(root);
    return root != NULL;
}
