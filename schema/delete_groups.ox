# Deletes groups without members, with their offsets.
api 42 DeleteGroups
versions 0-2
flexible 2+

request {
    groups_names  []string
}

response {
    throttle_time_ms  int32
    results           []result  {
        group_id    string
        error_code  int16
    }
}
