/** What the benchmarks use of the peer beyond what the tests use. */
declare module "node-zookeeper-client" {
  export interface PeerClient {
    getData(
      path: string,
      watcher: () => void,
      callback: (error: Error | null, data: Buffer, stat: PeerStat) => void,
    ): void;
  }
}
