# Deletes committed offsets of a group for topics that it does not subscribe to.
api 47 OffsetDelete
versions 0-0
flexible none

request {
    group_id  string
    topics    []topic  {
        name        string
        partitions  []partition  {
            partition_index  int32
        }
    }
}

response {
    error_code        int16
    throttle_time_ms  int32    ignorable
    topics            []topic  {
        name        string
        partitions  []partition  {
            partition_index  int32
            error_code       int16
        }
    }
}
