/** Ends a session from elsewhere, as its owner's handshake, overheard by a proxy, allows. */
import { once } from "node:events";
import { connect } from "node:net";
import { JuteReader, JuteWriter } from "../../lib/zookeeper/codec/jute";
import {
  type ConnectResponse,
  OpCode,
  readConnectResponse,
  writeConnectRequest,
  writeRequestHeader,
} from "../../lib/zookeeper/records";
import type { TcpProxy } from "./tcp-proxy";

const LENGTH_BYTES = 4;

/** Overhears the next handshake that goes through the proxy. */
export function overhear(proxy: TcpProxy): Promise<ConnectResponse> {
  return new Promise((done) =>
    proxy.rewrite((chunk) => {
      proxy.rewrite((whole) => whole);
      done(readConnectResponse(new JuteReader().reset(chunk, LENGTH_BYTES, chunk.length)));
      return chunk;
    }),
  );
}

function frame(write: (writer: JuteWriter) => void): Buffer {
  const writer = new JuteWriter();
  const position = writer.beginFrame();
  write(writer);
  writer.endFrame(position);
  return writer.take();
}

/** Takes the session over on a connection of its own, and closes it. */
export async function closeSession(address: string, session: ConnectResponse): Promise<void> {
  const [host, port] = address.split(":");
  const socket = connect({ host: host!, port: Number(port) });
  socket.write(frame((writer) => writeConnectRequest(writer, { lastZxidSeen: 0n, ...session })));
  await once(socket, "data");
  const closed = once(socket, "close");
  socket.resume();
  socket.write(frame((writer) => writeRequestHeader(writer, 1, OpCode.closeSession)));
  await closed;
}
