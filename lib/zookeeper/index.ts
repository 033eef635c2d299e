export * from "./api";
export { connect, ZooKeeper } from "./client";
export * from "./errors";
export type { Authentication, Clock, ZooKeeperOptions } from "./options";
export { checkPath } from "./paths";
