/** Real ZooKeeper servers for tests: the launcher that `npm start` uses as well. */
export {
  fourLetterWord,
  type LocalServer,
  type LocalZooKeeper,
  startZooKeeper,
  type ZooKeeperServerOptions,
} from "../../infra/zookeeper/server";
