export * from "./api";
export { connect, type WatchOptions, ZooKeeper } from "./client";
export type { TlsOptions } from "./connection";
export * from "./errors";
export type { PlainCreateOptions, ProtectedCreateOptions } from "./operations";
export type { Authentication, Clock, ZooKeeperOptions } from "./options";
export { checkPath } from "./paths";
export type { Sasl } from "./sasl";
export { SessionTicket } from "./session-ticket";
