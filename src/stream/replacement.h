/* Ranges of committed states that others take the place of, by an entry of our ledger: the one place where such entries
 * are written and applied. Object compaction (compact.c) has many streams in one entry, log compaction (replace.c) many
 * ranges of one.
 *
 * What is replaced lies in durable objects by now, or in the entry's own body. Each stream is by itself: its ranges are
 * replaced if it still has that epoch, and if theirs line up, but for what a trim has taken away meanwhile. A replay
 * finds out the same (ledger.c). So a crash leaves the old ones or the new ones. */
#ifndef OXBOW_STREAM_REPLACEMENT_H
#define OXBOW_STREAM_REPLACEMENT_H

#include "stream/ledger.h"

struct streams;

struct replacement {
    struct stream_id stream;
    int32_t epoch;
    struct state_range
        *ranges; /* borrowed; each begins where the one before ends. Those of OBJECT_THIS_ENTRY lie in the
                                 * entry's body, by their positions; on OK they say where that is. */
    uint32_t count;
    enum err result; /* on OK of all: OK, also if all of it was trimmed meanwhile; ERR_STALE: it had no effect */
};
/* OK: the entry is durable and applied, and objects that nothing needs any more, old or new, are on the list of those to
 * be deleted. Else nobody counts the new ones: the caller does. forget: readers may have what was replaced in the log cache, and are not to
 * see it any more. ERR_FENCED: that was reported; ERR_CANCELLED: closing. Log loop; suspends. */
enum err replacement_commit(struct streams *s, struct replacement *list, size_t count, const struct slices *body,
                            uint32_t body_crc, bool forget) WARN_UNUSED;
/* An entry of ours, between ledger_enter and ledger_leave. *number: what it got. The rest as above. */
enum err replacement_append(struct streams *s, const struct buf *head, const struct slices *body, uint32_t body_crc,
                            uint64_t *number) WARN_UNUSED;
/* An object that is missing may have been replaced by a broker that has overtaken us, which we do not know yet. True:
 * there is a fence in our ledger, and that was reported. A GET or two; suspends. */
bool replacement_overtaken(struct streams *s);

#endif
