# The groups of this coordinator. 4: filtered by state; 5: by type.
api 16 ListGroups
versions 0-5
flexible 3+

request {
    states_filter  []string  4+
    types_filter   []string  5+
}

response {
    throttle_time_ms  int32    1+  ignorable
    error_code        int16
    groups            []group  {
        group_id       string
        protocol_type  string
        group_state    string  4+  ignorable
        group_type     string  5+  ignorable
    }
}
