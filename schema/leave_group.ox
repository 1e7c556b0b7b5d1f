# Members leave a classic group. 3: several at once, static ones by their instance id.
api 13 LeaveGroup
versions 0-5
flexible 4+

request {
    group_id   string
    member_id  string    0-2
    members    []member  3+  {
        member_id          string
        group_instance_id  string?      = null
        reason             string?  5+  = null ignorable
    }
}

response {
    throttle_time_ms  int32     1+  ignorable
    error_code        int16
    members           []member  3+  {
        member_id          string
        group_instance_id  string?
        error_code         int16
    }
}
