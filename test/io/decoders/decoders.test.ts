import type { Decoder } from "../../../lib/io/decode";
import {
  clickhouse,
  curatorDiscovery,
  dubbo,
  dubboUrl,
  elasticJob,
  hbase,
  kafka,
  solr,
} from "../../../lib/io/decoders";

/**
 * The fixtures are written for these tests, in the forms that the sources named with each describe. Those projects are
 * under the Apache License 2.0; nothing of theirs is copied.
 */
const decode = <T>(decoder: Decoder<T>, path: string, data: string | Buffer = ""): T =>
  decoder.decode(Buffer.from(data as string), path);

// Forms: kafka.zk.ZkData of Kafka 3.9 (core/src/main/scala/kafka/zk/ZkData.scala); integration/kafka.test.ts has the real thing.
describe("Kafka", () => {
  const BROKER = {
    listener_security_protocol_map: { PLAINTEXT: "PLAINTEXT" },
    endpoints: ["PLAINTEXT://one.example:9092"],
    jmx_port: -1,
    features: {},
    host: "one.example",
    timestamp: "1700000000000",
    port: 9092,
    version: 5,
    rack: "r1",
  };

  test.each([
    [
      "/brokers/ids/3",
      BROKER,
      {
        ...{ type: "broker", brokerId: 3, endpoints: ["PLAINTEXT://one.example:9092"] },
        ...{ rack: "r1", timestampMs: 1_700_000_000_000 },
      },
    ],
    [
      "/brokers/ids/3",
      { version: 1, host: "h", port: 9, jmx_port: -1, timestamp: "5" },
      { type: "broker", brokerId: 3, endpoints: ["PLAINTEXT://h:9"], rack: undefined, timestampMs: 5 },
    ],
    [
      "/brokers/topics/orders",
      { version: 3, topic_id: "abc", partitions: { "0": [1, 2], "1": [2] }, adding_replicas: {} },
      { type: "topic", topic: "orders", topicId: "abc", partitions: { "0": [1, 2], "1": [2] } },
    ],
    [
      "/brokers/topics/orders/partitions/1/state",
      { controller_epoch: 4, leader: 2, version: 1, leader_epoch: 7, isr: [2, 1] },
      {
        ...{ type: "partitionState", topic: "orders", partition: 1, leader: 2 },
        ...{ leaderEpoch: 7, isr: [2, 1], controllerEpoch: 4 },
      },
    ],
    [
      "/controller",
      { version: 2, brokerid: 1, timestamp: "6", kraftControllerEpoch: -1 },
      { type: "controller", brokerId: 1, timestampMs: 6 },
    ],
    ["/controller_epoch", 12, { type: "controllerEpoch", epoch: 12 }],
    ["/cluster/id", { version: "1", id: "x" }, { type: "clusterId", id: "x" }],
    [
      "/config/topics/orders",
      { version: 1, config: { "retention.ms": "5" } },
      { type: "config", entityType: "topics", entity: "orders", config: { "retention.ms": "5" } },
    ],
    ["/isr_change_notification/isr_change_1", { version: 1 }, { type: "other" }],
  ])("%s", (path, value, expected) => {
    expect(decode(kafka(), path, JSON.stringify(value))).toEqual(expected);
    expect(decode(kafka("/k/1"), `/k/1${path}`, JSON.stringify(value))).toEqual(expected);
  });

  test("folders hold nothing, and a deletion of a topic is its znode", () => {
    expect(decode(kafka(), "/brokers/topics/orders/partitions")).toEqual({ type: "other" });
    expect(decode(kafka(), "/admin/delete_topics/orders")).toEqual({ type: "deletedTopic", topic: "orders" });
  });

  test("what is wrong is named", () => {
    expect(() => decode(kafka(), "/brokers/ids/1", "{}")).toThrow(/timestamp/);
    expect(() => decode(kafka(), "/brokers/topics/x", `{"partitions":{"0":"1"}}`)).toThrow(/partition 0/);
    expect(() => decode(kafka(), "/controller", "[]")).toThrow(/not an object/);
  });
});

// Form: ZookeeperRegistry.toUrlPath and URL.toFullString (dubbo-registry-zookeeper, dubbo-common).
test("Dubbo: the URL in the name of the znode", () => {
  const url = "dubbo://10.0.0.1:20880/org.example.Hello?application=demo&timestamp=5&methods=a,b";
  const path = `/dubbo/org.example.Hello/providers/${encodeURIComponent(url)}`;
  const expected = {
    ...{
      service: "org.example.Hello",
      category: "providers",
      protocol: "dubbo",
      host: "10.0.0.1",
      port: 20880,
    },
    path: "org.example.Hello",
    parameters: { application: "demo", timestamp: "5", methods: "a,b" },
  };
  expect(dubboUrl(path)).toEqual(expected);
  expect(decode(dubbo(), path, "10.0.0.1")).toEqual(expected);
  expect(dubboUrl("/dubbo/org.example.Hello/providers")).toBeUndefined();
  expect(decode(dubbo(), "/dubbo/org.example.Hello/providers")).toBeNull();
  const consumer = encodeURIComponent("consumer://[::1]/org.example.Hello?side=consumer");
  expect(dubboUrl(`/g/s/consumers/${consumer}`, "/g")).toMatchObject({ host: "[::1]", port: undefined });
  expect(() => dubboUrl("/dubbo/s/providers/none")).toThrow(/not a URL: none/);
});

