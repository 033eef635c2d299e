import com.sun.management.OperatingSystemMXBean;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.concurrent.CountDownLatch;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.retry.RetryOneTime;

/**
 * CuratorCache as a contestant of the relay. It is asked on its standard input:
 *
 *   watch ROOT WRITES ZNODES   caches what is below; answers "watching" when it has all
 *   results                    waits for the last value of each znode; answers its CPU in microseconds since "watching"
 *                              and a line "VALUE NANOSECONDS" for each value that the listener was told, then "end"
 *
 * Values are the numbers of the writes. System.nanoTime is the machine's monotonic clock, as the writer's is.
 */
public class CuratorPeer {
  private static CuratorCache cache;
  private static long[] seenAtNanos;
  private static CountDownLatch finals;
  private static int firstFinal;
  private static long cpuBefore;

  private static long cpuNanos() {
    return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
  }

  private static synchronized void saw(ChildData data) {
    if (data == null || data.getData() == null || data.getData().length == 0) return;
    int value = Integer.parseInt(new String(data.getData(), StandardCharsets.UTF_8));
    if (seenAtNanos[value] != 0) return;
    seenAtNanos[value] = System.nanoTime();
    if (value >= firstFinal) finals.countDown();
  }

  private static void watch(CuratorFramework client, String root, int writes, int znodes) throws Exception {
    seenAtNanos = new long[writes];
    firstFinal = writes - znodes;
    finals = new CountDownLatch(znodes);
    CountDownLatch initialized = new CountDownLatch(1);
    cache = CuratorCache.build(client, root);
    cache.listenable().addListener(
        CuratorCacheListener.builder()
            .forInitialized(initialized::countDown)
            .forCreatesAndChanges((before, now) -> saw(now))
            .build());
    cache.start();
    initialized.await();
    cpuBefore = cpuNanos();
  }

  private static void results(PrintWriter output) throws Exception {
    finals.await();
    output.println((cpuNanos() - cpuBefore) / 1_000);
    long[] seen;
    synchronized (CuratorPeer.class) {
      seen = Arrays.copyOf(seenAtNanos, seenAtNanos.length);
    }
    for (int value = 0; value < seen.length; value++)
      if (seen[value] != 0) output.println(value + " " + seen[value]);
    cache.close();
  }

  public static void main(String[] args) throws Exception {
    CuratorFramework client = CuratorFrameworkFactory.newClient(args[0], new RetryOneTime(1_000));
    client.start();
    client.blockUntilConnected();
    PrintWriter output = new PrintWriter(System.out);
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      String[] ask = line.split(" ");
      if (ask[0].equals("watch")) {
        watch(client, ask[1], Integer.parseInt(ask[2]), Integer.parseInt(ask[3]));
        output.println("watching");
      } else {
        results(output);
        output.println("end");
      }
      output.flush();
    }
    System.exit(0);
  }
}
