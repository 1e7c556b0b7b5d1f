#include "store/http_curl.h"

#include <dlfcn.h>
#include <string.h>

#include "base/assert.h"

#define LIBRARY "libcurl.so.4"

enum err http_curl_load(struct http_curl *out, const char **why) {
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        *why = "the library " LIBRARY " cannot be loaded; install the package libcurl4";
        return ERR_UNSUPPORTED;
    }
    /* A pointer to a function and one to data have one size wherever there is dlsym. */
    const struct {
        const char *name;
        void *member;
    } members[] = {
        {"curl_global_init", &out->global_init},
        {"curl_easy_init", &out->easy_init},
        {"curl_easy_setopt", &out->easy_setopt},
        {"curl_easy_getinfo", &out->easy_getinfo},
        {"curl_easy_cleanup", &out->easy_cleanup},
        {"curl_easy_strerror", &out->easy_strerror},
        {"curl_slist_append", &out->slist_append},
        {"curl_slist_free_all", &out->slist_free_all},
        {"curl_multi_init", &out->multi_init},
        {"curl_multi_setopt", &out->multi_setopt},
        {"curl_multi_cleanup", &out->multi_cleanup},
        {"curl_multi_add_handle", &out->multi_add_handle},
        {"curl_multi_remove_handle", &out->multi_remove_handle},
        {"curl_multi_perform", &out->multi_perform},
        {"curl_multi_info_read", &out->multi_info_read},
        {"curl_multi_poll", &out->multi_poll},
        {"curl_multi_wakeup", &out->multi_wakeup},
        {"curl_share_init", &out->share_init},
        {"curl_share_setopt", &out->share_setopt},
        {"curl_share_cleanup", &out->share_cleanup},
    };
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        void *found = dlsym(library, members[i].name);
        if (!found) {
            *why = "the library " LIBRARY " is too old: 7.68 or later is needed";
            return ERR_UNSUPPORTED;
        }
        memcpy(members[i].member, &found, sizeof(found));
    }
    /* Counted by the library, and safe between threads. */
    if (out->global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        *why = "the library " LIBRARY " cannot be initialised";
        return ERR_UNSUPPORTED;
    }
    return OK;
}
