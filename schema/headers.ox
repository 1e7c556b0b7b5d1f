# The headers in front of every message. kafka/frame.c knows which version goes with what.

header request_header
versions 0-2
flexible 2+
fields {
    request_api_key      int16
    request_api_version  int16
    correlation_id       int32
    client_id            string?  1+  inflexible    # stays readable for a broker that does not know the version
}

header response_header
versions 0-1
flexible 1+
fields {
    correlation_id       int32
}
