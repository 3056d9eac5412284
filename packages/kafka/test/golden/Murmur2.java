// Prints murmur2.txt: javac -cp kafka-clients-4.1.0.jar Murmur2.java && java -cp .:kafka-clients-4.1.0.jar:slf4j-api.jar Murmur2
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.utils.Utils;
public class Murmur2 {
  public static void main(String[] args) {
    StringBuilder out = new StringBuilder();
    for (int i = 0; i < 10000; i++) {
      String key = GoldenKeys.key(i);
      byte[] b = key.getBytes(StandardCharsets.UTF_8);
      out.append(Utils.toPositive(Utils.murmur2(b)) % 12).append(i % 100 == 99 ? "\n" : " ");
    }
    System.out.print(out);
  }
}
class GoldenKeys {
  static String key(int i) {
    switch (i % 5) {
      case 0: return "order-" + i;
      case 1: return "tenant-" + (i % 37) + ":customer/" + (i * 7919L);
      case 2: return Integer.toHexString(i * 40503);
      case 3: return "k\u00fc\u20ac-" + i;
      default: return "x".repeat(i % 67) + i;
    }
  }
}
