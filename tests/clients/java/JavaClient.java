import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;

/**
 * The checks of the Java client, whatever release it is compiled with, from 0.9 on: see family.py. What releases call differently is
 * found by reflection; what a release does not have at all is skipped. AdminChecks is there for releases that it compiles with.
 */
public class JavaClient {
    static final int DATA_PARTITIONS = 3, DATA_RECORDS = 100, PEER_PARTITIONS = 2, PEER_RECORDS = 60, SHARE_PARTITIONS = 6, SHARE_RECORDS = 50,
        SHARE_MORE = 20, RESUME_PARTITIONS = 2, RESUME_RECORDS = 100, RESUME_AT = 40, TIMES_RECORDS = 100;

    static String address, family;
    static long base;
    static int[] release;

    static class Skip extends RuntimeException {
        Skip(String why) { super(why); }
    }

    interface Check { void run() throws Exception; }

    // --- What releases have.

    static boolean since(int major, int minor) {
        return release[0] > major || release[0] == major && release[1] >= minor;
    }

    static Method method(Class<?> c, String name, Class<?>... types) {
        try {
            return c.getMethod(name, types);
        } catch (NoSuchMethodException e) {
            return null;
        }
    }

    static Object call(Object on, Class<?> c, String name, Class<?>[] types, Object... arguments) throws Exception {
        try {
            return c.getMethod(name, types).invoke(on, arguments);
        } catch (java.lang.reflect.InvocationTargetException e) {
            if (e.getCause() instanceof Exception) throw (Exception) e.getCause();
            throw e;
        }
    }

    static Object call(Object on, String name) throws Exception {
        return call(on, on.getClass(), name, new Class<?>[0]);
    }

    @SuppressWarnings("unchecked")
    static ConsumerRecords<byte[], byte[]> poll(KafkaConsumer<byte[], byte[]> c, long ms) throws Exception {
        Class<?> duration = java.time.Duration.class;
        if (method(KafkaConsumer.class, "poll", duration) != null)
            return (ConsumerRecords<byte[], byte[]>) call(c, KafkaConsumer.class, "poll", new Class<?>[] {duration}, java.time.Duration.ofMillis(ms));
        return (ConsumerRecords<byte[], byte[]>) call(c, KafkaConsumer.class, "poll", new Class<?>[] {long.class}, ms);
    }

    @SuppressWarnings("unchecked")
    static OffsetAndMetadata committed(KafkaConsumer<byte[], byte[]> c, TopicPartition p) throws Exception {
        if (method(KafkaConsumer.class, "committed", Set.class) != null)
            return ((Map<TopicPartition, OffsetAndMetadata>) call(c, KafkaConsumer.class, "committed", new Class<?>[] {Set.class}, Collections.singleton(p))).get(p);
        return (OffsetAndMetadata) call(c, KafkaConsumer.class, "committed", new Class<?>[] {TopicPartition.class}, p);
    }

    // --- Records.

    static byte[] key(int p, int n) {
        return n % 8 == 7 ? null : ("key-" + p + "-" + n).getBytes(StandardCharsets.US_ASCII);
    }

    static byte[] value(int p, int n) {
        if (n % 16 == 14) return null;
        byte[] v = new byte[n * 37 % 900];
        for (int i = 0; i < v.length; i++) v[i] = (byte) ((n * 7 + i * 3 + p) % 256);
        return v;
    }

    @SuppressWarnings("unchecked")
    static ProducerRecord<byte[], byte[]> record(String topic, int p, int n) throws Exception {
        if (since(0, 11)) {
            Class<?> header = Class.forName("org.apache.kafka.common.header.internals.RecordHeader");
            List<Object> headers = new ArrayList<>();
            for (int i = 0; i < n % 3; i++)
                headers.add(header.getConstructor(String.class, byte[].class).newInstance("h" + i, (n + "." + i).getBytes(StandardCharsets.US_ASCII)));
            Constructor<?> c = ProducerRecord.class.getConstructor(String.class, Integer.class, Long.class, Object.class, Object.class, Iterable.class);
            return (ProducerRecord<byte[], byte[]>) c.newInstance(topic, p, base + 10L * n, key(p, n), value(p, n), headers);
        }
        if (since(0, 10)) {
            Constructor<?> c = ProducerRecord.class.getConstructor(String.class, Integer.class, Long.class, Object.class, Object.class);
            return (ProducerRecord<byte[], byte[]>) c.newInstance(topic, p, base + 10L * n, key(p, n), value(p, n));
        }
        return new ProducerRecord<>(topic, p, key(p, n), value(p, n));
    }

