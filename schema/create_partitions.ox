# Gives topics more partitions.
api 37 CreatePartitions
versions 0-3
flexible 2+

request {
    topics         []topic  {
        name         string
        count        int32
        assignments  []assignment?  {
            broker_ids  []int32
        }
    }
    timeout_ms     int32
    validate_only  bool
}

response {
    throttle_time_ms  int32
    results           []result  {
        name           string
        error_code     int16
        error_message  string?  = null
    }
}
