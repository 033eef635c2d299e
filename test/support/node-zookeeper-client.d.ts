/** The part of node-zookeeper-client that the tests use as an independent peer; the package has no types. */
declare module "node-zookeeper-client" {
  type Callback<T> = (error: Error | null, result: T) => void;
  /** Longs are 8 bytes, big-endian. */
  export interface PeerStat {
    readonly czxid: Buffer;
    readonly mzxid: Buffer;
    readonly ctime: Buffer;
    readonly mtime: Buffer;
    readonly version: number;
    readonly cversion: number;
    readonly aversion: number;
    readonly ephemeralOwner: Buffer;
    readonly dataLength: number;
    readonly numChildren: number;
    readonly pzxid: Buffer;
  }
  export class Id {
    constructor(scheme: string, id: string);
    readonly scheme: string;
    readonly id: string;
  }
  export class ACL {
    constructor(permission: number, id: Id);
    readonly permission: number;
    readonly id: Id;
  }
  export interface PeerTransaction {
    create(path: string, data: Buffer): this;
    setData(path: string, data: Buffer, version: number): this;
    remove(path: string, version: number): this;
    commit(callback: (error: Error | null) => void): void;
  }
  export interface PeerClient {
    connect(): void;
    close(): void;
    once(event: "connected" | "disconnected" | "expired", listener: () => void): this;
    create(path: string, data: Buffer, callback: Callback<string>): void;
    create(path: string, data: Buffer, acl: readonly ACL[], flags: number, callback: Callback<string>): void;
    exists(path: string, callback: Callback<PeerStat | null>): void;
    setData(path: string, data: Buffer, version: number, callback: Callback<PeerStat>): void;
    getData(path: string, callback: (error: Error | null, data: Buffer, stat: PeerStat) => void): void;
    getChildren(path: string, callback: Callback<string[]>): void;
    getACL(path: string, callback: Callback<ACL[]>): void;
    remove(path: string, version: number, callback: (error: Error | null) => void): void;
    transaction(): PeerTransaction;
  }
  export function createClient(connectString: string, options?: { sessionTimeout?: number }): PeerClient;
}
