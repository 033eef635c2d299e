/** What the benchmarks use of the peer beyond what the tests use. */
declare module "node-zookeeper-client" {
  export interface PeerTransaction {
    setData(path: string, data: Buffer, version: number): this;
    create(path: string, data: Buffer): this;
    commit(callback: (error: Error | null) => void): void;
  }
  export interface PeerClient {
    exists(path: string, callback: (error: Error | null, stat: PeerStat | null) => void): void;
    getData(
      path: string,
      watcher: () => void,
      callback: (error: Error | null, data: Buffer, stat: PeerStat) => void,
    ): void;
    getChildren(path: string, callback: (error: Error | null, children: string[]) => void): void;
    transaction(): PeerTransaction;
  }
}
