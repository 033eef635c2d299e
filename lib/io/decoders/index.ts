/** Decoders for what well-known systems keep in ZooKeeper, for `readZnodeChanges(path, { decode })`. */
export { type ClickHouseLogEntry, type ClickHouseMetadata, clickhouse } from "./clickhouse";
export { type CuratorServiceInstance, curatorDiscovery } from "./curator-discovery";
export { type DubboUrl, dubbo, dubboUrl } from "./dubbo";
export { type ElasticJobMetadata, elasticJob } from "./elastic-job";
export { type HBaseMetadata, type HBaseServer, hbase } from "./hbase";
export {
  type KafkaBroker,
  type KafkaMetadata,
  type KafkaPartitionState,
  type KafkaTopic,
  kafka,
} from "./kafka";
export { type SolrCollection, type SolrReplica, type SolrShard, solr } from "./solr";
