#include "store/s3_xml.h"

#include <expat.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

#define DEPTH_MAX 16u
#define PATH_MAX_BYTES 256u
#define TEXT_MAX_BYTES 8192u
#define KEY_MAX_BYTES 1024u

/* --- The parser. */

struct parse {
    XML_Parser parser;
    s3_xml_fn *element;
    void *ctx;
    enum err result;
    char path[PATH_MAX_BYTES];
    size_t path_size;
    /* Of each open element: where its name begins in the path, and its text in `text`. */
    size_t path_at[DEPTH_MAX], text_at[DEPTH_MAX];
    unsigned depth;
    struct buf text;
};

static void parse_stop(struct parse *p, enum err e) {
    p->result = e;
    (void)XML_StopParser(p->parser, XML_FALSE);
}

static void on_start(void *arg, const XML_Char *name, const XML_Char **attributes) {
    (void)attributes;
    struct parse *p = arg;
    if (p->result != OK) return;
    const char *colon = strrchr(name, ':');
    if (colon) name = colon + 1;
    size_t size = strlen(name);
    if (p->depth == DEPTH_MAX || p->path_size + size + 2 > PATH_MAX_BYTES) {
        parse_stop(p, ERR_PROTOCOL);
        return;
    }
    p->path_at[p->depth] = p->path_size;
    p->text_at[p->depth] = p->text.size;
    p->depth++;
    if (p->path_size > 0) p->path[p->path_size++] = '/';
    memcpy(p->path + p->path_size, name, size + 1);
    p->path_size += size;
}

static void on_text(void *arg, const XML_Char *text, int size) {
    struct parse *p = arg;
    if (p->result != OK || p->depth == 0 || size <= 0) return;
    if (p->text.size + (size_t)size > TEXT_MAX_BYTES) {
        parse_stop(p, ERR_PROTOCOL);
        return;
    }
    buf_put(&p->text, text, (size_t)size);
}

static void on_end(void *arg, const XML_Char *name) {
    (void)name;
    struct parse *p = arg;
    if (p->result != OK) return;
    ASSERT(p->depth > 0);
    p->depth--;
    size_t from = p->text_at[p->depth], size = p->text.size - from;
    buf_u8(&p->text, 0);
    enum err e = p->element(p->ctx, p->path, (const char *)p->text.data + from, size);
    p->text.size = from;
    p->path_size = p->path_at[p->depth];
    p->path[p->path_size] = '\0';
    if (e != OK) parse_stop(p, e);
}

static void on_doctype(void *arg, const XML_Char *name, const XML_Char *system, const XML_Char *public, int internal) {
    (void)name, (void)system, (void)public, (void)internal;
    parse_stop(arg, ERR_PROTOCOL);
}

enum err s3_xml_parse(struct mem *m, const void *data, size_t size, s3_xml_fn *element, void *ctx) {
    if (size == 0 || size > INT32_MAX) return ERR_PROTOCOL;
    struct parse p = {.element = element, .ctx = ctx, .parser = XML_ParserCreate(NULL)};
    ASSERT(p.parser);
    buf_init(&p.text, m);
    XML_SetUserData(p.parser, &p);
    XML_SetElementHandler(p.parser, on_start, on_end);
    XML_SetCharacterDataHandler(p.parser, on_text);
    XML_SetStartDoctypeDeclHandler(p.parser, on_doctype);
    if (XML_Parse(p.parser, data, (int)size, 1) != XML_STATUS_OK && p.result == OK) p.result = ERR_PROTOCOL;
    XML_ParserFree(p.parser);
    buf_deinit(&p.text);
    return p.result;
}

/* --- What the answers mean. */

static void field_take(char *out, size_t out_size, const char *text, size_t size) {
    if (size >= out_size) size = out_size - 1;
    memcpy(out, text, size);
    out[size] = '\0';
    /* They end up in log lines. */
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)out[i] < ' ' || (unsigned char)out[i] > '~' || out[i] == '"') out[i] = '?';
    }
}

