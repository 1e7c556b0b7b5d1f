import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.TimeUnit;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams counts words: a group, a topic that it makes to bring equal words together and whose records it deletes once they are
 * counted, and one that it makes to find its counts again. Run as family.py tells. The checks come after each other.
 *
 *   wordcount       the counts are right, and the topics that Streams made have the configuration that it asked for
 *   restart         begun anew with nothing kept locally it goes on where it was: its state comes from its own topic
 */
public class WordCount {
    static final String[] WORDS = {"oak", "ash", "elm", "fir", "yew", "box", "may", "bay", "fig"};
    static final int LINES = 500, PARTITIONS = 3;
    static String address, lines, counts, application;
    static final Map<String, Long> expected = new TreeMap<>();

    static Map<String, Object> options(Object... more) {
        Map<String, Object> m = new HashMap<>();
        m.put("bootstrap.servers", address);
        for (int i = 0; i < more.length; i += 2) m.put((String) more[i], more[i + 1]);
        return m;
    }

    static KafkaStreams start(Path state) {
        StreamsBuilder b = new StreamsBuilder();
        b.stream(lines, Consumed.with(Serdes.Integer(), Serdes.String())).flatMapValues(v -> Arrays.asList(v.split(" ")))
            .groupBy((k, word) -> word, Grouped.with("words", Serdes.String(), Serdes.String()))
            .count(Materialized.<String, Long>as(Stores.inMemoryKeyValueStore("counted")).withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()))
            .toStream().to(counts, Produced.with(Serdes.String(), Serdes.Long()));
        Properties p = new Properties();
        p.putAll(options("application.id", application, "state.dir", state.toString(), "num.stream.threads", 2, "commit.interval.ms", 200, "replication.factor", 1,
            "consumer.auto.offset.reset", "earliest", "processing.guarantee", "at_least_once", "session.timeout.ms", 6000, "heartbeat.interval.ms", 500, // it leaves no group when it is closed
             "repartition.purge.interval.ms", 300));
        KafkaStreams s = new KafkaStreams(b.build(), p);
        s.start();
        return s;
    }

    static void write(int from, int to) throws Exception {
        try (KafkaProducer<Integer, String> p = new KafkaProducer<>(options(), new IntegerSerializer(), new StringSerializer())) {
            for (int n = from; n < to; n++) {
                StringJoiner line = new StringJoiner(" ");
                for (int i = 0; i < n % 7 + 1; i++) {
                    String word = WORDS[(n * 5 + i * i) % WORDS.length];
                    expected.merge(word, 1L, Long::sum);
                    line.add(word);
                }
                p.send(new ProducerRecord<>(lines, n, line.toString()));
            }
        }
    }

    /** The newest count of each word becomes what is expected, and stays so. */
    static void check() throws Exception {
        Map<String, Long> found = new TreeMap<>();
        try (KafkaConsumer<String, Long> c = new KafkaConsumer<>(options("auto.offset.reset", "earliest"), new StringDeserializer(), new LongDeserializer())) {
            List<TopicPartition> parts = new ArrayList<>();
            for (int p = 0; p < PARTITIONS; p++) parts.add(new TopicPartition(counts, p));
            c.assign(parts);
            c.seekToBeginning(parts);
            long end = System.currentTimeMillis() + 60000;
            int calm = 0;
            while (calm < 5) {
                if (System.currentTimeMillis() > end) throw new AssertionError("expected " + expected + ", found " + found);
                for (ConsumerRecord<String, Long> r : c.poll(Duration.ofMillis(200))) found.put(r.key(), r.value());
                calm = found.equals(expected) ? calm + 1 : 0;
            }
        }
    }

    static void same(String what, Object expected, Object found) {
        if (!Objects.equals(expected, found)) throw new AssertionError(what + ": expected " + expected + ", found " + found);
    }

    static String config(Admin a, String topic, String name) throws Exception {
        ConfigResource r = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return a.describeConfigs(Collections.singleton(r)).all().get().get(r).get(name).value();
    }

    static void wordcount() throws Exception {
        String again = application + "-words-repartition", log = application + "-counted-changelog";
        Path state = Files.createTempDirectory("streams");
        KafkaStreams s = start(state);
        try (Admin a = Admin.create(options())) {
            write(0, LINES);
            check();
            same("partitions of " + log, PARTITIONS, a.describeTopics(Collections.singleton(log)).allTopicNames().get().get(log).partitions().size());
            same("cleanup.policy of " + log, "compact", config(a, log, "cleanup.policy"));
            same("cleanup.policy of " + again, "delete", config(a, again, "cleanup.policy"));
            same("retention.ms of " + again, "-1", config(a, again, "retention.ms"));
            long end = System.currentTimeMillis() + 30000;
            Map<TopicPartition, OffsetSpec> first = new HashMap<>();
            for (int p = 0; p < PARTITIONS; p++) first.put(new TopicPartition(again, p), OffsetSpec.earliest());
            while (a.listOffsets(first).all().get().values().stream().mapToLong(o -> o.offset()).sum() == 0) {
                if (System.currentTimeMillis() > end) throw new AssertionError("nothing was deleted from " + again);
                Thread.sleep(100);
            }
        } finally {
            same("closed in time", true, s.close(Duration.ofSeconds(30)));
        }
        same("state when closed", KafkaStreams.State.NOT_RUNNING, s.state());
    }

    static void restart() throws Exception {
        KafkaStreams s = start(Files.createTempDirectory("streams"));
        try {
            write(LINES, 2 * LINES);
            check();
        } finally {
            same("closed in time", true, s.close(Duration.ofSeconds(30)));
        }
    }

    interface Check { void run() throws Exception; }

    static void say(String name, Check check) {
        String line = "ok " + name;
        try {
            check.run();
        } catch (Throwable t) {
            line = "not ok " + name + ": " + (t + (t.getCause() != null ? " by " + t.getCause() : "")).replaceAll("\\s+", " ");
        }
        System.out.println(line);
    }

    public static void main(String[] arguments) throws Exception {
        address = arguments[0];
        lines = arguments[1] + "-lines";
        counts = arguments[1] + "-counts";
        application = arguments[1] + "-wordcount";
        try (Admin a = Admin.create(options())) {
            a.createTopics(Arrays.asList(new NewTopic(lines, PARTITIONS, (short) 1), new NewTopic(counts, PARTITIONS, (short) 1))).all().get(30, TimeUnit.SECONDS);
        }
        say("wordcount", WordCount::wordcount);
        say("restart", WordCount::restart);
        Runtime.getRuntime().halt(0);
    }
}
