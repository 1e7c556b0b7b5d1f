#include "coord/coord.h"

void coord_config_init(struct coord_config *c) {
    *c = (struct coord_config){
        .session_timeout_min_ms = 6000,
        .session_timeout_max_ms = 1800000,
        .group_max_size = INT32_MAX,
        .initial_rebalance_delay_ms = 3000,
        .offset_metadata_max_bytes = 4096,
        .offsets_retention_ms = INT64_C(10080) * 60 * 1000,
        .offsets_check_interval_ms = 600000,
    };
}
