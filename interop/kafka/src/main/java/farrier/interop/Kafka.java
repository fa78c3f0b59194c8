package farrier.interop;

import java.time.Duration;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.IntegerDeserializer;
import org.apache.kafka.common.serialization.IntegerSerializer;

/**
 * Numbers that go through a broker one by one while topics are created, until standard input says END. Every
 * number that the broker acknowledged must come out, none twice, and each partition's in order; every topic
 * must be there.
 *
 * Prints {@code did record N} and {@code did topic N} as it goes, {@code ok} and {@code FAIL} verdicts, and
 * {@code END PASSED FAILED} as the last line.
 */
public final class Kafka {
    private static final String TOPIC = "numbers";
    private static final int PARTITIONS = 3;
    /** Numbers between two lines of progress. */
    private static final int STEP = 100;
    /** How long anything may take that the broker or its ZooKeeper has to do. */
    private static final int PATIENCE_MS = 300_000;
    private static final Duration POLL = Duration.ofMillis(200);
    private static final long PRODUCE_PAUSE_MS = 2;
    private static final long TOPIC_PAUSE_MS = 500;

    private final String broker;
    private final AtomicBoolean ends = new AtomicBoolean();
    private final Attempt producing = new Attempt();
    private final Attempt creating = new Attempt();
    /** Touched by the producer's thread, then by nobody until that has ended. */
    private int acknowledged;
    /** Touched by the creator's thread, then by nobody until that has ended. */
    private final Set<String> created = new TreeSet<>();

    private Kafka(String broker) {
        this.broker = broker;
    }

    public static void main(String[] arguments) throws Exception {
        System.exit(new Kafka(arguments[0]).run() ? 0 : 1);
    }

    private boolean run() throws Exception {
        try (Admin admin = Admin.create(common())) {
            create(admin, TOPIC, PARTITIONS);
        }
        Thread producer = producing.thread("producer", this::produce);
        Thread creator = creating.thread("creator", this::createTopics);
        producer.start();
        creator.start();
        Thread input = new Thread(this::waitForEnd, "input");
        input.setDaemon(true);
        input.start();
        Consumed consumed = consume(producer);
        creator.join();
        Lines lines = new Lines();
        lines.check("every number was acknowledged", producing.failure(), acknowledged + " numbers");
        lines.check("every acknowledged number came out once and in order", consumed.wrong(acknowledged),
                consumed.numbers.cardinality() + " numbers");
        lines.check("every topic was created", creating.failure(), created.size() + " topics");
        lines.check("every topic is listed", missing(), created.size() + " topics");
        return lines.end();
    }

    private Properties common() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", broker);
        properties.put("default.api.timeout.ms", PATIENCE_MS);
        return properties;
    }

    private void waitForEnd() {
        Lines.waitForEnd();
        ends.set(true);
    }

    /** One number after the other, so that what was acknowledged is a range from 0. */
    private void produce() throws Exception {
        Properties properties = common();
        properties.remove("default.api.timeout.ms");
        properties.put("acks", "all");
        properties.put("delivery.timeout.ms", PATIENCE_MS);
        properties.put("max.block.ms", PATIENCE_MS);
        try (KafkaProducer<Integer, Integer> producer =
                new KafkaProducer<>(properties, new IntegerSerializer(), new IntegerSerializer())) {
            while (!ends.get()) {
                int number = acknowledged;
                producer.send(new ProducerRecord<>(TOPIC, number % PARTITIONS, number, number)).get();
                acknowledged = number + 1;
                if (acknowledged % STEP == 0) {
                    System.out.println("did record " + acknowledged);
                }
                Thread.sleep(PRODUCE_PAUSE_MS);
            }
        }
    }

    private void createTopics() throws Exception {
        try (Admin admin = Admin.create(common())) {
            while (!ends.get()) {
                String name = "topic-" + created.size();
                create(admin, name, 1);
                created.add(name);
                System.out.println("did topic " + created.size());
                Thread.sleep(TOPIC_PAUSE_MS);
            }
        }
    }

    /** A request may be repeated by the client itself, so that its own topic stands in its way. */
    private static void create(Admin admin, String name, int partitions) throws Exception {
        try {
            admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all().get();
        } catch (ExecutionException e) {
            if (!(e.getCause() instanceof TopicExistsException)) {
                throw e;
            }
        }
    }

    private String missing() throws Exception {
        try (Admin admin = Admin.create(common())) {
            Set<String> absent = new TreeSet<>(created);
            absent.removeAll(admin.listTopics().names().get());
            return absent.isEmpty() ? null : "not listed: " + absent;
        }
    }

    /** What the consumer saw. */
    private static final class Consumed {
        final BitSet numbers = new BitSet();
        final int[] last = new int[PARTITIONS];
        String problem;

        Consumed() {
            Arrays.fill(last, -1);
        }

        void take(ConsumerRecord<Integer, Integer> record) {
            int number = record.value();
            if (problem == null && numbers.get(number)) {
                problem = number + " came twice";
            }
            if (problem == null && number < last[record.partition()]) {
                problem = number + " came behind " + last[record.partition()];
            }
            last[record.partition()] = number;
            numbers.set(number);
        }

        String wrong(int acknowledged) {
            if (problem == null && numbers.nextClearBit(0) < acknowledged) {
                return numbers.nextClearBit(0) + " of " + acknowledged + " never came";
            }
            return problem;
        }
    }

    /** Reads until the producer has ended and everything that it was promised has come. */
    private Consumed consume(Thread producer) throws Exception {
        Properties properties = common();
        properties.put("group.id", "farrier");
        properties.put("auto.offset.reset", "earliest");
        Consumed consumed = new Consumed();
        try (KafkaConsumer<Integer, Integer> consumer =
                new KafkaConsumer<>(properties, new IntegerDeserializer(), new IntegerDeserializer())) {
            consumer.subscribe(List.of(TOPIC));
            while (producer.isAlive()) {
                consumer.poll(POLL).forEach(consumed::take);
            }
            producer.join();
            long end = System.nanoTime();
            while (consumed.numbers.nextClearBit(0) < acknowledged && System.nanoTime() - end < PATIENCE_MS * 1_000_000L) {
                consumer.poll(POLL).forEach(consumed::take);
            }
        }
        return consumed;
    }
}
