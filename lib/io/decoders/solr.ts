import type { Decoder } from "../decode";
import { type Fields, jsonObject, object, optional, textField } from "./fields";

/** A collection as its `state.json` describes it. Source of the form: Solr's reference guide, cluster state in ZooKeeper. */
export interface SolrCollection {
  readonly collection: string;
  /** The name of the config set; undefined where it is kept in the znode above (before Solr 9). */
  readonly configName: string | undefined;
  readonly shards: Readonly<Record<string, SolrShard>>;
}

export interface SolrShard {
  /** Of hashes, as `80000000-ffffffff`; undefined with implicit routing. */
  readonly range: string | undefined;
  readonly state: string;
  readonly replicas: Readonly<Record<string, SolrReplica>>;
}

export interface SolrReplica {
  readonly core: string;
  /** Of the live node, as `host:8983_solr`. */
  readonly node: string;
  /** `active`, `down`, `recovering`, `recovery_failed`. */
  readonly state: string;
  readonly type: string;
  readonly isLeader: boolean;
}

/** The collections in `/collections/<collection>/state.json`, and null for other znodes. */
export function solr(): Decoder<SolrCollection | null> {
  return {
    format: "a collection's state.json of Solr's",
    decode(data, path) {
      const [, collection] = /\/collections\/([^/]+)\/state\.json$/.exec(path) ?? [];
      if (collection === undefined) return null;
      const fields = object(jsonObject(data)[collection], `the field ${collection}`);
      const shards = Object.entries(object(fields.shards, "the field shards"));
      return {
        collection,
        configName: optional(fields, "configName", textField),
        shards: Object.fromEntries(shards.map(([name, each]) => [name, shard(object(each, name))])),
      };
    },
  };
}

function shard(fields: Fields): SolrShard {
  const replicas = Object.entries(object(fields.replicas, "the field replicas"));
  return {
    range: optional(fields, "range", textField),
    state: textField(fields, "state"),
    replicas: Object.fromEntries(replicas.map(([name, each]) => [name, replica(object(each, name))])),
  };
}

function replica(fields: Fields): SolrReplica {
  return {
    core: textField(fields, "core"),
    node: textField(fields, "node_name"),
    state: textField(fields, "state"),
    type: optional(fields, "type", textField) ?? "NRT",
    isLeader: fields.leader === "true",
  };
}
