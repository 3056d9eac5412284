// Java's own client, for the tests: java -cp 'lib/*' JavaClient.java BROKERS COMMAND...
//   produce:TOPIC:CODEC  writes the lines of stdin that begin with "TOPIC ": TOPIC KEY BASE64
//   consume:TOPIC:COUNT  reads a topic from its beginning
// Of each record it prints: TOPIC PARTITION OFFSET KEY BASE64
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class JavaClient {
  public static void main(String[] args) throws Exception {
    List<String> input = new BufferedReader(new InputStreamReader(System.in)).lines().collect(Collectors.toList());
    for (int i = 1; i < args.length; i++) {
      String[] command = args[i].split(":");
      if (command[0].equals("produce")) produce(args[0], command[1], command[2], input);
      else consume(args[0], command[1], Integer.parseInt(command[2]));
    }
  }

  static void produce(String brokers, String topic, String codec, List<String> input) throws Exception {
    Properties properties = new Properties();
    properties.put("bootstrap.servers", brokers);
    properties.put("compression.type", codec);
    properties.put("linger.ms", "50");
    List<ProducerRecord<String, byte[]>> records = new ArrayList<>();
    List<Future<RecordMetadata>> written = new ArrayList<>();
    try (KafkaProducer<String, byte[]> producer =
        new KafkaProducer<>(properties, new StringSerializer(), new ByteArraySerializer())) {
      for (String line : input) {
        String[] part = line.split(" ");
        if (!part[0].equals(topic)) continue;
        ProducerRecord<String, byte[]> record =
            new ProducerRecord<>(topic, part[1], Base64.getDecoder().decode(part[2]));
        records.add(record);
        written.add(producer.send(record));
      }
      for (int i = 0; i < records.size(); i++) {
        RecordMetadata where = written.get(i).get();
        print(topic, where.partition(), where.offset(), records.get(i).key(), records.get(i).value());
      }
    }
  }

  static void consume(String brokers, String topic, int count) {
    Properties properties = new Properties();
    properties.put("bootstrap.servers", brokers);
    try (KafkaConsumer<String, byte[]> consumer =
        new KafkaConsumer<>(properties, new StringDeserializer(), new ByteArrayDeserializer())) {
      List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
          .map(info -> new TopicPartition(topic, info.partition())).collect(Collectors.toList());
      consumer.assign(partitions);
      consumer.seekToBeginning(partitions);
      for (long end = System.nanoTime() + 15_000_000_000L; count > 0 && System.nanoTime() < end;) {
        for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofMillis(200))) {
          print(topic, record.partition(), record.offset(), record.key(), record.value());
          count--;
        }
      }
    }
  }

  static void print(String topic, int partition, long offset, String key, byte[] value) {
    System.out.println(
        String.join(" ", topic, "" + partition, "" + offset, key, Base64.getEncoder().encodeToString(value)));
  }
}
