/** Breaks connections: the proxy that `beamkeeper verify` uses as well. */
export { type Direction, TcpProxy } from "../../infra/zookeeper/tcp-proxy";