    static void same(String what, Object expected, Object found) {
        if (!Objects.deepEquals(expected, found)) throw new AssertionError(what + ": expected " + text(expected) + ", found " + text(found));
    }

    static String text(Object o) {
        String s = o instanceof byte[] ? Arrays.toString((byte[]) o) : String.valueOf(o);
        return s.length() < 200 ? s : s.substring(0, 200) + "... (" + s.length() + " characters)";
    }

    static void checkRecord(ConsumerRecord<byte[], byte[]> r, int n) throws Exception {
        String where = r.topic() + " [" + r.partition() + "] " + n;
        same(where + " offset", (long) n, r.offset());
        same(where + " key", key(r.partition(), n), r.key());
        same(where + " value", value(r.partition(), n), r.value());
        if (since(0, 10)) same(where + " timestamp", base + 10L * n, call(r, "timestamp"));
        if (since(0, 11)) {
            int i = 0;
            for (Object h : (Iterable<?>) call(r, "headers")) {
                Class<?> header = Class.forName("org.apache.kafka.common.header.Header");
                same(where + " header", "h" + i, call(h, header, "key", new Class<?>[0]));
                same(where + " header value", (n + "." + i).getBytes(StandardCharsets.US_ASCII), call(h, header, "value", new Class<?>[0]));
                i++;
            }
            same(where + " headers", n % 3, i);
        }
    }

    // --- Clients.

    static Map<String, Object> options(Object... more) {
        Map<String, Object> m = new HashMap<>();
        m.put("bootstrap.servers", address);
        for (int i = 0; i < more.length; i += 2) m.put((String) more[i], more[i + 1]);
        return m;
    }

    static KafkaProducer<byte[], byte[]> producer(Object... more) {
        Map<String, Object> m = options("key.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer", "value.serializer",
            "org.apache.kafka.common.serialization.ByteArraySerializer", "linger.ms", "5", "batch.size", "4096", "retries", "3",
            "request.timeout.ms", "15000"); // what is never answered is to be told before the program's time is over
        m.putAll(options(more));
        return new KafkaProducer<>(m);
    }

    static KafkaConsumer<byte[], byte[]> consumer(Object... more) {
        Map<String, Object> m = options("key.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer", "value.deserializer",
            "org.apache.kafka.common.serialization.ByteArrayDeserializer", "enable.auto.commit", "false", "auto.offset.reset", "earliest", "heartbeat.interval.ms",
            "500", "session.timeout.ms", "10000", "fetch.max.wait.ms", "50", "metadata.max.age.ms", "2000");
        if (release[0] == 0 && release[1] == 9) m.put("request.timeout.ms", "20000");
        m.putAll(options(more));
        return new KafkaConsumer<>(m);
    }

    static void readAll(String topic, int partitions, int count) throws Exception {
        try (KafkaConsumer<byte[], byte[]> c = consumer()) {
            List<TopicPartition> parts = new ArrayList<>();
            for (int p = 0; p < partitions; p++) parts.add(new TopicPartition(topic, p));
            c.assign(parts);
            for (TopicPartition p : parts) c.seek(p, 0);
            int[] next = new int[partitions];
            int sum = 0;
            long end = System.currentTimeMillis() + 40000;
            while (sum < partitions * count) {
                if (System.currentTimeMillis() > end) throw new AssertionError(topic + ": only " + Arrays.toString(next) + " of " + count + " came");
                for (ConsumerRecord<byte[], byte[]> r : poll(c, 200)) {
                    checkRecord(r, next[r.partition()]++);
                    sum++;
                }
            }
            same("records behind the last one", 0, poll(c, 150).count());
            if (since(0, 10) && method(KafkaConsumer.class, "endOffsets", Collection.class) != null)
                for (Object v : ((Map<?, ?>) call(c, KafkaConsumer.class, "endOffsets", new Class<?>[] {Collection.class}, parts)).values()) same("end", (long) count, v);
        }
    }