struct error_parse {
    struct s3_error *out;
    bool found;
};

static enum err error_element(void *ctx, const char *path, const char *text, size_t size) {
    struct error_parse *p = ctx;
    struct s3_error *out = p->out;
    if (strcmp(path, "Error/Code") == 0) field_take(out->code, sizeof(out->code), text, size);
    if (strcmp(path, "Error/Region") == 0) field_take(out->region, sizeof(out->region), text, size);
    if (strcmp(path, "Error/ServerTime") == 0) field_take(out->server_time, sizeof(out->server_time), text, size);
    if (strcmp(path, "Error/Endpoint") == 0) field_take(out->endpoint, sizeof(out->endpoint), text, size);
    if (strcmp(path, "Error") == 0) p->found = true;
    return OK;
}

enum err s3_xml_error(struct mem *m, const void *data, size_t size, struct s3_error *out) {
    *out = (struct s3_error){0};
    struct error_parse p = {out, false};
    enum err e = s3_xml_parse(m, data, size, error_element, &p);
    if (e == OK && (!p.found || !out->code[0])) e = ERR_PROTOCOL;
    if (e != OK) *out = (struct s3_error){0};
    return e;
}

struct list_parse {
    struct mem *mem;
    const char *prefix;
    struct store_listing *out;
    struct s3_xml_page *page;
    bool encoded; /* keys are written as in a URL */
    bool key_found, size_found, root;
    char key[KEY_MAX_BYTES * 3 + 1];
    uint64_t size_bytes;
};

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool url_decode(char *text) {
    char *out = text;
    for (const char *s = text; *s; s++) {
        char c = *s == '+' ? ' ' : *s;
        if (*s == '%') {
            int high = hex_digit(s[1]), low = high < 0 ? -1 : hex_digit(s[2]);
            if (low < 0) return false;
            c = (char)(high * 16 + low);
            s += 2;
        }
        *out++ = c;
    }
    *out = '\0';
    return true;
}

static enum err list_add(struct list_parse *p) {
    if (!p->key_found || !p->size_found) return ERR_PROTOCOL;
    p->key_found = p->size_found = false;
    if (p->encoded && !url_decode(p->key)) return ERR_PROTOCOL;
    size_t n = strlen(p->prefix);
    if (strncmp(p->key, p->prefix, n) != 0) return ERR_PROTOCOL;
    /* Some consoles make an empty object that stands for a folder: the prefix itself. */
    if (p->key[n] != '\0') store_listing_add(p->out, p->key + n, p->size_bytes);
    return OK;
}

static bool number_parse(const char *text, uint64_t *out) {
    if (*text < '0' || *text > '9') return false;
    char *end;
    *out = strtoull(text, &end, 10);
    return *end == '\0';
}

static enum err list_element(void *ctx, const char *path, const char *text, size_t size) {
    static const char root[] = "ListBucketResult";
    struct list_parse *p = ctx;
    if (strncmp(path, root, sizeof(root) - 1) != 0) return ERR_PROTOCOL;
    path += sizeof(root) - 1;
    if (*path == '\0') {
        p->root = true;
    } else if (strcmp(path, "/Contents/Key") == 0) {
        if (size >= sizeof(p->key) || memchr(text, '\0', size)) return ERR_PROTOCOL;
        memcpy(p->key, text, size + 1);
        p->key_found = true;
    } else if (strcmp(path, "/Contents/Size") == 0) {
        if (!number_parse(text, &p->size_bytes)) return ERR_PROTOCOL;
        p->size_found = true;
    } else if (strcmp(path, "/Contents") == 0) {
        return list_add(p);
    } else if (strcmp(path, "/IsTruncated") == 0) {
        p->page->truncated = strcmp(text, "true") == 0;
    } else if (strcmp(path, "/NextContinuationToken") == 0 && size > 0) {
        mem_free(p->mem, p->page->token);
        p->page->token = mem_strndup(p->mem, text, size);
    }
    return OK;
}

