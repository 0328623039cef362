package stepstream;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;

/** The job in Flink: keyed state on the heap, a checkpoint and a transaction every 100 ms. */
public final class Steps {
    private static final int WINDOW = 64;
    private static final int HOP = 8;
    private static final double LEAST = 11.0;
    private static final long LAST_COMMIT_MS = 1_000;

    private static final ObjectMapper MAPPER = new ObjectMapper();
    private static final ObjectReader READER =
            MAPPER.readerFor(Message.class)
                    .without(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES);
    private static final ObjectWriter WRITER = MAPPER.writerFor(Event.class);

    public record Message(
            String device_id,
            double timestamp,
            double accel_x,
            double accel_y,
            double accel_z,
            double gyro_x,
            double gyro_y,
            double gyro_z) {}

    public record Event(String event_id, String device_id, double ended_at) {}

    /** A reading and its place; public fields, as Flink's own serializer wants them. */
    public static final class Reading {
        public String device;
        public double timestamp;
        public double size;
        public int partition;
        public long offset;
    }

    public static final class Found {
        public String id;
        public String device;
        public double endedAt;
    }

    /** The last 64 sizes of a device's acceleration, in a ring, and how many there ever were. */
    public static final class Window {
        public int number;
        public double[] ring = new double[WINDOW];

        boolean add(double size) {
            ring[number % WINDOW] = size;
            number++;
            return number >= WINDOW && number % HOP == 0 && isStep();
        }

        private boolean isStep() {
            double peak = 0;
            for (int place = 28; place < 36; place++) {
                peak = Math.max(peak, ring[(number + place) % WINDOW]);
            }
            if (peak <= LEAST) {
                return false;
            }
            for (double size : ring) {
                if (size > peak) {
                    return false;
                }
            }
            return true;
        }
    }

    static final class Readings implements KafkaRecordDeserializationSchema<Reading> {
        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Reading> out)
                throws IOException {
            Message message = READER.readValue(record.value());
            double x = message.accel_x();
            double y = message.accel_y();
            double z = message.accel_z();
            Reading reading = new Reading();
            reading.device = message.device_id();
            reading.timestamp = message.timestamp();
            reading.size = Math.sqrt(x * x + y * y + z * z);
            reading.partition = record.partition();
            reading.offset = record.offset();
            out.collect(reading);
        }

        @Override
        public TypeInformation<Reading> getProducedType() {
            return TypeInformation.of(Reading.class);
        }
    }

    static final class Counter extends KeyedProcessFunction<String, Reading, Found> {
        private final String topic;
        private transient ValueState<Window> windows;

        Counter(String topic) {
            this.topic = topic;
        }

        @Override
        public void open(OpenContext context) {
            windows = getRuntimeContext().getState(new ValueStateDescriptor<>("window", Window.class));
        }

        @Override
        public void processElement(Reading reading, Context context, Collector<Found> out)
                throws IOException {
            Window window = windows.value();
            if (window == null) {
                window = new Window();
            }
            boolean found = window.add(reading.size);
            windows.update(window);
            if (found) {
                Found event = new Found();
                event.id = topic + "-" + reading.partition + "-" + reading.offset + "-0";
                event.device = reading.device;
                event.endedAt = reading.timestamp;
                out.collect(event);
            }
        }
    }

    private static byte[] write(Found found) {
        try {
            return WRITER.writeValueAsBytes(new Event(found.id, found.device, found.endedAt));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    public static void main(String[] arguments) throws Exception {
        String bootstrap = System.getenv("BENCH_BOOTSTRAP");
        String readings = System.getenv("BENCH_READINGS");
        String events = System.getenv("BENCH_EVENTS");
        String group = System.getenv("BENCH_GROUP");
        Configuration configuration =
                Configuration.fromMap(
                        Map.of(
                                "execution.checkpointing.interval", "100ms",
                                "execution.checkpointing.mode", "EXACTLY_ONCE",
                                "execution.checkpointing.storage", "filesystem",
                                "execution.checkpointing.dir",
                                        "file://" + System.getenv("BENCH_FOLDER") + "/checkpoints",
                                "state.backend.type", "hashmap",
                                "pipeline.object-reuse", "true"));
        StreamExecutionEnvironment environment =
                StreamExecutionEnvironment.createLocalEnvironment(1, configuration);
        KafkaSource<Reading> source =
                KafkaSource.<Reading>builder()
                        .setBootstrapServers(bootstrap)
                        .setTopics(readings)
                        .setGroupId(group)
                        .setStartingOffsets(OffsetsInitializer.earliest())
                        .setDeserializer(new Readings())
                        .build();
        KafkaSink<Found> sink =
                KafkaSink.<Found>builder()
                        .setBootstrapServers(bootstrap)
                        .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                        .setTransactionalIdPrefix(group)
                        .setProperty("transaction.timeout.ms", "60000")
                        .setRecordSerializer(
                                (found, context, timestamp) ->
                                        new ProducerRecord<>(
                                                events,
                                                found.device.getBytes(StandardCharsets.UTF_8),
                                                write(found)))
                        .build();
        environment
                .fromSource(source, WatermarkStrategy.noWatermarks(), "readings")
                .keyBy(reading -> reading.device)
                .process(new Counter(readings))
                .sinkTo(sink);
        // The offsets of a checkpoint are committed before or after its transaction: let that end.
        Runtime.getRuntime().addShutdownHook(new Thread(Steps::waitForTheLastCommit));
        environment.execute();
    }

    private static void waitForTheLastCommit() {
        try {
            Thread.sleep(LAST_COMMIT_MS);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }
}
