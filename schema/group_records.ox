# What a group coordinator stores in __consumer_offsets: keys and values, each behind its version as an int16.
# Key versions 0 and 1 are an OffsetCommitKey, 2 is a GroupMetadataKey.

header offset_commit_key
versions 0-1
flexible none
fields {
    group      string
    topic      string
    partition  int32
}

header offset_commit_value
versions 0-4
flexible 4+
fields {
    offset            int64
    leader_epoch      int32   3+  = -1 ignorable
    metadata          string
    commit_timestamp  int64
    expire_timestamp  int64   1   = -1 ignorable
    topic_id          uuid    4+  tag 0 ignorable
}

header group_metadata_key
versions 2-2
flexible none
fields {
    group  string
}

header group_metadata_value
versions 0-4
flexible 4+
fields {
    struct member_metadata {
        member_id          string
        group_instance_id  string?  3+  = null ignorable
        client_id          string
        client_host        string
        rebalance_timeout  int32    1+  = -1 ignorable
        session_timeout    int32
        subscription       bytes
        assignment         bytes
    }
    protocol_type            string
    generation               int32
    protocol                 string?
    leader                   string?
    current_state_timestamp  int64              2+  = -1 ignorable
    members                  []member_metadata
}