/* EncodingType may stand behind the keys: it is looked for first. */
static enum err encoding_element(void *ctx, const char *path, const char *text, size_t size) {
    (void)size;
    if (strcmp(path, "ListBucketResult/EncodingType") == 0 && strcmp(text, "url") == 0) *(bool *)ctx = true;
    return OK;
}

enum err s3_xml_list(struct mem *m, const void *data, size_t size, const char *prefix, struct store_listing *out,
                     struct s3_xml_page *page) {
    *page = (struct s3_xml_page){0};
    struct list_parse *p = MEM_NEW(m, struct list_parse);
    *p = (struct list_parse){.mem = m, .prefix = prefix, .out = out, .page = page};
    enum err e = s3_xml_parse(m, data, size, encoding_element, &p->encoded);
    if (e == OK) e = s3_xml_parse(m, data, size, list_element, p);
    if (e == OK && !p->root) e = ERR_PROTOCOL;
    mem_free(m, p);
    if (e != OK) {
        mem_free(m, page->token);
        page->token = NULL;
    }
    return e;
}

struct deleted_parse {
    void (*failed)(void *ctx, const char *key, const char *code);
    void *ctx;
    char key[KEY_MAX_BYTES + 1], code[64];
    bool root;
};

static enum err deleted_element(void *ctx, const char *path, const char *text, size_t size) {
    struct deleted_parse *p = ctx;
    if (strcmp(path, "DeleteResult") == 0) p->root = true;
    if (strcmp(path, "DeleteResult/Error/Code") == 0) field_take(p->code, sizeof(p->code), text, size);
    if (strcmp(path, "DeleteResult/Error/Key") == 0) {
        bool fits = size < sizeof(p->key) && !memchr(text, '\0', size);
        memcpy(p->key, fits ? text : "", fits ? size + 1 : 1);
    }
    if (strcmp(path, "DeleteResult/Error") == 0) {
        if (strcmp(p->code, "NoSuchKey") != 0) p->failed(p->ctx, p->key, p->code);
        p->code[0] = p->key[0] = '\0';
    }
    return OK;
}

enum err s3_xml_deleted(struct mem *m, const void *data, size_t size,
                        void (*failed)(void *ctx, const char *key, const char *code), void *ctx) {
    struct deleted_parse p = {.failed = failed, .ctx = ctx};
    enum err e = s3_xml_parse(m, data, size, deleted_element, &p);
    return e == OK && !p.root ? ERR_PROTOCOL : e;
}

struct upload_parse {
    struct mem *mem;
    char *id;
};

static enum err upload_element(void *ctx, const char *path, const char *text, size_t size) {
    struct upload_parse *p = ctx;
    if (strcmp(path, "InitiateMultipartUploadResult/UploadId") == 0 && size > 0 && !p->id)
        p->id = mem_strndup(p->mem, text, size);
    return OK;
}

enum err s3_xml_upload_id(struct mem *m, const void *data, size_t size, char **out) {
    struct upload_parse p = {m, NULL};
    enum err e = s3_xml_parse(m, data, size, upload_element, &p);
    if (e == OK && !p.id) e = ERR_PROTOCOL;
    if (e != OK) {
        mem_free(m, p.id);
        p.id = NULL;
    }
    *out = p.id;
    return e;
}

static enum err completed_element(void *ctx, const char *path, const char *text, size_t size) {
    (void)text, (void)size;
    if (strcmp(path, "CompleteMultipartUploadResult") == 0) *(bool *)ctx = true;
    return OK;
}

enum err s3_xml_completed(struct mem *m, const void *data, size_t size, struct s3_error *error) {
    bool completed = false;
    if (s3_xml_error(m, data, size, error) == OK) return ERR_NOT_FOUND;
    enum err e = s3_xml_parse(m, data, size, completed_element, &completed);
    return e == OK && !completed ? ERR_PROTOCOL : e;
}

