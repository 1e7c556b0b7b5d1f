"""The releases of the clients that the tests run: the one place that names them.

What comes with Debian (kcat, librdkafka, confluent-kafka) has the release that Debian has. Everything else is pinned here, with what it
needs beside it; a change here makes the next run fetch and build again."""

# kafka-python: an old release that still speaks to brokers of 0.9 in their own versions, one from the years between, and today's.
KAFKA_PYTHON_OLD = "1.4.7"
KAFKA_PYTHON_MIDDLE = "2.0.2"
KAFKA_PYTHON_NEW = "3.0.12"
# Codecs for all of them. xxhash makes the odd LZ4 frames of message sets v0.
PYTHON_CODECS = ["python-snappy==0.7.3", "cramjam==2.14.0", "lz4==4.4.5", "zstandard==0.25.0", "xxhash==4.1.0"]

# Go modules: (the compiler they need, releases), newest first. The last row is for Debian 12's own compiler.
GO = [
    ((1, 26), {"github.com/IBM/sarama": "v1.61.1", "github.com/segmentio/kafka-go": "v0.4.51",
               "github.com/twmb/franz-go": "v1.22.2", "github.com/twmb/franz-go/pkg/kadm": "v1.19.0"}),
    ((1, 19), {"github.com/IBM/sarama": "v1.40.1", "github.com/segmentio/kafka-go": "v0.4.42",
               "github.com/twmb/franz-go": "v1.15.3", "github.com/twmb/franz-go/pkg/kadm": "v1.10.0"}),
]

# npm: kafkajs, and packages that give it codecs without a compiler.
KAFKAJS = {"kafkajs": "2.2.4", "kafkajs-snappy": "1.1.0", "lz4-napi": "2.10.0", "@bokuweb/zstd-wasm": "0.0.27"}

# The Java client. Brokers and their tools are not always released together with it.
JAVA_CLIENTS = ["0.9.0.1", "0.10.0.1", "0.10.2.2", "0.11.0.3", "1.1.1", "2.8.2", "3.9.2", "4.4.0"]
# Kafka itself: its command-line tools, and a broker to stand beside ours. The last release that answers the oldest clients, and the newest.
KAFKAS = ["3.9.2", "4.3.1"]
# Streams, as a client with a group, topics and state of its own.
STREAMS = "4.3.1"
SLF4J = "1.7.36"
LOG4J = "2.25.1"
MAVEN_DEPENDENCY_PLUGIN = "2.8"  # what Maven 3.8 takes by itself