    static void write(KafkaProducer<byte[], byte[]> p, String topic, int partitions, int from, int to) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int n = from; n < to; n++)
            for (int part = 0; part < partitions; part++) sent.add(p.send(record(topic, part, n)));
        p.flush();
        int i = 0;
        for (int n = from; n < to; n++)
            for (int part = 0; part < partitions; part++) same("offset of " + part + "/" + n, (long) n, sent.get(i++).get(20, TimeUnit.SECONDS).offset());
    }

    // --- Checks.

    static void data(String codec) throws Exception {
        String topic = family + "-data-" + codec;
        try (KafkaProducer<byte[], byte[]> p = producer("compression.type", codec, "acks", "all")) {
            write(p, topic, DATA_PARTITIONS, 0, DATA_RECORDS);
        }
        readAll(topic, DATA_PARTITIONS, DATA_RECORDS);
    }

    static void peer(String codec) throws Exception {
        if (!codec.equals("zstd") || since(2, 1)) {
            readAll(family + "-peer-" + codec, PEER_PARTITIONS, PEER_RECORDS);
            return;
        }
        try {
            readAll(family + "-peer-" + codec, PEER_PARTITIONS, 1);
        } catch (Exception | AssertionError e) {
            if (String.valueOf(e.getMessage()).contains("expected")) throw e;
            return;
        }
        throw new AssertionError("records in zstd were read by a client that does not know it");
    }

    static void acks() throws Exception {
        String topic = family + "-acks";
        int n = 0;
        for (String acks : new String[] {"0", "1", "all"}) {
            try (KafkaProducer<byte[], byte[]> p = since(0, 11) ? producer("acks", acks, "enable.idempotence", "false") : producer("acks", acks)) {
                for (int i = 0; i < 10; i++) p.send(record(topic, 0, n++)).get(20, TimeUnit.SECONDS);
            }
        }
        readAll(topic, 1, 30);
    }

    static void idempotent() throws Exception {
        try (KafkaProducer<byte[], byte[]> p = producer("acks", "all", "enable.idempotence", "true", "max.in.flight.requests.per.connection", since(1, 0) ? "5" : "1")) {
            write(p, family + "-idempotent", 1, 0, 200);
        }
        readAll(family + "-idempotent", 1, 200);
    }

    static class Sharing {
        final Map<String, Integer> read = new HashMap<>();
        final Map<String, Set<Integer>> assigned = new HashMap<>();
        int revoked;

        synchronized void done(List<String> keys) {
            for (String k : keys) read.put(k, read.getOrDefault(k, 0) + 1);
        }

        synchronized void assign(String member, Set<TopicPartition> parts) {
            Set<Integer> s = new HashSet<>();
            for (TopicPartition p : parts) s.add(p.partition());
            assigned.put(member, s);
        }

        synchronized void gone(String member) { assigned.remove(member); }

        synchronized boolean shared(int members) {
            Set<Integer> all = new HashSet<>();
            for (Set<Integer> s : assigned.values()) {
                if (s.size() != SHARE_PARTITIONS / members) return false;
                all.addAll(s);
            }
            return assigned.size() == members && all.size() == SHARE_PARTITIONS;
        }

        synchronized boolean has(int count) { return read.size() >= SHARE_PARTITIONS * count; }

        synchronized void check(int count) {
            for (int p = 0; p < SHARE_PARTITIONS; p++)
                for (int n = 0; n < count; n++) same("times that " + p + "/" + n + " was read", 1, read.getOrDefault(p + "/" + n, 0));
            same("records", SHARE_PARTITIONS * count, read.size());
        }
    }

    static class Member extends Thread {
        final Sharing sharing;
        final String name, topic, group;
        final Object[] more;
        volatile boolean stopping;
        volatile Throwable error;

        Member(Sharing sharing, String name, String topic, String group, Object... more) {
            this.sharing = sharing;
            this.name = name;
            this.topic = topic;
            this.group = group;
            this.more = more;
            setDaemon(true);
            start();
        }

        @Override
        public void run() {
            try (KafkaConsumer<byte[], byte[]> c = consumer(merge(more, "group.id", group, "client.id", name))) {
                c.subscribe(Collections.singletonList(topic), new ConsumerRebalanceListener() {
                    @Override
                    public void onPartitionsRevoked(Collection<TopicPartition> parts) {
                        if (stopping) return;
                        synchronized (sharing) {
                            sharing.revoked += parts.size();
                        }
                    }

                    @Override
                    public void onPartitionsAssigned(Collection<TopicPartition> parts) {}
                });
                while (!stopping) {
                    ConsumerRecords<byte[], byte[]> got = poll(c, 100);
                    sharing.assign(name, c.assignment());
                    if (got.isEmpty()) continue;
                    try {
                        c.commitSync();
                    } catch (CommitFailedException e) {
                        continue; // a rebalance came between: whoever has the partition next reads them again
                    } catch (Exception e) {
                        if (!e.getClass().getSimpleName().equals("RebalanceInProgressException")) throw e;
                        for (TopicPartition p : got.partitions()) if (c.assignment().contains(p)) c.seek(p, got.records(p).get(0).offset());
                        continue;
                    }
                    List<String> keys = new ArrayList<>();
                    for (ConsumerRecord<byte[], byte[]> r : got) {
                        checkRecord(r, (int) r.offset());
                        keys.add(r.partition() + "/" + r.offset());
                    }
                    sharing.done(keys);
                }
            } catch (Throwable e) {
                error = e;
            } finally {
                sharing.gone(name);
            }
        }

        void finish() throws Exception {
            stopping = true;
            join(30000);
            if (error != null) throw new AssertionError(name + ": " + error, error);
        }
    }

    static Object[] merge(Object[] a, Object... b) {
        Object[] all = Arrays.copyOf(a, a.length + b.length);
        System.arraycopy(b, 0, all, a.length, b.length);
        return all;
    }

    static void until(String what, Callable<Boolean> check, List<Member> members) throws Exception {
        long end = System.currentTimeMillis() + 60000;
        while (!check.call()) {
            for (Member m : members) if (m.error != null) throw new AssertionError(m.name + ": " + m.error, m.error);
            if (System.currentTimeMillis() > end) throw new AssertionError("not within 60 s: " + what);
            Thread.sleep(50);
        }
    }

    static void groupShare() throws Exception {
        String topic = family + "-share";
        Sharing s = new Sharing();
        List<Member> members = new ArrayList<>();
        for (int i = 0; i < 3; i++) members.add(new Member(s, family + "-m" + i, topic, topic));
        until("three members share", () -> s.shared(3), members);
        until("all was read", () -> s.shared(3) && s.has(SHARE_RECORDS), members);
        members.remove(1).finish();
        until("two members share", () -> s.shared(2), members);
        try (KafkaProducer<byte[], byte[]> p = producer()) {
            write(p, topic, SHARE_PARTITIONS, SHARE_RECORDS, SHARE_RECORDS + SHARE_MORE);
        }
        until("what came later was read", () -> s.has(SHARE_RECORDS + SHARE_MORE), members);
        for (Member m : members) m.finish();
        s.check(SHARE_RECORDS + SHARE_MORE);
    }

    /** A static member that comes back under its name keeps what it had, and nobody else notices. */
    static void groupStatic() throws Exception {
        String topic = family + "-data-none", group = family + "-static";
        until("the topic is full", () -> written.contains("data-none"), Collections.<Member>emptyList());
        Sharing s = new Sharing();
        List<Member> members = new ArrayList<>();
        for (int i = 0; i < 3; i++) members.add(new Member(s, family + "-s" + i, topic, group, "group.instance.id", "instance-" + i, "max.poll.records", "10"));
        Callable<Boolean> shared = () -> {
            synchronized (s) {
                int n = 0;
                for (Set<Integer> a : s.assigned.values()) n += a.size() == 1 ? 1 : 10;
                return n == 3;
            }
        };
        until("three static members share", shared, members);
        int before;
        Set<Integer> had;
        synchronized (s) {
            had = s.assigned.get(family + "-s1");
            before = s.revoked;
        }
        members.remove(1).finish();
        Thread.sleep(1000);
        members.add(new Member(s, family + "-s1", topic, group, "group.instance.id", "instance-1", "max.poll.records", "10"));
        until("the member is back", shared, members);
        synchronized (s) {
            same("what the member has", had, s.assigned.get(family + "-s1"));
            same("partitions revoked meanwhile", before, s.revoked);
        }
        for (Member m : members) m.finish();
    }

    /** With cooperative-sticky only what moves is revoked. */
    static void groupCooperative() throws Exception {
        String topic = family + "-peer-none", group = family + "-cooperative";
        Object[] more = {"partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"};
        Sharing s = new Sharing();
        List<Member> members = new ArrayList<>();
        members.add(new Member(s, family + "-c0", topic, group, more));
        until("one member has both", () -> {
            synchronized (s) {
                return s.assigned.getOrDefault(family + "-c0", Collections.<Integer>emptySet()).size() == 2;
            }
        }, members);
        members.add(new Member(s, family + "-c1", topic, group, more));
        until("each has one", () -> {
            synchronized (s) {
                return s.assigned.size() == 2 && s.assigned.values().stream().allMatch(a -> a.size() == 1);
            }
        }, members);
        synchronized (s) {
            same("partitions revoked", 1, s.revoked);
        }
        for (Member m : members) m.finish();
    }

    static void groupResume() throws Exception {
        String topic = family + "-resume";
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        int[] next = new int[RESUME_PARTITIONS];
        try (KafkaConsumer<byte[], byte[]> c = consumer("group.id", topic)) {
            c.subscribe(Collections.singletonList(topic));
            long end = System.currentTimeMillis() + 60000;
            while (Math.min(next[0], next[1]) < RESUME_AT) {
                if (System.currentTimeMillis() > end) throw new AssertionError("only " + Arrays.toString(next) + " came");
                for (ConsumerRecord<byte[], byte[]> r : poll(c, 200)) checkRecord(r, next[r.partition()]++);
            }
            for (int p = 0; p < RESUME_PARTITIONS; p++) offsets.put(new TopicPartition(topic, p), new OffsetAndMetadata(RESUME_AT + p, "note " + p));
            c.commitSync(offsets);
        }
        for (int p = 0; p < RESUME_PARTITIONS; p++) next[p] = RESUME_AT + p;
        try (KafkaConsumer<byte[], byte[]> c = consumer("group.id", topic)) {
            c.subscribe(Collections.singletonList(topic));
            long end = System.currentTimeMillis() + 60000;
            while (Math.min(next[0], next[1]) < RESUME_RECORDS) {
                if (System.currentTimeMillis() > end) throw new AssertionError("only " + Arrays.toString(next) + " came");
                for (ConsumerRecord<byte[], byte[]> r : poll(c, 200)) checkRecord(r, next[r.partition()]++);
            }
            for (TopicPartition p : offsets.keySet()) same("committed", offsets.get(p), committed(c, p));
        }
        try (KafkaConsumer<byte[], byte[]> c = consumer("group.id", family + "-alone")) { // commits without members
            TopicPartition p = new TopicPartition(topic, 0);
            c.assign(Collections.singletonList(p));
            c.commitSync(Collections.singletonMap(p, new OffsetAndMetadata(3)));
            same("committed without members", 3L, committed(c, p).offset());
            same("not committed", null, committed(c, new TopicPartition(topic, 1)));
        }
    }

    static void times() throws Exception {
        TopicPartition part = new TopicPartition(family + "-times", 0);
        try (KafkaConsumer<byte[], byte[]> c = consumer("auto.offset.reset", "none", "group.id", family + "-times")) {
            c.assign(Collections.singletonList(part));
            for (int at : new int[] {70, 0, TIMES_RECORDS - 1}) {
                c.seek(part, at);
                ConsumerRecords<byte[], byte[]> got = poll(c, 5000);
                checkRecord(got.iterator().next(), at);
            }
            c.seek(part, TIMES_RECORDS + 1000);
            boolean refused = false;
            try {
                for (int i = 0; i < 20; i++) poll(c, 500);
            } catch (NoOffsetForPartitionException | OffsetOutOfRangeException e) {
                refused = true;
            }
            same("an offset behind the end is refused", true, refused);
            if (method(KafkaConsumer.class, "offsetsForTimes", Map.class) == null) return;
            for (long[] t : new long[][] {{0, 0}, {500, 50}, {501, 51}, {1 - base, 0}}) {
                Object found = ((Map<?, ?>) call(c, KafkaConsumer.class, "offsetsForTimes", new Class<?>[] {Map.class},
                    Collections.singletonMap(part, base + t[0]))).get(part);
                same("offset for " + t[0], t[1], call(found, "offset"));
                same("its time", base + 10 * t[1], call(found, "timestamp"));
            }
        }
    }

    static void unknownTopic() throws Exception {
        String name = family + "-nowhere";
        boolean failed = false;
        try (KafkaProducer<byte[], byte[]> p = producer("max.block.ms", "2000")) {
            p.send(new ProducerRecord<>(name, null, new byte[1])).get(10, TimeUnit.SECONDS);
        } catch (Exception e) {
            failed = true;
        }
        same("a record to a topic that is not there fails", true, failed);
        try (KafkaConsumer<byte[], byte[]> c = consumer()) {
            Set<String> all = c.listTopics().keySet();
            same("lists a topic that is there", true, all.contains(family + "-times"));
            same("lists one that is not", false, all.contains(name));
        }
    }

    static final Set<String> written = ConcurrentHashMap.newKeySet();
    static final Map<String, Thread> running = new ConcurrentHashMap<>();

    static StackTraceElement where(StackTraceElement[] stack) {
        return Arrays.stream(stack).filter(x -> x.getClassName().matches("JavaClient|Admin.*") && !x.getMethodName().equals("call")).findFirst().orElse(null);
    }

    public static void main(String[] arguments) throws Exception {
        address = arguments[0];
        family = arguments[1];
        base = Long.parseLong(arguments[2]);
        String[] numbers = System.getProperty("release").split("\\.");
        release = new int[] {Integer.parseInt(numbers[0]), Integer.parseInt(numbers[1])};
        Map<String, Check> checks = new LinkedHashMap<>();
        for (String codec : new String[] {"none", "gzip", "snappy", "lz4", "zstd"})
            if (!codec.equals("zstd") || since(2, 1)) checks.put("data-" + codec, () -> data(codec));
        checks.put("group-share", JavaClient::groupShare);
        checks.put("group-resume", JavaClient::groupResume);
        if (since(2, 3)) checks.put("group-static", JavaClient::groupStatic);
        if (since(2, 4)) checks.put("group-cooperative", JavaClient::groupCooperative);
        checks.put("unknown-topic", JavaClient::unknownTopic);
        checks.put("times", JavaClient::times);
        checks.put("acks", JavaClient::acks);
        if (since(0, 11)) checks.put("idempotent", JavaClient::idempotent);
        for (String codec : new String[] {"none", "gzip", "snappy", "lz4", "zstd"})
            if (!codec.equals("zstd") || since(2, 1)) checks.put("peer-" + codec, () -> peer(codec));
        try {
            Class<?> admin = Class.forName(since(2, 8) ? "AdminChecks" : "AdminOld");
            checks.putAll((Map<String, Check>) admin.getMethod("checks").invoke(null));
        } catch (ClassNotFoundException e) {
            // This release has no such client.
        }
        ExecutorService pool = Executors.newFixedThreadPool(6);
        for (Map.Entry<String, Check> e : checks.entrySet()) {
            pool.submit(() -> {
                long began = System.currentTimeMillis();
                String line;
                running.put(e.getKey(), Thread.currentThread());
                try {
                    e.getValue().run();
                    line = "ok " + e.getKey();
                    written.add(e.getKey());
                } catch (Skip s) {
                    line = "skip " + e.getKey() + ": " + s.getMessage();
                } catch (Throwable t) {
                    StackTraceElement at = where(t.getStackTrace());
                    line = "not ok " + e.getKey() + ": " + t.toString().replaceAll("\\s+", " ") + " at " + at + (t.getCause() != null ? " by " + t.getCause() : "").replaceAll("\\s+", " ");
                }
                running.remove(e.getKey());
                synchronized (System.out) {
                    System.out.println(line + "\n   (" + (System.currentTimeMillis() - began) + " ms)");
                    System.out.flush();
                }
            });
        }
        pool.shutdown();
        pool.awaitTermination(130, TimeUnit.SECONDS);
        // The oldest clients wait for ever for a broker that hangs up on them.
        synchronized (System.out) {
            for (Map.Entry<String, Thread> e : running.entrySet()) System.out.println("not ok " + e.getKey() + ": had not ended at last, and is at " + where(e.getValue().getStackTrace()));
        }
        System.exit(0);
    }
}