struct copied_parse {
    char *etag;
    bool root;
};

static enum err copied_element(void *ctx, const char *path, const char *text, size_t size) {
    struct copied_parse *p = ctx;
    if (strcmp(path, "CopyPartResult") == 0) p->root = true;
    if (strcmp(path, "CopyPartResult/ETag") == 0 && size < S3_XML_ETAG_MAX && !memchr(text, '\0', size))
        memcpy(p->etag, text, size + 1);
    return OK;
}

enum err s3_xml_copied(struct mem *m, const void *data, size_t size, char etag[S3_XML_ETAG_MAX],
                       struct s3_error *error) {
    struct copied_parse p = {.etag = etag};
    etag[0] = '\0';
    *error = (struct s3_error){0};
    enum err e = s3_xml_parse(m, data, size, copied_element, &p);
    if (e == OK && p.root && etag[0]) return OK;
    etag[0] = '\0';
    return s3_xml_error(m, data, size, error) == OK ? ERR_NOT_FOUND : ERR_PROTOCOL;
}

struct uploads_parse {
    struct mem *mem;
    const char *prefix;
    struct store_uploads *out;
    struct s3_xml_uploads *page;
    char *key, *id; /* of the one that is being read */
    bool root;
};

static enum err text_take(struct mem *m, char **to, const char *text, size_t size) {
    if (memchr(text, '\0', size)) return ERR_PROTOCOL;
    mem_free(m, *to);
    *to = size > 0 ? mem_strndup(m, text, size) : NULL;
    return OK;
}

static enum err uploads_add(struct uploads_parse *p) {
    size_t n = strlen(p->prefix);
    enum err e = p->key && p->id && strncmp(p->key, p->prefix, n) == 0 ? OK : ERR_PROTOCOL;
    if (e == OK) store_uploads_add(p->out, p->key + n, p->id);
    mem_free(p->mem, p->key);
    mem_free(p->mem, p->id);
    p->key = p->id = NULL;
    return e;
}

static enum err uploads_element(void *ctx, const char *path, const char *text, size_t size) {
    static const char root[] = "ListMultipartUploadsResult";
    struct uploads_parse *p = ctx;
    if (strncmp(path, root, sizeof(root) - 1) != 0) return ERR_PROTOCOL;
    path += sizeof(root) - 1;
    if (*path == '\0') {
        p->root = true;
    } else if (strcmp(path, "/Upload/Key") == 0) {
        return text_take(p->mem, &p->key, text, size);
    } else if (strcmp(path, "/Upload/UploadId") == 0) {
        return text_take(p->mem, &p->id, text, size);
    } else if (strcmp(path, "/Upload") == 0) {
        return uploads_add(p);
    } else if (strcmp(path, "/IsTruncated") == 0) {
        p->page->truncated = strcmp(text, "true") == 0;
    } else if (strcmp(path, "/NextKeyMarker") == 0) {
        return text_take(p->mem, &p->page->key, text, size);
    } else if (strcmp(path, "/NextUploadIdMarker") == 0) {
        return text_take(p->mem, &p->page->id, text, size);
    }
    return OK;
}

enum err s3_xml_uploads(struct mem *m, const void *data, size_t size, const char *prefix, struct store_uploads *out,
                        struct s3_xml_uploads *page) {
    *page = (struct s3_xml_uploads){0};
    struct uploads_parse p = {.mem = m, .prefix = prefix, .out = out, .page = page};
    enum err e = s3_xml_parse(m, data, size, uploads_element, &p);
    if (e == OK && !p.root) e = ERR_PROTOCOL;
    mem_free(m, p.key);
    mem_free(m, p.id);
    if (e != OK) {
        mem_free(m, page->key);
        mem_free(m, page->id);
        *page = (struct s3_xml_uploads){0};
    }
    return e;
}
