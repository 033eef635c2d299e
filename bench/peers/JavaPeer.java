import com.sun.management.OperatingSystemMXBean;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.function.IntFunction;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;

/** The Java client as a contestant: see driver.ts for what is asked and answered. */
public class JavaPeer {
  private static final int ZNODES = 100;
  private static final int MULTI_SIZE = 12;
  private static final int CREATES = 100;
  private static final byte[] VALUE = "x".repeat(100).getBytes();
  private static ZooKeeper client;

  interface Operation {
    void begin(int number);
  }

  private static String znode(int number) {
    return "/znode-" + number % ZNODES;
  }

  private static Iterable<Op> ops(int count, IntFunction<Op> each) {
    List<Op> ops = new ArrayList<>(count);
    for (int index = 0; index < count; index++) ops.add(each.apply(index));
    return ops;
  }

  /** Keeps so many operations in flight for the time, and waits for the last of them. */
  private static class Drive {
    private final int inFlight;
    private final long endNanos;
    private final CountDownLatch over = new CountDownLatch(1);
    private int begun;
    private int completed;

    Drive(int inFlight, long ms) {
      this.inFlight = inFlight;
      this.endNanos = System.nanoTime() + ms * 1_000_000;
    }

    void done(int code) {
      if (code != 0) System.err.println("error " + code);
      int number = -1;
      synchronized (this) {
        completed++;
        if (System.nanoTime() < endNanos) number = begun++;
        else if (completed == begun && begun >= inFlight) over.countDown();
      }
      if (number >= 0) operation.begin(number);
    }

    private Operation operation;

    int run(Operation operation) throws InterruptedException {
      this.operation = operation;
      for (int index = 0; index < inFlight; index++) {
        int number;
        synchronized (this) {
          number = begun++;
        }
        operation.begin(number);
      }
      over.await();
      return completed;
    }
  }

  private static Operation operationOf(String row, String tag, Drive drive) {
    String created = "/created/" + tag + "/";
    switch (row) {
      case "getData":
        return n -> client.getData(znode(n), false, (code, path, context, data, stat) -> drive.done(code), null);
      case "exists":
        return n -> client.exists(znode(n), false, (code, path, context, stat) -> drive.done(code), null);
      case "setData":
        return n -> client.setData(znode(n), VALUE, -1, (code, path, context, stat) -> drive.done(code), null);
      case "create":
        return n ->
            client.create(created + n, VALUE, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT,
                (int code, String path, Object context, String name) -> drive.done(code), null);
      case "multi":
        return n ->
            client.multi(ops(MULTI_SIZE, index -> Op.setData(znode(n * MULTI_SIZE + index), VALUE, -1)),
                (code, path, context, results) -> drive.done(code), null);
      default:
        return n ->
            client.multi(
                ops(CREATES, index ->
                    Op.create(created + n + "-" + index, VALUE, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT)),
                (code, path, context, results) -> drive.done(code), null);
    }
  }

  private static long[] watchLatency(long ms) throws Exception {
    List<Long> latencies = new ArrayList<>();
    long end = System.nanoTime() + ms * 1_000_000;
    while (System.nanoTime() < end) {
      CountDownLatch fired = new CountDownLatch(1);
      client.getData(znode(0), event -> fired.countDown(), null);
      long begun = System.nanoTime();
      client.setData(znode(0), VALUE, -1, (code, path, context, stat) -> {}, null);
      fired.await();
      latencies.add((System.nanoTime() - begun) / 1000);
    }
    latencies.sort(null);
    return new long[] {latencies.size(), latencies.get(latencies.size() / 2)};
  }

  private static long[] walk(int inFlight) throws Exception {
    Semaphore room = new Semaphore(inFlight);
    List<String> tops = client.getChildren("/walk", false);
    long count = 1;
    for (String top : tops) {
      String path = "/walk/" + top;
      client.getData(path, false, null);
      List<String> names = client.getChildren(path, false);
      count += 2 + names.size();
      for (String name : names) {
        room.acquire();
        client.getData(path + "/" + name, false, (code, p, context, data, stat) -> room.release(), null);
      }
    }
    room.acquire(inFlight);
    return new long[] {count, 0};
  }

  public static void main(String[] args) throws Exception {
    CountDownLatch connected = new CountDownLatch(1);
    client =
        new ZooKeeper(args[0], 30_000, event -> {
          if (event.getState() == Watcher.Event.KeeperState.SyncConnected) connected.countDown();
        });
    connected.await();
    System.out.println("ready");
    OperatingSystemMXBean system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      String[] ask = line.split(" ");
      long cpu = system.getProcessCpuTime();
      long begun = System.nanoTime();
      int inFlight = Integer.parseInt(ask[1]);
      long ms = Long.parseLong(ask[2]);
      long[] result;
      if (ask[0].equals("watch")) result = watchLatency(ms);
      else if (ask[0].equals("walk")) result = walk(inFlight);
      else {
        Drive drive = new Drive(inFlight, ms);
        result = new long[] {drive.run(operationOf(ask[0], ask[3], drive)), 0};
      }
      long elapsed = (System.nanoTime() - begun) / 1000;
      System.out.println(result[0] + " " + elapsed + " " + (system.getProcessCpuTime() - cpu) / 1000 + " " + result[1]);
    }
    System.exit(0);
  }
}
