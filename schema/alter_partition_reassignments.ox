# Moves partitions between brokers.
api 45 AlterPartitionReassignments
versions 0-1
flexible 0+

request {
    timeout_ms                       int32        = 60000
    allow_replication_factor_change  bool     1+  = true
    topics                           []topic  {
        name        string
        partitions  []partition  {
            partition_index  int32
            replicas         []int32?  = null
        }
    }
}

response {
    throttle_time_ms                 int32
    allow_replication_factor_change  bool        1+  = true ignorable
    error_code                       int16
    error_message                    string?
    responses                        []response  {
        name        string
        partitions  []partition  {
            partition_index  int32
            error_code       int16
            error_message    string?
        }
    }
}
