# Keeps a member of a classic group alive and tells it of rebalances.
api 12 Heartbeat
versions 0-4
flexible 4+

request {
    group_id           string
    generation_id      int32
    member_id          string
    group_instance_id  string?  3+  = null
}

response {
    throttle_time_ms  int32  1+  ignorable
    error_code        int16
}
