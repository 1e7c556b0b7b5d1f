# Makes a client a member of a classic group. 1: rebalance time-out; 4: the member id is given first; 5: static members;
# 8: reason; 9: skip_assignment.
api 11 JoinGroup
versions 0-9
flexible 6+

request {
    group_id              string
    session_timeout_ms    int32
    rebalance_timeout_ms  int32       1+  = -1 ignorable
    member_id             string
    group_instance_id     string?     5+  = null
    protocol_type         string
    protocols             []protocol  {
        name      string
        metadata  bytes
    }
    reason                string?     8+  = null ignorable
}

response {
    throttle_time_ms  int32      2+  ignorable
    error_code        int16
    generation_id     int32          = -1
    protocol_type     string?    7+  = null ignorable
    protocol_name     string?7+
    leader            string
    skip_assignment   bool       9+
    member_id         string
    members           []member  {
        member_id          string
        group_instance_id  string?  5+  = null ignorable
        metadata           bytes
    }
}
