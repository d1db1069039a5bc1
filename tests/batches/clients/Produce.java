import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** usage: Produce KAFKA TOPIC CODEC [transactions] */
public class Produce {
    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static ProducerRecord<byte[], byte[]> record(String topic, String key, String value) {
        return new ProducerRecord<>(topic, 0, key == null ? null : bytes(key), value == null ? null : bytes(value));
    }

    public static void main(String[] args) throws Exception {
        String topic = args[1];
        boolean transactions = args.length > 3;
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        settings.put("compression.type", args[2]);
        settings.put("linger.ms", "500");
        if (transactions) {
            settings.put("transactional.id", topic);
        }
        var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        if (transactions) {
            producer.initTransactions();
            for (String value : List.of("kept", "aborted", "kept too")) {
                producer.beginTransaction();
                producer.send(record(topic, "key", value));
                producer.flush();
                if (value.equals("aborted")) {
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
        } else {
            var headers = record(topic, "", "");
            headers.headers()
                .add("x", null).add("x", new byte[0]).add("x", bytes("1")).add("", bytes("name"))
                .add("\u00e9", new byte[] {(byte) 0xff, (byte) 0xfe});
            var unkeyed = record(topic, null, "no key");
            unkeyed.headers().add("a", bytes("1"));
            var many = record(topic, "key", "v".repeat(2000));
            for (int number = 0; number < 20; number++) {
                many.headers().add("name " + number, bytes("value"));
            }
            for (var each : List.of(record(topic, "key", "plain"), unkeyed, record(topic, "key", null), headers, many)) {
                producer.send(each);
            }
        }
        producer.close();
    }
}
