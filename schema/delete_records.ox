# Moves the log start offset of partitions up.
api 21 DeleteRecords
versions 0-2
flexible 2+

request {
    topics      []topic  {
        name        string
        partitions  []partition  {
            partition_index  int32
            offset           int64
        }
    }
    timeout_ms  int32
}

response {
    throttle_time_ms  int32
    topics            []topic  {
        name        string
        partitions  []partition  {
            partition_index  int32
            low_watermark    int64
            error_code       int16
        }
    }
}
