import type { Decoder } from "../decode";
import {
  type Fields,
  integerField,
  integers,
  jsonObject,
  namesBelow,
  object,
  optional,
  textField,
} from "./fields";

/** What Kafka in ZooKeeper mode (to 3.9) keeps, by the path of its znode. Source of the forms: Kafka's kafka.zk.ZkData. */
export type KafkaMetadata =
  | KafkaBroker
  | KafkaTopic
  | KafkaPartitionState
  | {
      readonly type: "controller";
      readonly brokerId: number;
      /** Milliseconds since 1970: when it was elected. */
      readonly timestampMs: number;
    }
  | { readonly type: "controllerEpoch"; readonly epoch: number }
  | { readonly type: "clusterId"; readonly id: string }
  | {
      readonly type: "config";
      /** `topics`, `brokers`, `clients`, `users`, `ips`. */
      readonly entityType: string;
      readonly entity: string;
      readonly config: Readonly<Record<string, string>>;
    }
  | { readonly type: "deletedTopic"; readonly topic: string }
  /** A znode that holds nothing of these: a folder, a notification, ACLs. */
  | { readonly type: "other" };

export interface KafkaBroker {
  readonly type: "broker";
  readonly brokerId: number;
  /** As `PLAINTEXT://host:9092`. */
  readonly endpoints: readonly string[];
  readonly rack: string | undefined;
  /** Milliseconds since 1970: when it registered. */
  readonly timestampMs: number;
}

export interface KafkaTopic {
  readonly type: "topic";
  readonly topic: string;
  readonly topicId: string | undefined;
  /** The brokers of each partition, by its number; the first is the preferred leader. */
  readonly partitions: Readonly<Record<string, readonly number[]>>;
}

export interface KafkaPartitionState {
  readonly type: "partitionState";
  readonly topic: string;
  readonly partition: number;
  /** -1: none. */
  readonly leader: number;
  readonly leaderEpoch: number;
  /** The brokers whose replicas are in sync. */
  readonly isr: readonly number[];
  readonly controllerEpoch: number;
}

/** @param root the chroot in the brokers' `zookeeper.connect` (default: "/"). */
export function kafka(root = "/"): Decoder<KafkaMetadata> {
  return {
    format: "Kafka's metadata",
    decode: (data, path) => decodeKafka(data, namesBelow(path, root) ?? []),
  };
}

function decodeKafka(data: Buffer, names: readonly string[]): KafkaMetadata {
  const [first, second, third, fourth, fifth, sixth] = names;
  const place = `${first}/${second}`;
  if (place === "admin/delete_topics" && third !== undefined) return { type: "deletedTopic", topic: third };
  if (data.length === 0) return { type: "other" };
  if (names.length === 1 && first === "controller") return controller(jsonObject(data));
  if (names.length === 1 && first === "controller_epoch")
    return { type: "controllerEpoch", epoch: integerField({ epoch: data.toString("utf8") }, "epoch") };
  if (place === "cluster/id") return { type: "clusterId", id: textField(jsonObject(data), "id") };
  if (place === "brokers/ids" && third !== undefined) return broker(third, jsonObject(data));
  if (place === "brokers/topics" && third !== undefined) {
    if (names.length === 3) return topic(third, jsonObject(data));
    if (names.length === 6 && fourth === "partitions" && sixth === "state")
      return partitionState(third, fifth!, jsonObject(data));
  }
  if (first === "config" && second !== "changes" && third !== undefined)
    return config(second!, names.slice(2).join("/"), jsonObject(data));
  return { type: "other" };
}

function controller(fields: Fields): KafkaMetadata {
  return {
    type: "controller",
    brokerId: integerField(fields, "brokerid"),
    timestampMs: integerField(fields, "timestamp"),
  };
}

function broker(id: string, fields: Fields): KafkaBroker {
  // Version 1 knows one listener only.
  const alone = `PLAINTEXT://${fields.host}:${fields.port}`;
  const endpoints = fields.endpoints === undefined ? [alone] : fields.endpoints;
  if (!Array.isArray(endpoints) || !endpoints.every((each) => typeof each === "string"))
    throw new TypeError("the field endpoints is not a list of texts");
  return {
    type: "broker",
    brokerId: integerField({ id }, "id"),
    endpoints,
    rack: optional(fields, "rack", textField),
    timestampMs: integerField(fields, "timestamp"),
  };
}

function topic(name: string, fields: Fields): KafkaTopic {
  const partitions = Object.entries(object(fields.partitions, "the field partitions"));
  return {
    type: "topic",
    topic: name,
    topicId: optional(fields, "topic_id", textField),
    partitions: Object.fromEntries(
      partitions.map(([partition, brokers]) => [partition, integers(brokers, `partition ${partition}`)]),
    ),
  };
}

function partitionState(name: string, partition: string, fields: Fields): KafkaPartitionState {
  return {
    type: "partitionState",
    topic: name,
    partition: integerField({ partition }, "partition"),
    leader: integerField(fields, "leader"),
    leaderEpoch: integerField(fields, "leader_epoch"),
    isr: integers(fields.isr, "the field isr"),
    controllerEpoch: integerField(fields, "controller_epoch"),
  };
}

function config(entityType: string, entity: string, fields: Fields): KafkaMetadata {
  const settings = object(fields.config, "the field config");
  const texts = Object.entries(settings).map(([name, value]) => [name, String(value)] as const);
  return { type: "config", entityType, entity, config: Object.fromEntries(texts) };
}
