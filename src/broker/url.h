/* The addresses in a configuration: storage.url, wal.url, listeners, http.listen. Pure text; nothing is looked up or
 * opened. Each parser returns ERR_INVALID or ERR_UNSUPPORTED and a sentence in *why (cut to fit) that says what was
 * expected. */
#ifndef OXBOW_BROKER_URL_H
#define OXBOW_BROKER_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/s3.h"

#define URL_PATH_SIZE 1024u

enum storage_kind { STORAGE_KIND_FILE, STORAGE_KIND_S3 };

/* file://FOLDER. A relative folder ("file://./data/store") is relative to the current one. %XX stands for a byte.
 *
 * s3://BUCKET/PREFIX?endpoint=http://HOST:PORT&region=NAME&path.style=true. The prefix and every parameter may be left
 * out: AWS, the environment's region, and the style that fits the endpoint (store/s3.h). Never a secret: the URL is
 * logged. */
struct storage_url {
    enum storage_kind kind;
    char path[URL_PATH_SIZE]; /* FILE */
    char bucket[256];         /* S3; "" where not given, as in the following */
    char prefix[512];
    char endpoint[512];
    char region[64];
    enum s3_style style;
};
enum err storage_url_parse(const char *text, struct storage_url *out, char *why, size_t why_size) WARN_UNUSED;

enum wal_kind { WAL_KIND_FILE, WAL_KIND_BLOCK, WAL_KIND_OBJECTS /* of a mirror only */, WAL_KIND_NONE };
/* How a survivor makes sure that the holder writes no more: by the lock that ends with the holder's process (one
 * machine), or by a mark that the holder reads after each group commit (a device that two machines can reach). */
enum wal_takeover { WAL_TAKEOVER_LOCK, WAL_TAKEOVER_MARK };

#define WAL_SIZE_DEFAULT ((uint64_t)1 << 30)
#define WAL_SIZE_MIN ((uint64_t)16 << 20)
#define WAL_SIZE_MAX ((uint64_t)1 << 40)

/* file://FOLDER-OR-FILE?size=1GiB&takeover=lock|mark (default lock), block:///dev/DEVICE?takeover=lock|mark (default
 * mark), none: no WAL, what is acknowledged is in the object store. */
struct wal_url {
    enum wal_kind kind;
    enum wal_takeover takeover;
    char path[URL_PATH_SIZE]; /* OBJECTS: a storage URL */
    uint64_t size_bytes;      /* a multiple of 4 KiB; BLOCK without size: 0, the whole device */
};
enum err wal_url_parse(const char *text, struct wal_url *out, char *why, size_t why_size) WARN_UNUSED;

/* wal.url as a whole: one of these, or mirror:URL,URL[,...], a mirror of two to four of them (`none` is no member; a comma
 * cannot be part of a path there). A member may also be an object log in another store: objects:URL, with a URL as in
 * storage.url, or s3://BUCKET/PREFIX?... by itself; one member at least is a file or a device. An element that begins with '?' has the mirror's own parameters, with & between:
 *   lost=shrink|stop  when a member is lost: go on with the others (default), or acknowledge from the store until all are
 *                     there again
 *   timeout.ms=N      a member whose device takes longer for one request is lost; 100 to 600000, default 5000 */
#define WAL_MIRROR_MAX 4u
#define WAL_MIRROR_TIMEOUT_MS 5000u
struct wal_setup {
    bool mirror;
    struct wal_url urls[WAL_MIRROR_MAX];
    unsigned count; /* 0: none */
    bool stops;
    uint32_t timeout_ms;
};
enum err wal_setup_parse(const char *text, struct wal_setup *out, char *why, size_t why_size) WARN_UNUSED;

/* NAME://host:port, as in listeners. host "" (also for 0.0.0.0): all addresses; an IPv6 address stands in brackets,
 * which are dropped. Names are kept in upper case, as Kafka does. */
struct listener_url {
    char name[64];
    char host[256];
    uint16_t port;
};
enum err listener_url_parse(const char *text, struct listener_url *out, char *why, size_t why_size) WARN_UNUSED;

/* host:port, or :port for all addresses. */
enum err host_port_parse(const char *text, char *host, size_t host_size, uint16_t *port, char *why,
                         size_t why_size) WARN_UNUSED;

/* "123", "64KiB", "1GiB": bytes. False if it is something else or does not fit. */
bool size_parse(const char *text, int64_t *out);
/* The shortest such text; returns out. */
const char *size_text(int64_t bytes, char *out, size_t out_size);

#endif