// Form: Solr Reference Guide, "Cluster state"; DocCollection, Slice, Replica (solrj).
test("Solr: state.json of a collection", () => {
  const replica = {
    core: "c_shard1_replica_n1",
    node_name: "h:8983_solr",
    state: "active",
    type: "NRT",
    leader: "true",
  };
  const state = {
    books: {
      configName: "_default",
      router: { name: "compositeId" },
      shards: {
        shard1: {
          range: "80000000-7fffffff",
          state: "active",
          replicas: {
            core_node2: replica,
            core_node3: { ...replica, core: "c2", leader: undefined, state: "down" },
          },
        },
      },
    },
  };
  const { shards, configName } = decode(solr(), "/collections/books/state.json", JSON.stringify(state))!;
  expect(configName).toBe("_default");
  expect(shards.shard1!.range).toBe("80000000-7fffffff");
  expect(shards.shard1!.replicas).toEqual({
    core_node2: {
      core: "c_shard1_replica_n1",
      node: "h:8983_solr",
      state: "active",
      type: "NRT",
      isLeader: true,
    },
    core_node3: { core: "c2", node: "h:8983_solr", state: "down", type: "NRT", isLeader: false },
  });
  expect(decode(solr(), "/solr/collections/books")).toBeNull();
  expect(() => decode(solr(), "/collections/other/state.json", JSON.stringify(state))).toThrow(/field other/);
});

// Forms: ZooKeeper.proto, HBase.proto (ServerName) and ZKMetadata of HBase 2.
describe("HBase", () => {
  const varint = (value: number): number[] =>
    value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
  const number = (field: number, value: number): number[] => [field * 8, ...varint(value)];
  const block = (field: number, value: number[] | string): number[] => {
    const content = typeof value === "string" ? [...Buffer.from(value)] : value;
    return [field * 8 + 2, ...varint(content.length), ...content];
  };
  const server = [...block(1, "rs1.example"), ...number(2, 16_020), ...number(3, 1_700_000_000_123)];
  const znode = (message: number[], writer = "regionserver:16020"): Buffer => {
    const salt = Buffer.alloc(8, 0x5a);
    const head = Buffer.alloc(5);
    head[0] = 0xff;
    head.writeInt32BE(writer.length + salt.length, 1);
    return Buffer.concat([head, Buffer.from(writer), salt, Buffer.from("PBUF"), Buffer.from(message)]);
  };
  const expected = { host: "rs1.example", port: 16_020, startCode: 1_700_000_000_123 };

  test("what its znodes say", () => {
    const master = znode([...block(1, server), ...number(2, 0), ...number(3, 16_010)]);
    expect(decode(hbase(), "/hbase/master", master)).toEqual({
      ...{ type: "master", server: expected, infoPort: 16_010 },
    });
    const meta = Buffer.concat([Buffer.from("PBUF"), Buffer.from([...block(1, server), ...number(3, 3)])]);
    expect(decode(hbase("/h"), "/h/meta-region-server", meta)).toEqual({
      ...{ type: "metaRegionServer", server: expected, state: 3 },
    });
    expect(decode(hbase(), "/hbase/rs/rs1.example,16020,1700000000123", znode(number(1, 16_030)))).toEqual({
      ...{ type: "regionServer", server: expected, infoPort: 16_030 },
    });
    expect(decode(hbase(), "/hbase/hbaseid", znode(block(1, "id-1")))).toEqual({
      type: "clusterId",
      id: "id-1",
    });
    expect(decode(hbase(), "/hbase/running", znode([13, 1, 2, 3, 4, ...block(1, "now")]))).toEqual({
      ...{ type: "running", since: "now" },
    });
    expect(decode(hbase(), "/hbase/table/x", "whatever")).toEqual({ type: "other" });
  });

  test("what is wrong is named", () => {
    expect(() => decode(hbase(), "/hbase/master", "{}")).toThrow(/no "PBUF" at byte 0/);
    expect(() => decode(hbase(), "/hbase/master", znode(number(3, 1)))).toThrow(/no field 1/);
    expect(() => decode(hbase(), "/hbase/master", znode([10, 200]))).toThrow(/cut off/);
    expect(() => decode(hbase(), "/hbase/rs/odd", znode([]))).toThrow(/host,port,startCode/);
  });
});

