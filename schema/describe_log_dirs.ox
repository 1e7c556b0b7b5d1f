# Where partitions lie and how large they are.
api 35 DescribeLogDirs
versions 0-5
flexible 2+

request {
    topics  []topic?  {
        topic       string
        partitions  []int32
    }
}

response {
    throttle_time_ms  int32
    error_code        int16     3+  ignorable
    results           []result  {
        error_code    int16
        log_dir       string
        topics        []topic  {
            name        string
            partitions  []partition  {
                partition_index  int32
                partition_size   int64
                offset_lag       int64
                is_future_key    bool
            }
        }
        total_bytes   int64    4+  = -1 ignorable
        usable_bytes  int64    4+  = -1 ignorable
        is_cordoned   bool     5+  ignorable
    }
}
