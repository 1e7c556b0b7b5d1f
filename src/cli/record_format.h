/* How `oxbow consume` writes a record: by a format as kcat has it, or as a line of JSON. Pure functions. */
#ifndef OXBOW_CLI_RECORD_FORMAT_H
#define OXBOW_CLI_RECORD_FORMAT_H

#include "base/bytes.h"
#include "kafka/batch.h"

/* %t topic, %p partition, %o offset, %T timestamp in milliseconds, %k key, %K its size, %v or %s value, %S its size, %h
 * headers as k=v,k=v, %%; \n \r \t \0 \\ \xNN. Null is nothing, with the size -1. */
#define RECORD_FORMAT_DEFAULT "%v\\n"
/* What is wrong with a format; NULL: nothing. */
const char *record_format_check(const char *format);
/* format: checked. */
void record_format(struct buf *out, const char *format, const char *topic, int32_t partition,
                   const struct batch_record *r);
/* One object and a line feed; keys and values that are not UTF-8 as {"base64":"..."}. */
void record_json(struct buf *out, const char *topic, int32_t partition, const struct batch_record *r);

#endif
