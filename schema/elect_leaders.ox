# Elects leaders of partitions.
api 43 ElectLeaders
versions 0-2
flexible 2+

request {
    election_type     int8                1+
    topic_partitions  []topic_partition?  {
        topic       string
        partitions  []int32
    }
    timeout_ms        int32                   = 60000
}

response {
    throttle_time_ms          int32
    error_code                int16                      1+
    replica_election_results  []replica_election_result  {
        topic             string
        partition_result  []partition_result  {
            partition_id   int32
            error_code     int16
            error_message  string?
        }
    }
}
