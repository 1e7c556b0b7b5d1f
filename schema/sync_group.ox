# Brings the leader's assignments and fetches one's own.
api 14 SyncGroup
versions 0-5
flexible 4+

request {
    group_id           string
    generation_id      int32
    member_id          string
    group_instance_id  string?       3+  = null
    protocol_type      string?       5+  = null ignorable
    protocol_name      string?       5+  = null ignorable
    assignments        []assignment  {
        member_id   string
        assignment  bytes
    }
}

response {
    throttle_time_ms  int32    1+  ignorable
    error_code        int16
    protocol_type     string?  5+  = null ignorable
    protocol_name     string?  5+  = null ignorable
    assignment        bytes
}
