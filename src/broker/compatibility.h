/* docs/compatibility.md: which of Kafka's APIs and configurations there are, from the tables that the broker goes by. */
#ifndef OXBOW_BROKER_COMPATIBILITY_H
#define OXBOW_BROKER_COMPATIBILITY_H

#include "base/bytes.h"

void compatibility_print_markdown(struct buf *out);

#endif
