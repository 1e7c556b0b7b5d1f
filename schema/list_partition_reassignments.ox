# The moves that are under way.
api 46 ListPartitionReassignments
versions 0-0
flexible 0+

request {
    timeout_ms  int32     = 60000
    topics      []topic?  = null  {
        name               string
        partition_indexes  []int32
    }
}

response {
    throttle_time_ms  int32
    error_code        int16
    error_message     string?
    topics            []topic  {
        name        string
        partitions  []partition  {
            partition_index    int32
            replicas           []int32
            adding_replicas    []int32
            removing_replicas  []int32
        }
    }
}
