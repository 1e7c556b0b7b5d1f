# The producers that partitions remember.
api 61 DescribeProducers
versions 0-0
flexible 0+

request {
    topics  []topic  {
        name               string
        partition_indexes  []int32
    }
}

response {
    throttle_time_ms  int32
    topics            []topic  {
        name        string
        partitions  []partition  {
            partition_index   int32
            error_code        int16
            error_message     string?            = null
            active_producers  []active_producer  {
                producer_id               int64
                producer_epoch            int32
                last_sequence             int32  = -1
                last_timestamp            int64  = -1
                coordinator_epoch         int32
                current_txn_start_offset  int64  = -1
            }
        }
    }
}