// Forms: ReplicatedMergeTreeAddress and ReplicatedMergeTreeLogEntryData::writeText of ClickHouse.
test("ClickHouse: hosts, pointers and entries of the log", () => {
  const table = "/clickhouse/tables/01/events";
  const host = "host: ch1\nport: 9009\ntcp_port: 9000\ndatabase: db\ntable: events\nscheme: http\n";
  expect(decode(clickhouse(), `${table}/replicas/r1/host`, host)).toEqual({
    ...{
      type: "replicaHost",
      replica: "r1",
      host: "ch1",
      port: 9009,
      tcpPort: 9000,
      database: "db",
      table: "events",
    },
  });
  expect(decode(clickhouse(), `${table}/replicas/r1/is_active`, "x")).toEqual({
    type: "replicaActive",
    replica: "r1",
  });
  expect(decode(clickhouse(), `${table}/replicas/r1/log_pointer`, "42")).toMatchObject({ pointer: 42 });
  const head = "format version: 4\ncreate_time: 2024-01-02 03:04:05\nsource replica: r1\nblock_id: 1_2\n";
  expect(
    decode(clickhouse(), `${table}/log/log-0000000001`, `${head}get\nall_0_0_0\npart_type: Compact\n`),
  ).toEqual({
    ...{ type: "logEntry", sourceReplica: "r1", createTime: "2024-01-02 03:04:05" },
    ...{ action: "get", part: "all_0_0_0", sourceParts: [] },
  });
  const merge = `${head}merge\nall_0_0_0\nall_1_1_0\ninto\nall_0_1_1\ndeduplicate: 0\n`;
  expect(decode(clickhouse(), `${table}/replicas/r1/queue/queue-0000000007`, merge)).toMatchObject({
    ...{ action: "merge", part: "all_0_1_1", sourceParts: ["all_0_0_0", "all_1_1_0"] },
  });
  expect(decode(clickhouse(), `${table}/columns`, "x")).toEqual({ type: "other" });
  expect(() => decode(clickhouse(), `${table}/log/log-1`, "{}")).toThrow(/format version/);
  expect(() => decode(clickhouse(), `${table}/replicas/r/host`, "host: a\n")).toThrow(/no line "port"/);
});

// Form: ElasticJob documentation, "Registry center data structure".
test("ElasticJob: config, instances, servers, sharding", () => {
  const at = (path: string, data = "") => decode(elasticJob("/jobs"), `/jobs/${path}`, data);
  expect(at("j/config", "jobName: j\n")).toEqual({ type: "config", job: "j", yaml: "jobName: j\n" });
  expect(at("j/instances/10.0.0.1@-@42")).toEqual({
    ...{ type: "instance", job: "j", instance: "10.0.0.1@-@42", ip: "10.0.0.1" },
  });
  expect(at("j/servers/10.0.0.1", "DISABLED")).toMatchObject({ type: "server", isEnabled: false });
  expect(at("j/servers/10.0.0.1")).toMatchObject({ isEnabled: true });
  expect(at("j/sharding/3/instance", "10.0.0.1@-@42")).toEqual({
    ...{ type: "sharding", job: "j", item: 3, instance: "10.0.0.1@-@42" },
  });
  expect(at("j/sharding/3/running")).toEqual({ type: "running", job: "j", item: 3 });
  expect(at("j/leader/election/instance", "i")).toEqual({ type: "leader", job: "j", instance: "i" });
  expect([at("j"), at("j/sharding"), at("j/leader/failover/items/1")]).toEqual(
    Array(3).fill({ type: "other" }),
  );
  expect(() => at("j/sharding/x/instance", "i")).toThrow(/not a number: x/);
});

// Form: ServiceInstance and JsonInstanceSerializer of Curator (curator-x-discovery).
test("Curator's service discovery", () => {
  const instance = {
    ...{ name: "pay", id: "u-1", address: "10.0.0.2", port: 8004, sslPort: null, payload: { zone: "a" } },
    ...{ registrationTimeUTC: 1_700_000_000_000, serviceType: "DYNAMIC", uriSpec: { parts: [] } },
  };
  const decoder = curatorDiscovery<{ zone: string }>("/services");
  const value = decode(decoder, "/services/pay/u-1", JSON.stringify(instance));
  expect(value).toEqual({
    ...{ name: "pay", id: "u-1", address: "10.0.0.2", port: 8004, sslPort: undefined },
    ...{ registeredMs: 1_700_000_000_000, serviceType: "DYNAMIC", payload: { zone: "a" } },
  });
  expect(decode(curatorDiscovery("/"), "/pay/u-1", JSON.stringify(instance))?.payload).toEqual({ zone: "a" });
  // Creators of parents leave an address there.
  expect(decode(decoder, "/services/pay", "10.0.0.2")).toBeNull();
  expect(() => decode(decoder, "/services/pay/u-1", "{}")).toThrow(/field name/);
});
