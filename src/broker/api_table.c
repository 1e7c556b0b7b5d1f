/* What this broker speaks: ApiVersions tells exactly this, and dispatch goes by it; what is not here is not offered. */
#include "base/assert.h"
#include "broker/broker_priv.h"
#include "kafka/kafka_messages.h"

const struct api api_table[] = {
#define API(name, min, max, flags, handler, status, text) {KAFKA_API_##name, min, max, flags, handler},
#define NO_API(key, name, min, max, text)
#include "broker/api_rows.h"
};
const size_t api_table_count = ARRAY_LEN(api_table);
