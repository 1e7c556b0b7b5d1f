# Deletes topics, from version 6 on by name or id.
api 20 DeleteTopics
versions 0-6
flexible 4+

request {
    topics        []topic   6+   {
        name      string?        = null
        topic_id  uuid
    }
    topic_names   []string  0-5  ignorable
    timeout_ms    int32
}

response {
    throttle_time_ms   int32      1+  ignorable
    responses          []topic        {
        name           string?6+
        topic_id       uuid       6+  ignorable
        error_code     int16
        error_message  string?    5+  = null ignorable
    }
}
