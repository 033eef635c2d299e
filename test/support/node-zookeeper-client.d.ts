/** The part of node-zookeeper-client that the tests use as an independent peer; the package has no types. */
declare module "node-zookeeper-client" {
  export interface PeerStat {
    readonly version: number;
    readonly dataLength: number;
    /** 8 bytes, big-endian, as the next two. */
    readonly czxid: Buffer;
    readonly mzxid: Buffer;
    readonly mtime: Buffer;
  }
  export interface PeerClient {
    connect(): void;
    close(): void;
    once(event: "connected" | "disconnected" | "expired", listener: () => void): this;
    create(path: string, data: Buffer, callback: (error: Error | null, path: string) => void): void;
    setData(
      path: string,
      data: Buffer,
      version: number,
      callback: (error: Error | null, stat: PeerStat) => void,
    ): void;
    getData(path: string, callback: (error: Error | null, data: Buffer, stat: PeerStat) => void): void;
    remove(path: string, version: number, callback: (error: Error | null) => void): void;
  }
  export function createClient(connectString: string, options?: { sessionTimeout?: number }): PeerClient;
}
